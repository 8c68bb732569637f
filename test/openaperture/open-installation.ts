import { randomUUID } from 'node:crypto';
import { type ChannelModel, connect } from 'amqplib';
import type { ExecutionContext } from 'ava';
import { type ClientOptions, FleetManagerClient } from '../../src/client/client.js';
import { type Service, startService } from '../../src/composition.js';
import { readConfiguration } from '../../src/settings/read-configuration.js';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.js';
import { eventually } from '../support/eventually.js';
import { FastClock } from '../support/fast-clock.js';
import { logLines } from '../support/log-lines.js';
import { type Oversize, StandInManager } from '../support/stand-in-manager.js';
import { queuesOf } from '../../src/rpc/queues.js';

export const EXCHANGE_ID = 7;
export const BROKER_ID = 3;
const FAILOVER_BROKER_ID = 4;
export const ROUTING_KEY = 'root.fragment7';

export interface OpenInstallation {
  manager: StandInManager;
  sandbox: Sandbox;
  queue: string;
  exchange: string;
  env: Record<string, string>;
  client: FleetManagerClient;
}

interface InstallationOptions extends Pick<ClientOptions, 'clock' | 'log'> {
  /** How long the cluster takes to respond. */
  answerMs?: number;
  /** Objects that its brokers lack. */
  without?: 'queue' | 'exchange';
  /** How its Manager handles bodies that are too large. */
  oversize?: Oversize;
}

/** An installation with a broker, and one that replaces it where one is given. */
export async function openInstallation(
  t: ExecutionContext,
  urls: readonly string[],
  { answerMs = 0, without, oversize, ...more }: InstallationOptions = {},
): Promise<OpenInstallation> {
  const manager = await StandInManager.start(t, { oversize });
  const sandbox = await startSandbox({ delays: { answer: answerMs } });
  t.teardown(async () => sandbox.stop());
  const exchange = `exchange_${randomUUID()}`;
  const queue = `queue_${randomUUID()}`;
  const connections = urls.map((url) => [{ host: '127.0.0.1', port: Number(new URL(url).port) }]);
  manager.addExchange(EXCHANGE_ID, { rootExchangeName: exchange, routingKey: ROUTING_KEY });
  manager.addBroker(BROKER_ID, {
    connections: connections[0],
    failoverBrokerId: connections.length > 1 ? FAILOVER_BROKER_ID : null,
  });
  if (connections[1] !== undefined) manager.addBroker(FAILOVER_BROKER_ID, { connections: connections[1] });
  for (const url of urls) await prepareBroker(t, url, { exchange, queue, without });
  const { url: managerUrl, oauthUrl, clientId, clientSecret } = manager;
  const env = {
    MANAGER_URL: managerUrl,
    OAUTH_LOGIN_URL: oauthUrl,
    OAUTH_CLIENT_ID: clientId,
    OAUTH_CLIENT_SECRET: clientSecret,
    EXCHANGE_ID: String(EXCHANGE_ID),
    BROKER_ID: String(BROKER_ID),
    QUEUE_NAME: queue,
    HOSTNAME: 'test-instance',
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/24',
  };
  const client = new FleetManagerClient({
    ...more,
    queue,
    manager: {
      managerUrl,
      oauth: { url: oauthUrl, clientId, clientSecret },
      exchangeId: EXCHANGE_ID,
      brokerId: BROKER_ID,
    },
  });
  t.teardown(async () => client.close());
  return { manager, sandbox, queue, exchange, env, client };
}

/** The service in this process, in which waits pass ten times as fast. */
export async function startFast(
  t: ExecutionContext,
  env: Record<string, string>,
): Promise<{ service: Service; logs: ReturnType<typeof logLines> }> {
  const logs = logLines();
  const configuration = readConfiguration({ env: { HTTP_PORT: 'off', ...env }, directory: '/nonexistent' });
  const service = await startService({ configuration, log: logs.log, clock: new FastClock() });
  let stopped: Promise<boolean> | undefined;
  const stop = async () => (stopped ??= service.stop());
  t.teardown(stop);
  await eventually('it accepts requests', () => service.notReady().length === 0);
  return { service: { ...service, stop }, logs };
}

/** In an installation, exchange, queues and bindings exist beforehand. */
async function prepareBroker(
  t: ExecutionContext,
  url: string,
  {
    exchange,
    queue,
    without,
  }: { exchange: string; queue: string; without: 'queue' | 'exchange' | undefined },
): Promise<void> {
  const on = async (work: (connection: ChannelModel) => Promise<void>) => {
    const connection = await connect(url);
    await work(connection);
    await connection.close();
  };
  await on(async (connection) => {
    if (without === 'exchange') return;
    const channel = await connection.createChannel();
    await channel.assertExchange(exchange, 'topic', { durable: true });
    await channel.assertQueue(`${queue}_error`, { durable: true });
    for (const name of without === 'queue' ? ['system_modules'] : [queue, 'system_modules']) {
      const bound = name === queue ? queue : `${queue}_${name}`;
      const options = { durable: true, deadLetterExchange: '', deadLetterRoutingKey: `${queue}_error` };
      await channel.assertQueue(bound, options);
      await channel.bindQueue(bound, exchange, `${ROUTING_KEY}.${name}`);
    }
  });
  t.teardown(async () =>
    on(async (connection) => {
      const channel = await connection.createChannel();
      for (const name of [...queuesOf(queue), `${queue}_system_modules`]) await channel.deleteQueue(name);
      await channel.deleteExchange(exchange);
    }).catch(() => {}),
  );
}
