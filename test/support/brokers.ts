import { Socket } from 'node:net';
import type { Channel, ChannelModel } from 'amqplib';
import { connect as amqpConnect } from '../../src/rpc/patched-amqplib.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import { noteSkipped } from './note-skipped.js';

/** A broker that tests run against; each must behave the same. */
export interface TestBroker {
  name: string;
  url: string;
  connect: Connect;
  /** A separate connection for the test. */
  open(): Promise<ChannelModel>;
}

/** Connects like `connect`, and can cut every connection, as a network failure does. */
export function cuttable(broker: TestBroker): { connect: Connect; cut: () => void } {
  const cuts = new Set<() => void>();
  const connect: Connect = async (url, options) => {
    const connection = await broker.connect(url, options);
    const socket: unknown = 'stream' in connection.connection ? connection.connection.stream : undefined;
    const cut = () => {
      if (socket instanceof Socket) socket.destroy(new Error('cut by the test'));
      else void connection.close();
    };
    cuts.add(cut);
    connection.once('close', () => cuts.delete(cut));
    return connection;
  };
  return { connect, cut: () => cuts.forEach((cut) => cut()) };
}

/** The embedded broker, and RabbitMQ where `RABBITMQ_URL` says that one runs. */
export function brokers(): TestBroker[] {
  const own = embeddedBroker();
  const rabbit = rabbitmq();
  return rabbit === undefined ? [own] : [own, rabbit];
}

/** An embedded broker of its own. */
export function embeddedBroker(): TestBroker {
  const embedded = new EmbeddedBroker();
  const url = 'amqp://embedded.invalid';
  return {
    name: 'embedded broker',
    url,
    connect: embedded.connect,
    open: () => embedded.connect(url, {}),
  };
}

/** Connects like `connect`, and changes each channel for consumers before it is used. */
export function withChannels(connect: Connect, change: (channel: Channel) => void): Connect {
  return async (url, options) => {
    const connection = await connect(url, options);
    const createChannel = connection.createChannel.bind(connection);
    connection.createChannel = async () => {
      const channel = await createChannel();
      change(channel);
      return channel;
    };
    return connection;
  };
}

/** RabbitMQ; undefined, and reported, where none runs. */
export function rabbitmq(): TestBroker | undefined {
  const url = process.env.RABBITMQ_URL;
  if (url === undefined) return noteSkipped('the tests over RabbitMQ', 'RABBITMQ_URL');
  return { name: 'RabbitMQ', url, connect: amqpConnect, open: () => amqpConnect(url) };
}
