import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type Sshd, startSshds } from './sshd.js';

export interface Machines {
  servers: readonly Sshd[];
  knownHostsFile: string;
  /** What the service is reported about them. */
  env: Record<string, string>;
  /** Replaces a command of the machines. */
  install(command: string, script: string): Promise<void>;
}

/** One line in the journal. */
export interface JournalEntry {
  unit: string;
  /** Bytes for a message that is not UTF-8, or has several lines. */
  message: string | Buffer;
  /** Seconds since the epoch. */
  at: number;
  /** Default: all in one boot. */
  boot?: string;
}

export const JOURNAL_REMOTE = '/lib/systemd/systemd-journal-remote';

/**
 * Real SSH servers on loopback addresses, one for each machine. They run the real journalctl, df and cat of this
 * machine; only the journal that journalctl reads, and the file system that df reports, belong to the test. There is no
 * Docker unless the test installs one.
 * @param options.bashrc the text of `~/.bashrc` on the machines
 */
export async function startMachines(
  t: ExecutionContext,
  addresses: readonly string[],
  journal: readonly JournalEntry[] = [],
  { bashrc = '' }: { bashrc?: string } = {},
): Promise<Machines> {
  const folder = await mkdtemp(join(tmpdir(), 'machines-'));
  t.teardown(async () => rm(folder, { recursive: true, force: true }));
  const bin = join(folder, 'bin');
  await Promise.all([mkdir(bin), mkdir(join(folder, 'journal'))]);
  const install = async (command: string, script: string) => {
    await writeFile(join(bin, command), `#!/bin/sh\n${script}\n`);
    await chmod(join(bin, command), 0o755);
  };
  await install('journalctl', `exec /usr/bin/journalctl --directory='${folder}/journal' "$@"`);
  await install('df', '[ "$3" = /var/lib/docker ] && exec /bin/df "$1" "$2" /');
  if (journal.length > 0) await writeJournal(join(folder, 'journal', 'test.journal'), journal);
  // bash reads it when sshd starts it, as the login shell of the user who runs the tests.
  await writeFile(join(folder, '.bashrc'), bashrc);
  const environment = { PATH: `${bin}:/usr/bin:/bin`, HOME: folder };
  const servers = await startSshds(addresses, { environment });
  for (const server of servers) t.teardown(async () => server.stop());
  const knownHostsFile = join(folder, 'known_hosts');
  const lines = servers.map(({ address, port, hostKeys }) => `[${address}]:${port} ${hostKeys.ed25519}\n`);
  await writeFile(knownHostsFile, lines.join(''));
  const [first] = servers;
  if (first === undefined) throw new Error('no machines');
  const env = {
    SSH_USER: first.user,
    SSH_PORT: String(first.port),
    SSH_KEY_FILE: first.privateKeyFile,
    SSH_KNOWN_HOSTS: knownHostsFile,
  };
  return { servers, knownHostsFile, env, install };
}

/** Makes a journal file from the journal export format (systemd's "Journal Export Formats"). */
export async function writeJournal(file: string, entries: readonly JournalEntry[]): Promise<void> {
  const written = entries.map(({ unit, message, at, boot = '0123456789abcdef0123456789abcdef' }, index) => {
    const fields = [
      `__REALTIME_TIMESTAMP=${at * 1_000_000}`,
      `__MONOTONIC_TIMESTAMP=${1_000_000 + index}`,
      `_BOOT_ID=${boot}`,
      '_MACHINE_ID=fedcba9876543210fedcba9876543210',
      '_HOSTNAME=core-1',
      '_PID=1',
      '_UID=0',
      `_SYSTEMD_UNIT=${unit}`,
      'SYSLOG_IDENTIFIER=web',
    ];
    return Buffer.concat([Buffer.from(fields.map((field) => `${field}\n`).join('')), messageField(message)]);
  });
  const child = spawn(JOURNAL_REMOTE, [`--output=${file}`, '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
  child.stdin.end(Buffer.concat(written));
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`systemd-journal-remote ended with ${code}`);
}

/** The last field of an entry, in the form for any bytes. */
function messageField(message: string | Buffer): Buffer {
  const content = Buffer.from(message);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(content.length));
  return Buffer.concat([Buffer.from('MESSAGE\n'), size, content, Buffer.from('\n\n')]);
}
