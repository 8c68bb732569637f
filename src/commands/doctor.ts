import { ActionError } from '../api/action-error.js';
import { Cluster, CLUSTER_TOKEN } from '../api/cluster.js';
import { describeActions, type Parts, partsOf } from '../composition.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { isSandbox } from '../settings/is-sandbox.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { Configuration } from '../settings/settings.js';
import { Log } from '../telemetry/log.js';
import { reasonOf } from '../lib/errors.js';
import { rankedAddresses } from '../openaperture/broker-addresses.js';
import type { Installation } from '../openaperture/installation.js';
import { findBroker, findExchange } from '../openaperture/manager-lookups.js';
import type { EtcdResolver } from '../api/etcd-resolver.js';
import { RemoteShell } from '../api/remote-shell.js';
import type { Catalogue } from '../core/catalogue.js';
import { UnknownActionError } from '../core/plugin-loader.js';
import { type BrokerToCheck, checkBrokers } from './check-brokers.js';
import { checkRoundTrip } from './check-round-trip.js';
import { checkKnownHosts, checkLogin } from './check-ssh.js';
import { firstRead } from './first-read.js';
import { counted, failed, type Finding, listed, ok, shownFinding, skipped, within } from './finding.js';
import { systemClock } from '../lib/clock.js';
import { UsageError } from './usage-error.js';

export interface DoctorOptions {
  /** An etcd token, or a cluster's name in `CLUSTERS_FILE`. */
  cluster?: string;
  /** Whether to make one request through the Manager too, as OpenAperture's callers do. */
  roundTrip?: boolean;
  /** How long each check may take; 10 s by default. */
  limitMs?: number;
  /** How long to wait for the reply of the round trip; 30 s by default, as OpenAperture's callers do. */
  answerMs?: number;
  /** Standard output by default. */
  print?: (text: string) => void;
}

type Checked = [name: string, finding: Finding];

type Asked = Required<Omit<DoctorOptions, 'cluster' | 'print'>> & Pick<DoctorOptions, 'cluster'>;

/**
 * Checks everything that the service needs, in order, and says what is wrong and what to do. Changes nothing, sends nothing
 * to a queue and logs in nowhere, except for the one request of a round trip, when that is wanted.
 * @returns 0 when nothing has failed, else 1
 */
export async function doctor(options: DoctorOptions, source: ConfigurationSource): Promise<number> {
  const { cluster, roundTrip = false, limitMs = 10_000, answerMs = 30_000 } = options;
  const { print = (text) => process.stdout.write(text) } = options;
  if (cluster !== undefined && !CLUSTER_TOKEN.test(cluster)) {
    throw new UsageError('--cluster must be an etcd token: 1 to 128 of the characters A-Z a-z 0-9 _ -');
  }
  let code = 0;
  for await (const [name, finding] of findings(source, { cluster, roundTrip, limitMs, answerMs })) {
    print(shownFinding(name, finding));
    if (finding.result === 'FAILED') code = 1;
  }
  return code;
}

async function* findings(source: ConfigurationSource, asked: Asked): AsyncGenerator<Checked> {
  const { cluster: token, roundTrip } = asked;
  let configuration: Configuration;
  try {
    configuration = readConfiguration(source, { serving: true });
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    yield ['configuration', { result: 'FAILED', lines: error.problems }];
    yield ['the rest', skipped('not checked: it depends on the configuration')];
    return;
  }
  const { environment, plugins, clusters, ssh, openaperture, hostname } = configuration;
  if (isSandbox(configuration)) {
    yield ['configuration', ok('nothing is set, so the service would be a sandbox')];
    yield ['plugins', (await checkPlugins({ plugins, environment })).finding];
    const real = 'set AMQP_URL (or MANAGER_URL and what goes with it) for real clusters';
    yield token === undefined
      ? ['the rest', skipped(`nothing to check: a sandbox has all it needs; ${real}`)]
      : ['cluster', failed('--cluster looks for a real cluster, and a sandbox has none', real)];
    if (roundTrip) yield ['round trip', NO_INSTALLATION];
    return;
  }
  const log = Log.create({ level: 'error', format: 'text' });
  const parts = partsOf({ clusters, ssh, openaperture, hostname, log });
  try {
    yield* findingsOf(configuration, parts, asked);
  } finally {
    await parts.close();
  }
}

