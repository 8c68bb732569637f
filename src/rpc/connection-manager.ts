import { setMaxListeners } from 'node:events';
import { type Backoff, backoffMs } from '../lib/backoff.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { linkSignals } from '../lib/linked-signal.js';
import { untilAborted } from '../lib/until-aborted.js';
import { WaitQueue } from '../lib/wait-queue.js';
import { whenAborted } from '../lib/when-aborted.js';
import { type BrokerAddress, withoutCredentials } from './broker-address.js';
import type { BrokerConnection } from './broker-connection.js';
import { brokerReason } from './broker-refusal.js';
import { ChannelLimit } from './channel-limit.js';
import { ConnectionAttempts } from './connection-attempts.js';
import { type ConnectOptions, isLoginRefused, openConnection } from './open-connection.js';
import { type SetUpStep, setUpSteps } from './set-up-step.js';

export interface ConnectionManagerOptions extends ConnectOptions {
  /** Returns the brokers to try, in this order; called before each round of attempts. */
  brokers: () => Promise<readonly BrokerAddress[]>;
  /**
   * Sets up a new connection: its queues, publisher and consumer. What waits for the broker must be a step: without a time
   * limit, a queue that hangs would keep the other brokers from being tried.
   */
  onConnected: (connection: BrokerConnection, step: SetUpStep) => Promise<void>;
  /** Called when a connection has been set up and is used from now on. */
  onUsed?: (connection: BrokerConnection) => void;
  /** Finishes the work on a connection that is left for another broker; then it is closed. */
  onReplaced?: (connection: BrokerConnection) => Promise<void>;
  log: Logger;
}

/** Short waits: an attempt costs a broker that is down nothing, and requests wait for the broker's return. */
const BACKOFF: Backoff = { firstMs: 100, maxMs: 1_000 };
/** An attempt that is refused costs a login, and a line in the broker's log. */
const REFUSED_BACKOFF: Backoff = { firstMs: 100, maxMs: 5_000 };
/** How often the preferred brokers are tried while another broker is used. */
const PREFERRED_RETRY_MS = 10_000;
/** When a connection has lasted this long, the waits begin again with the shortest. */
const GOOD_MS = 1_000;
const LEFT = 'another broker is to be used';

/**
 * Keeps a connection to one of several brokers: it connects again after each loss, with growing waits, until it is
 * closed.
 */
export class ConnectionManager {
  readonly #options: ConnectionManagerOptions;
  readonly #closed = new AbortController();
  readonly #attempts: ConnectionAttempts;
  readonly #lostOutage: OutageLog;
  readonly #preferredOutage: OutageLog;
  readonly #blockedOutage: OutageLog;
  /** Aborted when the brokers have changed since they were asked for. */
  #changed = new AbortController();
  #current: BrokerConnection | undefined;
  /** Whether the latest failure was a refusal: the broker, or the Manager that knows its address, could be reached. */
  #refused = false;
  /** The connection that is being set up. */
  #settingUp: BrokerConnection | undefined;
  /** The latest failure, as it is logged. */
  #lastFailure: { reason: string; broker?: string } | undefined;
  /** The same for people: why there is no connection that is ready for use. */
  #problem = 'no connection to a broker: not connected yet';
  readonly #waiters = new WaitQueue<symbol>();
  #ended: Promise<void> = Promise.resolve();

  constructor(options: ConnectionManagerOptions) {
    const { log, clock } = options;
    this.#options = options;
    const connect = { ...options, channelLimit: new ChannelLimit() };
    this.#attempts = new ConnectionAttempts(
      async (broker, stop) => openConnection(broker, connect, stop),
      clock,
    );
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

  /** Starts to connect; continues until `close`. */
  start(): void {
    this.#ended = this.#reconnect();
  }

  /** The connection that is ready for use, if there is one now. */
  get current(): BrokerConnection | undefined {
    return this.#current?.lost.aborted === false ? this.#current : undefined;
  }

