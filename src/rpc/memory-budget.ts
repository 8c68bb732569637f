import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { MemoryLog } from '../lib/memory-log.js';
import { WaitQueue } from '../lib/wait-queue.js';

/** Memory that can be given up when messages need it. */
export interface Reclaimable {
  /** How much it takes now. */
  readonly bytes: number;
  /** Gives up at least this many bytes, or all that it has. */
  evict(bytes: number): void;
}

export interface MemoryBudgetOptions {
  /** The maximum, in bytes. */
  limit: number;
  /** Counts against the limit, and gives way to messages. */
  reclaimable: Reclaimable;
  clock: Clock;
  log: Logger;
}

/** What one message takes of the budget. */
export interface Share {
  /** Its bytes that count against the limit; only the budget changes them. */
  bytes: number;
  /** Whether it has got room for its decoded form. */
  hasRoom: boolean;
}

/** A message that waits for room. */
interface Waiting {
  readonly share: Share;
  readonly more: number;
}

/**
 * Counts the memory that messages take, and lets messages wait, in their order, while there is no room for their decoded
 * form. When no message has room, the first one gets it in any case, so that there is always progress.
 */
export class MemoryBudget {
  readonly #limit: number;
  readonly #reclaimable: Reclaimable;
  readonly #log: MemoryLog;
  readonly #waiting = new WaitQueue<Waiting>();
  /** How many messages have room for their decoded form. */
  #withRoom = 0;
  #taken = 0;

  constructor({ limit, reclaimable, clock, log }: MemoryBudgetOptions) {
    this.#limit = limit;
    this.#reclaimable = reclaimable;
    this.#log = new MemoryLog(limit, log, clock, {
      began: 'memory budget used up',
      ended: 'memory budget free again',
    });
  }

  /** The bytes that count against the limit now. */
  get used(): number {
    return this.#taken + this.#reclaimable.bytes;
  }

  /** The bytes that messages may still take. */
  get free(): number {
    return this.#limit - this.#taken;
  }

  /** Starts to count a message. It may exceed the limit: its bytes are in memory already. */
  take(bytes: number): Share {
    const share: Share = { bytes: 0, hasRoom: false };
    this.resize(share, bytes);
    return share;
  }

  /** Counts this many bytes for a message from now on. More than before may exceed the limit. */
  resize(share: Share, bytes: number): void {
    this.#taken += bytes - share.bytes;
    share.bytes = bytes;
    this.#settle();
  }

  /** Gives a message room for this many more bytes, unless it must wait for them. @returns whether it has got it */
  tryGrow(share: Share, more: number): boolean {
    if (this.#waiting.size > 0 || !this.#hasRoom(more)) return false;
    this.#grant(share, more);
    return true;
  }

  /** Waits for room for this many more bytes. Rejects with the signal's reason. */
  async grow(share: Share, more: number, signal: AbortSignal): Promise<void> {
    if (this.tryGrow(share, more)) return;
    this.#log.usedUp(this.used);
    try {
      await this.#waiting.wait({ share, more }, signal);
    } catch (error) {
      // The next one may need less.
      this.#settle();
      throw error;
    }
  }

  /** Counts only this many bytes for a message from now on, and does not let others wait for its end. */
  giveRoomBack(share: Share, bytes: number): void {
    if (share.hasRoom) this.#withRoom--;
    share.hasRoom = false;
    this.resize(share, bytes);
  }

  /** Stops counting a message. */
  release(share: Share): void {
    this.giveRoomBack(share, 0);
  }

  #grant(share: Share, more: number): void {
    if (!share.hasRoom) this.#withRoom++;
    share.hasRoom = true;
    this.#taken += more;
    share.bytes += more;
  }

  /** Whether there is room for this many bytes, after what can be given up was given up for them. */
  #hasRoom(bytes: number): boolean {
    this.#reclaim(bytes);
    return this.#withRoom === 0 || this.used + bytes <= this.#limit;
  }

  #reclaim(bytes: number): void {
    const missing = this.used + bytes - this.#limit;
    if (missing > 0 && this.#reclaimable.bytes > 0) this.#reclaimable.evict(missing);
  }

  /** Gives room to the messages that wait, as far as there is any now. */
  #settle(): void {
    this.#reclaim(0);
    for (const waiting of this.#waiting.waiters) {
      if (!this.#hasRoom(waiting.more)) return;
      this.#grant(waiting.share, waiting.more);
      this.#waiting.resume(waiting);
    }
    this.#log.released(this.#taken);
  }
}
