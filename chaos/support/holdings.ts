import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../test/support/eventually.js';
import type { Run } from '../scenario.js';
import { type WorkerSettings, Worker } from './worker.js';
import { inRepository } from '../../test/support/repository.js';

/** What a worker holds after a collection of garbage. */
export interface Holdings {
  /** Of the heap and outside. */
  bytes: number;
  sockets: number;
  timers: number;
  /** Those of `process`. */
  listeners: number;
}

const PROBE = inRepository('chaos/support/probe.js');

/** A worker that tells what it holds. */
export class ProbedWorker {
  readonly worker: Worker;
  readonly #file: string;

  constructor(run: Run, settings: WorkerSettings) {
    const folder = mkdtempSync(join(tmpdir(), 'chaos-probe-'));
    run.teardown(() => rmSync(folder, { recursive: true, force: true }));
    this.#file = join(folder, 'holdings');
    this.worker = Worker.start(run, {
      ...settings,
      env: { ...settings.env, CHAOS_PROBE: this.#file },
      nodeOptions: ['--expose-gc', `--import=${PROBE}`],
    });
  }

  async holdings(): Promise<Holdings> {
    rmSync(this.#file, { force: true });
    this.worker.kill('SIGUSR2');
    const text = await eventually('the worker tells what it holds', () => {
      if (!this.worker.isRunning) throw new Error('the worker has ended');
      try {
        return readFileSync(this.#file, 'utf8');
      } catch {
        return undefined;
      }
    });
    return JSON.parse(text);
  }
}
