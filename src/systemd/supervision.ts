import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { Notifier } from './notifier.js';
import { notifyProgram } from './notify-program.js';

export interface SupervisionOptions {
  notifier: Notifier;
  /** Within which time systemd must hear that the event loop turns, in milliseconds; undefined: it has no watchdog. */
  watchdogMs: number | undefined;
  clock: Clock;
}

/** How often the status is compared with the one that was sent, in milliseconds. */
const STATUS_MS = 2_000;
/** systemd asks for two messages in its time; with four, one that is late or lost costs nothing. */
const PINGS = 4;

/** What systemd gets from the start of the service to its end. */
export class Supervision {
  readonly #notifier: Notifier;
  readonly #watchdogMs: number | undefined;
  readonly #clock: Clock;
  #status = '';
  readonly #timers = new Set<() => void>();

  constructor({ notifier, watchdogMs, clock }: SupervisionOptions) {
    this.#notifier = notifier;
    this.#watchdogMs = watchdogMs;
    this.#clock = clock;
  }

  /**
   * The service is up, whether or not it has a broker: an outage must not make systemd start it again.
   * @param notReady the reasons why it answers no requests now
   */
  started(notReady: () => readonly string[]): void {
    this.#status = statusOf(notReady());
    this.#notifier.ready(this.#status);
    this.#every(STATUS_MS, () => {
      const status = statusOf(notReady());
      if (status === this.#status) return;
      this.#status = status;
      this.#notifier.status(status);
    });
    // By timers of the main thread: each message shows that its event loop turns.
    if (this.#watchdogMs !== undefined)
      this.#every(this.#watchdogMs / PINGS, () => this.#notifier.watchdog());
  }

  /** systemd is told when the work of a reload begins and when it ends, however it ends. */
  async reloading<T>(work: () => Promise<T>): Promise<T> {
    this.#notifier.reloading();
    try {
      return await work();
    } finally {
      this.#notifier.ready(this.#status);
    }
  }

  /** From now on only the time limit of the stop counts. */
  stopping(): void {
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    this.#notifier.stopping();
  }

  #every(ms: number, work: () => void): void {
    const next = () => {
      const cancel = this.#clock.after(ms, () => {
        this.#timers.delete(cancel);
        work();
        next();
      });
      this.#timers.add(cancel);
    };
    next();
  }
}

function statusOf(reasons: readonly string[]): string {
  return reasons.length === 0 ? 'ready' : `not ready: ${reasons.join('; ')}`;
}

/** The variables by which systemd tells a service about itself: see sd_notify(3) and sd_watchdog_enabled(3). */
export type SystemdEnvironment = Readonly<
  Partial<Record<'NOTIFY_SOCKET' | 'WATCHDOG_USEC' | 'WATCHDOG_PID' | 'PATH', string>>
>;

/** For a process that systemd has started with this environment, as a service that notifies it. */
export function supervise(
  { NOTIFY_SOCKET = '', PATH, ...watchdog }: SystemdEnvironment,
  { pid, clock, log }: { pid: number; clock: Clock; log: Logger },
): Supervision {
  const notifier = new Notifier({ send: notifyProgram(NOTIFY_SOCKET, PATH), clock, log });
  return new Supervision({ notifier, watchdogMs: watchdogMsOf(watchdog, pid), clock });
}

/** The time of systemd's watchdog, in milliseconds; undefined: it does not watch this process. */
export function watchdogMsOf(
  { WATCHDOG_USEC, WATCHDOG_PID }: SystemdEnvironment,
  pid: number,
): number | undefined {
  if (WATCHDOG_PID !== undefined && Number(WATCHDOG_PID) !== pid) return undefined;
  const ms = Number(WATCHDOG_USEC) / 1_000;
  return ms > 0 ? ms : undefined;
}
