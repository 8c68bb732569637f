import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ExecutionContext } from 'ava';
import { eventually } from '../support/eventually.js';

export interface RunOptions {
  env: Readonly<Record<string, string>>;
  directory: string;
}

/** Runs the lines of a block as a reader does who copies them: by bash, in one shell, to its end. @returns what they printed */
export async function runBlock(
  t: ExecutionContext,
  text: string,
  options: RunOptions & { exitCode?: number },
): Promise<string> {
  const { ended, output } = start(t, text, options);
  const code = await ended;
  t.is(code, options.exitCode ?? 0, `${text}\n${output()}`);
  return output();
}

/** Runs a command as in a terminal of 200 columns without colours, where tables are printed. @returns what it shows */
export async function runOnTerminal(
  t: ExecutionContext,
  command: string,
  options: RunOptions & { exitCode?: number },
): Promise<string> {
  const env = { ...options.env, SHELL: '/bin/bash', TERM: 'dumb', SHOWN: command };
  const typed = `script -qec 'stty cols 200; eval "$SHOWN"' /dev/null`;
  return (await runBlock(t, typed, { ...options, env })).replaceAll('\r\n', '\n');
}

/** Runs a block that goes on, until it has printed this; then it is stopped as by Ctrl+C. @returns what it printed */
export async function runUntil(
  t: ExecutionContext,
  text: string,
  pattern: RegExp,
  options: RunOptions,
): Promise<string> {
  const { ended, output, stop } = start(t, text, options);
  let isOver = false;
  void ended.then(() => (isOver = true));
  await eventually(`it prints ${pattern}`, () => {
    if (isOver) throw new Error(`it ended without ${pattern}:\n${text}\n${output()}`);
    return pattern.test(output());
  });
  stop('SIGINT');
  await ended;
  return output();
}

/** Starts a block that goes on until the test ends. @returns what it has printed so far */
export function startBlock(
  t: ExecutionContext,
  text: string,
  options: RunOptions,
): { output: () => string; stop: () => Promise<unknown> } {
  const { output, stop, ended } = start(t, text, options);
  return {
    output,
    stop: async () => {
      stop('SIGINT');
      return ended;
    },
  };
}

function start(t: ExecutionContext, text: string, { env, directory }: RunOptions) {
  // A process group of its own, which gets Ctrl+C as that of a terminal does.
  const shell = spawn('bash', ['-e', '-u', '-o', 'pipefail', '-c', text], {
    cwd: directory,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  for (const stream of [shell.stdout, shell.stderr])
    stream.setEncoding('utf8').on('data', (more: string) => (printed += more));
  const ended = once(shell, 'close').then(([code]): unknown => code);
  const stop = (signal: NodeJS.Signals) => {
    if (shell.pid === undefined || shell.exitCode !== null || shell.signalCode !== null) return;
    process.kill(-shell.pid, signal);
  };
  t.teardown(async () => {
    stop('SIGKILL');
    await ended;
  });
  return { ended, output: () => printed, stop };
}
