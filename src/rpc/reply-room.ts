import type { Runner } from '../core/runner.js';
import { afterwards } from '../lib/afterwards.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { MemoryLog } from '../lib/memory-log.js';

export interface ReplyRoomOptions {
  /** How much replies may take before no further call begins, in bytes. */
  limit: number;
  runner: Pick<Runner, 'pause' | 'resume'>;
  clock: Clock;
  log: Logger;
}

/**
 * Bounds the memory of the replies that wait to be sent: while they take more than the limit, no further call begins, so
 * only those that run already add to it. It cannot last, since each reply is sent or dropped without a call's help.
 */
export class ReplyRoom {
  readonly #options: ReplyRoomOptions;
  readonly #log: MemoryLog;
  #held = 0;

  constructor(options: ReplyRoomOptions) {
    this.#options = options;
    this.#log = new MemoryLog(options.limit, options.log, options.clock, {
      began: 'reply memory used up',
      ended: 'reply memory free again',
    });
  }

  /** Counts a reply of this many bytes while it is sent. */
  during<T>(bytes: number, send: () => Promise<T>): Promise<T> {
    this.#add(bytes);
    return afterwards(send(), () => this.#add(-bytes));
  }

  #add(bytes: number): void {
    const { limit, runner } = this.#options;
    const wasFull = this.#held > limit;
    this.#held += bytes;
    const isFull = this.#held > limit;
    if (isFull) this.#log.usedUp(this.#held);
    if (isFull && !wasFull) runner.pause();
    if (wasFull && !isFull) runner.resume();
    this.#log.released(this.#held);
  }
}
