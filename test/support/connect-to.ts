import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import type { TestBroker } from './brokers.js';

/** A connection to a broker, without a session that keeps it. */
export async function connectTo(broker: TestBroker): Promise<BrokerConnection> {
  return new BrokerConnection(await broker.open(), broker, async () => connectTo(broker));
}
