import type { BrokerLogin, Exchange, ManagerId } from './manager-responses.js';
import type { ManagerCallOptions, ManagerClient } from './manager-client.js';
import { ManagerError } from './manager-error.js';

type Manager = Pick<ManagerClient, 'exchange' | 'broker' | 'brokerConnections'>;

/** An exchange, and the one that replaces it on a failover broker. */
export interface FoundExchange {
  own: Exchange;
  failover: Exchange | undefined;
  /** References to missing entries in the Manager, for the log. */
  gaps: string[];
}

/** The connections of a broker, and those of its failover broker. */
export interface FoundBroker {
  own: BrokerLogin[];
  failover: BrokerLogin[];
  /** References to missing entries in the Manager, for the log. */
  gaps: string[];
}

/**
 * @param check what to check when there is no such exchange
 * @throws ManagerError
 */
export async function findExchange(
  manager: Manager,
  id: ManagerId,
  check: string,
  options: ManagerCallOptions,
): Promise<FoundExchange> {
  const own = await orMissing(`exchange ${id}`, check, manager.exchange(id, options));
  if (own.failoverExchangeId === undefined) return { own, failover: undefined, gaps: [] };
  const failover = await orUndefined(manager.exchange(own.failoverExchangeId, options));
  const gaps = failover === undefined ? [`there is no failover exchange ${own.failoverExchangeId}`] : [];
  return { own, failover, gaps };
}

/**
 * @param check what to check when there is no such broker
 * @throws ManagerError
 */
export async function findBroker(
  manager: Manager,
  id: ManagerId,
  check: string,
  options: ManagerCallOptions,
): Promise<FoundBroker> {
  const [{ failoverBrokerId }, own] = await Promise.all([
    orMissing(`broker ${id}`, check, manager.broker(id, options)),
    orMissing(`broker ${id}`, check, manager.brokerConnections(id, options)),
  ]);
  const gaps = own.length === 0 ? [`broker ${id} has no connections`] : [];
  if (failoverBrokerId === undefined) return { own, failover: [], gaps };
  const failover = (await orUndefined(manager.brokerConnections(failoverBrokerId, options))) ?? [];
  if (failover.length === 0) gaps.push(`failover broker ${failoverBrokerId} has no connections`);
  return { own, failover, gaps };
}

/**
 * The result of a lookup.
 * @throws ManagerError that says what to check, when the Manager has no such resource
 */
export async function orMissing<T>(what: string, check: string, lookup: Promise<T>): Promise<T> {
  const found = await orUndefined(lookup);
  if (found === undefined)
    throw new ManagerError('not_found', `The Manager has no ${what}: check ${check}`, { status: 404 });
  return found;
}

async function orUndefined<T>(lookup: Promise<T>): Promise<T | undefined> {
  try {
    return await lookup;
  } catch (error) {
    if (error instanceof ManagerError && error.kind === 'not_found') return undefined;
    throw error;
  }
}
