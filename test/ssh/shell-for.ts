import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import type { RequestLog } from '../../src/plugin.js';
import { SshShell, type SshShellOptions } from '../../src/ssh/ssh-shell.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { type Sshd, type SshdOptions, startSshd, startSshds } from '../support/sshd.js';

/** A policy that allows every address and takes hosts for addresses, as all of them are here. */
export const anyAddress = { resolve: async (host: string) => [host] };

/** A log that keeps what it is reported. */
export function keepingLog(): RequestLog & { lines: { level: string; message: string; fields?: object }[] } {
  const lines: { level: string; message: string; fields?: object }[] = [];
  const keep = (level: string) => (message: string, fields?: object) => {
    lines.push({ level, message, fields });
  };
  return { lines, debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
}

/** A folder that goes with the test. */
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

/** A server of the test's own; it goes with the test. */
export async function ownSshd(t: ExecutionContext, options: SshdOptions = {}): Promise<Sshd> {
  const sshd = await startSshd(options);
  t.teardown(() => sshd.stop());
  return sshd;
}

/** Servers on several addresses and one port; they go with the test. */
export async function ownSshds(t: ExecutionContext, addresses: readonly string[]): Promise<Sshd[]> {
  const servers = await startSshds(addresses);
  for (const server of servers) t.teardown(() => server.stop());
  return servers;
}

/** A shell for these servers, which have one port and one login key; it goes with the test. */
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

/** Options of a call that nothing hurries. */
export function calm(): { signal: AbortSignal; timeoutMs: number; maxOutputBytes: number } {
  return { signal: new AbortController().signal, timeoutMs: HUNG_MS, maxOutputBytes: 1_000_000 };
}

/** The ActionError that this rejects with. */
export async function errorOf(promise: Promise<unknown>): Promise<ActionError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ActionError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

/** A command that writes its process id to a file and then stays. */
export function stayingCommand(pidFile: string): [string, ...string[]] {
  return ['sh', '-c', 'echo $$ > "$0.new" && mv "$0.new" "$0" && exec sleep 600', pidFile];
}

/** The process id in a file, once it is there. */
export async function pidIn(file: string): Promise<number> {
  const read = async () => Number(await readFile(file, 'utf8').catch(() => '')) || undefined;
  return eventually(`a process id in ${file}`, read);
}

/** Resolves when there is no such process any more. */
export async function processEnd(pid: number): Promise<void> {
  const ended = async () => {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
    return stat === undefined || stat.includes(') Z ');
  };
  await eventually(`the end of process ${pid}`, ended);
}
