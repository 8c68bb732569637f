import { CLUSTER_TOKEN } from '../api/cluster.js';
import { canonicalHost } from '../api/grammar.js';
import { RemoteShell } from '../api/remote-shell.js';
import { clustersFileOf, type Components, componentsOf } from '../composition.js';
import type { Catalogue } from '../core/catalogue.js';
import { systemClock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { printableLines } from '../lib/printable.js';
import type { Installation } from '../openaperture/installation.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { isSandbox } from '../settings/is-sandbox.js';
import type { Configuration, PluginConfiguration } from '../settings/settings.js';
import { Log } from '../telemetry/log.js';
import { checkAudit } from './check-audit.js';
import { type BrokerCheckOptions, type BrokerToCheck, checkBrokers } from './check-brokers.js';
import { checkCallers } from './check-callers.js';
import { checkClaims } from './check-claims.js';
import { checkClock, type TimeServer } from './check-clock.js';
import { checkClustersFile, needingDiscovery } from './check-clusters-file.js';
import { checkDiscovery, checkFleet, type HostLookup } from './check-cluster.js';
import { checkHttpTokens } from './check-http-tokens.js';
import { checkMachines, type MachineCheckOptions } from './check-machines.js';
import { checkManager } from './check-manager.js';
import { checkPlugins } from './check-plugins.js';
import { checkPolicy } from './check-policy.js';
import { checkRoundTrip } from './check-round-trip.js';
import { checkKnownHosts, checkLogin } from './check-ssh.js';
import { checkSurveys } from './check-surveys.js';
import { checkDisk, checkEnvironment } from './check-surroundings.js';
import { failed, type Finding, formatFinding, ok, runCheck, shortened, skipped, warned } from './finding.js';
import { firstRead } from './first-read.js';
import { readServedConfiguration } from './read-served-configuration.js';
import { printUnchanged } from './output.js';
import { terminalOf } from './table/terminal.js';
import { UsageError } from './usage-error.js';
import { withoutNewHosts } from './without-new-hosts.js';

export interface DoctorOptions {
  /** An etcd token, or a cluster's name in `CLUSTERS_FILE`. */
  cluster?: string;
  /** The cluster when none is named; not for a sandbox, which has its own. */
  standardCluster?: string;
  /** Whether to make one request through the Manager too, as OpenAperture's callers do. */
  roundTrip?: boolean;
  /** The time limit of each check, in milliseconds; 10 s by default. */
  limitMs?: number;
  /** The time limit for the reply of the round trip, in milliseconds; 30 s by default, as OpenAperture's callers use. */
  replyMs?: number;
  /** Whether to print one JSON array of `{ check, result, lines }` instead, at the end. */
  json?: boolean;
  /** Standard output by default. */
  print?: (text: string) => void;
}

type ClustersFile = ReturnType<typeof clustersFileOf>;
type NamedFinding = [name: string, finding: Finding];

type CheckOptions = Required<Omit<DoctorOptions, 'cluster' | 'standardCluster' | 'json' | 'print'>> &
  Pick<DoctorOptions, 'cluster' | 'standardCluster'>;

/**
 * Checks everything that the service needs, in order, and prints what is wrong and how to fix it. It changes nothing and
 * publishes nothing that reaches anybody; it logs in to the machines of a named cluster. Only the round trip makes one request.
 * @returns the exit code: 0 when no check has failed, else 1
 */
export async function doctor(options: DoctorOptions, source: ConfigurationSource): Promise<number> {
  const {
    cluster,
    standardCluster,
    roundTrip = false,
    limitMs = 10_000,
    replyMs = 30_000,
    json = false,
  } = options;
  const { print = printUnchanged } = options;
  const { colours } = terminalOf(process.stdout, source.env);
  const wrong = [cluster, standardCluster].find((each) => each !== undefined && !CLUSTER_TOKEN.test(each));
  if (wrong !== undefined) {
    throw new UsageError(
      '--cluster must be an etcd token, or a name in CLUSTERS_FILE: 1 to 128 of the characters A-Z a-z 0-9 _ -',
    );
  }
  let code = 0;
  const findings: (Finding & { check: string })[] = [];
  for await (const [check, found] of checkAll(source, {
    cluster,
    standardCluster,
    roundTrip,
    limitMs,
    replyMs,
  })) {
    const finding = shortened(found);
    if (json) findings.push({ check, ...finding });
    else print(formatFinding(check, finding, { colours }));
    if (finding.result === 'FAILED') code = 1;
  }
  if (json) print(printableLines(`${JSON.stringify(findings, null, 2)}\n`));
  return code;
}

async function* checkAll(source: ConfigurationSource, options: CheckOptions): AsyncGenerator<NamedFinding> {
  let configuration: Configuration;
  try {
    configuration = await readServedConfiguration(source);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    yield ['configuration', { result: 'FAILED', lines: error.problems }];
    yield ['the rest', skipped('not checked: it depends on the configuration')];
    return;
  }
  if (isSandbox(configuration)) {
    yield* checkSandbox(configuration, options);
    return;
  }
  const environment = checkEnvironment(source.env);
  if (environment !== undefined) yield ['environment', environment];
  const { clusters, ssh, openaperture, claims, http, hostname } = configuration;
  const log = Log.create({ level: 'error', format: 'text' });
  const components = componentsOf({ clusters, ssh, openaperture, claims, http, hostname, log });
  try {
    const { cluster = options.standardCluster } = options;
    yield* checkService(configuration, components, { ...options, cluster });
  } finally {
    await components.close();
  }
}

async function* checkSandbox(
  { policyFile, ...plugins }: PluginConfiguration & Pick<Configuration, 'policyFile'>,
  { cluster, roundTrip }: Pick<CheckOptions, 'cluster' | 'roundTrip'>,
): AsyncGenerator<NamedFinding> {
  yield ['configuration', ok('no broker is configured, so the service runs as a sandbox')];
  const { finding, catalogue } = await checkPlugins(plugins);
  yield ['plugins', finding];
  if (policyFile !== undefined)
    yield ['policy', await checkPolicy(policyFile, { catalogue, clusterNames: undefined })];
  const remedy = 'set AMQP_URL (or MANAGER_URL and the settings it requires) for real clusters';
  yield cluster === undefined
    ? ['the rest', skipped(`nothing to check: a sandbox contains all it needs; ${remedy}`)]
    : ['cluster', failed('--cluster names a real cluster, and a sandbox has none', remedy)];
  if (roundTrip) yield ['round trip', NO_INSTALLATION];
}

async function* checkService(
  configuration: Configuration,
  components: Components,
  options: CheckOptions,
): AsyncGenerator<NamedFinding> {
  const { openaperture, amqp, amqpManagementUrl } = configuration;
  const { rpc, clusters, claims, http, audit } = configuration;
  const { queue } = rpc;
  const problems: string[] = [];
  const unlessInvalid = async <T>(create: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await create();
    } catch (error) {
      problems.push(...(error instanceof ConfigurationError ? error.problems : [reasonOf(error)]));
      return undefined;
    }
  };
  const installation = await unlessInvalid(components.installation);
  const clustersFile = await unlessInvalid(() => clustersFileOf(clusters));
  const resolver = clustersFile && (await unlessInvalid(components.resolver));
  const tokens = await unlessInvalid(components.httpTokens);
  const mode =
    openaperture === undefined ? 'on RabbitMQ alone' : 'as a module of an OpenAperture installation';
  yield ['configuration', problems.length === 0 ? ok(mode) : { result: 'FAILED', lines: problems }];
  const { finding, catalogue } = await checkPlugins(configuration);
  yield ['plugins', finding];
  const clusterNames = clustersFile?.names;
  yield ['policy', await checkPolicy(configuration.policyFile, { catalogue, clusterNames })];
  const gateway = http !== undefined;
  const brokers = yield* checkManagerAndBrokers(
    {
      openaperture,
      amqp,
      amqpManagementUrl,
      queue,
      queueType: rpc.queueType,
      gateway,
      audit: audit?.target === 'stream',
    },
    installation,
    options,
  );
  if (tokens !== undefined && http?.tokensFile !== undefined)
    yield ['HTTP tokens', checkHttpTokens(tokens.ofFile(), systemClock.wallTime())];
  if (options.roundTrip)
    yield [
      'round trip',
      await roundTripFinding({ openaperture, queue }, { installation, brokers, catalogue }, options),
    ];
  const store = await components.claims();
  if (store !== undefined && claims !== undefined)
    yield ['claims', await checkClaims(store, claims.urls, options.limitMs)];
  if (audit !== undefined)
    yield [
      'audit',
      await checkAudit(audit.target, amqp === undefined ? brokers : amqp.urls.map((url) => ({ url })), {
        queue,
        tls: amqp?.tls,
        settings: openaperture === undefined ? 'AMQP_URL' : brokerSettingsIn(openaperture),
        limitMs: options.limitMs,
      }),
    ];
  const { cluster = '' } = options;
  if (configuration.sandboxCluster) {
    yield ['cluster', simulatedCluster(cluster)];
    return;
  }
  if (clusters.file !== undefined && clustersFile !== undefined)
    yield ['clusters', checkClustersFile(clustersFile, cluster === '')];
  const { responds, machines } = yield* checkClusters(
    clusters,
    {
      resolver,
      fleet: components.fleet,
      file: clustersFile,
      onlyNamed:
        clusters.file !== undefined &&
        clustersFile !== undefined &&
        needingDiscovery(clustersFile).length === 0,
    },
    { ...options, cluster: clustersFile?.tokens.get(cluster) ?? options.cluster },
  );
  yield* checkSsh(
    configuration,
    { catalogue, shell: components.shell, machines, file: clustersFile },
    options,
  );
  const servers: TimeServer[] = [
    ...(responds ? [{ name: 'the discovery service', url: clusters.discoveryUrl }] : []),
    ...(brokers.length > 0 && openaperture !== undefined
      ? [{ name: 'the Manager', url: openaperture.managerUrl }]
      : []),
  ];
  yield ['clock', await checkClock(servers, { clock: systemClock, limitMs: options.limitMs })];
}

