import type { Options } from 'amqplib';
import type { Clock } from '../lib/clock.js';
import type { BrokerConnection } from './broker-connection.js';
import {
  ConfirmChannel,
  type Destination,
  type PublishOutcome,
  UnpublishableError,
} from './confirm-channel.js';

/** Whether this goes to a caller that uses RabbitMQ's direct reply-to, which has no queue. */
export function isDirectReply({ exchange, routingKey }: Destination): boolean {
  return exchange === '' && routingKey.startsWith('amq.rabbitmq.reply-to.');
}

/**
 * Publishes direct replies on separate connections, because an invented name in this form closes the connection (RabbitMQ
 * 3.10: 541 INTERNAL_ERROR): first on one that all direct replies share, then on one for this reply alone, so that the
 * reply of another caller is not lost twice.
 */
export class DirectReplies {
  readonly #clock: Clock;
  /** The shared channel for each connection of the service. */
  readonly #shared = new WeakMap<BrokerConnection, Promise<ConfirmChannel>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws UnpublishableError when the broker closes both connections */
  async publish(
    connection: BrokerConnection,
    to: Destination,
    content: Buffer,
    options: Options.Publish,
  ): Promise<PublishOutcome> {
    try {
      return await (await this.#channelFor(connection)).publish(to, content, options);
    } catch (error) {
      if (error instanceof UnpublishableError || connection.lost.aborted) throw error;
    }
    let own: BrokerConnection | undefined;
    try {
      own = await connection.sibling();
      return await (await ConfirmChannel.open(own)).publish(to, content, options);
    } catch (error) {
      if (connection.lost.aborted) throw error;
      throw new UnpublishableError(`the broker does not take it: ${String(error)}`, { cause: error });
    } finally {
      void own?.close(this.#clock);
    }
  }

  /** Opened for the first direct reply; closed with the connection of the service. */
  #channelFor(connection: BrokerConnection): Promise<ConfirmChannel> {
    const opened = this.#shared.get(connection);
    if (opened !== undefined) return opened;
    const opening = (async () => {
      const sibling = await connection.sibling();
      const close = () => void sibling.close(this.#clock);
      connection.lost.addEventListener('abort', close);
      sibling.lost.addEventListener('abort', () => {
        connection.lost.removeEventListener('abort', close);
        this.#shared.delete(connection);
      });
      if (connection.lost.aborted) close();
      return ConfirmChannel.open(sibling);
    })();
    this.#shared.set(connection, opening);
    opening.catch(() => this.#shared.delete(connection));
    return opening;
  }
}
