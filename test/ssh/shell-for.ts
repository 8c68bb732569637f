import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import type { RequestLog } from '../../src/plugin.js';
import { SshShell, type SshShellOptions } from '../../src/ssh/ssh-shell.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { type Sshd, type SshdOptions, startSshd, startSshds } from '../support/sshd.js';

/** A policy that allows every address and treats hosts as addresses, as all of them are here. */
export const anyAddress = { resolve: async (host: string) => [host] };

/** A log that keeps what it is reported. */
export function keepingLog(): RequestLog & { lines: { level: string; message: string; fields?: object }[] } {
  const lines: { level: string; message: string; fields?: object }[] = [];
  const keep = (level: string) => (message: string, fields?: object) => {
    lines.push({ level, message, fields });
  };
  return { lines, debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
}

/** A folder that is removed when the test ends. */
export async function testFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ssh-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** `[address]:port TYPE BASE64` for each host key of the servers. */
export function knownHostLines(...servers: readonly Sshd[]): string {
  return servers
    .flatMap(({ address, port, hostKeys }) =>
      Object.values(hostKeys).map((key) => `[${address}]:${port} ${key}\n`),
    )
    .join('');
}

/** A server for this test, stopped when the test ends. */
export async function ownSshd(t: ExecutionContext, options: SshdOptions = {}): Promise<Sshd> {
  const sshd = await startSshd(options);
  t.teardown(() => sshd.stop());
  return sshd;
}

/** Servers on several addresses and one port, stopped when the test ends. */
export async function ownSshds(t: ExecutionContext, addresses: readonly string[]): Promise<Sshd[]> {
  const servers = await startSshds(addresses);
  for (const server of servers) t.teardown(() => server.stop());
  return servers;
}

/** A shell for these servers, which have one port and one login key; closed when the test ends. */
export async function shellFor(
  t: ExecutionContext,
  servers: readonly Sshd[],
  options: Partial<SshShellOptions> & { knownHosts?: string } = {},
): Promise<SshShell> {
  const knownHostsFile = join(await testFolder(t), 'known_hosts');
  await writeFile(knownHostsFile, options.knownHosts ?? knownHostLines(...servers));
  const [first] = servers;
  const shell = new SshShell({
    user: first?.user ?? 'nobody',
    port: first?.port ?? 22,
    privateKey: first?.privateKey,
    knownHostsFile,
    hostKeys: 'strict',
    sudo: false,
    connectTimeoutMs: HUNG_MS,
    handshakeTimeoutMs: HUNG_MS,
    policy: anyAddress,
    log: keepingLog(),
    ...options,
  });
  t.teardown(() => shell.close());
  return shell;
}

/** Options of a call with plenty of time. */
export function notAborted(): { signal: AbortSignal; timeoutMs: number; maxOutputBytes: number } {
  return { signal: new AbortController().signal, timeoutMs: HUNG_MS, maxOutputBytes: 1_000_000 };
}

/** The ActionError that the promise rejects with. */
export async function errorOf(promise: Promise<unknown>): Promise<ActionError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ActionError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

/** A command that writes its process id to a file and keeps running. */
export function stayingCommand(pidFile: string): [string, ...string[]] {
  return ['sh', '-c', 'echo $$ > "$0.new" && mv "$0.new" "$0" && exec sleep 600', pidFile];
}

/**
 * Installs a command that hangs.
 * @returns the file in which it writes its process id
 */
export async function installHanging(folder: string, command: string): Promise<string> {
  const file = join(folder, `${command}.pid`);
  const script = `echo $$ >'${file}.new'; mv '${file}.new' '${file}'; exec sleep 600`;
  await writeFile(join(folder, command), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return file;
}

/** Waits for the process id in a file. */
export async function pidIn(file: string): Promise<number> {
  const read = async () => Number(await readFile(file, 'utf8').catch(() => '')) || undefined;
  return eventually(`a process id in ${file}`, read);
}

/** Resolves when the process has ended. */
export async function processEnd(pid: number): Promise<void> {
  const ended = async () => {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
    return stat === undefined || stat.includes(') Z ');
  };
  await eventually(`the end of process ${pid}`, ended);
}