/** @param cluster empty: none is named */
function simulatedCluster(cluster: string): Finding {
  const remedy = 'unset SANDBOX_CLUSTER for real clusters';
  return cluster === ''
    ? warned([`the service has only a simulated cluster: SANDBOX_CLUSTER is true`, `-> ${remedy}`])
    : failed('--cluster names a real cluster, and with SANDBOX_CLUSTER there is none', remedy);
}

type BrokerSettings = Pick<Configuration, 'openaperture' | 'amqp' | 'amqpManagementUrl'> &
  Pick<BrokerCheckOptions, 'queue' | 'queueType' | 'gateway' | 'audit'>;

/**
 * @param installation undefined: there is none, or its settings are invalid
 * @returns the brokers of the installation; empty when there is none or they are not known
 */
async function* checkManagerAndBrokers(
  { openaperture, amqp, amqpManagementUrl: managementUrl, queue, queueType, gateway, audit }: BrokerSettings,
  installation: Installation | undefined,
  { limitMs }: Pick<CheckOptions, 'limitMs'>,
): AsyncGenerator<NamedFinding, readonly BrokerToCheck[]> {
  const options = { queue, queueType, gateway, audit, tls: amqp?.tls, limitMs };
  if (openaperture === undefined) {
    const brokers = (amqp?.urls ?? []).map((url) => ({ url }));
    yield ['broker', await checkBrokers(brokers, { ...options, settings: 'AMQP_URL' })];
    yield ['callers', await checkCallers(brokers, { ...options, inInstallation: false, managementUrl })];
    return [];
  }
  const { finding, brokers } =
    installation === undefined
      ? { finding: skipped('not checked: its settings are invalid'), brokers: [] }
      : await checkManager(installation, openaperture, limitMs);
  yield ['Manager', finding];
  const settings = brokerSettingsIn(openaperture);
  yield [
    'broker',
    brokers.length === 0
      ? skipped('not checked: the Manager gives no brokers')
      : await checkBrokers(brokers, { ...options, settings }),
  ];
  if (brokers.length > 0)
    yield ['callers', await checkCallers(brokers, { ...options, inInstallation: true, managementUrl })];
  return brokers;
}

