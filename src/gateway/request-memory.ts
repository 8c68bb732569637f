import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { MemoryLog } from '../lib/memory-log.js';

export interface RequestMemoryOptions {
  /** The maximum for all requests together, in bytes. */
  limit: number;
  clock: Clock;
  log: Logger;
}

/**
 * Counts the memory that the gateway's requests and their replies take. A request or a reply without room is refused; one
 * request alone, and the only reply, always has room, so that none is refused again and again.
 */
export class RequestMemory {
  readonly #limit: number;
  readonly #log: MemoryLog;
  #requests = 0;
  #replies = 0;
  #used = 0;

  constructor({ limit, clock, log }: RequestMemoryOptions) {
    this.#limit = limit;
    this.#log = new MemoryLog(limit, log, clock, {
      began: 'gateway memory used up',
      ended: 'gateway memory free again',
    });
  }

  /** Starts to count a request. @returns undefined when there is no room for this many bytes */
  take(bytes: number): HeldMemory | undefined {
    if (this.#requests > 0 && !this.#hasRoom(bytes)) return undefined;
    this.#requests++;
    this.#used += bytes;
    let replies = 0;
    let isReleased = false;
    const resize = (next: number) => {
      this.#used += next - bytes;
      bytes = next;
    };
    const add = (more: number) => {
      if (isReleased) return;
      this.#replies++;
      replies++;
      resize(bytes + more);
    };
    return {
      tryResize: (next) => {
        if (isReleased) return true;
        if (next > bytes && this.#requests > 1 && !this.#hasRoom(next - bytes)) return false;
        resize(next);
        return true;
      },
      addReply: add,
      tryAddReply: (more) => {
        if (this.#replies > 0 && !this.#hasRoom(more)) return false;
        add(more);
        return true;
      },
      release: () => {
        isReleased = true;
        this.#requests--;
        this.#replies -= replies;
        resize(0);
        this.#log.released(this.#used);
      },
    };
  }

  #hasRoom(more: number): boolean {
    if (this.#used + more <= this.#limit) return true;
    this.#log.usedUp(this.#used);
    return false;
  }
}

/** What one request takes. */
export interface HeldMemory {
  /** Counts this many bytes from now on. @returns false when there is no room for them */
  tryResize(bytes: number): boolean;
  /** Counts its reply too, which must not be refused, so this may exceed the limit. */
  addReply(bytes: number): void;
  /** Counts its reply too. @returns false when there is no room for it */
  tryAddReply(bytes: number): boolean;
  /**
   * Stops counting the request; what is counted later is ignored, such as the reply to a caller that has gone away. Call it
   * once.
   */
  release(): void;
}
