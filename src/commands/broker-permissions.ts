import { randomUUID } from 'node:crypto';
import type { Channel } from 'amqplib';
import { REPLY_QUEUE } from '../client/amqp-route.js';
import type { BrokerConnection } from '../rpc/broker-connection.js';
import { refusalOf } from '../rpc/broker-refusal.js';
import { ConfirmChannel } from '../rpc/confirm-channel.js';
import { hasQueue, queuesOf, suspectsQueueOf } from '../rpc/queues.js';
import { missingWritePermission } from '../rpc/write-permission.js';

/** An argument that RabbitMQ refuses (406), after it has checked the permission. So nothing is declared or consumed. */
const INVALID = 'invalid';

/** Publishes a message that reaches nobody. @returns why the broker accepts no messages; undefined when it accepts them */
export async function blockedReason(connection: BrokerConnection): Promise<string | undefined> {
  const blocked = new Promise<string | undefined>((resolve) =>
    connection.onBlockedChange(() => resolve(connection.blockedReason)),
  );
  // RabbitMQ says that a connection is blocked when something is published on it.
  return Promise.race([blocked, publishProbe(connection).then(() => undefined)]);
}

/**
 * Tries what the service needs permissions for.
 * @returns the broker's text for each missing permission
 */
export async function missingPermissions(
  connection: BrokerConnection,
  { queue, gateway }: { queue: string; gateway: boolean },
): Promise<string[]> {
  const replyQueue = `${REPLY_QUEUE}${randomUUID()}`;
  const missing = [await publishProbe(connection)];
  // Existing queues are used as they are, so they need no permission to declare them.
  for (const name of queuesOf(queue))
    if (!(await hasQueue(connection, name)))
      missing.push(await refusalOfQueue(connection, 'configure', declare(name)));
  for (const name of [queue, suspectsQueueOf(queue)])
    missing.push(await refusalOfQueue(connection, 'read', consume(name)));
  if (gateway) {
    missing.push(await refusalOfQueue(connection, 'configure', declare(replyQueue)));
    missing.push(await refusalOfQueue(connection, 'read', consume(replyQueue)));
  }
  return [...new Set(missing.filter((each) => each !== undefined))];
}

/** @returns the broker's text when the user may not declare this queue, which does not exist */
export async function missingConfigure(
  connection: BrokerConnection,
  queue: string,
): Promise<string | undefined> {
  return refusalOfQueue(connection, 'configure', declare(queue));
}

async function publishProbe(connection: BrokerConnection): Promise<string | undefined> {
  return missingWritePermission(await ConfirmChannel.open(connection));
}

function declare(queue: string): (channel: Channel) => Promise<unknown> {
  return async (channel) =>
    channel.assertQueue(queue, { durable: true, arguments: { 'x-expires': INVALID } });
}

function consume(queue: string): (channel: Channel) => Promise<unknown> {
  return async (channel) => channel.consume(queue, () => {}, { arguments: { 'x-priority': INVALID } });
}

/** Tries an operation that cannot succeed. @returns the broker's text when it lacks the permission for it */
async function refusalOfQueue(
  connection: BrokerConnection,
  permission: 'configure' | 'read',
  operation: (channel: Channel) => Promise<unknown>,
): Promise<string | undefined> {
  try {
    await connection.probe(operation);
    return undefined;
  } catch (error) {
    const refusal = refusalOf(error);
    if (refusal === undefined) throw error;
    if (refusal.permission === undefined) return undefined;
    return `${refusal.text} (it lacks the ${permission} permission)`;
  }
}
