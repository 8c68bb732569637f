import { OutageLog } from '../lib/outage-log.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { ManagerError } from './manager-error.js';
import { untilAborted } from '../lib/until-aborted.js';

export interface CachedLookupOptions<T> {
  look: (signal: AbortSignal) => Promise<T>;
  /** What is looked up, for the log. */
  what: string;
  clock: Clock;
  log: Logger;
}

const FRESH_MS = 5 * 60_000;
/** How long the Manager is waited for when there is an answer of before. */
const PATIENCE_MS = 5_000;
/** After it was away, it is asked again no sooner than this, unless somebody says that it matters. */
const ASK_AGAIN_MS = 10_000;

/**
 * What the Manager said, kept for 5 minutes. While the Manager is away, what it said before goes on being used, however
 * old, and that is told once in the log.
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
   * @throws ManagerError when there is no answer of before, or the Manager says that it does not hold any more
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

  /** The next to ask gets an answer of the Manager's own, if it gives one. */
  refresh(): void {
    if (this.#kept !== undefined) this.#kept.askAgainAt = 0;
  }

  /** One look-up for all who ask meanwhile: it does not end with any of them. */
  async #look(): Promise<T> {
    const { look, clock } = this.#options;
    const kept = this.#kept;
    const limit = new AbortController();
    const cancel =
      kept === undefined
        ? () => {}
        : clock.after(PATIENCE_MS, () =>
            limit.abort(new ManagerError('unreachable', `no answer within ${PATIENCE_MS} ms`)),
          );
    try {
      const value = await look(limit.signal);
      this.#kept = { value, askAgainAt: clock.now() + FRESH_MS };
      this.#away.works();
      return value;
    } catch (error) {
      if (kept === undefined || !(error instanceof ManagerError) || !error.temporary) throw error;
      this.#away.failed({ lookup: this.#options.what, reason: error.message });
      kept.askAgainAt = clock.now() + ASK_AGAIN_MS;
      return kept.value;
    } finally {
      cancel();
    }
  }
}