  /** The one that is being set up when none is ready for use. */
  get #newest(): BrokerConnection | undefined {
    return this.current ?? this.#settingUp;
  }

  /** The reason why the broker accepts no messages; undefined when it accepts them. */
  get blockedReason(): string | undefined {
    return this.#newest?.blockedReason;
  }

  /** Why nothing can be sent now, with the broker's own text; undefined when it can. */
  get problem(): string | undefined {
    const { blockedReason } = this;
    if (blockedReason !== undefined) return `the broker accepts no messages: ${blockedReason}`;
    return this.current === undefined ? this.#problem : undefined;
  }

  /** Waits for a connection that is ready for use; rejects when the signal is aborted first. */
  async whenConnected(signal: AbortSignal): Promise<BrokerConnection> {
    for (;;) {
      const { current } = this;
      if (current !== undefined) return current;
      // Node warns of a leak at the eleventh listener, but any number of messages may wait.
      setMaxListeners(0, signal);
      await this.#waiters.wait(Symbol('waiter'), signal);
    }
  }

  /** Call it when `brokers` returns others than before: a broker that is not among them is left. */
  brokersChanged(): void {
    this.#changed.abort(new Error(LEFT));
    this.#attempts.stop();
  }

  /** Closes the connection, or ends the attempt to make one. */
  async close(): Promise<void> {
    this.#closed.abort(new Error('the connection manager is closed'));
    this.#attempts.stop();
    await this.#current?.close(this.#options.clock);
    await this.#ended;
  }

  async #reconnect(): Promise<void> {
    const { clock } = this.#options;
    for (let failed = 1; !this.#closed.signal.aborted; failed++) {
      const first = await this.#connectToAny(await this.#brokers(this.#lostOutage), this.#lostOutage);
      if (first !== undefined) {
        const since = clock.now();
        await this.#useUntilLost(first);
        this.#refused = false;
        if (clock.now() - since >= GOOD_MS) failed = 1;
      }
      const wait = backoffMs(failed, this.#refused ? REFUSED_BACKOFF : BACKOFF);
      await this.#pause(wait, this.#closed.signal);
    }
  }

  /** Uses a connection and the preferred ones that replace it, until the last one is lost or left. */
  async #useUntilLost(first: BrokerConnection): Promise<void> {
    for (let connection: BrokerConnection | undefined = first; connection !== undefined; ) {
      this.#announce(connection);
      const previous: BrokerConnection = connection;
      connection = await this.#replacementFor(previous);
      if (connection === undefined) {
        this.#current = undefined;
        this.#failed(this.#lostOutage, previous.lost.aborted ? previous.lost.reason : new Error(LEFT));
      }
      void this.#leave(previous);
    }
  }

  async #leave(connection: BrokerConnection): Promise<void> {
    const { clock, onReplaced } = this.#options;
    if (!connection.lost.aborted) await onReplaced?.(connection);
    await connection.close(clock);
  }

  /**
   * Waits for a connection to a preferred broker, to replace this one; undefined when this one is lost first, or its broker
   * is not to be used any more.
   */
  async #replacementFor(connection: BrokerConnection): Promise<BrokerConnection | undefined> {
    const { lost, preferred, address } = connection;
    while (!lost.aborted) {
      const { signal: changed } = this.#changed;
      await this.#pause(preferred ? undefined : PREFERRED_RETRY_MS, lost);
      if (lost.aborted || this.#closed.signal.aborted) break;
      const all = await this.#brokers(this.#preferredOutage);
      if (changed.aborted && !all.some(({ url }) => url === address.url)) return undefined;
      if (preferred) continue;
      const better = all.filter((each) => each.preferred !== false);
      const replacement = await this.#connectToAny(better, this.#preferredOutage, true);
      if (replacement !== undefined) return replacement;
    }
    await whenAborted(lost);
    return undefined;
  }

  /** Waits until the signal is aborted or the brokers have changed, or at most this long. */
  async #pause(ms: number | undefined, signal: AbortSignal): Promise<void> {
    const ends = linkSignals(signal, this.#changed.signal);
    if (ms === undefined) await whenAborted(ends.signal);
    else await this.#options.clock.sleep(ms, { signal: ends.signal }).catch(() => {});
    ends.unlink();
  }

  async #brokers(outage: OutageLog): Promise<readonly BrokerAddress[]> {
    this.#changed = new AbortController();
    return untilAborted(this.#options.brokers(), this.#closed.signal).catch((error: unknown) => {
      this.#refused = true;
      this.#failed(outage, error);
      return [];
    });
  }

  /** @param hasOthers whether it may leave an attempt that takes long to the next call */
  async #connectToAny(
    brokers: readonly BrokerAddress[],
    outage: OutageLog,
    hasOthers = brokers.length > 1,
  ): Promise<BrokerConnection | undefined> {
    const { signal: closed } = this.#closed;
    const { signal: changed } = this.#changed;
    for (const broker of brokers) {
      if (closed.aborted || changed.aborted) return undefined;
      let connection: BrokerConnection | undefined;
      try {
        connection = await this.#attempts.connect(broker, hasOthers);
        if (connection === undefined) throw new Error('no response within a second');
        this.#settingUp = connection;
        this.#watchBlocked(connection);
        const step = setUpSteps(connection, this.#options.clock);
        const setUp = this.#options.onConnected(connection, step);
        await [closed, changed, connection.lost].reduce((work, ends) => untilAborted(work, ends), setUp);
        this.#attempts.stop();
        return connection;
      } catch (error) {
        void connection?.close(this.#options.clock);
        // It was stopped, so it says nothing about the broker.
        if (changed.aborted) return undefined;
        this.#refused = connection !== undefined || isLoginRefused(error);
        this.#failed(outage, error, broker, connection);
      } finally {
        this.#settingUp = undefined;
      }
    }
    return undefined;
  }

  #announce(connection: BrokerConnection): void {
    this.#current = connection;
    this.#lostOutage.succeeded();
    if (connection.preferred) this.#preferredOutage.succeeded();
    else this.#preferredOutage.failed({ ...this.#lastFailure, connected_to: connection.broker });
    this.#logBlocked(connection);
    for (const waiter of this.#waiters.waiters) this.#waiters.resume(waiter);
    this.#options.onUsed?.(connection);
  }

  #watchBlocked(connection: BrokerConnection): void {
    connection.onBlockedChange(() => this.#logBlocked(connection));
  }

  /** Ignores a connection that has been replaced. */
  #logBlocked(connection: BrokerConnection): void {
    if (connection !== this.#newest) return;
    const reason = connection.blockedReason;
    if (reason === undefined) this.#blockedOutage.succeeded();
    else this.#blockedOutage.failed({ reason });
  }

  /** @param connection one that could not be set up */
  #failed(outage: OutageLog, error: unknown, broker?: BrokerAddress, connection?: BrokerConnection): void {
    const reason = brokerReason(error);
    const what =
      connection === undefined ? 'no connection to a broker' : `${connection.broker} cannot be used`;
    this.#problem = `${what}: ${reason}`;
    this.#lastFailure = { reason, ...(broker && { broker: withoutCredentials(broker.url) }) };
    if (!this.#closed.signal.aborted) outage.failed(this.#lastFailure);
  }
}
