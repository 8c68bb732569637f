import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Run } from '../scenario.js';
import { within } from './within.js';
import { inRepository } from '../../test/support/repository.js';

export interface WorkerSettings {
  queue: string;
  /** The URL of the broker. */
  url: string;
  /** Further settings of the service. */
  env?: Record<string, string>;
  /** Options of Node. */
  nodeOptions?: readonly string[];
}

export const PLUGINS = inRepository('chaos/plugins');
/** The most log lines that are kept of a worker. */
const MAX_LINES = 2_000;
/** Only ends what hangs, in milliseconds: a busy machine may be slow. */
const START_MS = 120_000;

/** A process of the service. */
export class Worker {
  /** Resolves with the exit code, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>;
  /** Resolves when it first takes requests; rejects when it ends before, or hangs. */
  readonly ready: Promise<void>;
  /** Its first log lines, but those of requests. */
  readonly lines: Record<string, unknown>[] = [];
  readonly #process: ChildProcess;
  /** How often it has logged each message; all of its lines count. */
  readonly #counts = new Map<unknown, number>();
  #watchers = new Set<() => void>();

  static start(run: Run, { queue, url, env = {}, nodeOptions = [] }: WorkerSettings): Worker {
    // The kernel ends it with the suite.
    const command = ['--pdeathsig', 'KILL', process.execPath, ...nodeOptions, run.service.cli, 'serve'];
    const child = spawn('setpriv', command, {
      env: {
        PATH: process.env.PATH,
        AMQP_URL: url,
        QUEUE_NAME: queue,
        HTTP_PORT: 'off',
        LOG_FORMAT: 'json',
        PLUGIN_PATHS: PLUGINS,
        ...env,
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const worker = new Worker(child);
    run.teardown(async () => {
      child.kill('SIGKILL');
      await worker.ended;
    });
    return worker;
  }

  private constructor(child: ChildProcess & { stderr: NodeJS.ReadableStream }) {
    this.#process = child;
    // With all of its output read.
    this.ended = once(child, 'close').then(([code, signal]) => code ?? signal);
    createInterface(child.stderr).on('line', (line) => this.#read(line));
    const started = Promise.race([this.logged('accepting requests').then(() => 'ready'), this.ended]);
    this.ready = within(START_MS, started, 'no end').then((outcome) => {
      if (outcome === 'ready') return;
      const lines = JSON.stringify(this.lines);
      throw new Error(`a worker did not take requests, and ended with ${outcome}: ${lines}`);
    });
    this.ready.catch(() => {});
  }

  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) throw new Error('the process could not be started');
    return pid;
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** How often it has logged this message. */
  count(message: string): number {
    return this.#counts.get(message) ?? 0;
  }

  /** Resolves when it has logged this message this many times. */
  async logged(message: string, times = 1): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (this.count(message) < times) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  #read(line: string): void {
    // Not parsed: there may be a million of them.
    if (/"message":"request (?:completed|failed)"/.test(line)) return;
    const read = parsed(line);
    this.#counts.set(read.message, (this.#counts.get(read.message) ?? 0) + 1);
    if (this.lines.length < MAX_LINES) this.lines.push(read);
    for (const look of this.#watchers) look();
  }
}

function parsed(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line);
  } catch {
    return { message: line };
  }
}
