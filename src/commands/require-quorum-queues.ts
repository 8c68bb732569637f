import type { BrokerConnection } from '../rpc/broker-connection.js';
import { refusalOf } from '../rpc/broker-refusal.js';
import { hasQueue, queuesOf } from '../rpc/queues.js';

/**
 * Checks that the broker makes quorum queues, when one of the service's queues is missing. Nothing is declared: a quorum queue cannot
 * be deleted automatically, and RabbitMQ refuses that (406) after it has checked its feature flag.
 * @throws the broker's error, which ends the connection, when the flag is off
 */
export async function requireQuorumQueues(connection: BrokerConnection, queue: string): Promise<void> {
  for (const name of queuesOf(queue)) {
    if (await hasQueue(connection, name)) continue;
    const impossible = { durable: true, autoDelete: true, arguments: { 'x-queue-type': 'quorum' } };
    await connection
      .probe(async (channel) => channel.assertQueue(name, impossible))
      .catch((error: unknown) => {
        if (refusalOf(error)?.code !== 406) throw error;
      });
    return;
  }
}
