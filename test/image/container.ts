import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { type RunningCli, startProgram } from '../commands/cli-process.js';
import { eventually } from '../support/eventually.js';
import type { Image } from './image.js';

export interface ContainerOptions {
  /** A user that the image does not know. */
  uid: number;
  /** Added to that of the image. */
  env: Readonly<Record<string, string>>;
  /** Files of this machine, and where the container has them, read-only. */
  files?: Readonly<Record<string, string>>;
  /** Folders in memory. */
  tmpfs?: readonly string[];
}

/** A running container. */
export interface Container extends Pick<RunningCli, 'printed' | 'stderr'> {
  /** The exit code of its first process. */
  ended: Promise<number | null>;
  /** Sends a signal to its first process, as `docker stop` does. */
  kill(signal: NodeJS.Signals): void;
  /** Runs a program in it, as `docker exec` does. */
  exec(command: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }>;
  /** The processes that its first process has started and that it has not waited for. */
  children(): Promise<{ pid: number; isZombie: boolean }[]>;
}

/**
 * What runs a container in its namespaces: as the first process of a PID namespace, on a root file system and
 * devices that cannot be written, as a user without a name and without rights. It shares the network of this machine.
 */
const RUN = `
set -eu
root=$1 files=$2 tmpfs=$3
shift 3
umask 022
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid tmpfs "$root/dev"
for device in null zero full random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,ro "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/secrets"
for pair in $files; do
  : >"$root/run/secrets/\${pair#*=}"
  mount --bind "\${pair%%=*}" "$root/run/secrets/\${pair#*=}"
done
mount -o remount,ro "$root/run"
for each in $tmpfs; do mount -t tmpfs -o mode=1777 tmpfs "$root$each"; done
mount -o remount,bind,ro "$root"
exec "$@"`;

/** Starts a container; it ends with the test. */
export async function startContainer(
  t: ExecutionContext,
  { root, config }: Image,
  { uid, env, files = {}, tmpfs = [] }: ContainerOptions,
): Promise<Container> {
  const variables = Object.entries({ ...config.env, ...env }).map(([name, value]) => `${name}=${value}`);
  const user = ['--setuid', String(uid), '--setgid', String(uid)];
  const pairs = Object.entries(files).map((pair) => pair.join('='));
  const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--'];
  const prepared = ['sh', '-c', RUN, 'sh', root, pairs.join(' '), tmpfs.join(' ')];
  const bare = ['env', '-i', ...variables, '/usr/bin/setpriv', '--no-new-privs'];
  const inside = ['/usr/bin/unshare', `--root=${root}`, `--wd=${config.directory}`, ...user, '--'];
  const program: [string, ...string[]] = [
    'unshare',
    ...namespaces,
    ...prepared,
    ...bare,
    ...inside,
    ...config.command,
  ];
  const running = startProgram(t, program, { env: {}, directory: '/' });
  let hasEnded = false;
  const ended = running.ended.then(({ code }) => {
    hasEnded = true;
    return code;
  });
  const [first] = await eventually(
    'the first process runs',
    async () => (await childrenOf(running.pid)) ?? (hasEnded ? [] : undefined),
  );
  t.teardown(() => signal(first, 'SIGKILL'));
  return {
    stderr: () => running.stderr(),
    printed: async (pattern) => running.printed(pattern),
    ended,
    kill: (name) => signal(first, name),
    exec: async (command) => {
      const enter = ['--target', String(first), '--mount', '--pid', '--root', '--wd', ...user];
      const all = ['-i', ...variables, '/usr/bin/nsenter', ...enter, '--', ...command];
      return promisify(execFile)('env', all).then(
        (output) => ({ code: 0, ...output }),
        ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
      );
    },
    children: async () =>
      Promise.all(
        ((first === undefined ? undefined : await childrenOf(first)) ?? []).map(async (pid) => ({
          pid,
          isZombie: (await stateOf(pid)) === 'Z',
        })),
      ),
  };
}

/** Without an error when the process has ended. @param pid undefined: before it was seen */
function signal(pid: number | undefined, name: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** @returns process IDs; undefined: there are none */
async function childrenOf(pid: number): Promise<number[] | undefined> {
  const listed = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  const pids = listed.trim().split(' ').filter(Boolean).map(Number);
  return pids.length === 0 ? undefined : pids;
}

/** The letter of a process's state, as proc(5) has it; undefined: it is gone. */
async function stateOf(pid: number): Promise<string | undefined> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return /^\d+ \(.*\) (\w)/s.exec(status)?.[1];
}
