import type { Clock } from '../lib/clock.js';

interface Event {
  at: number;
  run: () => void;
}

/**
 * What will happen in a simulation. It uses no timers: `runDue` runs the events that are due, in order of their times,
 * and whoever looks at the simulation calls it first.
 */
export class EventQueue {
  readonly #clock: Pick<Clock, 'now'>;
  /** The earliest first; of events with the same time, the one that was added first. */
  readonly #events: Event[] = [];
  #runningAt: number | undefined;

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  /** The clock's time, or that of the event that runs. */
  get now(): number {
    return this.#runningAt ?? this.#clock.now();
  }

  /** Adds an event, `ms` milliseconds from now. */
  after(ms: number, run: () => void): void {
    const at = this.now + ms;
    const before = this.#events.findLastIndex((event) => event.at <= at);
    this.#events.splice(before + 1, 0, { at, run });
  }

  /** Runs steps that go on whoever waits for them. Each yields how long it waits, in milliseconds. */
  runOn(steps: Generator<number, void>): void {
    const { value, done } = steps.next();
    if (done !== true) this.after(value, () => this.runOn(steps));
  }

  runDue(): void {
    // An event that looks at the simulation sees it at its own time.
    if (this.#runningAt !== undefined) return;
    const now = this.#clock.now();
    try {
      for (let next = this.#events[0]; next !== undefined && next.at <= now; next = this.#events[0]) {
        this.#events.shift();
        this.#runningAt = next.at;
        next.run();
      }
    } finally {
      this.#runningAt = undefined;
    }
  }
}
