import type { Options } from 'amqplib';
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

/** What queues are like that the service makes; those that exist are used as they are. */
export interface NewQueues {
  /** `classic`: the type that the broker gives a queue when it is told none. */
  type: 'classic' | 'quorum';
  /** The highest priority of a classic queue; undefined: it gives messages in their order. */
  maxPriority?: number | undefined;
}

const CLASSIC: NewQueues = { type: 'classic' };
/**
 * How often a message may come back to a quorum queue: as RabbitMQ 4's default. Deliveries after which a request has only waited count
 * too, so what exceeds it in the request queue becomes a suspect, and runs.
 */
const MAX_RETURNS_OF_REQUESTS = 20;
/**
 * The same for the queue of suspects. As the service itself gives up after this many lost workers; and RabbitMQ 4.3 goes on from the count
 * of the request queue.
 */
const MAX_RETURNS_OF_SUSPECTS = 100;
/** Nothing consumes the error queue, but RabbitMQ 4 would drop what people have looked at there 20 times. */
const MAX_RETURNS_OF_ERRORS = 2 ** 31 - 1;

export interface QueueOptions {
  queue: string;
  makes?: NewQueues | undefined;
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
  { queue, makes = CLASSIC, bindings = async () => [], log }: QueueOptions,
  step: SetUpStep,
): Promise<void> {
  const has = async (name: string) =>
    step(`look for the queue ${name}`, async () => hasQueue(connection, name));
  const declare = async (name: string) =>
    step(`declare the queue ${name}`, async () => declareQueue(connection, name, { queue, makes }));
  // In this order: what the broker takes out of one of them has its place then.
  for (const name of [errorQueueOf(queue), suspectsQueueOf(queue)])
    if (!(await has(name))) await declare(name);
  if (await has(queue)) return;
  // Before the declaration: if this failed after it, the queue would never be bound.
  const destinations = await bindings(queue, connection);
  await declare(queue);
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

/** Declares one of `queuesOf(queue)`; it must not exist. */
export async function declareQueue(
  connection: BrokerConnection,
  name: string,
  { queue, makes = CLASSIC }: Pick<QueueOptions, 'queue' | 'makes'>,
): Promise<void> {
  const options = { durable: true, ...optionsOf(name, queue, makes) };
  await connection.probe(async (channel) => channel.assertQueue(name, options));
}

function optionsOf(name: string, queue: string, { type, maxPriority }: NewQueues): Options.AssertQueue {
  const suspects = suspectsQueueOf(queue);
  if (name !== queue && name !== suspects)
    return type === 'quorum' ? { arguments: quorum(MAX_RETURNS_OF_ERRORS) } : {};
  // What the broker takes out of the request queue is answered too: it may have expired, or come back more often than its limit.
  // What it takes out of the queue of suspects has come back so often that it may be what ends workers: nobody takes it again.
  const deadLetters = {
    deadLetterExchange: '',
    deadLetterRoutingKey: name === queue ? suspects : errorQueueOf(queue),
  };
  if (type === 'classic') return { ...deadLetters, maxPriority };
  // At least once: a message leaves the queue only when the other one has it. RabbitMQ does that only with this overflow.
  const limit = name === queue ? MAX_RETURNS_OF_REQUESTS : MAX_RETURNS_OF_SUSPECTS;
  const kept = { 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' };
  return { ...deadLetters, arguments: { ...quorum(limit), ...kept } };
}

function quorum(deliveryLimit: number): Record<string, unknown> {
  return { 'x-queue-type': 'quorum', 'x-delivery-limit': deliveryLimit };
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
