import { OutageLog } from '../lib/outage-log.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { ManagerError } from './manager-error.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';

export interface CachedLookupOptions<T> {
  look: (signal: AbortSignal) => Promise<T>;
  /** What is looked up, for the log. */
  what: string;
  clock: Clock;
  log: Logger;
}

const FRESH_MS = 5 * 60_000;
/** How long to wait for the Manager when an earlier answer is there. */
const PATIENCE_MS = 5_000;
/** How long after a failure the Manager is asked again, unless `refresh` is called before. */
const ASK_AGAIN_MS = 10_000;

/**
 * An answer of the Manager, kept for 5 minutes. While the Manager cannot be reached, the earlier answer stays in use, at
 * any age; the log has one line about that.
 */
export class CachedLookup<T> {
  readonly #options: CachedLookupOptions<T>;
  readonly #away: OutageLog;
  #kept: { value: T; askAgainAt: number } | undefined;
  #underWay: Promise<T> | undefined;

  constructor(options: CachedLookupOptions<T>) {
    this.#options = options;
    const { log, clock } = options;
    this.#away = new OutageLog(log, clock, {
      began: 'Manager lookup failed',
      ended: 'Manager lookup restored',
    });
  }

  /**
   * @throws ManagerError when there is no earlier answer, or the Manager replies that it is no longer true
   * @throws the signal's reason when that is aborted
   */
  async get(signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const kept = this.#kept;
    if (kept !== undefined && this.#options.clock.now() < kept.askAgainAt) return kept.value;
    this.#underWay ??= this.#look().finally(() => {
      this.#underWay = undefined;
    });
    return untilAborted(this.#underWay, signal);
  }

  /** The next `get` asks the Manager again. */
  refresh(): void {
    if (this.#kept !== undefined) this.#kept.askAgainAt = 0;
  }

  /** One lookup for all callers of this time: none of them ends it. */
  async #look(): Promise<T> {
    const { look, clock } = this.#options;
    const kept = this.#kept;
    try {
      const value = await (kept === undefined
        ? look(new AbortController().signal)
        : runWithin({ ms: PATIENCE_MS, clock, reason: noAnswer }, look));
      this.#kept = { value, askAgainAt: clock.now() + FRESH_MS };
      this.#away.works();
      return value;
    } catch (error) {
      if (kept === undefined || !(error instanceof ManagerError) || !error.temporary) throw error;
      this.#away.failed({ lookup: this.#options.what, reason: error.message });
      kept.askAgainAt = clock.now() + ASK_AGAIN_MS;
      return kept.value;
    }
  }
}

function noAnswer(): ManagerError {
  return new ManagerError('unreachable', `no answer within ${PATIENCE_MS} ms`);
}
