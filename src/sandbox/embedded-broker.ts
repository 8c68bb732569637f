import { FakeAmqplib, type FakeAmqplibConnection } from '@onify/fake-amqplib';
import type { Channel, ConfirmChannel } from 'amqplib';
import { joined } from '../rpc/body-in-pieces.js';
import type { Connect } from '../rpc/open-connection.js';

const URL_OF_BROKER = 'amqp://embedded.invalid/';

/**
 * A broker inside this process, for the sandbox and for tests; nothing is stored. fake-amqplib differs from RabbitMQ in
 * two ways that are fixed here: its broker disappears with the last connection, and publishing to a missing queue closes
 * the channel, while RabbitMQ returns the message, or drops it. It has no users: it believes the user in a URL, and a message's
 * `user_id`, since only this process can connect.
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
    const createChannel = connection.createChannel.bind(connection);
    connection.createChannel = async () => returningUnroutable(await createChannel(), connection);
    this.#connections.add(connection);
    connection.once('close', () => this.#connections.delete(connection));
    return connection;
  };

  /** Closes every connection, as a restarted broker does; queues and messages remain. */
  dropConnections(): void {
    for (const connection of this.#connections) void connection.close();
  }
}

function returningUnroutable<C extends Channel | ConfirmChannel>(
  channel: C,
  { _broker: broker }: FakeAmqplibConnection,
): C {
  const publish: ConfirmChannel['publish'] = channel.publish.bind(channel);
  const returning: ConfirmChannel['publish'] = (exchange, routingKey, content, options, callback) => {
    if (exchange !== '' || broker.getQueue(routingKey) !== undefined) {
      return publish(exchange, routingKey, joined(content), options, callback);
    }
    queueMicrotask(() => {
      if (options?.mandatory)
        channel.emit('return', { fields: { exchange, routingKey }, properties: { ...options }, content });
      callback?.(null, {});
    });
    return true;
  };
  channel.publish = returning;
  return channel;
}
