import { OutageLog } from '../lib/outage-log.js';
import type { Destination } from '../rpc/publish-channel.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { rankedAddresses, type RankedBrokerAddress } from './broker-addresses.js';
import { CachedLookup } from './cached-lookup.js';
import type { Exchange, ManagerId } from './manager-responses.js';
import type { ManagerCallOptions, ManagerClient } from './manager-client.js';
import { ManagerError } from './manager-error.js';
import {
  findBroker,
  findExchange,
  type FoundBroker,
  type FoundExchange,
  orMissing,
} from './manager-lookups.js';

type Manager = Pick<ManagerClient, 'exchange' | 'exchangeBrokers' | 'broker' | 'brokerConnections'>;

interface Found {
  exchange: FoundExchange;
  /** Of all brokers that the exchange uses. */
  connections: Pick<FoundBroker, 'own' | 'failover'>;
}

interface TopologyDependencies {
  lookUp: (signal: AbortSignal, reportGaps: (gaps: readonly string[]) => void) => Promise<Found>;
  clock: Clock;
  log: Logger;
}

/**
 * Where to connect and where to publish, from the Manager. It is cached for 5 minutes; while the Manager cannot be
 * reached, the cached data stay in use. Create one with `serviceTopology` or `callerTopology`.
 *
 * Its methods throw ManagerError, or the signal's reason when that is aborted.
 */
export class Topology {
  readonly #found: CachedLookup<Found>;

  constructor({ lookUp, clock, log }: TopologyDependencies) {
    const incomplete = new OutageLog(log, clock, {
      began: 'Manager data incomplete',
      ended: 'Manager data complete',
    });
    const reportGaps = (gaps: readonly string[]) =>
      gaps.length > 0 ? incomplete.failed({ missing: gaps.join('; ') }) : incomplete.succeeded();
    this.#found = new CachedLookup({
      lookUp: async (signal) => lookUp(signal, reportGaps),
      what: 'exchange and broker',
      clock,
      log,
    });
  }

  /** Where to connect: at least one address, in the order to try them. */
  async brokers({ signal }: ManagerCallOptions): Promise<RankedBrokerAddress[]> {
    const { connections } = await this.#found.get(signal);
    return rankedAddresses(connections);
  }

  /**
   * Where to publish a message for a queue of the exchange.
   * @param preferred whether the connection is to a preferred address; on a failover broker the exchange may have
   *   another name
   */
  async destination(
    queue: string,
    { preferred, signal }: ManagerCallOptions & Pick<RankedBrokerAddress, 'preferred'>,
  ): Promise<Destination> {
    const { exchange } = await this.#found.get(signal);
    return destinationOf((preferred ? undefined : exchange.failover) ?? exchange.own, queue);
  }

  /** Call it when a connection was lost: the brokers may have moved, so the next call asks the Manager again. */
  refresh(): void {
    this.#found.refresh();
  }
}

export interface ServiceTopologyOptions {
  manager: Manager;
  /** `EXCHANGE_ID` */
  exchangeId: ManagerId;
  /** `BROKER_ID` */
  brokerId: ManagerId;
  clock: Clock;
  log: Logger;
}

/** The topology of the service: the exchange and the broker that it serves. */
export function serviceTopology({
  manager,
  exchangeId,
  brokerId,
  clock,
  log,
}: ServiceTopologyOptions): Topology {
  return new Topology({
    clock,
    log,
    lookUp: async (signal, reportGaps) => {
      const [exchange, broker] = await Promise.all([
        findExchange(manager, exchangeId, 'EXCHANGE_ID', { signal }),
        findBroker(manager, brokerId, 'BROKER_ID', { signal }),
      ]);
      reportGaps([...exchange.gaps, ...broker.gaps]);
      return { exchange, connections: connected([brokerId], [broker], 'BROKER_ID') };
    },
  });
}

export interface CallerTopologyOptions {
  manager: Manager;
  /** The caller's own exchange and broker. */
  source: { exchangeId: ManagerId; brokerId: ManagerId };
  /** The exchange that requests go to. */
  destinationExchangeId: ManagerId;
  clock: Clock;
  log: Logger;
}

/**
 * The topology of a caller. Its brokers are those that the destination exchange is restricted to; without such a
 * restriction, those that its own exchange is restricted to; without either, its own broker.
 */
export function callerTopology({
  manager,
  source,
  destinationExchangeId,
  clock,
  log,
}: CallerTopologyOptions): Topology {
  const destinationCheck = 'the id of the exchange that requests go to';
  return new Topology({
    clock,
    log,
    lookUp: async (signal, reportGaps) => {
      const restrictions = async (id: ManagerId, check: string) =>
        orMissing(`exchange ${id}`, check, manager.exchangeBrokers(id, { signal }));
      const [exchange, ofDestination, ofSource] = await Promise.all([
        findExchange(manager, destinationExchangeId, destinationCheck, { signal }),
        restrictions(destinationExchangeId, destinationCheck),
        restrictions(source.exchangeId, 'EXCHANGE_ID'),
      ]);
      const [restricted] = [ofDestination, ofSource].filter((ids) => ids.length > 0);
      const ids = [...new Set(restricted ?? [source.brokerId])];
      const check = restricted === undefined ? 'BROKER_ID' : 'the restrictions of the exchanges';
      const brokers = await Promise.all(ids.map(async (id) => findBroker(manager, id, check, { signal })));
      reportGaps([...exchange.gaps, ...brokers.flatMap(({ gaps }) => gaps)]);
      return { exchange, connections: connected(ids, brokers, check) };
    },
  });
}

function connected(
  ids: readonly ManagerId[],
  brokers: readonly FoundBroker[],
  check: string,
): Found['connections'] {
  const own = brokers.flatMap((broker) => broker.own);
  const failover = brokers.flatMap((broker) => broker.failover);
  if (own.length + failover.length > 0) return { own, failover };
  const named = ids.length === 1 ? `broker ${ids[0]} has` : `the brokers ${ids.join(', ')} have`;
  throw new ManagerError(
    'not_found',
    `In the Manager, ${named} no connections: add one there, or check ${check}`,
  );
}

function destinationOf({ rootExchangeName, routingKey }: Exchange, queue: string): Destination {
  return { exchange: rootExchangeName, routingKey: `${routingKey}.${queue}` };
}