async function* findingsOf(
  configuration: Configuration,
  parts: Parts,
  asked: Asked,
): AsyncGenerator<Checked> {
  const { cluster: token, limitMs } = asked;
  const { environment, plugins, openaperture, amqp, rpc, clusters, ssh } = configuration;
  const { queue } = rpc;
  const problems: string[] = [];
  const usable = <T>(part: () => T): T | undefined => {
    try {
      return part();
    } catch (error) {
      problems.push(reasonOf(error));
      return undefined;
    }
  };
  const installation = usable(parts.installation);
  const resolver = usable(parts.resolver);
  const mode =
    openaperture === undefined ? 'on RabbitMQ alone' : 'as a module of an OpenAperture installation';
  yield ['configuration', problems.length === 0 ? ok(mode) : { result: 'FAILED', lines: problems }];
  const { finding, catalogue } = await checkPlugins({ plugins, environment });
  yield ['plugins', finding];
  const brokers = yield* brokerFindings({ openaperture, amqp, queue }, installation, limitMs);
  if (asked.roundTrip)
    yield [
      'round trip',
      await roundTripFinding({ openaperture, queue }, { installation, brokers, catalogue }, asked),
    ];
  const machines = yield* clusterFindings(clusters, { resolver, fleet: parts.fleet, token, limitMs });
  const actions = catalogue?.injecting(RemoteShell) ?? [];
  const { privateKey, passphrase, agentSocket, hostKeys, knownHostsFile, port } = ssh;
  if (actions.length === 0 && privateKey === undefined && agentSocket === undefined) {
    yield ['SSH key', skipped(`none is set, and ${catalogue === undefined ? UNKNOWN_ACTIONS : NO_LOGIN}`)];
    return;
  }
  const useKey = async () => parts.shell().close();
  const login = async (signal: AbortSignal) =>
    checkLogin({ privateKey, passphrase, agentSocket }, { actions, useKey }, signal);
  yield ['SSH key', await within(limitMs, () => 'check SSH_AUTH_SOCK', login)];
  yield ['known_hosts', await checkKnownHosts({ hostKeys, knownHostsFile, port }, machines)];
}

const UNKNOWN_ACTIONS = 'whether an action needs one is not known: the plugins cannot be served';
const NO_LOGIN = 'no served action logs in to machines';

/**
 * Whether the plugins can be served. Their import has its own time limit.
 * @returns also the actions that are served; undefined where the plugins cannot be
 */
async function checkPlugins({
  plugins,
  environment,
}: Pick<Configuration, 'plugins' | 'environment'>): Promise<{
  finding: Finding;
  catalogue: Catalogue | undefined;
}> {
  try {
    const catalogue = await describeActions({ plugins, environment });
    const actions = catalogue.describe().map(({ name }) => name);
    return { finding: ok(`${counted(actions.length, 'action')}: ${listed(actions)}`), catalogue };
  } catch (error) {
    const remedy = error instanceof UnknownActionError ? 'check ACTIONS, and PLUGIN_PATHS' : undefined;
    return { finding: failed(reasonOf(error), remedy), catalogue: undefined };
  }
}

type OfInstallation = NonNullable<Configuration['openaperture']>;

type OfBrokers = Pick<Configuration, 'openaperture' | 'amqp'> & { queue: string };

/**
 * @param installation undefined: none, or one with unusable settings
 * @returns the brokers that the Manager gives
 */
async function* brokerFindings(
  { openaperture, amqp, queue }: OfBrokers,
  installation: Installation | undefined,
  limitMs: number,
): AsyncGenerator<Checked, readonly BrokerToCheck[]> {
  const options = { queue, tls: amqp?.tls, limitMs };
  if (openaperture === undefined) {
    const brokers = (amqp?.urls ?? []).map((url) => ({ url }));
    yield ['broker', await checkBrokers(brokers, { ...options, settings: 'AMQP_URL' })];
    return [];
  }
  let brokers: BrokerToCheck[] = [];
  if (installation === undefined) yield ['Manager', skipped('not checked: its settings cannot be used')];
  else {
    const ask = async (signal: AbortSignal) => {
      const found = await askManager(installation, openaperture, signal);
      brokers = found.brokers;
      return found.finding;
    };
    yield ['Manager', await within(limitMs, managerRemedy, ask)];
  }
  const settings = whereBrokersAre(openaperture.brokerId);
  yield [
    'broker',
    brokers.length === 0
      ? skipped('not checked: the Manager gives no brokers')
      : await checkBrokers(brokers, { ...options, settings }),
  ];
  return brokers;
}

function whereBrokersAre(brokerId: OfInstallation['brokerId']): string {
  return `the connections of broker ${brokerId} in the Manager`;
}

const NO_INSTALLATION = skipped(
  'not made: it goes through the Manager of an OpenAperture installation; without one, try `fleet-manager call`',
);

