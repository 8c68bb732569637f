import { randomUUID } from 'node:crypto';
import type { ConfirmChannel as AmqpConfirmChannel, Options } from 'amqplib';
import type { BrokerConnection } from './broker-connection.js';

/** Where a message goes. */
export interface Destination {
  /** `''` is the default exchange, which routes to the queue that the routing key names. */
  exchange: string;
  routingKey: string;
}

/**
 * The outcome of a publish. `unroutable`: there is no queue for the message. `refused`: the queue is full (RabbitMQ,
 * "Queue Length Limit", `reject-publish`).
 */
export type PublishOutcome = 'routed' | 'unroutable' | 'refused';

/** Publishes with confirms, on one channel of one connection. */
export class ConfirmChannel {
  readonly #channel: AmqpConfirmChannel;
  readonly #connection: BrokerConnection;
  /** Unconfirmed messages; each fails when the connection is lost. */
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
    // The broker returns a message before it confirms it (RabbitMQ, "Publisher confirms").
    channel.on('return', ({ properties }) => this.#returned.add(String(properties.messageId)));
    connection.lost.addEventListener('abort', () => {
      for (const fail of this.#pending) fail(connection.lost.reason);
      this.#pending.clear();
    });
  }

  /**
   * Resolves when the broker has taken responsibility for the message, or has refused it.
   * Rejects with `UnpublishableError` when AMQP cannot carry the message; with any other error, the connection was lost
   * and the message may or may not have arrived.
   */
  publish(to: Destination, content: Buffer, options: Options.Publish): Promise<PublishOutcome> {
    return new Promise((resolve, reject) => {
      if (this.#connection.lost.aborted) return reject(this.#connection.lost.reason);
      // The broker returns no delivery tag, so a returned message is recognised by its message id.
      const messageId: string = options.messageId ?? `${this.#prefix}-${++this.#sent}`;
      const fail = (error: unknown) => {
        this.#pending.delete(fail);
        this.#returned.delete(messageId);
        reject(error);
      };
      const confirmed = (error: unknown) => {
        if (error && !isNack(error)) {
          // The channel closes, so the connection counts as lost.
          this.#connection.lose(error);
          return fail(error);
        }
        this.#pending.delete(fail);
        const returned = this.#returned.delete(messageId);
        resolve(error ? 'refused' : returned ? 'unroutable' : 'routed');
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

/** amqplib also calls back with an error when the channel closes before the confirm; only the text differs. */
function isNack(error: unknown): boolean {
  return error instanceof Error && error.message === 'message nacked';
}

/** AMQP cannot carry this message: a name is too long, or a header has no encoding. */
export class UnpublishableError extends Error {
  override readonly name = 'UnpublishableError';
}
