import { reasonOf } from '../lib/errors.js';
import { Socket } from 'node:net';
import type { Channel, ChannelModel, ConfirmChannel, SocketOptions } from 'amqplib';
import { backoffMs } from '../lib/backoff.js';
import { batchWrites } from '../lib/batched-writes.js';
import { brokerLogin } from './broker-address.js';
import { OutageLog } from '../lib/outage-log.js';
import { settledWithin } from '../lib/settled-within.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';

/** A broker to connect to. */
export interface BrokerAddress {
  /** `amqp://` or `amqps://`, credentials included. */
  url: string;
  /** False: only until one that is preferred can be reached again. */
  preferred?: boolean;
}

/** How a connection is made: amqplib's `connect`, or the embedded broker's. */
export type Connect = (
  url: string,
  options: SocketOptions & Record<string, unknown>,
) => Promise<ChannelModel>;

export interface SessionOptions {
  connect: Connect;
  /** The brokers to try, in this order; asked anew before each round. */
  brokers: () => Promise<readonly BrokerAddress[]>;
  /** Certificates for amqps, PEM. */
  tls?: { ca?: Buffer; cert?: Buffer; key?: Buffer; passphrase?: string };
  /** Shown by the broker among its connections. */
  name: string;
  /** Builds everything that lives on a connection; called again for each new one. */
  onLive: (live: LiveConnection) => Promise<void>;
  /** Winds up what lives on a connection that is left for a preferred broker; it is closed after that. */
  onRetire?: (live: LiveConnection) => Promise<void>;
  clock: Clock;
  log: Logger;
}

const CONNECT_TIMEOUT_MS = 10_000;
const HEARTBEAT_SECONDS = 20;
const CLOSE_TIMEOUT_MS = 2_000;
const BACKOFF = { firstMs: 200, mostMs: 15_000 };
/** How often a preferred broker is tried while another one serves. */
const RETURN_MS = 10_000;
/** A connection that lived this long was a good one: the next loss starts again with the shortest wait. */
const PROVEN_MS = 30_000;

/**
 * One connection for as long as it lives. The loss of any of its channels counts as the loss of the whole: all of it
 * is rebuilt, so that there is one way to recover and it is always the same one.
 */
export class LiveConnection {
  readonly #connection: ChannelModel;
  readonly #channels = new Set<Channel>();
  readonly #lost = new AbortController();
  readonly #open: (() => Promise<LiveConnection>) | undefined;
  #cause: unknown;
  #closing = false;
  #blockedBecause: string | undefined;
  /** Whether it is to the broker that is wanted, not to one that stands in for it. */
  readonly preferred: boolean;
  /** The broker's address, as it may be shown. */
  readonly broker: string;

