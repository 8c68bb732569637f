import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { startService } from './support.js';

const BARE_CONSUMER = new URL('bare-consumer.js', import.meta.url).pathname;
/** What each of them writes to standard error when the broker has accepted its consumers. */
const CONSUMES = /"accepting requests"|^consuming$/;

/** Node.js with amqplib alone. */
export function startBareConsumer(queue: string, url: string): ChildProcess {
  const env = { PATH: process.env.PATH };
  return spawn('node', [BARE_CONSUMER, url, queue], { env, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** The built service as it runs in production. */
export function startConsumer(queue: string, url: string, settings: Record<string, string>): ChildProcess {
  return startService(queue, url, { NODE_ENV: 'production', HTTP_PORT: '0', ...settings });
}

/**
 * Waits until it consumes from its queue.
 * @returns its lines until then
 * @throws Error with these lines when it has ended
 */
export async function untilConsuming({ stderr }: ChildProcess): Promise<string[]> {
  if (stderr === null) throw new Error('standard error is not a pipe');
  const lines: string[] = [];
  for await (const line of createInterface({ input: stderr })) {
    lines.push(line);
    if (!CONSUMES.test(line)) continue;
    // A reader that ends has paused the stream.
    stderr.resume();
    return lines;
  }
  throw new Error(`it has ended without consuming:\n${lines.join('\n')}`);
}

/** Ends it, and waits for that. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

/** The CPU time that the threads of a process have used, in milliseconds. More exact than that in its `stat`. */
export function cpuMs({ pid }: ChildProcess): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const each = threads.map((id) => readFileSync(`/proc/${pid}/task/${id}/schedstat`, 'utf8').split(' ')[0]);
  return each.reduce((sum, nanoseconds) => sum + Number(nanoseconds) / 1e6, 0);
}

export interface Memory {
  /** What it has in memory. */
  rss: number;
  /** The same, where each of several processes that share a page has a part of it. */
  pss: number;
  /** What it shares with no other process. */
  uss: number;
}

/** The memory of a process, in MB (MiB). */
export function memoryOf({ pid }: ChildProcess): Memory {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const kilobytes = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(rollup)?.[1]);
  return {
    rss: kilobytes('Rss') / 1_024,
    pss: kilobytes('Pss') / 1_024,
    uss: (kilobytes('Private_Clean') + kilobytes('Private_Dirty')) / 1_024,
  };
}
