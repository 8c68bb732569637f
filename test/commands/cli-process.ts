import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { HUNG_MS } from '../support/eventually.js';
import { refuseSecretsIn } from '../support/planted-secrets.js';

const CLI = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

/** Processes that still run. They are killed when the tests end. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface CliOptions {
  /** Added to an environment without any configuration. */
  env?: Record<string, string>;
  /** The folder that contains `config/`; an empty one by default. */
  directory?: string;
  /** Shell code that runs the command `"$@"`, such as with another output. */
  shell?: string;
}

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A running command. */
export interface RunningCli {
  /** Of the process on this machine. */
  pid: number;
  /** Its output so far. */
  stdout(): string;
  stderr(): string;
  /** Resolves when stdout or stderr matches. Rejects when the process ends, or after eight minutes. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  /** Closes its stdout, as `| head` does. */
  hangUp(): void;
  kill(signal: NodeJS.Signals): void;
  ended: Promise<Ended>;
}

/** Runs a command of `fleet-manager` and waits for its end. */
export async function runCli(
  t: ExecutionContext,
  args: readonly string[],
  options: CliOptions = {},
): Promise<Ended> {
  const { ended } = await startCli(t, args, options);
  return ended;
}

/** Starts a command of `fleet-manager`. It is stopped when the test ends. */
export async function startCli(
  t: Pick<ExecutionContext, 'teardown'>,
  args: readonly string[],
  { env = {}, directory, shell }: CliOptions = {},
): Promise<RunningCli> {
  const own = directory ?? (await mkdtemp(join(tmpdir(), 'cli-')));
  if (directory === undefined) t.teardown(() => rm(own, { recursive: true }));
  const through = shell === undefined ? [] : ['sh', '-c', shell, 'sh'];
  const [program = '', ...rest] = [...through, process.execPath, CLI, ...args];
  return startProgram(t, [program, ...rest], {
    env,
    directory: own,
  });
}

/** Starts a program. It is stopped when the test ends. */
export function startProgram(
  t: Pick<ExecutionContext, 'teardown'>,
  [program, ...args]: readonly [string, ...string[]],
  { env, directory }: { env: Record<string, string>; directory: string },
): RunningCli {
  const child = spawn(program, args, {
    cwd: directory,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  t.teardown(async () => {
    // `serve` ends at the second signal, and cleans up first.
    child.kill('SIGTERM');
    child.kill('SIGINT');
    const late = setTimeout(() => child.kill('SIGKILL'), 60_000);
    await ended;
    clearTimeout(late);
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output.stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (output.stderr += chunk));
  const ended = once(child, 'close').then(([code, signal]): Ended => {
    running.delete(child);
    refuseSecretsIn(`${output.stdout}\n${output.stderr}`, `the output of ${args.slice(1).join(' ')}`);
    return { code, signal, ...output };
  });
  const printed = async (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = pattern.exec(output.stdout) ?? pattern.exec(output.stderr);
        if (found !== null) done(() => resolve(found));
      };
      const fail = (why: string) => () =>
        done(() =>
          reject(new Error(`${why} without printing ${pattern}:\n${output.stdout}\n${output.stderr}`)),
        );
      const late = setTimeout(fail('it ran on'), HUNG_MS);
      const atEnd = fail('it ended');
      const done = (settle: () => void) => {
        clearTimeout(late);
        child.stdout.off('data', look);
        child.stderr.off('data', look);
        child.off('close', atEnd);
        settle();
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
      child.on('close', atEnd);
      if (child.exitCode !== null || child.signalCode !== null) atEnd();
      look();
    });
  return {
    pid: child.pid ?? 0,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    printed,
    hangUp: () => void child.stdout.destroy(),
    kill: (signal) => void child.kill(signal),
    ended,
  };
}