  /** @param open makes a further connection to the same broker */
  constructor(
    connection: ChannelModel,
    { url, preferred = true }: BrokerAddress,
    open?: () => Promise<LiveConnection>,
  ) {
    this.#connection = connection;
    this.#open = open;
    this.preferred = preferred;
    this.broker = withoutCredentials(url);
    connection.on('error', (error: unknown) => (this.#cause = error));
    connection.on('close', (error?: unknown) =>
      this.lose(this.#cause ?? error ?? new Error('the connection was closed')),
    );
  }

  /** A further connection to the same broker, for what may cost it. */
  async sibling(): Promise<LiveConnection> {
    if (this.#open === undefined) throw new Error('this connection stands alone');
    return this.#open();
  }

  /** Aborted once, when the connection or any of its channels is gone; the reason says why. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  lose(reason: unknown): void {
    this.#lost.abort(reason);
  }

  async channel(): Promise<Channel> {
    return this.#watched(await this.#connection.createChannel());
  }

  async confirmChannel(): Promise<ConfirmChannel> {
    return this.#watched(await this.#connection.createConfirmChannel());
  }

  /** A channel whose loss is expected: for asking the broker what it would refuse by closing the channel. */
  async probe<T>(ask: (channel: Channel) => Promise<T>): Promise<T> {
    const channel = await this.#connection.createChannel();
    let closed = false;
    channel.on('error', () => {});
    channel.on('close', () => (closed = true));
    try {
      return await ask(channel);
    } finally {
      if (!closed) await channel.close().catch(() => {});
    }
  }

  async close(clock: Clock): Promise<void> {
    this.#closing = true;
    // On a dead link close() may never settle.
    await settledWithin(CLOSE_TIMEOUT_MS, clock, this.#close());
    this.lose(new Error('the connection was closed'));
  }

  /**
   * Channel by channel first: amqplib writes each of them through a buffer of its own, and the closing of the connection
   * would overtake acknowledgements that still wait there.
   */
  async #close(): Promise<void> {
    await Promise.allSettled([...this.#channels].map(async (channel) => channel.close()));
    await this.#connection.close();
  }

  /** Why the broker accepts no messages by this connection; undefined when it does. */
  get blockedBecause(): string | undefined {
    return this.#blockedBecause;
  }

  /** Calls back whenever that changes. */
  onBlocked(changed: () => void): void {
    this.#connection.on('blocked', (reason: string) => {
      this.#blockedBecause = reason;
      changed();
    });
    this.#connection.on('unblocked', () => {
      this.#blockedBecause = undefined;
      changed();
    });
  }

  #watched<C extends Channel>(channel: C): C {
    this.#channels.add(channel);
    const lose = (reason: unknown) => {
      if (!this.#closing) this.lose(reason);
    };
    // At once: it has the broker's own reason, and what fails next on the channel has none.
    channel.on('error', lose);
    channel.on('close', () => lose(this.#cause ?? new Error('a channel was closed')));
    return channel;
  }
}

/**
 * Keeps a connection to one of several brokers: connects, and connects again whenever it is lost, with growing
 * waits, until it is closed.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #closed = new AbortController();
  readonly #away: OutageLog;
  readonly #preferredAway: OutageLog;
  readonly #blocked: OutageLog;
  #live: LiveConnection | undefined;
  /** The latest fault, as it is told. */
  #lastFault: { reason: string; broker?: string } | undefined;
  #waiters = new Set<(live: LiveConnection) => void>();
  #ended: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#away = new OutageLog(options.log, options.clock, {
      began: 'broker connection lost',
      ended: 'broker connection restored',
    });
    this.#preferredAway = new OutageLog(options.log, options.clock, {
      began: 'preferred broker away',
      ended: 'preferred broker restored',
    });
    this.#blocked = new OutageLog(options.log, options.clock, {
      began: 'broker blocked',
      ended: 'broker unblocked',
    });
  }

  /** Begins to connect, and goes on until `close`. */
  start(): void {
    this.#ended = this.#keepConnected();
  }

  /** The connection on which everything is built, if there is one right now. */
  get live(): LiveConnection | undefined {
    return this.#live?.lost.aborted === false ? this.#live : undefined;
  }

  /** Why the broker accepts no messages; undefined when it does. */
  get blockedBecause(): string | undefined {
    return this.live?.blockedBecause;
  }

  /** Why there is no connection. */
  get lastError(): string {
    return this.#lastFault?.reason ?? 'not connected yet';
  }

  /** The next connection that is ready; rejects when the signal is aborted first. */
  whenLive(signal: AbortSignal): Promise<LiveConnection> {
    const { live: current } = this;
    if (current !== undefined) return Promise.resolve(current);
    return new Promise((resolve, reject) => {
      const done = (live: LiveConnection) => {
        signal.removeEventListener('abort', stop);
        resolve(live);
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
    this.#closed.abort(new Error('the session was closed'));
    await this.#live?.close(this.#options.clock);
    await this.#ended;
  }

  async #keepConnected(): Promise<void> {
    const { clock } = this.#options;
    for (let failed = 1; !this.#closed.signal.aborted; failed++) {
      const since = clock.now();
      const first = await this.#connectToAny(await this.#brokers(this.#away), this.#away);
      if (first !== undefined) {
        await this.#stayOn(first);
        if (clock.now() - since > PROVEN_MS) failed = 1;
      }
      await clock.sleep(backoffMs(failed, BACKOFF), { signal: this.#closed.signal }).catch(() => {});
    }
  }

  /** Lives on a connection, and on better ones that take its place, until the last is lost. */
  async #stayOn(first: LiveConnection): Promise<void> {
    const { clock, onRetire } = this.#options;
    for (let live: LiveConnection | undefined = first; live !== undefined; ) {
      this.#announce(live);
      const left: LiveConnection = live;
      live = await this.#better(left);
      if (live !== undefined) {
        void (async () => {
          await onRetire?.(left);
          await left.close(clock);
        })();
      } else {
        this.#live = undefined;
        this.#fault(this.#away, left.lost.reason);
        void left.close(clock);
      }
    }
  }

  /** Waits until a connection is lost, or a preferred broker can be reached in its place. */
  async #better(live: LiveConnection): Promise<LiveConnection | undefined> {
    const lost = lostOf(live);
    while (!live.preferred && !live.lost.aborted) {
      const waited = new AbortController();
      const sleep = this.#options.clock.sleep(RETURN_MS, { signal: waited.signal }).catch(() => {});
      await Promise.race([lost, sleep]);
      waited.abort();
      if (live.lost.aborted || this.#closed.signal.aborted) break;
      const preferred = (await this.#brokers(this.#preferredAway)).filter((each) => each.preferred !== false);
      const better = await this.#connectToAny(preferred, this.#preferredAway);
      if (better !== undefined) return better;
    }
    await lost;
    return undefined;
  }

  async #brokers(fault: OutageLog): Promise<readonly BrokerAddress[]> {
    return this.#options.brokers().catch((error: unknown) => {
      this.#fault(fault, error);
      return [];
    });
  }

  async #connectToAny(
    brokers: readonly BrokerAddress[],
    fault: OutageLog,
  ): Promise<LiveConnection | undefined> {
    for (const broker of brokers) {
      if (this.#closed.signal.aborted) return undefined;
      let live: LiveConnection | undefined;
      try {
        live = await this.#connect(broker);
        await Promise.race([
          this.#options.onLive(live),
          lostOf(live).then((reason) => Promise.reject(reason)),
        ]);
        if (!this.#closed.signal.aborted) return live;
        await live.close(this.#options.clock);
      } catch (error) {
        this.#fault(fault, error, broker);
        void live?.close(this.#options.clock);
      }
    }
    return undefined;
  }

  async #connect(broker: BrokerAddress): Promise<LiveConnection> {
    const { connect, clock, tls, name } = this.#options;
    const timeout = new AbortController();
    const connecting = connect(withHeartbeat(broker.url), {
      ...tls,
      ...brokerLogin(broker.url),
      timeout: CONNECT_TIMEOUT_MS,
      noDelay: true,
      clientProperties: { connection_name: name },
    });
    const late = clock.sleep(CONNECT_TIMEOUT_MS, { signal: timeout.signal }).then(() => {
      throw new Error(`no connection within ${CONNECT_TIMEOUT_MS} ms`);
    });
    try {
      const connection = await Promise.race([connecting, late]);
      const socket = 'stream' in connection.connection ? connection.connection.stream : undefined;
      if (socket instanceof Socket) batchWrites(socket);
      const live = new LiveConnection(connection, broker, async () => this.#connect(broker));
      live.onBlocked(() => this.#tellBlocked(live));
      return live;
    } catch (error) {
      // One that is made after all is not to stay open.
      connecting.then((connection) => connection.close()).catch(() => {});
      throw error;
    } finally {
      timeout.abort();
      late.catch(() => {});
    }
  }

  #announce(live: LiveConnection): void {
    this.#live = live;
    this.#away.works();
    if (live.preferred) this.#preferredAway.works();
    else this.#preferredAway.failed({ ...this.#lastFault, stands_in: live.broker });
    this.#tellBlocked(live);
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter(live);
  }

  /** Of the connection that counts: one that is being left, or stands beside it, says nothing of it. */
  #tellBlocked(live: LiveConnection): void {
    if (live !== this.#live) return;
    const reason = live.blockedBecause;
    if (reason === undefined) this.#blocked.works();
    else this.#blocked.failed({ reason });
  }

  #fault(fault: OutageLog, error: unknown, broker?: BrokerAddress): void {
    this.#lastFault = {
      reason: reasonOf(error),
      ...(broker && { broker: withoutCredentials(broker.url) }),
    };
    if (!this.#closed.signal.aborted) fault.failed(this.#lastFault);
  }
}

function lostOf(live: LiveConnection): Promise<unknown> {
  if (live.lost.aborted) return Promise.resolve(live.lost.reason);
  return new Promise((resolve) =>
    live.lost.addEventListener('abort', () => resolve(live.lost.reason), { once: true }),
  );
}

function withHeartbeat(url: string): string {
  const parsed = new URL(url);
  if (!parsed.searchParams.has('heartbeat')) parsed.searchParams.set('heartbeat', String(HEARTBEAT_SECONDS));
  return parsed.href;
}

/** A broker's address as it may be shown. */
export function withoutCredentials(url: string): string {
  if (!URL.canParse(url)) return '(not a URL)';
  const parsed = new URL(url);
  return `${parsed.protocol}//${parsed.host}${parsed.pathname}`;
}
