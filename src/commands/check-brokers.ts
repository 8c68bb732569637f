import { connect as amqpConnect } from '../rpc/patched-amqplib.js';
import { brokerLogin } from '../rpc/broker-address.js';
import type { Connect } from '../rpc/open-connection.js';
import { BrokerConnection } from '../rpc/broker-connection.js';
import { withoutCredentials } from '../rpc/broker-address.js';
import { reasonOf } from '../lib/errors.js';
import { isNotFound } from '../rpc/queues.js';
import { systemClock } from '../lib/clock.js';
import { counted, failed, type Finding, ok, within } from './finding.js';

/** A broker to check. */
export interface BrokerToCheck {
  /** With credentials. */
  url: string;
  /** The exchange to which callers publish, in an OpenAperture installation. */
  exchange?: { rootExchangeName: string; routingKey: string };
}

export interface BrokerCheckOptions {
  queue: string;
  /** Certificates for amqps, PEM. */
  tls: { ca?: Buffer; cert?: Buffer; key?: Buffer } | undefined;
  /** Names the setting that contains the addresses and credentials, for the remedy. */
  settings: string;
  /** The time limit for each broker, in milliseconds. */
  limitMs: number;
}

const connect: Connect = amqpConnect;

/** Whether each of the brokers accepts this service, and has the exchange and the queue. Nothing is created or sent. */
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
  const finding = await within(
    limitMs,
    (error) => brokerRemedy(error, settings),
    async (signal) => {
      const live = await openBroker(broker, options, signal);
      try {
        return await lookAt(live, broker, options);
      } catch (error) {
        // A request on a connection that gets lost fails without the reason of the loss.
        throw live.lost.aborted ? live.lost.reason : error;
      } finally {
        await live.close(systemClock);
      }
    },
  );
  const [first = '', ...more] = finding.lines;
  return { ...finding, lines: [`${withoutCredentials(broker.url)}: ${first}`, ...more] };
}

/** Connects to a broker. */
export async function openBroker(
  broker: BrokerToCheck,
  { tls }: Pick<BrokerCheckOptions, 'tls'>,
  signal: AbortSignal,
): Promise<BrokerConnection> {
  const login = { ...tls, ...brokerLogin(broker.url), noDelay: true, signal };
  return new BrokerConnection(await connect(broker.url, login), broker);
}

async function lookAt(
  live: BrokerConnection,
  { exchange }: BrokerToCheck,
  { queue, settings }: BrokerCheckOptions,
): Promise<Finding> {
  const name = exchange?.rootExchangeName;
  if (name !== undefined) {
    const there = await unlessMissing(live.probe(async (channel) => channel.checkExchange(name)));
    if (there === undefined)
      return failed(
        `there is no exchange ${name}`,
        `make it there, or check EXCHANGE_ID and ${settings}: nothing that is sent to this service arrives`,
      );
  }
  const counts = await unlessMissing(live.probe(async (channel) => channel.checkQueue(queue)));
  const route = exchange === undefined ? undefined : `${exchange.routingKey}.${queue}`;
  const lines = name === undefined ? [] : [`there is the exchange ${name}`];
  if (counts === undefined) {
    return route === undefined
      ? ok(`there is no queue ${queue} yet; the service will make it`)
      : ok(
          ...lines,
          `there is no queue ${queue} yet; the service will make it and bind it to the exchange by ${route}`,
        );
  }
  const { messageCount, consumerCount } = counts;
  lines.push(
    `the queue ${queue} has ${counted(messageCount, 'message')} and ${counted(consumerCount, 'consumer')}`,
  );
  if (route !== undefined) {
    lines.push(
      `not checked, because AMQP cannot show it: whether the exchange routes ${route} to the queue`,
      '-> try it with --round-trip, or look for it in what `rabbitmqctl list_bindings` prints',
    );
  }
  return ok(...lines);
}

/** The broker's answer; undefined when it has no such thing. */
async function unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  return answer.catch((error: unknown) => {
    if (isNotFound(error)) return undefined;
    throw error;
  });
}

/** What to do when a broker refuses the connection, or a request on it. */
export function brokerRemedy(error: unknown, settings: string): string {
  const reason = reasonOf(error);
  if (/RESOURCE[_-]LOCKED/.test(reason))
    return 'another connection has exclusive use of that queue: check QUEUE_NAME';
  if (/ACCESS[_-]REFUSED.*login/is.test(reason)) return `check the user and the password in ${settings}`;
  if (/ACCESS[_-]REFUSED/.test(reason)) return `check what the user may do there, and ${settings}`;
  // amqplib's message when the broker refuses the virtual host.
  if (/ConnectionOpenOk/.test(reason))
    return `check the virtual host in ${settings}, and whether the user may use it`;
  if (/certificate|SSL routines|TLS connection/i.test(reason))
    return 'check that the port is one for amqps, AMQP_CA_FILE, and AMQP_CERT_FILE where the broker asks for one';
  return `check that a broker runs there and can be reached, and ${settings}`;
}
