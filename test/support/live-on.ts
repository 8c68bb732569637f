import { LiveConnection } from '../../src/rpc/connection-manager.js';
import type { TestBroker } from './brokers.js';

/** A connection to a broker, without a session that keeps it. */
export async function liveOn(broker: TestBroker): Promise<LiveConnection> {
  return new LiveConnection(await broker.open(), broker, async () => liveOn(broker));
}
