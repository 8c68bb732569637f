import { reasonOf } from '../lib/errors.js';
import { fieldsOf } from '../lib/fields-of.js';
import { OutageLog } from '../lib/outage-log.js';
import { settledWithin } from '../lib/settled-within.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { ErrorBody } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import type { ManagerId } from './manager-responses.js';
import type { ManagerClient } from './manager-client.js';

export interface SystemEventsOptions {
  manager: Pick<ManagerClient, 'sendSystemEvent'>;
  /** `EXCHANGE_ID` */
  exchangeId: ManagerId;
  hostname: string;
  /** The most events in flight at the same time; 10 by default. */
  maxInFlight?: number;
  clock: Clock;
  log: Logger;
}

const MAX_IN_FLIGHT = 10;
const UNEXPECTED: ReadonlySet<string> = new Set(['internal', 'timeout']);
/** How long events in flight may take when the service shuts down. */
const CLOSE_TIMEOUT_MS = 1_000;

/** Reports unexpected failures to the Manager's operators. No request waits for a report, or fails because of one. */
export class SystemEvents {
  readonly #options: SystemEventsOptions;
  readonly #outage: OutageLog;
  readonly #closed = new AbortController();
  readonly #inFlight = new Set<Promise<void>>();

  constructor(options: SystemEventsOptions) {
    this.#options = options;
    this.#outage = new OutageLog(options.log, options.clock, {
      began: 'system events failed',
      ended: 'system events restored',
    });
  }

  /**
   * Reports the calls whose callers got an error that no action raised on purpose: `internal` or `timeout`, or a change
   * that was stopped at its deadline and did not report its outcome.
   */
  watch(events: CallEventBus): void {
    events.on('answered', ({ call, reply }) => {
      if (reply.status === 'completed' || !isUnexpected(reply.body)) return;
      this.report({ action: String(call.action), message: reply.body.errors.join('; ') });
    });
  }

  /** Reports a request that failed unexpectedly. */
  report({ action, message }: { action: string; message: string }): void {
    const { maxInFlight = MAX_IN_FLIGHT } = this.#options;
    if (this.#closed.signal.aborted) return;
    if (this.#inFlight.size >= maxInFlight) {
      this.#outage.failed({ reason: `${maxInFlight} events are in flight: more are dropped` });
      return;
    }
    const sending = this.#send(action, message).finally(() => this.#inFlight.delete(sending));
    this.#inFlight.add(sending);
  }

  /** Waits up to 1 s for the events in flight, then aborts them. */
  async close(): Promise<void> {
    await settledWithin(CLOSE_TIMEOUT_MS, this.#options.clock, Promise.all(this.#inFlight));
    this.#closed.abort(new Error('the service is shutting down'));
    await Promise.all(this.#inFlight);
  }

  async #send(action: string, message: string): Promise<void> {
    const { manager, exchangeId, hostname } = this.#options;
    const { signal } = this.#closed;
    try {
      await manager.sendSystemEvent(
        {
          unique: true,
          type: 'unhandled_exception',
          severity: 'error',
          message,
          data: {
            component: 'fleet_manager',
            exchange_id: exchangeId,
            hostname,
            fleet_request_action: action,
          },
        },
        { signal },
      );
      this.#outage.succeeded();
    } catch (error) {
      if (signal.aborted) return;
      this.#outage.failed({ reason: reasonOf(error) });
    }
  }
}

function isUnexpected({ code, details }: ErrorBody): boolean {
  return UNEXPECTED.has(code) || (code === 'outcome_unknown' && fieldsOf(details).stopped_by === 'timeout');
}
