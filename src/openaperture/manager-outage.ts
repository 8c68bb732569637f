import { type Backoff, backoffMs } from '../lib/backoff.js';
import type { Clock } from '../lib/clock.js';
import { linkSignals } from '../lib/linked-signal.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';

export interface ManagerOutageOptions {
  /** Called when it begins: the service must accept no more requests. */
  pause: (reason: string) => void;
  /** Called when it has ended. */
  resume: () => void;
  /** Aborted when the service stops: then an outage does not end any more. */
  stopped: AbortSignal;
  clock: Clock;
  log: Logger;
}

/** Whether the Manager responds to what has failed before; false also when the signal is aborted. */
export type AskManager = (signal: AbortSignal) => Promise<boolean>;

const BACKOFF: Backoff = { firstMs: 1_000, maxMs: 10_000 };

/**
 * An outage of the Manager: it lasts while replies wait for the Manager, and ends only when that has responded. When those
 * that waited have given up, the Manager is asked until then.
 */
export class ManagerOutage {
  readonly #options: ManagerOutageOptions;
  readonly #log: OutageLog;
  readonly #waiting = new Set<object>();
  #paused = false;
  /** Ends the asking. */
  #stopAsking = () => {};

  constructor(options: ManagerOutageOptions) {
    this.#options = options;
    this.#log = new OutageLog(options.log, options.clock, {
      began: 'record replies waiting for the Manager',
      ended: 'record replies resumed',
    });
  }

  /** Records that this one waits for the Manager. */
  waits(one: object, reason: string): void {
    this.#log.failed({ reason });
    this.#waiting.add(one);
    this.#stopAsking();
    if (this.#paused) return;
    this.#paused = true;
    this.#options.pause('replies wait for the Manager');
  }

  /** Records that the Manager has responded to this one; it ends the outage when no other one waits. */
  responded(one: object): void {
    this.#waiting.delete(one);
    if (!this.#paused || this.#waiting.size > 0) return;
    this.#paused = false;
    this.#stopAsking();
    this.#log.succeeded();
    this.#options.resume();
  }

  /** Records that this one no longer waits, if it did; when it was the last one, the Manager is asked instead. */
  gaveUp(one: object, ask: AskManager): void {
    if (this.#waiting.delete(one) && this.#waiting.size === 0) void this.#askUntilItResponds(ask);
  }

  /** Never rejects. */
  async #askUntilItResponds(ask: AskManager): Promise<void> {
    const { clock, stopped } = this.#options;
    const { signal, abort, unlink } = linkSignals(stopped);
    this.#stopAsking = () => abort(new Error('another one asks the Manager'));
    for (let failed = 1; !signal.aborted; failed++) {
      await clock.sleep(backoffMs(failed, BACKOFF), { signal }).catch(() => {});
      if (!signal.aborted && (await ask(signal)) && !signal.aborted) this.responded(ask);
    }
    unlink();
  }
}
