import { OutageLog } from '../lib/outage-log.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { backoffMs } from '../lib/backoff.js';
import { reasonOf } from '../lib/errors.js';
import { heartbeatTerm, type Work } from './heartbeat.js';
import type { ManagerId } from './manager-responses.js';
import type { ManagerClient } from './manager-client.js';
import { orMissing } from './manager-lookups.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';

export interface OverseerOptions {
  manager: Pick<ManagerClient, 'registerModule'>;
  /** `EXCHANGE_ID` */
  exchangeId: ManagerId;
  /** Identifies this worker among the modules of its exchange; must fit a column of the Manager, see `isModuleText`. */
  hostname: string;
  /** `MODULE_TYPE`; must fit a column too. */
  moduleType: string;
  /** Publishes to a queue of the exchange; ends when the signal is aborted. */
  publish: (queueName: string, body: Buffer, signal: AbortSignal) => Promise<unknown>;
  running: () => readonly Work[];
  clock: Clock;
  log: Logger;
}

const QUEUE = 'system_modules';
const BEAT_MS = 30_000;
/** A heartbeat that is published later than this is out of date. */
const BEAT_TIMEOUT_MS = 10_000;
const LAST_BEAT_TIMEOUT_MS = 1_000;
const BACKOFF = { firstMs: 1_000, maxMs: 60_000 };

/**
 * Registers this worker with the Overseer as a module of its exchange. Publishes a heartbeat every 30 s that lists the
 * running requests. An outage is logged once when it begins and once when it ends; requests continue.
 */
export class Overseer {
  readonly #options: OverseerOptions;
  readonly #registrationOutage: OutageLog;
  readonly #heartbeatOutage: OutageLog;
  readonly #stopped = new AbortController();
  #work: Promise<unknown> = Promise.resolve();

  constructor(options: OverseerOptions) {
    this.#options = options;
    const { log, clock } = options;
    this.#registrationOutage = new OutageLog(log, clock, {
      began: 'Overseer registration failed',
      ended: 'Overseer registration restored',
    });
    this.#heartbeatOutage = new OutageLog(log, clock, {
      began: 'Overseer heartbeat failed',
      ended: 'Overseer heartbeat restored',
    });
  }

  /** Runs until `stop`. */
  start(): void {
    this.#work = Promise.all([this.#register(), this.#beat()]);
  }

  /** Publishes a last heartbeat with an empty workload. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the service is shutting down'));
    await this.#work;
    await this.#publish([], LAST_BEAT_TIMEOUT_MS);
  }

  async #register(): Promise<void> {
    const { manager, exchangeId, hostname, moduleType: type, clock, log } = this.#options;
    const { signal } = this.#stopped;
    const registration = { hostname, type, status: 'active', workload: [] } as const;
    for (let failed = 1; !signal.aborted; failed++) {
      try {
        const registering = manager.registerModule(exchangeId, registration, { signal });
        await orMissing(
          `exchange ${exchangeId}`,
          'EXCHANGE_ID',
          registering.then(() => true),
        );
        this.#registrationOutage.succeeded();
        log.info('Overseer registration completed', { hostname });
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#registrationOutage.failed({ reason: reasonOf(error) });
      }
      await clock.sleep(backoffMs(failed, BACKOFF), { signal }).catch(() => {});
    }
  }

  async #beat(): Promise<void> {
    const { clock, running } = this.#options;
    const { signal } = this.#stopped;
    for (let last = clock.now(); ; ) {
      await clock.sleep(last + BEAT_MS - clock.now(), { signal }).catch(() => {});
      if (signal.aborted) return;
      last = clock.now();
      await this.#publish(running(), BEAT_TIMEOUT_MS, signal);
    }
  }

  /** Never rejects. */
  async #publish(work: readonly Work[], ms: number, signal?: AbortSignal): Promise<void> {
    const { hostname, moduleType, publish, clock } = this.#options;
    const reason = () => new Error(`the broker did not confirm it within ${ms} ms`);
    try {
      const term = heartbeatTerm({ hostname, moduleType, work });
      await runWithin({ ms, clock, reason, signal }, (limited) =>
        untilAborted(publish(QUEUE, term, limited), limited),
      );
      this.#heartbeatOutage.succeeded();
    } catch (error) {
      if (!signal?.aborted) this.#heartbeatOutage.failed({ reason: reasonOf(error) });
    }
  }
}