function brokerSettingsIn({
  brokerId,
}: Pick<NonNullable<Configuration['openaperture']>, 'brokerId'>): string {
  return `the connections of broker ${brokerId} in the Manager`;
}

const NO_INSTALLATION = skipped(
  'not checked: it needs the Manager of an OpenAperture installation; without one, use `fleet-manager call`',
);

async function roundTripFinding(
  { openaperture, queue }: Pick<BrokerSettings, 'openaperture' | 'queue'>,
  found: {
    installation: Installation | undefined;
    brokers: readonly BrokerToCheck[];
    catalogue: Catalogue | undefined;
  },
  { cluster, limitMs, replyMs }: CheckOptions,
): Promise<Finding> {
  if (openaperture === undefined) return NO_INSTALLATION;
  const { installation, brokers, catalogue } = found;
  if (installation === undefined) return skipped('not checked: the settings of the Manager are invalid');
  if (brokers.length === 0) return skipped('not checked: the Manager gives no brokers');
  if (catalogue === undefined) return skipped('not checked: the plugins cannot be served');
  const action = firstRead(catalogue.describe());
  if (action === undefined)
    return skipped(
      'not checked: no served action only reads a cluster and requires no parameters; see ACTIONS',
    );
  return checkRoundTrip({
    manager: installation.manager,
    brokers,
    queue,
    settings: brokerSettingsIn(openaperture),
    action: action.name,
    cluster,
    limitMs,
    replyMs,
    clock: systemClock,
  });
}

