import { FakeAmqplib, type FakeAmqplibConnection } from '@onify/fake-amqplib';
import type { ConfirmChannel } from 'amqplib';
import { joined } from '../rpc/body-in-pieces.js';
import type { Connect } from '../rpc/open-connection.js';

const URL_OF_BROKER = 'amqp://embedded.invalid/';

/**
 * A broker inside this process, for the sandbox and for tests; nothing is stored. fake-amqplib differs from RabbitMQ in
 * two ways that are fixed here: its broker disappears with the last connection, and publishing to a missing queue closes
 * the channel, while RabbitMQ returns the message.
 */
export class EmbeddedBroker {
  readonly #broker = FakeAmqplib('3.10');
  readonly #connections = new Set<FakeAmqplibConnection>();

  constructor() {
    this.#broker.connectSync(URL_OF_BROKER);
  }

  readonly connect: Connect = async () => {
    const connection = this.#broker.connectSync(URL_OF_BROKER);
    const createConfirmChannel = connection.createConfirmChannel.bind(connection);
    connection.createConfirmChannel = async () =>
      returningUnroutable(await createConfirmChannel(), connection);
    this.#connections.add(connection);
    connection.once('close', () => this.#connections.delete(connection));
    return connection;
  };

  /** Closes every connection, as a restarted broker does; queues and messages remain. */
  dropConnections(): void {
    for (const connection of this.#connections) void connection.close();
  }
}

function returningUnroutable(
  channel: ConfirmChannel,
  { _broker: broker }: FakeAmqplibConnection,
): ConfirmChannel {
  const publish = channel.publish.bind(channel);
  channel.publish = (exchange, routingKey, content, options, callback) => {
    if (exchange !== '' || broker.getQueue(routingKey) !== undefined) {
      return publish(exchange, routingKey, joined(content), options, callback);
    }
    queueMicrotask(() => {
      channel.emit('return', { fields: { exchange, routingKey }, properties: { ...options }, content });
      callback?.(null, {});
    });
    return true;
  };
  return channel;
}
