import type { Channel, ChannelModel, ConfirmChannel } from 'amqplib';
import { ConnectionLost } from '../core/call.js';
import type { Clock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { settledWithin } from '../lib/settled-within.js';
import { type BrokerAddress, withoutCredentials } from './broker-address.js';

const CLOSE_TIMEOUT_MS = 2_000;

/**
 * One connection to a broker, as long as it is open. The loss of any of its channels counts as the loss of the connection:
 * everything is rebuilt, so that there is only one way to recover.
 */
export class BrokerConnection {
  readonly #connection: ChannelModel;
  readonly #channels = new Set<Channel>();
  readonly #lost = new AbortController();
  readonly #open: (() => Promise<BrokerConnection>) | undefined;
  #cause: unknown;
  #closing = false;
  #blockedBecause: string | undefined;
  /** Whether it is to a preferred broker. */
  readonly preferred: boolean;
  /** The broker's address, without credentials. */
  readonly broker: string;

  /** @param open makes a further connection to the same broker */
  constructor(
    connection: ChannelModel,
    { url, preferred = true }: BrokerAddress,
    open?: () => Promise<BrokerConnection>,
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

  /** A further connection to the same broker, for an operation that may close the connection. */
  async sibling(): Promise<BrokerConnection> {
    if (this.#open === undefined) throw new Error('this connection has no way to open another');
    return this.#open();
  }

  /** Aborted once, with `ConnectionLost`, when the connection or any of its channels is lost. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Treats the connection as lost. */
  lose(cause: unknown): void {
    if (this.#lost.signal.aborted) return;
    this.#lost.abort(
      cause instanceof ConnectionLost ? cause : new ConnectionLost(reasonOf(cause), { cause }),
    );
  }

  async channel(): Promise<Channel> {
    return this.#watched(await this.#connection.createChannel());
  }

  async confirmChannel(): Promise<ConfirmChannel> {
    return this.#watched(await this.#connection.createConfirmChannel());
  }

  /** Uses a channel of its own, which the broker closes when it refuses the request. */
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
    // close() may never settle on a dead connection.
    await settledWithin(CLOSE_TIMEOUT_MS, clock, this.#close());
    this.lose(new Error('the connection was closed'));
  }

  /**
   * Channels first: amqplib buffers the writes of each channel, and the closing of the connection would overtake
   * acknowledgements that are still in the buffers.
   */
  async #close(): Promise<void> {
    await Promise.allSettled([...this.#channels].map(async (channel) => channel.close()));
    await this.#connection.close();
  }

  /** Why the broker accepts no messages on this connection; undefined when it does. */
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
    const lose = (cause: unknown) => {
      if (!this.#closing) this.lose(cause);
    };
    // Immediately: this error has the broker's own reason, later errors of the channel do not.
    channel.on('error', lose);
    channel.on('close', () => lose(this.#cause ?? new Error('a channel was closed')));
    return channel;
  }
}
