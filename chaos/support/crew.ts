import { setTimeout as sleep } from 'node:timers/promises';
import type { Run } from '../scenario.js';
import { stopWorkers } from './stop-workers.js';
import { Worker, type WorkerSettings } from './worker.js';

/** The wait before a worker that has ended is started again, in milliseconds. */
const RESTART_MS = 100;

/** Workers on one queue, under a supervisor that starts again those that end. */
export class Crew {
  /** How each worker ended that the supervisor started again. */
  readonly deaths: (number | string)[] = [];
  /** All workers that were started. */
  readonly started: Worker[] = [];
  /** The workers that were killed. */
  readonly killed: Worker[] = [];
  readonly #run: Run;
  readonly #settings: WorkerSettings;
  readonly #workers: Worker[] = [];
  readonly #supervisors: Promise<void>[] = [];
  #stopping = false;

  /** Resolves when all take requests. */
  static async start(run: Run, size: number, settings: WorkerSettings): Promise<Crew> {
    const crew = new Crew(run, settings);
    run.teardown(() => {
      crew.#stopping = true;
    });
    for (let place = 0; place < size; place++) crew.#supervisors.push(crew.#supervise(place));
    await crew.ready();
    return crew;
  }

  private constructor(run: Run, settings: WorkerSettings) {
    this.#run = run;
    this.#settings = settings;
  }

  get workers(): readonly Worker[] {
    return this.#workers;
  }

  /** Resolves when every place has a worker that takes requests, or has done so. */
  async ready(): Promise<void> {
    for (let left = 600; left > 0; left--) {
      await sleep(RESTART_MS);
      const ready = await Promise.allSettled(this.#workers.map(async (each) => each.ready));
      if (
        ready.every(({ status }) => status === 'fulfilled') &&
        this.#workers.every((each) => each.isRunning)
      )
        return;
    }
    throw new Error(`no worker keeps running: ${this.deaths.join(', ')}`);
  }

  /** Kills a worker; resolves when all take requests again. */
  async kill(worker: Worker): Promise<void> {
    this.killed.push(worker);
    worker.kill('SIGKILL');
    await worker.ended;
    await this.ready();
  }

  /** Ends them by SIGTERM. @returns a sentence for each that did not end with 0 */
  async stop(): Promise<string[]> {
    this.#stopping = true;
    return stopWorkers(this.#workers);
  }

  async #supervise(place: number): Promise<void> {
    while (!this.#stopping) {
      const worker = Worker.start(this.#run, this.#settings);
      this.#workers[place] = worker;
      this.started.push(worker);
      const ended = await worker.ended;
      if (this.#stopping) return;
      this.deaths.push(ended);
      await sleep(RESTART_MS);
    }
  }
}
