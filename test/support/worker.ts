import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { refuseSecretsIn } from './planted-secrets.js';

export interface Worker {
  process: ChildProcess;
  /** Its parsed log lines so far. */
  lines: Record<string, unknown>[];
  /** Resolves with the exit code, or the signal that ended it, when all its lines have been read. */
  ended: Promise<number | string>;
}

const CLI = new URL('../../src/cli.js', import.meta.url).pathname;

/** Runs the service as a separate process until the test ends; resolves when it accepts requests. */
export async function startWorker(
  t: Pick<ExecutionContext, 'teardown'>,
  env: Record<string, string>,
  /** What Node runs; the compiled service by default. */
  program: readonly string[] = [CLI],
): Promise<Worker> {
  const worker = spawn(process.execPath, [...program, 'serve'], {
    env: { PATH: process.env.PATH, HTTP_PORT: 'off', LOG_FORMAT: 'json', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const lines: Record<string, unknown>[] = [];
  const ended = once(worker, 'close').then(([code, signal]) =>
    Number.isInteger(code) ? Number(code) : String(signal),
  );
  t.teardown(async () => {
    worker.kill('SIGKILL');
    await ended;
  });
  const reader = createInterface(worker.stderr);
  const ready = new Promise<void>((resolve, reject) => {
    reader.on('line', (line) => {
      refuseSecretsIn(line, 'the log of a worker');
      lines.push(parsed(line));
      if (lines.at(-1)?.message === 'accepting requests') resolve();
    });
    void ended.then((code) => reject(new Error(`the worker ended with ${code}: ${JSON.stringify(lines)}`)));
  });
  await ready;
  return { process: worker, lines, ended };
}

function parsed(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line);
  } catch {
    return { message: line };
  }
}
