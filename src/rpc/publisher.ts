import { randomUUID } from 'node:crypto';
import type { ConfirmChannel, Options } from 'amqplib';
import type { LiveConnection } from './connection-manager.js';

/** Where a message goes. */
export interface Destination {
  /** `''` is the default exchange, which routes to the queue that the routing key names. */
  exchange: string;
  routingKey: string;
}

/**
 * What became of a message. `unroutable`: there is no queue for it. `refused`: the queue does not take it, being full
 * (RabbitMQ, "Queue Length Limit", `reject-publish`).
 */
export type PublishOutcome = 'routed' | 'unroutable' | 'refused';

/** Publishes on a confirm channel of its own; lives as long as its connection. */
export class Publisher {
  readonly #channel: ConfirmChannel;
  readonly #live: LiveConnection;
  /** Messages under way; on the connection's loss each fails. */
  readonly #pending = new Set<(error: unknown) => void>();
  readonly #returned = new Set<string>();
  readonly #prefix = randomUUID();
  #sent = 0;

  static async open(live: LiveConnection): Promise<Publisher> {
    return new Publisher(live, await live.confirmChannel());
  }

  private constructor(live: LiveConnection, channel: ConfirmChannel) {
    this.#live = live;
    this.#channel = channel;
    // A message that comes back does so before it is confirmed (RabbitMQ, "Publisher confirms").
    channel.on('return', ({ properties }) => this.#returned.add(String(properties.messageId)));
    live.lost.addEventListener('abort', () => {
      for (const fail of this.#pending) fail(live.lost.reason);
      this.#pending.clear();
    });
  }

  /**
   * Resolves when the broker has taken responsibility for the message, or has said that it does not.
   * Rejects with `UnpublishableError` when AMQP cannot carry the message; with anything else, the connection was lost
   * and the message may or may not have arrived.
   */
  publish(to: Destination, content: Buffer, options: Options.Publish): Promise<PublishOutcome> {
    return new Promise((resolve, reject) => {
      if (this.#live.lost.aborted) return reject(this.#live.lost.reason);
      // The broker returns no delivery tag, so what comes back is told by its message id.
      const messageId: string = options.messageId ?? `${this.#prefix}-${++this.#sent}`;
      const fail = (error: unknown) => {
        this.#pending.delete(fail);
        this.#returned.delete(messageId);
        reject(error);
      };
      const confirmed = (error: unknown) => {
        if (error && !isNack(error)) {
          // The channel closes: the connection is being left, whoever closes it.
          this.#live.lose(error);
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
        fail(this.#live.lost.aborted ? error : new UnpublishableError(String(error), { cause: error }));
      }
    });
  }
}

/** amqplib calls back with an error also when the channel closes with the message under way; only the text tells. */
function isNack(error: unknown): boolean {
  return error instanceof Error && error.message === 'message nacked';
}

/** AMQP cannot carry this message: a name is too long, or a header has no encoding. */
export class UnpublishableError extends Error {
  override readonly name = 'UnpublishableError';
}
