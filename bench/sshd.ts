import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const SSHD = '/usr/sbin/sshd';
const TICKS_PER_SECOND = 100;

export interface BenchSshdOptions {
  /** Programs that it finds first, as shell scripts by their names. */
  programs: Record<string, string>;
  /** What is at the end of `$HOME` on the machines whose addresses match a pattern, so that programs can tell them apart. */
  homes: Record<string, string>;
  /** A private key that it accepts; beside it is the public one. By default one of its own. */
  loginKey?: string;
}

/**
 * A private SSH server for many machines: it listens on every address of 127.0.0.0/8, lets in only the user of this process, from
 * loopback, with one key, and ends with this process.
 */
export class BenchSshd {
  readonly settings: Record<string, string>;
  readonly #server: ChildProcess;
  readonly #folder: string;

  static async start({ programs, homes, loginKey }: BenchSshdOptions): Promise<BenchSshd> {
    if (!existsSync(SSHD)) throw new Error(`${SSHD} is not installed: scripts/install-services does it`);
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    const folder = mkdtempSync(join(tmpdir(), 'bench-sshd-'));
    const path = (name: string) => join(folder, name);
    for (const name of ['host', 'login'])
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'bench', '-f', path(name)]);
    for (const [name, script] of Object.entries(programs))
      writeFileSync(path(name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const login = loginKey ?? path('login');
    const port = await freePort();
    const [type, key] = readFileSync(path('host.pub'), 'utf8').split(' ');
    writeFileSync(path('known_hosts'), `[127.*]:${port} ${type} ${key}\n`);
    const user = userInfo().username;
    const config = [
      'ListenAddress 0.0.0.0',
      `AllowUsers ${user}@127.0.0.0/8`,
      `Port ${port}`,
      `HostKey ${path('host')}`,
      `AuthorizedKeysFile ${login}.pub`,
      `SetEnv HOME=${folder} PATH=${folder}:/usr/bin:/bin`,
      'PidFile none',
      'StrictModes no',
      'UsePAM no',
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      // So that the limit for one machine does not hold for all of them together.
      'MaxStartups 1000',
      ...Object.entries(homes).flatMap(([pattern, home]) => [
        `Match LocalAddress ${pattern}`,
        `SetEnv HOME=${folder}${home} PATH=${folder}:/usr/bin:/bin`,
      ]),
    ];
    writeFileSync(path('sshd_config'), `${config.join('\n')}\n`);
    const command = ['--pdeathsig', 'KILL', SSHD, '-D', '-e', '-f', path('sshd_config')];
    const server = spawn('/usr/bin/setpriv', command, { stdio: ['ignore', 'ignore', 'pipe'] });
    await listening(server);
    return new BenchSshd(server, folder, {
      SSH_USER: user,
      SSH_PORT: String(port),
      SSH_KEY_FILE: login,
      SSH_KNOWN_HOSTS: path('known_hosts'),
      ALLOWED_HOSTS: '127.0.0.0/8',
    });
  }

  /** @param settings of a service that logs in to these machines */
  private constructor(server: ChildProcess, folder: string, settings: Record<string, string>) {
    this.#server = server;
    this.#folder = folder;
    this.settings = settings;
  }

  /** What the server, its sessions and their commands have used of the CPU so far, in seconds. */
  cpuSeconds(): number {
    return cpuSecondsOfTree(this.#server.pid ?? 0);
  }

  /** Ends the server and its sessions. */
  async stop(): Promise<void> {
    const sessions = childrenOf(this.#server.pid ?? 0);
    const ended = once(this.#server, 'exit');
    this.#server.kill('SIGTERM');
    await ended;
    for (const pid of sessions) killIfThere(pid);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function listening(server: ChildProcess): Promise<void> {
  if (server.stderr === null) throw new Error('the log of sshd is not read');
  const lines: string[] = [];
  for await (const line of createInterface({ input: server.stderr })) {
    lines.push(line);
    if (line.startsWith('Server listening on')) {
      server.stderr.resume();
      return;
    }
  }
  throw new Error(`sshd did not start: ${lines.join(' ')}`);
}

/** Fields of proc(5)'s stat after the command's name in parentheses; undefined when the process has ended. */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number(statOf(pid)?.[1]) === parent);
}

/** Of the process and all that it has started: those that ended count with their parents. */
export function cpuSecondsOfTree(root: number): number {
  const stats = new Map(
    readdirSync('/proc').flatMap((name) => {
      const stat = statOf(Number(name));
      return stat === undefined ? [] : [[Number(name), stat] as const];
    }),
  );
  let ticks = 0;
  const pids = [root];
  for (const pid of pids) {
    for (const [child, stat] of stats) if (Number(stat[1]) === pid) pids.push(child);
    // User and system time, its own and that of its children that have ended.
    for (const field of stats.get(pid)?.slice(11, 15) ?? []) ticks += Number(field);
  }
  return ticks / TICKS_PER_SECOND;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}
