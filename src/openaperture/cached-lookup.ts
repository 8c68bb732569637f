import { OutageLog } from '../lib/outage-log.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { ManagerError } from './manager-error.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';

export interface CachedLookupOptions<T> {
  lookUp: (signal: AbortSignal) => Promise<T>;
  /** What is looked up, for the log. */
  what: string;
  clock: Clock;
  log: Logger;
}

const FRESH_MS = 5 * 60_000;
/** How long to wait for the Manager when a cached value exists. */
const REFRESH_TIMEOUT_MS = 5_000;
/** How long to wait after a failure before the next lookup, unless `refresh` is called earlier. */
const RETRY_MS = 10_000;

/**
 * A value from the Manager, cached for 5 minutes. While the Manager cannot be reached, the cached value stays in use,
 * however old it is; the log has one line for that outage.
 */
export class CachedLookup<T> {
  readonly #options: CachedLookupOptions<T>;
  readonly #outage: OutageLog;
  #cached: { value: T; refreshAt: number } | undefined;
  #inFlight: Promise<T> | undefined;

  constructor(options: CachedLookupOptions<T>) {
    this.#options = options;
    const { log, clock } = options;
    this.#outage = new OutageLog(log, clock, {
      began: 'Manager lookup failed',
      ended: 'Manager lookup restored',
    });
  }

  /**
   * @throws ManagerError when there is no cached value, or the Manager replies that it is no longer valid
   * @throws the signal's reason when that is aborted
   */
  async get(signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const cached = this.#cached;
    if (cached !== undefined && this.#options.clock.now() < cached.refreshAt) return cached.value;
    this.#inFlight ??= this.#lookUp().finally(() => {
      this.#inFlight = undefined;
    });
    return untilAborted(this.#inFlight, signal);
  }

  /** The next `get` asks the Manager again. */
  refresh(): void {
    if (this.#cached !== undefined) this.#cached.refreshAt = 0;
  }

  /** Concurrent callers share one lookup; aborting one caller does not end it. */
  async #lookUp(): Promise<T> {
    const { lookUp, clock } = this.#options;
    const cached = this.#cached;
    try {
      const value = await (cached === undefined
        ? lookUp(new AbortController().signal)
        : runWithin({ ms: REFRESH_TIMEOUT_MS, clock, reason: noResponse }, lookUp));
      this.#cached = { value, refreshAt: clock.now() + FRESH_MS };
      this.#outage.succeeded();
      return value;
    } catch (error) {
      if (cached === undefined || !(error instanceof ManagerError) || !error.temporary) throw error;
      this.#outage.failed({ lookup: this.#options.what, reason: error.message });
      cached.refreshAt = clock.now() + RETRY_MS;
      return cached.value;
    }
  }
}

function noResponse(): ManagerError {
  return new ManagerError('unreachable', `no response within ${REFRESH_TIMEOUT_MS} ms`);
}
