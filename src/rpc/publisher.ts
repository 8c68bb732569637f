import type { Options } from 'amqplib';
import type { Clock } from '../lib/clock.js';
import type { BrokerConnection } from './broker-connection.js';
import { ConfirmChannel, type Destination, type PublishOutcome } from './confirm-channel.js';
import { DirectReplies, isDirectReply } from './direct-replies.js';
import { requireExchange } from './queues.js';

/**
 * Publishes a message, again on a new connection after each loss, until a broker has confirmed or refused it. Uses the
 * connection `by` until that is lost, because the service may meanwhile be connected to another broker; then the
 * current connection. Rejects with `UnpublishableError` when AMQP cannot encode the message, or with the signal's
 * reason.
 */
export type PublishConfirmed = (
  to: Destination,
  content: Buffer,
  options: Options.Publish,
  within: { signal: AbortSignal; by?: BrokerConnection },
) => Promise<PublishOutcome>;

export interface PublisherOptions {
  /** Waits for a connection that is ready for use; rejects when the signal is aborted first. */
  whenConnected: (signal: AbortSignal) => Promise<BrokerConnection>;
  clock: Clock;
}

/** Publishes on the service's connections. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #channels = new WeakMap<BrokerConnection, ConfirmChannel>();
  readonly #directReplies: DirectReplies;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#directReplies = new DirectReplies(options.clock);
  }

  /** Prepares a new connection for publishing. */
  async open(connection: BrokerConnection): Promise<void> {
    this.#channels.set(connection, await ConfirmChannel.open(connection));
  }

  readonly publish: PublishConfirmed = async (to, content, options, { signal, by }) => {
    for (;;) {
      const connection = by?.lost.aborted === false ? by : await this.#options.whenConnected(signal);
      try {
        if (isDirectReply(to)) return await this.#directReplies.publish(connection, to, content, options);
        if (to.exchange !== '') await requireExchange(connection, to.exchange);
        const channel = this.#channels.get(connection);
        if (channel !== undefined) return await channel.publish(to, content, options);
      } catch (error) {
        if (!connection.lost.aborted) throw error;
      }
    }
  };
}
