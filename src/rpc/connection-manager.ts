import { backoffMs } from '../lib/backoff.js';
import { reasonOf } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { type BrokerAddress, withoutCredentials } from './broker-address.js';
import type { BrokerConnection } from './broker-connection.js';
import { type ConnectOptions, openConnection } from './open-connection.js';

export interface ConnectionManagerOptions extends ConnectOptions {
  /** The brokers to try, in this order; asked anew before each round. */
  brokers: () => Promise<readonly BrokerAddress[]>;
  /** Builds everything that lives on a connection; called again for each new one. */
  onConnected: (connection: BrokerConnection) => Promise<void>;
  /** Finishes what lives on a connection that a better one replaces; it is closed after that. */
  onReplaced?: (connection: BrokerConnection) => Promise<void>;
  log: Logger;
}

const BACKOFF = { firstMs: 200, maxMs: 15_000 };
/** How often a preferred broker is tried while another one serves. */
const RETURN_MS = 10_000;
/** A connection that lived this long was a good one: the next loss starts again with the shortest wait. */
const PROVEN_MS = 30_000;

/**
 * Keeps a connection to one of several brokers: connects, and connects again whenever it is lost, with growing
 * waits, until it is closed.
 */
export class ConnectionManager {
  readonly #options: ConnectionManagerOptions;
  readonly #closed = new AbortController();
  readonly #lostOutage: OutageLog;
  readonly #preferredOutage: OutageLog;
  readonly #blockedOutage: OutageLog;
  #current: BrokerConnection | undefined;
  /** The latest failure, as it is logged. */
  #lastFailure: { reason: string; broker?: string } | undefined;
  readonly #waiters = new Set<(connection: BrokerConnection) => void>();
  #ended: Promise<void> = Promise.resolve();

