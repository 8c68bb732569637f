import { reasonOf } from '../lib/errors.js';
import { rankedAddresses } from '../openaperture/broker-addresses.js';
import type { Installation } from '../openaperture/installation.js';
import { findBroker, findExchange } from '../openaperture/manager-lookups.js';
import type { Configuration } from '../settings/settings.js';
import type { BrokerToCheck } from './check-brokers.js';
import { counted, type Finding, ok, runCheck } from './finding.js';

type InstallationSettings = Pick<NonNullable<Configuration['openaperture']>, 'exchangeId' | 'brokerId'>;

interface CheckedManager {
  finding: Finding;
  /** The brokers of the installation; empty when they are not known. */
  brokers: readonly BrokerToCheck[];
}

/** Checks whether the Manager accepts this service and has its exchange and its broker. */
export async function checkManager(
  installation: Installation,
  settings: InstallationSettings,
  limitMs: number,
): Promise<CheckedManager> {
  let brokers: readonly BrokerToCheck[] = [];
  const finding = await runCheck(limitMs, managerRemedy, async (signal) => {
    const found = await lookUp(installation, settings, signal);
    brokers = found.brokers;
    return found.finding;
  });
  return { finding, brokers };
}

async function lookUp(
  { manager }: Installation,
  { exchangeId, brokerId }: InstallationSettings,
  signal: AbortSignal,
): Promise<CheckedManager> {
  const [exchange, broker] = await Promise.allSettled([
    findExchange(manager, exchangeId, 'EXCHANGE_ID', { signal }),
    findBroker(manager, brokerId, 'BROKER_ID', { signal }),
  ]);
  const found = exchange.status === 'fulfilled' ? exchange.value : undefined;
  const addresses = broker.status === 'fulfilled' ? rankedAddresses(broker.value) : [];
  const brokers = addresses.map(({ url, preferred }) => ({
    url,
    exchange: (preferred ? undefined : found?.failover) ?? found?.own,
  }));
  const problems = [exchange, broker].flatMap((each) =>
    each.status === 'rejected' ? reasonOf(each.reason) : [],
  );
  if (broker.status === 'fulfilled' && addresses.length === 0)
    problems.push(`Broker ${brokerId} has no connections: add one in the Manager, or check BROKER_ID`);
  if (problems.length > 0) {
    // When the Manager is down, both look-ups fail with the same reason.
    return { finding: { result: 'FAILED', lines: [...new Set(problems)] }, brokers };
  }
  const gaps = [exchange, broker].flatMap((each) => (each.status === 'fulfilled' ? each.value.gaps : []));
  const finding = ok(
    `it accepts our token; exchange ${exchangeId} is ${found?.own.rootExchangeName} with the routing key ${found?.own.routingKey}`,
    `broker ${brokerId} and its failover have ${counted(addresses.length, 'connection')}`,
    ...gaps.map((gap) => `but ${gap}`),
  );
  return { finding, brokers };
}

function managerRemedy(): string {
  return 'check that the OAuth server (OAUTH_LOGIN_URL) and the Manager (MANAGER_URL) are up and not slow';
}
