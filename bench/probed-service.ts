/** The built service with `process-probe.js` in it, and what the system says of its memory. */
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Codec } from '../src/rpc/codec/codec.js';
import { jsonCodec } from '../src/rpc/codec/json.js';
import { Caller, percentile, startService } from './support.js';

/** What the probe reports, for the time since its last report. */
interface ProbeReport {
  /** By how much each turn of a timer of one millisecond was late, in milliseconds. */
  lateness: number[];
  /** The largest values, in bytes. */
  peak: { heap: number; external: number };
}

/** How late the event loop of the service was, in milliseconds. */
export interface EventLoopDelay {
  p99: number;
  /** What 1 % of all moments wait longer for: a long delay counts by its length. */
  p99OverTime: number;
  max: number;
}

export interface MemoryUse {
  /** The resident set, in bytes. */
  resident: number;
  heapAndExternal: number;
}

export interface RequestBody {
  action: string;
  etcd_token?: string;
  action_parameters?: Record<string, unknown>;
}

interface RequestOptions {
  /** JSON by default. */
  codec?: Codec;
  /** The connection to send it by; by default the service's own. */
  by?: Caller;
}

export class ProbedService {
  readonly #process: ChildProcess;
  readonly #caller: Caller;
  readonly #queue: string;
  readonly #socket: string;

  /** Starts the service with these settings, in production, and waits until it consumes. */
  static async start(brokerUrl: string, settings: Record<string, string>): Promise<ProbedService> {
    const id = randomUUID();
    const queue = `bench_${id}`;
    const socket = join(tmpdir(), `probe-${id}`);
    const service = startService(queue, brokerUrl, {
      NODE_ENV: 'production',
      ALLOWED_HOSTS: '127.0.0.0/8',
      NODE_OPTIONS: `--import=${new URL('process-probe.js', import.meta.url).href}`,
      PROBE_SOCKET: socket,
      ...settings,
    });
    const caller = await Caller.open(brokerUrl);
    await caller.declared(queue);
    return new ProbedService(service, caller, queue, socket);
  }

  private constructor(service: ChildProcess, caller: Caller, queue: string, socket: string) {
    this.#process = service;
    this.#caller = caller;
    this.#queue = queue;
    this.#socket = socket;
  }

  /** @returns the body of the reply. @throws Error when it is not that of a result */
  async request(
    body: RequestBody,
    { codec = jsonCodec, by = this.#caller }: RequestOptions = {},
  ): Promise<Buffer> {
    const request = codec.encode({ status: 'not_started', request_body: body });
    const reply = await by.send(this.#queue, request, { contentType: codec.contentType });
    const beginning = reply.toString('latin1', 0, 1_000);
    if (!beginning.includes('completed')) throw new Error(`${body.action} failed: ${beginning}`);
    return reply;
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    await ended;
    await this.#caller.channel.deleteQueue(this.#queue);
    await this.#caller.channel.deleteQueue(`${this.#queue}_error`);
    await this.#caller.close();
  }

  /** How late the event loop was while this ran. */
  async eventLoopDelayDuring(work: () => Promise<unknown>): Promise<EventLoopDelay> {
    await this.#report();
    await work();
    const { lateness } = await this.#report();
    const sorted = lateness.toSorted((a, b) => a - b);
    return {
      p99: percentile(sorted, 0.99),
      p99OverTime: overTime(sorted, 0.01),
      max: sorted.at(-1) ?? Number.NaN,
    };
  }

  /** The memory that the process takes now. */
  async memory(): Promise<MemoryUse> {
    const { peak } = await this.#report();
    return { resident: this.#residentNow(), heapAndExternal: peak.heap + peak.external };
  }

  /** The largest amount of memory that the process took while this ran. */
  async peakMemoryDuring(work: () => Promise<unknown>): Promise<MemoryUse> {
    await this.#report();
    // proc(5): resets the peak of the resident set.
    writeFileSync(`/proc/${this.#process.pid}/clear_refs`, '5');
    await work();
    const { peak } = await this.#report();
    return { resident: this.#status('VmHWM'), heapAndExternal: peak.heap + peak.external };
  }

  #residentNow(): number {
    return this.#status('VmRSS');
  }

  #status(field: string): number {
    const status = readFileSync(`/proc/${this.#process.pid}/status`, 'utf8');
    return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) * 1_024;
  }

  async #report(): Promise<ProbeReport> {
    const connection = connect(this.#socket);
    const chunks: Buffer[] = [];
    for await (const chunk of connection) chunks.push(chunk);
    return JSON.parse(Buffer.concat(chunks).toString());
  }
}

/**
 * The delay that this share of all moments exceeds.
 * @param lateness of the turns of a timer of one millisecond
 */
function overTime(lateness: readonly number[], share: number): number {
  const total = lateness.reduce((sum, each) => sum + each + 1, 0);
  const beyond = (limit: number) => lateness.reduce((sum, each) => sum + Math.max(0, each - limit), 0);
  let [low, high] = [0, lateness.at(-1) ?? 0];
  for (let steps = 0; steps < 30; steps++) {
    const middle = (low + high) / 2;
    if (beyond(middle) > share * total) low = middle;
    else high = middle;
  }
  return high;
}

/** How long it takes, in milliseconds. */
export async function msOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
