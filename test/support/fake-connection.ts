import { EventEmitter } from 'node:events';
import type { ChannelModel } from 'amqplib';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';

/**
 * What a fake broker does with a message. `refuses`: it closes the channel, as the user may not publish there. `does not know
 * the address`: it closes the connection, as RabbitMQ does over a direct reply.
 */
export type Answer =
  | 'confirms'
  | 'waits'
  | 'refuses'
  | 'closes'
  | 'does not know the address'
  | 'cannot be encoded';

/** A message as it was published. */
export interface Written {
  exchange: string;
  routingKey: string;
  /** The number of its channel on the connection. */
  channel: number;
}

/** A connection whose broker answers each message like that. */
export function fakeConnection(
  answer: (message: Written) => Answer,
  openAnother?: () => Promise<BrokerConnection>,
): BrokerConnection {
  let channels = 0;
  const createConfirmChannel = async () => {
    const number = channels++;
    const channel = Object.assign(new EventEmitter(), {
      close: async () => {},
      prefetch: async () => {},
      publish: (
        exchange: string,
        routingKey: string,
        _body: Buffer,
        _options: object,
        done: (error: null) => void,
      ) => {
        const given = answer({ exchange, routingKey, channel: number });
        if (given === 'cannot be encoded') throw new TypeError('a bad property');
        queueMicrotask(() => {
          if (given === 'confirms') done(null);
          if (given === 'closes') model.emit('close', new Error('cut'));
          if (given === 'refuses') {
            channel.emit('error', Object.assign(new Error('ACCESS_REFUSED'), { code: 403 }));
            channel.emit('close');
          }
          if (given === 'does not know the address') {
            model.emit('error', Object.assign(new Error('INTERNAL_ERROR'), { code: 541 }));
            model.emit('close');
          }
        });
      },
    });
    return channel;
  };
  const model = Object.assign(new EventEmitter(), {
    connection: {},
    createConfirmChannel,
    close: async () => {},
  });
  return new BrokerConnection(model as unknown as ChannelModel, { url: 'amqp://fake.invalid' }, openAnother);
}
