import { reasonOf } from '../lib/errors.js';
import { OutageLog } from '../lib/outage-log.js';
import { settledWithin } from '../lib/settled-within.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { CallEventBus } from '../core/call-events.js';
import type { ManagerId } from './manager-answers.js';
import type { ManagerClient } from './manager-client.js';

export interface SystemEventsOptions {
  manager: Pick<ManagerClient, 'sendSystemEvent'>;
  /** `EXCHANGE_ID` */
  exchangeId: ManagerId;
  hostname: string;
  /** How many may be in progress at the same time; 10 by default. */
  mostUnderWay?: number;
  clock: Clock;
  log: Logger;
}

const MOST_UNDER_WAY = 10;
const UNEXPECTED: ReadonlySet<string> = new Set(['internal', 'timeout']);
/** How long events in progress may take when the service ends. */
const LAST_MS = 2_000;

/** Reports unexpected failures to the Manager's operators. No request waits for a report, or fails because of one. */
export class SystemEvents {
  readonly #options: SystemEventsOptions;
  readonly #fault: OutageLog;
  readonly #closed = new AbortController();
  readonly #underWay = new Set<Promise<void>>();

  constructor(options: SystemEventsOptions) {
    this.#options = options;
    this.#fault = new OutageLog(options.log, options.clock, {
      began: 'system event failed',
      ended: 'system events restored',
    });
  }

  /** Reports each call whose caller got `internal` or `timeout`. */
  watch(events: CallEventBus): void {
    events.on('answered', ({ call, reply }) => {
      if (reply.status === 'completed' || !UNEXPECTED.has(reply.body.code)) return;
      this.report({ action: String(call.action), message: reply.body.errors.join('; ') });
    });
  }

  /** Reports a request that ended unexpectedly. */
  report({ action, message }: { action: string; message: string }): void {
    const { mostUnderWay = MOST_UNDER_WAY } = this.#options;
    if (this.#closed.signal.aborted) return;
    if (this.#underWay.size >= mostUnderWay) {
      this.#fault.failed({ reason: `${mostUnderWay} are in progress: further ones are dropped` });
      return;
    }
    const sending = this.#send(action, message).finally(() => this.#underWay.delete(sending));
    this.#underWay.add(sending);
  }

  /** Waits a moment for the events in progress, then aborts them. */
  async close(): Promise<void> {
    await settledWithin(LAST_MS, this.#options.clock, Promise.all(this.#underWay));
    this.#closed.abort(new Error('the service ends'));
    await Promise.all(this.#underWay);
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
      this.#fault.works();
    } catch (error) {
      if (signal.aborted) return;
      this.#fault.failed({ reason: reasonOf(error) });
    }
  }
}