async function roundTripFinding(
  { openaperture, queue }: Pick<OfBrokers, 'openaperture' | 'queue'>,
  found: {
    installation: Installation | undefined;
    brokers: readonly BrokerToCheck[];
    catalogue: Catalogue | undefined;
  },
  { cluster, limitMs, answerMs }: Asked,
): Promise<Finding> {
  if (openaperture === undefined) return NO_INSTALLATION;
  const { installation, brokers, catalogue } = found;
  if (installation === undefined) return skipped('not made: the settings of the Manager cannot be used');
  if (brokers.length === 0) return skipped('not made: the Manager gives no brokers');
  if (catalogue === undefined) return skipped('not made: the plugins cannot be served');
  const probe = firstRead(catalogue.describe());
  if (probe === undefined)
    return skipped('not made: no served action only reads a cluster and needs no parameters; see ACTIONS');
  const { manager } = installation;
  const settings = whereBrokersAre(openaperture.brokerId);
  return checkRoundTrip({
    manager,
    brokers,
    queue,
    settings,
    action: probe.name,
    cluster,
    limitMs,
    answerMs,
    clock: systemClock,
  });
}

/**
 * @param parts the resolver undefined: it cannot be used
 * @returns the addresses of the cluster's machines; undefined: they are not known
 */
async function* clusterFindings(
  { discoveryUrl, fleetPort }: Configuration['clusters'],
  parts: {
    resolver: EtcdResolver | undefined;
    fleet: Parts['fleet'];
    token: string | undefined;
    limitMs: number;
  },
): AsyncGenerator<Checked, string[] | undefined> {
  const { resolver, fleet, token, limitMs } = parts;
  let found = skipped('not checked: CLUSTERS_FILE cannot be used');
  if (resolver !== undefined) {
    const look = async (signal: AbortSignal) => checkDiscovery(resolver, token, discoveryUrl, signal);
    found = await within(limitMs, (error) => discoveryRemedy(error, discoveryUrl), look);
  }
  yield ['discovery', found];
  if (token === undefined) return undefined;
  if (found.result !== 'ok') {
    yield ['fleet', skipped('not checked: the hosts of the cluster are not known')];
    return undefined;
  }
  let addresses: string[] | undefined;
  const ask = async (signal: AbortSignal) => {
    const machines = await fleet().machines(new Cluster(token), { signal });
    addresses = [...new Set(machines.flatMap(({ primaryIP }) => primaryIP ?? []))];
    return ok(`the fleet API answers: the cluster has ${counted(machines.length, 'machine')}`);
  };
  yield ['fleet', await within(limitMs, (error) => fleetRemedy(error, fleetPort), ask)];
  return addresses;
}

async function askManager(
  { manager }: Installation,
  { exchangeId, brokerId }: Pick<OfInstallation, 'exchangeId' | 'brokerId'>,
  signal: AbortSignal,
): Promise<{ finding: Finding; brokers: BrokerToCheck[] }> {
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
    // When the Manager cannot be reached, both have the same reason.
    return { finding: { result: 'FAILED', lines: [...new Set(problems)] }, brokers };
  }
  const gaps = [exchange, broker].flatMap((each) => (each.status === 'fulfilled' ? each.value.gaps : []));
  const finding = ok(
    `it takes our token; exchange ${exchangeId} is ${found?.own.rootExchangeName} with the routing key ${found?.own.routingKey}`,
    `broker ${brokerId} and its failover have ${counted(addresses.length, 'connection')}`,
    ...gaps.map((gap) => `but ${gap}`),
  );
  return { finding, brokers };
}

function managerRemedy(): string {
  return 'check that the OAuth server (OAUTH_LOGIN_URL) and the Manager (MANAGER_URL) are up and not slow';
}

async function checkDiscovery(
  resolver: EtcdResolver,
  token: string | undefined,
  discoveryUrl: string,
  signal: AbortSignal,
): Promise<Finding> {
  try {
    const endpoints = await resolver.endpoints(new Cluster(token ?? 'fleet-manager-doctor'), { signal });
    return ok(
      `the cluster has ${counted(endpoints.length, 'host')}: ${listed(endpoints.map(({ host }) => host))}`,
    );
  } catch (error) {
    // The answer that it knows no such token is an answer, too.
    const answered = token === undefined && codeOf(error) === 'cluster_not_found';
    if (!answered) throw error;
    return ok(`${new URL(discoveryUrl).host} answers; name a cluster with --cluster to look for it`);
  }
}

function discoveryRemedy(error: unknown, discoveryUrl: string): string {
  const { host } = new URL(discoveryUrl);
  switch (codeOf(error)) {
    case 'cluster_not_found':
      return `check the token, and that ETCD_DISCOVERY_URL (${host}) is where it was made; or name the cluster in CLUSTERS_FILE`;
    case 'cluster_empty':
      return 'check the token, and that the machines use it; or name the cluster in CLUSTERS_FILE';
    default:
      return `check ETCD_DISCOVERY_URL (${host}), and that it can be reached from here`;
  }
}

function fleetRemedy(error: unknown, fleetPort: number): string {
  if (codeOf(error) === 'forbidden') return 'add the hosts of the cluster to ALLOWED_HOSTS';
  return `check FLEET_API_PORT (${fleetPort}), and that fleet's API listens there and can be reached from here`;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof ActionError ? error.code : undefined;
}
