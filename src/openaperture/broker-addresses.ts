import { isIPv6 } from 'node:net';
import type { BrokerAddress } from '../rpc/broker-address.js';
import type { BrokerConnection } from './manager-answers.js';

/** An address of a broker, and whether it is preferred. */
export interface RankedBrokerAddress extends BrokerAddress {
  /** False: it belongs to a failover broker. */
  preferred: boolean;
}

/** Addresses in the order to try them: the broker's own in random order, then those of the failover in random order. */
export function rankedAddresses(brokers: {
  own: readonly BrokerConnection[];
  failover: readonly BrokerConnection[];
}): RankedBrokerAddress[] {
  return [
    ...shuffled(brokers.own).map((each) => ({ url: amqpUrl(each), preferred: true })),
    ...shuffled(brokers.failover).map((each) => ({ url: amqpUrl(each), preferred: false })),
  ];
}

/**
 * The URL of a connection (https://www.rabbitmq.com/docs/uri-spec), for any characters in its user, password and virtual
 * host; but no URL can name a virtual host that is called `.` or `..`.
 */
export function amqpUrl({ username, password, host, port, virtualHost }: BrokerConnection): string {
  const credentials = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`;
  const address = isIPv6(host) ? `[${host}]` : host;
  const end = virtualHost === null ? '' : `/${encodeURIComponent(virtualHost)}`;
  return `amqp://${credentials}@${address}${port === null ? '' : `:${port}`}${end}`;
}

function shuffled<T>(list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