const NOT_NEEDED =
  'the clusters of CLUSTERS_FILE need no discovery, but no request with the etcd token of another cluster can be served:';

/**
 * @param components the resolver is undefined when CLUSTERS_FILE is invalid; `file`: what that says; `onlyNamed`: there is such a file, and none of its clusters needs discovery
 * @returns whether discovery responds, and the addresses of the cluster's machines; undefined: they are not known
 */
async function* checkClusters(
  { discoveryUrl, fleetPort }: Configuration['clusters'],
  {
    resolver,
    fleet,
    file,
    onlyNamed,
  }: {
    resolver: HostLookup | undefined;
    fleet: Components['fleet'];
    file: ClustersFile | undefined;
    onlyNamed: boolean;
  },
  { cluster, limitMs }: Pick<CheckOptions, 'cluster' | 'limitMs'>,
): AsyncGenerator<NamedFinding, { responds: boolean; machines: readonly string[] | undefined }> {
  const hosts = file?.machines.get(cluster ?? '')?.map(({ host }) => host);
  const isUnusable = cluster !== undefined && file?.unusable.has(cluster) === true;
  if (hosts !== undefined || isUnusable) {
    const reason = isUnusable
      ? 'the entry of this cluster in CLUSTERS_FILE cannot be used'
      : 'the cluster is one of plain systemd hosts';
    yield ['discovery', skipped(`not checked: ${reason}`)];
    yield ['fleet', skipped(`not checked: ${reason}`)];
    return { responds: false, machines: hosts };
  }
  const discovery =
    resolver === undefined
      ? skipped('not checked: CLUSTERS_FILE cannot be used')
      : await checkDiscovery(resolver, cluster, { discoveryUrl, limitMs });
  const isNeeded = cluster !== undefined || !onlyNamed || discovery.result !== 'FAILED';
  yield ['discovery', isNeeded ? discovery : warned([NOT_NEEDED, ...discovery.lines])];
  const responds = discovery.result === 'ok' || discovery.result === 'warning';
  if (cluster === undefined) return { responds, machines: undefined };
  if (!responds) {
    yield ['fleet', skipped('not checked: the hosts of the cluster are not known')];
    return { responds, machines: undefined };
  }
  const { finding, machines } = await checkFleet(fleet, cluster, { fleetPort, limitMs });
  yield ['fleet', finding];
  return { responds, machines };
}

