import type { Options } from 'amqplib';
import type { LiveConnection } from './session.js';

/** The queue that takes what is no request. */
export function errorQueueOf(queue: string): string {
  return `${queue}_error`;
}

/**
 * Makes sure that the queue and its error queue are there. A queue that exists is used as it is: declaring it with
 * other arguments would be refused by the broker (406), and the operator who made it had a reason.
 */
export async function ensureQueues(live: LiveConnection, queue: string): Promise<void> {
  const errors = errorQueueOf(queue);
  await ensureQueue(live, errors, { durable: true });
  await ensureQueue(live, queue, { durable: true, deadLetterExchange: '', deadLetterRoutingKey: errors });
}

async function ensureQueue(live: LiveConnection, queue: string, options: Options.AssertQueue): Promise<void> {
  const exists = await live
    .probe(async (channel) => channel.checkQueue(queue))
    .then(
      () => true,
      (error: unknown) => {
        if (isNotFound(error)) return false;
        throw error;
      },
    );
  if (!exists) await live.probe(async (channel) => channel.assertQueue(queue, options));
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

function isNotFound(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 404;
}
