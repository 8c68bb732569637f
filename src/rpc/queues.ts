import type { Logger } from '../lib/logger.js';
import type { Destination } from './publish-channel.js';
import type { BrokerConnection } from './broker-connection.js';
import type { SetUpStep } from './set-up-step.js';

/** The name of the queue for dead-lettered messages. */
export function errorQueueOf(queue: string): string {
  return `${queue}_error`;
}

/** The name of the queue for requests that another worker may have begun before it was lost. */
export function suspectsQueueOf(queue: string): string {
  return `${queue}_suspects`;
}

/** The name of the stream for audit lines. */
export function auditStreamOf(queue: string): string {
  return `${queue}.audit`;
}

/** The names of all queues that the service declares for a queue. */
export function queuesOf(queue: string): string[] {
  return [queue, suspectsQueueOf(queue), errorQueueOf(queue)];
}

export interface QueueOptions {
  queue: string;
  /** Returns the bindings for a newly declared queue, for callers that publish to an exchange; by default none. */
  bindings?: (queue: string, on: BrokerConnection) => Promise<readonly Destination[]>;
  log: Logger;
}

/**
 * Declares the queue, its error queue and its queue of suspects when they do not exist. An existing queue and its bindings
 * are not changed: they may be configured by an operator, and the broker refuses a declaration with other arguments (406).
 */
export async function ensureQueues(
  connection: BrokerConnection,
  { queue, bindings = async () => [], log }: QueueOptions,
  step: SetUpStep,
): Promise<void> {
  const has = async (name: string) =>
    step(`look for the queue ${name}`, async () => hasQueue(connection, name));
  const suspects = suspectsQueueOf(queue);
  for (const name of [errorQueueOf(queue), suspects])
    if (!(await has(name)))
      await step(`declare the queue ${name}`, async () => declarePlainQueue(connection, name));
  if (await has(queue)) return;
  // Before the declaration: if this failed after it, the queue would never be bound.
  const destinations = await bindings(queue, connection);
  // What the broker itself dead-letters is answered too: it may have expired, or come back more often than its limit.
  const options = { durable: true, deadLetterExchange: '', deadLetterRoutingKey: suspects };
  await step(`declare the queue ${queue}`, async () =>
    connection.probe(async (channel) => channel.assertQueue(queue, options)),
  );
  for (const { exchange, routingKey } of destinations) {
    try {
      await step(`look for the exchange ${exchange}`, async () => requireExchange(connection, exchange));
      await step(`bind the queue ${queue} to the exchange ${exchange}`, async () =>
        connection.probe(async (channel) => channel.bindQueue(queue, exchange, routingKey)),
      );
    } catch (error) {
      if (!(error instanceof MissingExchange)) throw error;
      log.warn('queue declared but not bound', {
        queue,
        reason: `${error.message}; create it and bind the queue to it`,
        routing_key: routingKey,
      });
    }
  }
}

/** Declares an error queue, or a queue of suspects; it must not exist. */
export async function declarePlainQueue(connection: BrokerConnection, name: string): Promise<void> {
  await connection.probe(async (channel) => channel.assertQueue(name, { durable: true }));
}

/** Whether the queue exists; this needs no permission. */
export async function hasQueue(connection: BrokerConnection, queue: string): Promise<boolean> {
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

/** The broker has no exchange with this name. */
export class MissingExchange extends Error {
  override readonly name = 'MissingExchange';

  constructor(exchange: string) {
    super(`the broker has no exchange ${exchange}`);
  }
}

/**
 * Checks that an exchange exists: publishing to a missing one would make the broker close the channel.
 * @throws MissingExchange
 */
export async function requireExchange(connection: BrokerConnection, exchange: string): Promise<void> {
  await connection
    .probe(async (channel) => channel.checkExchange(exchange))
    .catch((error: unknown) => {
      throw isNotFound(error) ? new MissingExchange(exchange) : error;
    });
}

/** Whether this is the broker's error 404. */
export function isNotFound(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 404;
}
