import { connect as amqpConnect } from '../rpc/patched-amqplib.js';
import { unescape } from 'node:querystring';
import { logIn } from '../rpc/log-in.js';
import type { Connect } from '../rpc/open-connection.js';
import { BrokerConnection } from '../rpc/broker-connection.js';
import { userOf, withoutCredentials } from '../rpc/broker-address.js';
import { reasonOf } from '../lib/errors.js';
import { isNotFound, type NewQueues } from '../rpc/queues.js';
import { blockedReason, missingPermissions } from './broker-permissions.js';
import { requireQuorumQueues } from './require-quorum-queues.js';
import { systemClock } from '../lib/clock.js';
import { counted, failed, type Finding, ok, runCheck } from './finding.js';

/** A broker to check. */
export interface BrokerToCheck {
  /** With credentials. */
  url: string;
  /** The exchange to which callers publish, in an OpenAperture installation. */
  exchange?: { rootExchangeName: string; routingKey: string };
}

export interface BrokerCheckOptions {
  queue: string;
  /** The type of queues that the service makes. */
  queueType: NewQueues['type'];
  /** Certificates for amqps, PEM. */
  tls: { ca?: Buffer; cert?: Buffer; key?: Buffer } | undefined;
  /** Whether the service's HTTP gateway is on: then the same user needs the permissions of a client too. */
  gateway: boolean;
  /** Whether the service writes its audit into a stream, which it creates; by default it does not. */
  audit?: boolean;
  /** Names the setting that contains the addresses and credentials, for the remedy. */
  settings: string;
  /** The time limit for each broker, in milliseconds. */
  limitMs: number;
}

const connect: Connect = amqpConnect;

/**
 * Checks whether each broker accepts a login, whether its exchange and its queue exist, and whether the user has the
 * permissions that the service needs. Nothing is declared, and what is published reaches nobody.
 */
export async function checkBrokers(
  brokers: readonly BrokerToCheck[],
  options: BrokerCheckOptions,
): Promise<Finding> {
  const findings = await Promise.all(brokers.map(async (broker) => checkBroker(broker, options)));
  return {
    result: findings.some(({ result }) => result === 'FAILED') ? 'FAILED' : 'ok',
    lines: findings.flatMap(({ lines }) => lines),
  };
}

async function checkBroker(broker: BrokerToCheck, options: BrokerCheckOptions): Promise<Finding> {
  const { limitMs, settings } = options;
  const finding = await runCheck(
    limitMs,
    (error) => brokerRemedy(error, settings),
    async (signal) => {
      const connection = await openBroker(broker, options, signal);
      try {
        const blocked = await blockedReason(connection);
        if (blocked !== undefined) return failed(...blockedFinding(blocked));
        const refusals = await missingPermissions(connection, options);
        if (refusals.length > 0) return failed(refusals.join('\n'), grantRemedy(broker, options));
        if (options.queueType === 'quorum') await requireQuorumQueues(connection, options.queue);
        return await checkExchangeAndQueue(connection, broker, options);
      } catch (error) {
        // An operation on a lost connection fails without the reason of the loss.
        throw connection.lost.aborted ? connection.lost.reason : error;
      } finally {
        await connection.close(systemClock);
      }
    },
  );
  const [first = '', ...more] = finding.lines;
  return { ...finding, lines: [`${withoutCredentials(broker.url)}: ${first}`, ...more] };
}

export async function openBroker(
  broker: BrokerToCheck,
  { tls }: Pick<BrokerCheckOptions, 'tls'>,
  signal: AbortSignal,
): Promise<BrokerConnection> {
  const opened = logIn(connect, broker.url, {
    ...tls,
    noDelay: true,
    signal,
    clientProperties: { connection_name: 'fleet-manager-doctor' },
  });
  return new BrokerConnection(await opened, broker);
}

