import { setMaxListeners } from 'node:events';
import { Socket } from 'node:net';
import type { Channel, ChannelModel, ConfirmChannel } from 'amqplib';
import { ConnectionLost } from '../core/call.js';
import type { Clock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { fieldsOf } from '../lib/fields-of.js';
import { settledWithin } from '../lib/settled-within.js';
import { untilAborted } from '../lib/until-aborted.js';
import { whenAborted } from '../lib/when-aborted.js';
import { type BrokerAddress, withoutCredentials } from './broker-address.js';
import { brokerReason } from './broker-refusal.js';
import { ChannelLimit } from './channel-limit.js';

const CLOSE_TIMEOUT_MS = 1_000;

/**
 * One connection to a broker. The loss of a channel that consumes counts as the loss of the connection, because the broker
 * then delivers its messages again. A channel that publishes can be lost alone.
 */
export class BrokerConnection {
  readonly #connection: ChannelModel;
  readonly #channels = new Set<Channel>();
  readonly #lost = new AbortController();
  readonly #open: (() => Promise<BrokerConnection>) | undefined;
  #cause: unknown;
  #closing = false;
  #blockedReason: string | undefined;
  /** Aborted when the broker accepts messages again, or the connection is lost. */
  #blocked = new AbortController();
  #unblocked: Promise<unknown> = Promise.resolve();
  /** Whether the broker is a preferred one. */
  readonly preferred: boolean;
  /** The broker's address, with credentials. */
  readonly address: BrokerAddress;
  /** The same without credentials. */
  readonly broker: string;
  /** The user whom the broker has logged in, as far as it is known; see `ownUserOf`. */
  user: string | undefined;
  readonly channelLimit: ChannelLimit;

  /**
   * @param open opens another connection to the same broker
   * @param channelLimit that of the connections before, if there were any
   */
  constructor(
    connection: ChannelModel,
    address: BrokerAddress,
    open?: () => Promise<BrokerConnection>,
    channelLimit = new ChannelLimit(),
  ) {
    this.#connection = connection;
    this.#open = open;
    this.address = address;
    this.preferred = address.preferred ?? true;
    this.channelLimit = channelLimit;
    this.broker = withoutCredentials(address.url);
    // Node warns of a leak at the eleventh listener, but any number of messages may wait.
    setMaxListeners(0, this.#lost.signal);
    connection.on('error', (error: unknown) => (this.#cause = error));
    connection.on('close', (error?: unknown) => this.lose(error ?? new Error('the connection was closed')));
  }

  /** Opens another connection to the same broker, for operations that may make the broker close the connection. */
  async sibling(): Promise<BrokerConnection> {
    if (this.#open === undefined) throw new Error('this connection cannot open another one');
    return this.#open();
  }

  /** Aborted with `ConnectionLost` when the connection is lost. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Treats the connection as lost. */
  lose(cause: unknown): void {
    if (this.#lost.signal.aborted) return;
    // What ends a connection also ends its channels, without the broker's text.
    this.#blocked.abort();
    const known = this.#cause ?? cause;
    this.#lost.abort(
      known instanceof ConnectionLost ? known : new ConnectionLost(brokerReason(known), { cause: known }),
    );
  }

  /** A channel to consume on: its loss is the loss of the connection. */
  async channel(): Promise<Channel> {
    const channel = this.#listed(await this.#created(async () => this.#connection.createChannel()));
    const lose = (cause: unknown) => {
      if (!this.#closing) this.lose(cause);
    };
    // Not only on close: this error has the broker's reason, later errors of the channel do not.
    channel.on('error', lose);
    // A lost connection closes its channels before it says why.
    channel.on('close', () => queueMicrotask(() => lose(new Error('a channel was closed'))));
    return channel;
  }

  /** A channel to publish on: the broker closes it over a message that it refuses. */
  async confirmChannel(): Promise<ConfirmChannel> {
    const channel = this.#listed(await this.#created(async () => this.#connection.createConfirmChannel()));
    // amqplib closes the whole connection over the error of a channel without a listener.
    channel.on('error', () => {});
    return channel;
  }

  /** Runs an operation on a separate channel, which the broker may close without loss of the connection. */
  async probe<T>(ask: (channel: Channel) => Promise<T>): Promise<T> {
    const channel = await this.#created(async () => this.#connection.createChannel());
    let closed = false;
    channel.on('error', () => {});
    channel.on('close', () => (closed = true));
    try {
      return await ask(channel);
    } finally {
      // Until then it counts for the broker. amqplib's close() never settles when the connection is lost meanwhile.
      if (!closed) await untilAborted(channel.close(), this.lost).catch(() => {});
    }
  }

  async close(clock: Clock): Promise<void> {
    this.#closing = true;
    // On a broken network connection, and while the broker is blocked, close() does not settle.
    const closed = await settledWithin(CLOSE_TIMEOUT_MS, clock, this.#close());
    // With an error: amqplib notices nothing else, and would keep the heartbeat's timers.
    if (!closed) socketOf(this.#connection)?.destroy(new Error('the connection was not closed in time'));
    this.lose(new Error('the connection was closed'));
  }

  /**
   * Closes the channels first: amqplib has a write buffer for each channel, and acknowledgements in these buffers would
   * be lost if the connection were closed before them.
   */
  async #close(): Promise<void> {
    await Promise.allSettled([...this.#channels].map(async (channel) => channel.close()));
    await this.#connection.close();
  }

  /** The reason why the broker accepts no messages from this connection; undefined when it accepts them. */
  get blockedReason(): string | undefined {
    return this.#blockedReason;
  }

  /** Calls back whenever `blockedReason` changes. */
  onBlockedChange(changed: () => void): void {
    this.#connection.on('blocked', (reason: string) => {
      if (this.#blockedReason === undefined) {
        this.#blocked = new AbortController();
        this.#unblocked = whenAborted(this.#blocked.signal);
      }
      this.#blockedReason = reason;
      changed();
    });
    this.#connection.on('unblocked', () => {
      this.#blockedReason = undefined;
      this.#blocked.abort();
      changed();
    });
  }

  /**
   * Resolves when the broker accepts messages from this connection, as far as `onBlockedChange` has told, or the connection
   * is lost. Rejects with the signal's reason.
   */
  async whenUnblocked(signal: AbortSignal): Promise<void> {
    await untilAborted(this.#unblocked, signal);
  }

  /** How many channels it may have. */
  get channelMax(): number {
    return tunedOf(this.#connection).channelMax;
  }

  async #created<C extends Channel>(create: () => Promise<C>): Promise<C> {
    try {
      return await create();
    } catch (error) {
      if (!reasonOf(error).startsWith('No channels left')) throw error;
      throw new Error(`the broker allows no more than ${this.channelMax} channels on a connection`, {
        cause: error,
      });
    }
  }

  #listed<C extends Channel>(channel: C): C {
    this.#channels.add(channel);
    channel.on('close', () => this.#channels.delete(channel));
    return channel;
  }
}

/** The socket of a connection; the embedded broker has none. */
export function socketOf({ connection }: ChannelModel): Socket | undefined {
  return 'stream' in connection && connection.stream instanceof Socket ? connection.stream : undefined;
}

/** What client and broker have agreed on (`connection.tune`): `heartbeat` in seconds, 0 for none. */
export function tunedOf({ connection }: ChannelModel): { channelMax: number; heartbeat: number } {
  // amqplib's types leave them out; the embedded broker has none.
  const { channelMax, heartbeat } = fieldsOf(connection);
  return {
    channelMax: typeof channelMax === 'number' ? channelMax : Infinity,
    heartbeat: typeof heartbeat === 'number' ? heartbeat : 0,
  };
}
