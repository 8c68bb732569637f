import { type Backoff, backoffMs } from '../lib/backoff.js';
import type { Clock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { printable } from '../lib/printable.js';
import type { Send } from './notify-program.js';

export interface NotifierOptions {
  send: Send;
  clock: Clock;
  log: Logger;
}

/** Assignments by their names: see sd_notify(3). */
type Message = Record<string, string>;

const RETRY: Backoff = { firstMs: 1_000, maxMs: 5_000 };
/** systemd ignores a message of more than 4,096 bytes; a character takes up to 4. */
const MAX_STATUS = 500;

/**
 * Tells systemd the state of the service. Messages arrive in order, and one that cannot be sent is sent again: a start
 * of which systemd is not told would count as failed. Nothing waits for it.
 */
export class Notifier {
  readonly #send: Send;
  readonly #clock: Clock;
  readonly #outage: OutageLog;
  readonly #waiting: Message[] = [];
  #sending = false;

  constructor({ send, clock, log }: NotifierOptions) {
    this.#send = send;
    this.#clock = clock;
    this.#outage = new OutageLog(log, clock, {
      began: 'systemd notification failed',
      ended: 'systemd notification restored',
    });
  }

  /** The start, or a reload, is complete. @param status one line for `systemctl status` */
  ready(status: string): void {
    this.#tell({ READY: '1', ...statusOf(status) });
  }

  /** @param status one line for `systemctl status` */
  status(status: string): void {
    this.#add(statusOf(status));
  }

  /** A reload begins; `ready` ends it. */
  reloading(): void {
    // The clock of systemd, CLOCK_MONOTONIC, is that of `hrtime`. A unit with Type=notify-reload needs this time.
    this.#tell({ RELOADING: '1', MONOTONIC_USEC: String(process.hrtime.bigint() / 1_000n) });
  }

  stopping(): void {
    this.#tell({ STOPPING: '1', ...statusOf('shutting down') });
  }

  /** The event loop turns: without this within `WatchdogSec`, systemd kills the process. */
  watchdog(): void {
    this.#add({ WATCHDOG: '1' });
  }

  /** A message that says what the state is now, in the order of the states. */
  #tell(message: Message): void {
    this.#waiting.push(message);
    void this.#sendWaiting();
  }

  /** What may go with the latest message that waits, in place of an older value. */
  #add(assignments: Message): void {
    const last = this.#waiting.at(-1);
    if (last === undefined) this.#tell(assignments);
    else Object.assign(last, assignments);
  }

  /** Never rejects. */
  async #sendWaiting(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    let failed = 0;
    for (let message = this.#waiting.shift(); message !== undefined; message = this.#waiting.shift()) {
      try {
        await this.#send(Object.entries(message).map(([name, value]) => `${name}=${value}`));
        failed = 0;
        this.#outage.succeeded();
      } catch (error) {
        this.#outage.failed({ reason: reasonOf(error) });
        failed += 1;
        this.#waiting.unshift(message);
        await this.#clock.sleep(backoffMs(failed, RETRY));
      }
    }
    this.#sending = false;
  }
}

/** A line break would begin another assignment, and the text may be that of a broker. */
function statusOf(status: string): Message {
  return { STATUS: printable(status).slice(0, MAX_STATUS) };
}
