import type { Options } from 'amqplib';
import type { Logger } from '../lib/logger.js';
import type { Destination } from './confirm-channel.js';
import type { BrokerConnection } from './broker-connection.js';

/** The queue for dead-lettered messages. */
export function errorQueueOf(queue: string): string {
  return `${queue}_error`;
}

export interface QueueOptions {
  queue: string;
  /** Where a queue that the service has made is bound, for callers who publish to an exchange; nowhere by default. */
  bindings?: (queue: string, on: BrokerConnection) => Promise<readonly Destination[]>;
  log: Logger;
}

/**
 * Ensures that the queue and its error queue exist. An existing queue is used as it is, with its bindings: the broker would
 * refuse to declare it with other arguments (406).
 */
export async function ensureQueues(
  connection: BrokerConnection,
  { queue, bindings = async () => [], log }: QueueOptions,
): Promise<void> {
  const errors = errorQueueOf(queue);
  if (!(await hasQueue(connection, errors))) await makeQueue(connection, errors, { durable: true });
  if (await hasQueue(connection, queue)) return;
  // Asked first: a queue that exists without its bindings would never get them.
  const wanted = await bindings(queue, connection);
  await makeQueue(connection, queue, { durable: true, deadLetterExchange: '', deadLetterRoutingKey: errors });
  for (const { exchange, routingKey } of wanted) {
    try {
      await requireExchange(connection, exchange);
      await connection.probe(async (channel) => channel.bindQueue(queue, exchange, routingKey));
    } catch (error) {
      if (!(error instanceof MissingExchange)) throw error;
      log.warn(
        `the queue ${queue} was made, but could not be bound: make the exchange, and bind the queue to it`,
        {
          reason: error.message,
          routing_key: routingKey,
        },
      );
    }
  }
}

async function hasQueue(connection: BrokerConnection, queue: string): Promise<boolean> {
  return connection
    .probe(async (channel) => channel.checkQueue(queue))
    .then(
      () => true,
      (error: unknown) => {
        if (isNotFound(error)) return false;
        throw error;
      },
    );
}

async function makeQueue(
  connection: BrokerConnection,
  queue: string,
  options: Options.AssertQueue,
): Promise<void> {
  await connection.probe(async (channel) => channel.assertQueue(queue, options));
}

/** The broker has no such exchange. */
export class MissingExchange extends Error {
  override readonly name = 'MissingExchange';

  constructor(exchange: string) {
    super(`the broker has no exchange ${exchange}`);
  }
}

/**
 * Ensures that an exchange exists: publishing to a missing one would close the channel, and so cost the connection.
 * @throws MissingExchange
 */
export async function requireExchange(connection: BrokerConnection, exchange: string): Promise<void> {
  await connection
    .probe(async (channel) => channel.checkExchange(exchange))
    .catch((error: unknown) => {
      throw isNotFound(error) ? new MissingExchange(exchange) : error;
    });
}

/** Whether the broker replied that there is no such thing. */
export function isNotFound(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 404;
}
