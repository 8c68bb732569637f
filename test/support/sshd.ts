import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type Implementation } from 'ava';

const SSHD = '/usr/sbin/sshd';
const run = promisify(execFile);

export type HostKeyType = 'ed25519' | 'ecdsa' | 'rsa';

/** A private SSH server on a loopback address that accepts the user who runs the tests, with one key. */
export interface Sshd {
  address: string;
  port: number;
  user: string;
  /** Each of its public host keys, as `TYPE BASE64`. */
  hostKeys: Partial<Record<HostKeyType, string>>;
  /** A private key that it accepts, in OpenSSH's format. */
  privateKey: string;
  privateKeyFile: string;
  authorizedKeyFile: string;
  /** What it has logged so far. */
  log(): string;
  /** How many connections were made to it so far. */
  connections(): number;
  /** The processes of its open connections. */
  sessionPids(): Promise<number[]>;
  stop(): Promise<void>;
}

export interface SshdOptions {
  address?: string;
  /** A free one by default. */
  port?: number;
  hostKeyTypes?: readonly HostKeyType[];
  /** Further lines of sshd_config. */
  config?: readonly string[];
  /** The environment of the commands that it runs. */
  environment?: Readonly<Record<string, string>>;
}

/**
 * Registers a test that needs an SSH server. Without an installed server it is skipped with a notice on standard error; with
 * REQUIRE_SERVICES=1 it fails.
 */
export function testWithSshd(title: string, implementation: Implementation<[]>): void {
  if (existsSync(SSHD) || process.env.REQUIRE_SERVICES === '1') test(title, implementation);
  else process.stderr.write(`skipped: ${title} (${SSHD} is not installed; see scripts/install-services)\n`);
}

/** Starts a server; it accepts connections when this resolves. */
export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort(options.address));
    try {
      return await start({ ...options, port });
    } catch (error) {
      // Another test may have taken the port in between.
      if (options.port !== undefined || attempt === 5) throw error;
    }
  }
}

/** Starts a server on each of these addresses: several machines, all on the same port and with the same login key. */
export async function startSshds(addresses: readonly string[], options: SshdOptions = {}): Promise<Sshd[]> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    const started = await Promise.allSettled(
      addresses.map((address) => start({ ...options, address, port })),
    );
    const servers = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const failed = started.find((each) => each.status === 'rejected');
    if (failed === undefined) return shareLogin(servers);
    await Promise.all(servers.map((server) => server.stop()));
    if (attempt === 5) throw failed.reason;
  }
}

async function shareLogin(servers: readonly Sshd[]): Promise<Sshd[]> {
  const [first] = servers;
  if (first === undefined) return [];
  const { privateKey, privateKeyFile } = first;
  for (const { authorizedKeyFile } of servers) {
    if (authorizedKeyFile !== first.authorizedKeyFile)
      await copyFile(first.authorizedKeyFile, authorizedKeyFile);
  }
  return servers.map((server) => ({ ...server, privateKey, privateKeyFile }));
}

/** Makes a key pair in OpenSSH's format at `file` and `file.pub`. */
export async function makeKey(file: string, type: HostKeyType = 'ed25519', passphrase = ''): Promise<void> {
  await run('ssh-keygen', ['-q', '-t', type, '-N', passphrase, '-C', 'test', '-f', file]);
}

/** `TYPE BASE64` of a public key file. */
export async function publicKey(file: string): Promise<string> {
  return (await readFile(file, 'utf8')).split(' ').slice(0, 2).join(' ');
}

async function start(options: SshdOptions & { port: number }): Promise<Sshd> {
  const { address = '127.0.0.1', port, hostKeyTypes = ['ed25519'], config = [], environment = {} } = options;
  if (!existsSync(SSHD)) throw new Error(`${SSHD} is not installed (Debian: openssh-server)`);
  // As root, sshd needs its folder for privilege separation.
  if (process.getuid?.() === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  const folder = await mkdtemp(join(tmpdir(), 'sshd-'));
  try {
    const hostKeys: Sshd['hostKeys'] = {};
    for (const type of hostKeyTypes) {
      await makeKey(join(folder, `host_${type}`), type);
      hostKeys[type] = await publicKey(join(folder, `host_${type}.pub`));
    }
    const privateKeyFile = join(folder, 'login');
    const authorizedKeyFile = `${privateKeyFile}.pub`;
    await makeKey(privateKeyFile);
    // With this HOME bash does not run the .bashrc of the user who runs the tests.
    const variables = Object.entries({ HOME: folder, ...environment }).map(
      ([name, value]) => `${name}=${value}`,
    );
    const lines = [
      ...config,
      `ListenAddress ${address}`,
      `Port ${port}`,
      ...hostKeyTypes.map((type) => `HostKey ${join(folder, `host_${type}`)}`),
      `AuthorizedKeysFile ${authorizedKeyFile}`,
      `SetEnv ${variables.join(' ')}`,
      'PidFile none',
      'StrictModes no',
      'UsePAM no',
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'MaxStartups 100',
      'LogLevel VERBOSE',
    ];
    await writeFile(join(folder, 'sshd_config'), `${lines.join('\n')}\n`);
    // It ends with the test process, even if that is killed.
    const command = ['--pdeathsig', 'KILL', SSHD, '-D', '-e', '-f', join(folder, 'sshd_config')];
    const child = spawn('/usr/bin/setpriv', command, { stdio: ['ignore', 'ignore', 'pipe'] });
    const log = await listening(child);
    return {
      address,
      port,
      user: userInfo().username,
      hostKeys,
      privateKey: await readFile(privateKeyFile, 'utf8'),
      privateKeyFile,
      authorizedKeyFile,
      log: () => log.text,
      connections: () => log.text.match(/^Connection from /gm)?.length ?? 0,
      sessionPids: () => childPids(child.pid ?? 0),
      stop: async () => {
        const sessions = await childPids(child.pid ?? 0);
        await end(child);
        for (const pid of sessions) killIfThere(pid);
        await rm(folder, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Resolves when sshd listens, with its log as it grows. */
function listening(child: ChildProcess): Promise<{ text: string }> {
  const log = { text: '' };
  return new Promise((resolve, reject) => {
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      log.text += chunk;
      if (/^Server listening on /m.test(log.text)) resolve(log);
    });
    child.once('error', reject);
    child.once('exit', () => {
      reject(new Error(`sshd did not start: ${log.text}`));
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exited;
}

async function childPids(parent: number): Promise<number[]> {
  const children: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    // proc(5): the second field is a name in parentheses, then the state and the parent follow.
    const [, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(ppid) === parent) children.push(Number(name));
  }
  return children;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has already ended.
  }
}

function freePort(address = '127.0.0.1'): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, address, () => {
      const bound = server.address();
      server.close(() =>
        typeof bound === 'object' && bound !== null ? resolve(bound.port) : reject(new Error('no port')),
      );
    });
  });
}
