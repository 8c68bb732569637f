import { randomUUID } from 'node:crypto';
import type { ConfirmChannel as AmqpConfirmChannel, Options } from 'amqplib';
import type { BrokerConnection } from './broker-connection.js';

/** Where a message goes. */
export interface Destination {
  /** `''` is the default exchange, which routes to the queue with the name of the routing key. */
  exchange: string;
  routingKey: string;
}

/**
 * The outcome of publishing a message. `unroutable`: no queue receives it. `refused`: the queue is full (RabbitMQ,
 * "Queue Length Limit", `reject-publish`).
 */
export type PublishOutcome = 'routed' | 'unroutable' | 'nacked';

/** Publishes with confirms on one channel of a connection. */
export class ConfirmChannel {
  readonly #channel: AmqpConfirmChannel;
  readonly #connection: BrokerConnection;
  /** The unconfirmed messages; they fail when the connection is lost. */
  readonly #pending = new Set<(error: unknown) => void>();
  readonly #returned = new Set<string>();
  readonly #prefix = randomUUID();
  #sent = 0;

  static async open(connection: BrokerConnection): Promise<ConfirmChannel> {
    return new ConfirmChannel(connection, await connection.confirmChannel());
  }

  private constructor(connection: BrokerConnection, channel: AmqpConfirmChannel) {
    this.#connection = connection;
    this.#channel = channel;
    // The broker returns an unroutable message before it confirms it (RabbitMQ, "Publisher confirms").
    channel.on('return', ({ properties }) => this.#returned.add(String(properties.messageId)));
    connection.lost.addEventListener('abort', () => {
      for (const fail of this.#pending) fail(connection.lost.reason);
      this.#pending.clear();
    });
  }

  /**
   * Resolves when the broker has confirmed or refused the message. Rejects with `UnpublishableError` when AMQP cannot
   * encode the message. Any other error means that the connection was lost and the message may or may not have arrived.
   */
  publish(to: Destination, content: Buffer, options: Options.Publish): Promise<PublishOutcome> {
    return new Promise((resolve, reject) => {
      if (this.#connection.lost.aborted) return reject(this.#connection.lost.reason);
      // A returned message has no delivery tag, so it is identified by its message id.
      const messageId: string = options.messageId ?? `${this.#prefix}-${++this.#sent}`;
      const fail = (error: unknown) => {
        this.#pending.delete(fail);
        this.#returned.delete(messageId);
        reject(error);
      };
      const confirmed = (error: unknown) => {
        if (error && !isNack(error)) {
          // The channel is closing, so the connection counts as lost.
          this.#connection.lose(error);
          return fail(error);
        }
        this.#pending.delete(fail);
        const returned = this.#returned.delete(messageId);
        resolve(error ? 'nacked' : returned ? 'unroutable' : 'routed');
      };
      this.#pending.add(fail);
      try {
        this.#channel.publish(
          to.exchange,
          to.routingKey,
          content,
          { ...options, messageId, mandatory: true },
          confirmed,
        );
      } catch (error) {
        fail(this.#connection.lost.aborted ? error : new UnpublishableError(String(error), { cause: error }));
      }
    });
  }
}

/** amqplib also reports an error when the channel closes before the confirm; only the text distinguishes the two. */
function isNack(error: unknown): boolean {
  return error instanceof Error && error.message === 'message nacked';
}

/**
 * AMQP cannot encode this message (a name is too long, or a header has no encoding), or the broker closes the
 * connection over it.
 */
export class UnpublishableError extends Error {
  override readonly name = 'UnpublishableError';
}
