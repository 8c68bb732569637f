import { access, constants } from 'node:fs/promises';
import { ActionError } from '../action-error.js';
import { Cluster, CLUSTER_TOKEN } from '../cluster.js';
import { type Parts, partsOf } from '../composition.js';
import {
  type Configuration,
  ConfigurationError,
  type ConfigurationSource,
  readConfiguration,
} from '../configuration.js';
import { Log } from '../logging.js';
import { connect } from '../messaging/amqp.js';
import { withoutCredentials } from '../messaging/session.js';
import { UsageError } from './usage-error.js';

/** What one check found: a sentence for people. A failure is thrown. */
type Check = () => Promise<string>;

const BROKER_TIMEOUT_MS = 10_000;

/**
 * Checks, in order, everything that the service needs, and says in plain words what is wrong and what to do.
 * @returns 0 when all is well, else 1
 */
export async function doctor(
  { cluster }: { cluster?: string },
  source: ConfigurationSource,
): Promise<number> {
  if (cluster !== undefined && !CLUSTER_TOKEN.test(cluster)) {
    throw new UsageError('--cluster must be an etcd token: 1 to 128 of the characters A-Z a-z 0-9 _ -');
  }
  let configuration: Configuration;
  try {
    configuration = readConfiguration(source, { serving: true });
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    for (const problem of error.problems) tell('FAILED', 'configuration', problem);
    return 1;
  }
  tell('ok', 'configuration', modeOf(configuration));
  const parts = partsOf({ configuration, log: Log.create({ level: 'error', format: 'text' }) });
  try {
    let failed = 0;
    for (const [name, check] of checksOf(configuration, parts, cluster)) failed += await done(name, check);
    return failed === 0 ? 0 : 1;
  } finally {
    await parts.close();
  }
}

function modeOf({ amqp, openaperture }: Configuration): string {
  if (openaperture !== undefined) return 'as a module of an OpenAperture installation';
  return amqp === undefined ? 'nothing is set, so the service would be a sandbox' : 'on RabbitMQ alone';
}

function* checksOf(
  configuration: Configuration,
  { installation, brokers, resolver, fleet, shell }: Parts,
  token: string | undefined,
): Generator<[name: string, check: Check]> {
  const { openaperture, queue, discoveryUrl, ssh } = configuration;
  const signal = new AbortController().signal;
  if (installation !== undefined && openaperture !== undefined) {
    yield [
      'Manager',
      async () => {
        const { rootExchangeName, routingKey } = await installation.manager.exchange(
          openaperture.exchangeId,
          { signal },
        );
        return `it gives tokens; exchange ${openaperture.exchangeId} is ${rootExchangeName} with the routing key ${routingKey}`;
      },
    ];
  }
  if (configuration.amqp === undefined && installation === undefined) return;
  yield [
    'broker',
    async () =>
      checkBrokers(
        (await brokers()).map(({ url }) => url),
        queue,
      ),
  ];
  yield [
    'discovery',
    async () => {
      try {
        const endpoints = await resolver.endpoints(new Cluster(token ?? 'fleet-manager-doctor'), { signal });
        return `the cluster has ${endpoints.length} hosts: ${endpoints.map(({ host }) => host).join(', ')}`;
      } catch (error) {
        // That it does not know a token nobody has made is an answer too.
        const answered =
          token === undefined && error instanceof ActionError && error.code === 'cluster_not_found';
        if (!answered) throw error;
        return `${new URL(discoveryUrl).host} answers; name a cluster with --cluster to look for it`;
      }
    },
  ];
  if (token !== undefined) {
    yield [
      'fleet',
      async () => {
        const machines = await fleet.machines(new Cluster(token), { signal });
        return `the fleet API answers: ${machines.length} machines`;
      },
    ];
  }
  yield [
    'SSH key',
    async () => {
      await shell().close();
      if (ssh.privateKey === undefined && ssh.agentSocket === undefined) {
        throw new Error(
          'neither SSH_KEY_FILE nor SSH_AUTH_SOCK is set: unit_logs and node_info cannot log in anywhere',
        );
      }
      return ssh.privateKey === undefined ? 'an ssh-agent is used' : 'the private key can be used';
    },
  ];
  yield ['known_hosts', async () => checkKnownHosts(ssh)];
}

async function checkBrokers(urls: readonly string[], queue: string): Promise<string> {
  const found: string[] = [];
  const failures: string[] = [];
  for (const url of urls) {
    const shown = withoutCredentials(url);
    try {
      found.push(`${shown} has ${await messagesIn(url, queue)}`);
    } catch (error) {
      failures.push(`${shown}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (failures.length === 0) return found.join('; ');
  throw new Error(
    `${failures.join('; ')}. Check that the broker runs there, and the user, password and virtual host`,
  );
}

async function messagesIn(url: string, queue: string): Promise<string> {
  const connection = await connect(url, { timeout: BROKER_TIMEOUT_MS });
  try {
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    return await channel.checkQueue(queue).then(
      ({ messageCount, consumerCount }) =>
        `the queue ${queue}: ${messageCount} messages, ${consumerCount} consumers`,
      () => `no queue ${queue} yet; the service will make it`,
    );
  } finally {
    await connection.close().catch(() => {});
  }
}

async function checkKnownHosts({ hostKeys, knownHostsFile }: Configuration['ssh']): Promise<string> {
  if (hostKeys === 'off')
    throw new Error('SSH_HOST_KEYS is off: anyone can pose as a machine; use strict or accept-new');
  const readable = await access(knownHostsFile, constants.R_OK).then(
    () => true,
    () => false,
  );
  if (readable) return `${knownHostsFile} can be read`;
  if (hostKeys === 'accept-new') return `${knownHostsFile} is not there yet; it will be written`;
  throw new Error(
    `${knownHostsFile} cannot be read, so no machine would be trusted: fill it (ssh-keyscan), or set SSH_KNOWN_HOSTS`,
  );
}

async function done(name: string, check: Check): Promise<number> {
  try {
    tell('ok', name, await check());
    return 0;
  } catch (error) {
    tell('FAILED', name, error instanceof Error ? error.message : String(error));
    return 1;
  }
}

function tell(result: 'ok' | 'FAILED', name: string, what: string): void {
  process.stdout.write(`${result.padEnd(7)} ${name.padEnd(14)} ${what}\n`);
}
