import { isIPv6 } from 'node:net';
import type { BrokerAddress } from '../rpc/broker-address.js';
import type { BrokerLogin } from './manager-responses.js';

/** An address of a broker, and whether it is preferred to other addresses. */
export interface RankedBrokerAddress extends BrokerAddress {
  /** False: an address of a failover broker. */
  preferred: boolean;
}

/** Addresses in the order to try them: the brokers' own in random order, then the failover brokers' in random order. */
export function rankedAddresses(brokers: {
  own: readonly BrokerLogin[];
  failover: readonly BrokerLogin[];
}): RankedBrokerAddress[] {
  return [
    ...shuffled(brokers.own).map((each) => ({ url: amqpUrl(each), preferred: true })),
    ...shuffled(brokers.failover).map((each) => ({ url: amqpUrl(each), preferred: false })),
  ];
}

/**
 * The URL of a connection (https://www.rabbitmq.com/docs/uri-spec). User, password and virtual host may contain any
 * characters. Limit: a URL cannot name a virtual host `.` or `..`.
 */
export function amqpUrl({ username, password, host, port, virtualHost }: BrokerLogin): string {
  const credentials = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`;
  const address = isIPv6(host) ? `[${host}]` : host;
  const path = virtualHost === null ? '' : `/${encodeURIComponent(virtualHost)}`;
  return `amqp://${credentials}@${address}${port === null ? '' : `:${port}`}${path}`;
}

function shuffled<T>(list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
