import type { Clock } from '../lib/clock.js';
import { settledWithin } from '../lib/settled-within.js';
import type { BrokerAddress } from './broker-address.js';
import type { BrokerConnection } from './broker-connection.js';

/** A broker normally responds at once. After this long, in milliseconds, the next one is tried at the same time. */
const PATIENCE_MS = 1_000;

interface Attempt {
  begunAt: number;
  connection: Promise<BrokerConnection>;
  stop: () => void;
}

/**
 * Attempts to connect to several brokers. One that accepts a connection and then sends nothing costs its whole time limit, so
 * its attempt goes on while the others are tried.
 */
export class ConnectionAttempts {
  readonly #open: (broker: BrokerAddress, stop: AbortSignal) => Promise<BrokerConnection>;
  readonly #clock: Clock;
  readonly #attempts = new Map<string, Attempt>();

  /** @param open must end with an error when the signal is aborted */
  constructor(open: (broker: BrokerAddress, stop: AbortSignal) => Promise<BrokerConnection>, clock: Clock) {
    this.#open = open;
    this.#clock = clock;
  }

  /**
   * Connects to a broker, or continues the attempt that was begun before.
   * @param hasOthers whether there is another broker to try or to use meanwhile
   * @returns undefined when it has not responded for a second; only if there are others
   * @throws when the attempt has failed
   */
  async connect(broker: BrokerAddress, hasOthers: boolean): Promise<BrokerConnection | undefined> {
    const attempt = this.#attempts.get(broker.url) ?? this.#begin(broker);
    const patience = Math.max(0, attempt.begunAt + PATIENCE_MS - this.#clock.now());
    if (hasOthers && !(await settledWithin(patience, this.#clock, attempt.connection))) return undefined;
    try {
      return await attempt.connection;
    } finally {
      this.#attempts.delete(broker.url);
    }
  }

  /** Ends every attempt. */
  stop(): void {
    for (const { stop } of this.#attempts.values()) stop();
    this.#attempts.clear();
  }

  #begin(broker: BrokerAddress): Attempt {
    const stopped = new AbortController();
    const connection = this.#open(broker, stopped.signal);
    const stop = () => {
      stopped.abort(new Error('another broker is used'));
      // It may have connected just before.
      connection.then((unused) => void unused.close(this.#clock)).catch(() => {});
    };
    connection.catch(() => {});
    const attempt = { begunAt: this.#clock.now(), connection, stop };
    this.#attempts.set(broker.url, attempt);
    return attempt;
  }
}
