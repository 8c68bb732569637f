import type { Channel, ChannelModel, ConfirmChannel } from 'amqplib';
import { ConnectionLost } from '../core/call.js';
import type { Clock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { settledWithin } from '../lib/settled-within.js';
import { type BrokerAddress, withoutCredentials } from './broker-address.js';

const CLOSE_TIMEOUT_MS = 2_000;

/**
 * One connection to a broker. The loss of any of its channels counts as the loss of the connection, so that there is
 * only one way to recover: to set up a new connection.
 */
export class BrokerConnection {
  readonly #connection: ChannelModel;
  readonly #channels = new Set<Channel>();
  readonly #lost = new AbortController();
  readonly #open: (() => Promise<BrokerConnection>) | undefined;
  #cause: unknown;
  #closing = false;
  #blockedReason: string | undefined;
  /** Whether the broker is a preferred one. */
  readonly preferred: boolean;
  /** The broker's address without credentials. */
  readonly broker: string;

  /** @param open opens another connection to the same broker */
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

  /** Opens another connection to the same broker, for operations that may make the broker close the connection. */
  async sibling(): Promise<BrokerConnection> {
    if (this.#open === undefined) throw new Error('this connection cannot open another one');
    return this.#open();
  }

  /** Aborted with `ConnectionLost` when the connection or any of its channels is lost. */
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

  /** Runs an operation on a separate channel, which the broker may close without loss of the connection. */
  async probe<T>(ask: (channel: Channel) => Promise<T>): Promise<T> {
    const channel = await this.#connection.createChannel();
    let closed = false;
    channel.on('error', () => {});
    channel.on('close', () => (closed = true));
    try {
      return await ask(channel);
    } finally {
      // Not awaited: amqplib's close() never settles when the connection is lost before the broker has confirmed it.
      if (!closed) void channel.close().catch(() => {});
    }
  }

  async close(clock: Clock): Promise<void> {
    this.#closing = true;
    // On a broken network connection close() may never settle.
    await settledWithin(CLOSE_TIMEOUT_MS, clock, this.#close());
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
      this.#blockedReason = reason;
      changed();
    });
    this.#connection.on('unblocked', () => {
      this.#blockedReason = undefined;
      changed();
    });
  }

  #watched<C extends Channel>(channel: C): C {
    this.#channels.add(channel);
    const lose = (cause: unknown) => {
      if (!this.#closing) this.lose(cause);
    };
    // Not only on close: this error has the broker's reason, later errors of the channel do not.
    channel.on('error', lose);
    channel.on('close', () => lose(this.#cause ?? new Error('a channel was closed')));
    return channel;
  }
}