  constructor(options: ConnectionManagerOptions) {
    const { log, clock } = options;
    this.#options = options;
    this.#lostOutage = new OutageLog(log, clock, {
      began: 'broker connection lost',
      ended: 'broker connection restored',
    });
    this.#preferredOutage = new OutageLog(log, clock, {
      began: 'preferred broker lost',
      ended: 'preferred broker restored',
    });
    this.#blockedOutage = new OutageLog(log, clock, { began: 'broker blocked', ended: 'broker unblocked' });
  }

  /** Begins to connect, and goes on until `close`. */
  start(): void {
    this.#ended = this.#keepConnected();
  }

  /** The connection on which everything is built, if there is one right now. */
  get current(): BrokerConnection | undefined {
    return this.#current?.lost.aborted === false ? this.#current : undefined;
  }

  /** Why the broker accepts no messages; undefined when it does. */
  get blockedBecause(): string | undefined {
    return this.current?.blockedBecause;
  }

  /** Why there is no connection. */
  get lastError(): string {
    return this.#lastFailure?.reason ?? 'not connected yet';
  }

  /** The next connection that is ready; rejects when the signal is aborted first. */
  whenConnected(signal: AbortSignal): Promise<BrokerConnection> {
    const { current } = this;
    if (current !== undefined) return Promise.resolve(current);
    return new Promise((resolve, reject) => {
      const done = (connection: BrokerConnection) => {
        signal.removeEventListener('abort', stop);
        resolve(connection);
      };
      const stop = () => {
        this.#waiters.delete(done);
        reject(signal.reason);
      };
      if (signal.aborted) return stop();
      this.#waiters.add(done);
      signal.addEventListener('abort', stop, { once: true });
    });
  }

  async close(): Promise<void> {
    this.#closed.abort(new Error('the connection manager was closed'));
    await this.#current?.close(this.#options.clock);
    await this.#ended;
  }

  async #keepConnected(): Promise<void> {
    const { clock } = this.#options;
    for (let failed = 1; !this.#closed.signal.aborted; failed++) {
      const since = clock.now();
      const first = await this.#connectToAny(await this.#brokers(this.#lostOutage), this.#lostOutage);
      if (first !== undefined) {
        await this.#stayConnected(first);
        if (clock.now() - since > PROVEN_MS) failed = 1;
      }
      await clock.sleep(backoffMs(failed, BACKOFF), { signal: this.#closed.signal }).catch(() => {});
    }
  }

  /** Uses a connection, and better ones that replace it, until the last is lost. */
  async #stayConnected(first: BrokerConnection): Promise<void> {
    const { clock, onReplaced } = this.#options;
    for (let connection: BrokerConnection | undefined = first; connection !== undefined; ) {
      this.#announce(connection);
      const previous: BrokerConnection = connection;
      connection = await this.#better(previous);
      if (connection !== undefined) {
        void (async () => {
          await onReplaced?.(previous);
          await previous.close(clock);
        })();
      } else {
        this.#current = undefined;
        this.#failed(this.#lostOutage, previous.lost.reason);
        void previous.close(clock);
      }
    }
  }

  /** Waits until a connection is lost, or a preferred broker can be reached in its place. */
  async #better(connection: BrokerConnection): Promise<BrokerConnection | undefined> {
    const lost = lossOf(connection);
    while (!connection.preferred && !connection.lost.aborted) {
      const waited = new AbortController();
      const sleep = this.#options.clock.sleep(RETURN_MS, { signal: waited.signal }).catch(() => {});
      await Promise.race([lost, sleep]);
      waited.abort();
      if (connection.lost.aborted || this.#closed.signal.aborted) break;
      const all = await this.#brokers(this.#preferredOutage);
      const preferred = all.filter((each) => each.preferred !== false);
      const better = await this.#connectToAny(preferred, this.#preferredOutage);
      if (better !== undefined) return better;
    }
    await lost;
    return undefined;
  }

  async #brokers(outage: OutageLog): Promise<readonly BrokerAddress[]> {
    return this.#options.brokers().catch((error: unknown) => {
      this.#failed(outage, error);
      return [];
    });
  }

  async #connectToAny(
    brokers: readonly BrokerAddress[],
    outage: OutageLog,
  ): Promise<BrokerConnection | undefined> {
    for (const broker of brokers) {
      if (this.#closed.signal.aborted) return undefined;
      let connection: BrokerConnection | undefined;
      try {
        connection = await openConnection(broker, this.#options);
        this.#watchBlocked(connection);
        await Promise.race([
          this.#options.onConnected(connection),
          lossOf(connection).then((reason) => Promise.reject(reason)),
        ]);
        if (!this.#closed.signal.aborted) return connection;
        await connection.close(this.#options.clock);
      } catch (error) {
        this.#failed(outage, error, broker);
        void connection?.close(this.#options.clock);
      }
    }
    return undefined;
  }

  #announce(connection: BrokerConnection): void {
    this.#current = connection;
    this.#lostOutage.works();
    if (connection.preferred) this.#preferredOutage.works();
    else this.#preferredOutage.failed({ ...this.#lastFailure, connected_to: connection.broker });
    this.#logBlocked(connection);
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter(connection);
  }

  #watchBlocked(connection: BrokerConnection): void {
    connection.onBlocked(() => this.#logBlocked(connection));
  }

  /** Only of the current connection: one that is being replaced says nothing of it. */
  #logBlocked(connection: BrokerConnection): void {
    if (connection !== this.#current) return;
    const reason = connection.blockedBecause;
    if (reason === undefined) this.#blockedOutage.works();
    else this.#blockedOutage.failed({ reason });
  }

  #failed(outage: OutageLog, error: unknown, broker?: BrokerAddress): void {
    this.#lastFailure = {
      reason: reasonOf(error),
      ...(broker && { broker: withoutCredentials(broker.url) }),
    };
    if (!this.#closed.signal.aborted) outage.failed(this.#lastFailure);
  }
}

function lossOf(connection: BrokerConnection): Promise<unknown> {
  if (connection.lost.aborted) return Promise.resolve(connection.lost.reason);
  return new Promise((resolve) =>
    connection.lost.addEventListener('abort', () => resolve(connection.lost.reason), { once: true }),
  );
}
