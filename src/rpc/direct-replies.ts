import type { Options } from 'amqplib';
import type { Clock } from '../lib/clock.js';
import type { BrokerConnection } from './broker-connection.js';
import {
  ConfirmChannel,
  type Destination,
  type PublishOutcome,
  UnpublishableError,
} from './confirm-channel.js';

/** Whether the destination is a caller that uses RabbitMQ's direct reply-to, which has no queue. */
export function isDirectReply({ exchange, routingKey }: Destination): boolean {
  return exchange === '' && routingKey.startsWith('amq.rabbitmq.reply-to.');
}

/**
 * Publishes direct replies on separate connections: RabbitMQ 3.10 closes the connection when the reply address is
 * invalid (541 INTERNAL_ERROR). The first attempt uses a connection that all direct replies share. The second attempt
 * uses a connection for this reply only, so that one invalid address cannot make other replies fail twice.
 */
export class DirectReplies {
  readonly #clock: Clock;
  /** The shared channel for direct replies of each connection. */
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
      throw new UnpublishableError(`the broker does not accept it: ${String(error)}`, { cause: error });
    } finally {
      void own?.close(this.#clock);
    }
  }

  /** Opened for the first direct reply; closed when `connection` is lost. */
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
