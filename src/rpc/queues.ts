import type { Options } from 'amqplib';
import type { Logger } from '../lib/logger.js';
import type { Destination } from './publisher.js';
import type { LiveConnection } from './connection-manager.js';

/** The queue that takes what is no request. */
export function errorQueueOf(queue: string): string {
  return `${queue}_error`;
}

export interface QueueOptions {
  queue: string;
  /** Where a queue that had to be made is bound, so that callers who know no queues reach it; nowhere by default. */
  bindings?: (queue: string, on: LiveConnection) => Promise<readonly Destination[]>;
  log: Logger;
}

/**
 * Makes sure that the queue and its error queue are there. A queue that exists is used as it is, bindings included:
 * declaring it with other arguments would be refused by the broker (406), and the operator who made it had a reason.
 */
export async function ensureQueues(
  live: LiveConnection,
  { queue, bindings = async () => [], log }: QueueOptions,
): Promise<void> {
  const errors = errorQueueOf(queue);
  if (!(await hasQueue(live, errors))) await makeQueue(live, errors, { durable: true });
  if (await hasQueue(live, queue)) return;
  // Asked for first: a queue that is there, but not bound, would be left so.
  const wanted = await bindings(queue, live);
  await makeQueue(live, queue, { durable: true, deadLetterExchange: '', deadLetterRoutingKey: errors });
  for (const { exchange, routingKey } of wanted) {
    try {
      await requireExchange(live, exchange);
      await live.probe(async (channel) => channel.bindQueue(queue, exchange, routingKey));
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

async function hasQueue(live: LiveConnection, queue: string): Promise<boolean> {
  return live
    .probe(async (channel) => channel.checkQueue(queue))
    .then(
      () => true,
      (error: unknown) => {
        if (isNotFound(error)) return false;
        throw error;
      },
    );
}

async function makeQueue(live: LiveConnection, queue: string, options: Options.AssertQueue): Promise<void> {
  await live.probe(async (channel) => channel.assertQueue(queue, options));
}

/** The broker that one is connected to has no such exchange. */
export class MissingExchange extends Error {
  override readonly name = 'MissingExchange';

  constructor(exchange: string) {
    super(`the broker has no exchange ${exchange}`);
  }
}

/**
 * Makes sure that an exchange is there: publishing to one that is not would close the channel, and so cost the connection.
 * @throws MissingExchange
 */
export async function requireExchange(live: LiveConnection, exchange: string): Promise<void> {
  await live
    .probe(async (channel) => channel.checkExchange(exchange))
    .catch((error: unknown) => {
      throw isNotFound(error) ? new MissingExchange(exchange) : error;
    });
}

/** Whether the broker said that there is no such thing. */
export function isNotFound(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 404;
}
