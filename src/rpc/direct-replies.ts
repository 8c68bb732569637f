import type { Options } from 'amqplib';
import type { Clock } from '../lib/clock.js';
import type { BrokerConnection } from './broker-connection.js';
import { refusalOf } from './broker-refusal.js';
import { ConfirmChannel } from './confirm-channel.js';
import type { Destination, PublishOutcome } from './publish-channel.js';
import { PublishRefused, UnpublishableError } from './publish-errors.js';

/** Whether the destination is a caller that uses RabbitMQ's direct reply-to, which has no queue. */
export function isDirectReply({ exchange, routingKey }: Destination): boolean {
  return exchange === '' && routingKey.startsWith('amq.rabbitmq.reply-to.');
}

/** AMQP's reply code INTERNAL_ERROR. */
const INTERNAL_ERROR = 541;
/** The wait after a connection for one reply failed for another reason than the reply, in milliseconds. */
const RETRY_MS = 500;

/**
 * Publishes direct replies on separate connections: RabbitMQ 3.10 closes the connection when the reply address is
 * invalid (541 INTERNAL_ERROR). The first attempt uses a connection that all direct replies share. Every further attempt
 * uses a connection for this reply only, so that one invalid address cannot make other replies fail again.
 */
export class DirectReplies {
  readonly #clock: Clock;
  /** The shared channel for direct replies of each connection. */
  readonly #shared = new WeakMap<BrokerConnection, Promise<ConfirmChannel>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @throws PublishRefused when the broker does not accept it
   * @throws UnpublishableError when AMQP cannot encode it
   * @throws the signal's reason
   * @throws any other error when `connection` is lost
   */
  async publish(
    connection: BrokerConnection,
    to: Destination,
    content: Buffer,
    options: Options.Publish,
    signal: AbortSignal,
  ): Promise<PublishOutcome> {
    try {
      return await (await this.#channelFor(connection)).publish(to, content, options);
    } catch (error) {
      if (isFinal(error) || connection.lost.aborted) throw error;
    }
    for (;;) {
      let own: BrokerConnection | undefined;
      try {
        own = await connection.sibling();
        return await (await ConfirmChannel.open(own)).publish(to, content, options);
      } catch (error) {
        if (isFinal(error) || connection.lost.aborted) throw error;
        const refusal = refusalOf(error);
        if (refusal?.code === INTERNAL_ERROR) throw new PublishRefused(refusal, { cause: error });
      } finally {
        void own?.close(this.#clock);
      }
      // The broker closed it, or could not be reached: `connection` is probably lost too, and will know it soon.
      await this.#clock.sleep(RETRY_MS, { signal });
      connection.lost.throwIfAborted();
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

/** Whether another attempt would fail in the same way. */
function isFinal(error: unknown): boolean {
  return error instanceof UnpublishableError || error instanceof PublishRefused;
}