/** @param found the catalogue is undefined when the plugins cannot be served */
async function* checkSsh(
  configuration: Configuration,
  found: {
    catalogue: Catalogue | undefined;
    shell: Components['shell'];
    machines: readonly string[] | undefined;
    file: ClustersFile | undefined;
  },
  { cluster, limitMs }: Pick<CheckOptions, 'cluster' | 'limitMs'>,
): AsyncGenerator<NamedFinding> {
  const { privateKey, agentSocket, hostKeys, knownHostsFile, port } = configuration.ssh;
  const { catalogue, shell, machines, file } = found;
  const loginOf = (address: string) => file?.logins.get(canonicalHost(address));
  const actions = catalogue?.injecting(RemoteShell) ?? [];
  if (actions.length === 0 && privateKey === undefined && agentSocket === undefined) {
    const reason =
      catalogue === undefined
        ? 'it is not known whether an action needs one: the plugins cannot be served'
        : 'no served action logs in to machines';
    yield ['SSH key', skipped(`none is set, and ${reason}`)];
    return;
  }
  const useKey = async () => shell().close();
  const key = await runCheck(
    limitMs,
    () => 'check SSH_AUTH_SOCK',
    async (signal) => checkLogin({ privateKey, agentSocket }, { actions, useKey }, signal),
  );
  yield ['SSH key', key];
  yield [
    'known_hosts',
    await checkKnownHosts(
      { hostKeys, knownHostsFile, port },
      machines,
      (address) => loginOf(address)?.port ?? port,
    ),
  ];
  const disk =
    hostKeys === 'accept-new' && knownHostsFile !== undefined ? await checkDisk(knownHostsFile) : undefined;
  if (disk !== undefined) yield ['disk', disk];
  if (cluster === undefined) return;
  yield ['machines', await machinesFinding(configuration, { key, machines, loginOf }, limitMs)];
  if (file?.machines.has(cluster) === true)
    yield [
      'units',
      await unitsFinding(configuration, { key, cluster, hosts: machines?.length ?? 0 }, limitMs),
    ];
}

async function unitsFinding(
  { clusters, ssh, hostname }: Configuration,
  { key, cluster, hosts }: { key: Finding; cluster: string; hosts: number },
  limitMs: number,
): Promise<Finding> {
  if (key.result !== 'ok') return skipped('not checked: there is no usable SSH key');
  const log = Log.create({ level: 'error', format: 'text' });
  return withoutNewHosts(ssh, async (unchanged) => {
    const components = componentsOf({ clusters, ssh: unchanged, hostname, log });
    try {
      return await checkSurveys(components.fleet(), cluster, { hosts, limitMs });
    } finally {
      await components.shell().close();
      await components.close();
    }
  });
}

async function machinesFinding(
  { clusters, ssh, hostname }: Configuration,
  {
    key,
    machines,
    loginOf,
  }: Pick<MachineCheckOptions, 'loginOf'> & { key: Finding; machines: readonly string[] | undefined },
  limitMs: number,
): Promise<Finding> {
  if (key.result !== 'ok') return skipped('not checked: there is no usable SSH key');
  if (machines === undefined) return skipped('not checked: the machines of the cluster are not known');
  if (machines.length === 0) return skipped('not checked: fleet lists no machine with an address');
  const log = Log.create({ level: 'error', format: 'text' });
  return withoutNewHosts(ssh, async (unchanged) => {
    const components = componentsOf({ clusters, ssh: unchanged, hostname, log });
    const shell = components.shell();
    try {
      return await checkMachines(machines, { shell, settings: ssh, loginOf, clock: systemClock, limitMs });
    } finally {
      await shell.close();
      await components.close();
    }
  });
}