async function checkExchangeAndQueue(
  connection: BrokerConnection,
  { exchange }: BrokerToCheck,
  { queue, settings }: BrokerCheckOptions,
): Promise<Finding> {
  const name = exchange?.rootExchangeName;
  if (name !== undefined) {
    const existing = await undefinedIfMissing(
      connection.probe(async (channel) => channel.checkExchange(name)),
    );
    if (existing === undefined)
      return failed(
        `the exchange ${name} does not exist`,
        `create it on that broker, or check EXCHANGE_ID and ${settings}: without it no request reaches this service`,
      );
  }
  const counts = await undefinedIfMissing(connection.probe(async (channel) => channel.checkQueue(queue)));
  const route = exchange === undefined ? undefined : `${exchange.routingKey}.${queue}`;
  const lines = name === undefined ? [] : [`the exchange ${name} exists`];
  if (counts === undefined) {
    return route === undefined
      ? ok(`the queue ${queue} does not exist yet; the service will create it`)
      : ok(
          ...lines,
          `the queue ${queue} does not exist yet; the service will create it and bind it to the exchange with the routing key ${route}`,
        );
  }
  const { messageCount, consumerCount } = counts;
  lines.push(
    `the queue ${queue} has ${counted(messageCount, 'message')} and ${counted(consumerCount, 'consumer')}`,
  );
  if (route !== undefined) {
    lines.push(
      `not checked, because AMQP has no operation for it: whether the exchange routes ${route} to the queue`,
      '-> check it with --round-trip, or in the output of `rabbitmqctl list_bindings`',
    );
  }
  return ok(...lines);
}

function blockedFinding(reason: string): [reason: string, remedy: string] {
  return [
    `the broker accepts no messages: ${reason}`,
    'free memory or disk space on the broker (`rabbitmqctl status` has its limits), and see its log',
  ];
}

/** How to grant the permissions that docs/operating.md lists. */
function grantRemedy(
  { url, exchange }: BrokerToCheck,
  { queue, gateway, audit = false }: BrokerCheckOptions,
): string {
  const virtualHost = unescape(new URL(url).pathname.slice(1)) || '/';
  const name = queue.replace(/[^\w-]/g, '\\$&');
  const declared = `_suspects|_error${audit ? '|\\.audit' : ''}`;
  const [configure, read] = gateway
    ? [
        `^(${name}(${declared})?|fleet_manager\\.reply\\..*)$`,
        `^(${name}(_suspects)?|fleet_manager\\.reply\\..*)$`,
      ]
    : [`^${name}(${declared})?$`, `^${name}(_suspects)?$`];
  const write = exchange === undefined ? '^amq\\.default$' : `^(amq\\.default|${exchange.rootExchangeName})$`;
  const patterns = [configure, write, read].map((each) => `'${each}'`).join(' ');
  return `grant it: rabbitmqctl set_permissions -p ${virtualHost} ${userOf(url)} ${patterns} (or more)`;
}

/** Waits for the check of an exchange or a queue; undefined when it does not exist. */
async function undefinedIfMissing<T>(check: Promise<T>): Promise<T | undefined> {
  return check.catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
}

/** How to fix an error of a broker: a refused connection or a failed operation. */
export function brokerRemedy(error: unknown, settings: string): string {
  const reason = reasonOf(error);
  // The reason has what to do.
  if (/feature flag/.test(reason)) return 'run doctor again then';
  if (/RESOURCE[_-]LOCKED/.test(reason))
    return 'another connection uses that queue exclusively: check QUEUE_NAME';
  if (/no login mechanism is shared/.test(reason))
    return `give the broker another mechanism (auth_mechanisms), or this side what it needs: for PLAIN a user and a password in ${settings}, for EXTERNAL an amqps:// address with AMQP_CERT_FILE and AMQP_KEY_FILE`;
  if (/ACCESS[_-]REFUSED.*EXTERNAL/is.test(reason))
    return 'check that the broker has a user with the name in the certificate of AMQP_CERT_FILE (see ssl_cert_login_from)';
  if (/ACCESS[_-]REFUSED.*login/is.test(reason)) return `check the user and the password in ${settings}`;
  if (/ACCESS[_-]REFUSED/.test(reason))
    return `check the permissions of the user on the broker, and ${settings}`;
  if (/\bvhost\b/.test(reason))
    return `check the virtual host in ${settings}, and whether the user may use it`;
  if (/certificate|SSL routines|TLS connection/i.test(reason))
    return 'check that the port accepts amqps, and check AMQP_CA_FILE (and AMQP_CERT_FILE if the broker requires it)';
  return `check that a broker runs at that address and can be reached, and check ${settings}`;
}
