import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type * as tsyringe from 'tsyringe';
import type { DependencyContainer, InjectionToken } from 'tsyringe';
import { ConfigurationError } from './settings/configuration-error.js';
import { pluginSettingsFrom } from './settings/plugin-settings.js';
import { memoryShares } from './settings/memory-shares.js';
import type { Configuration, HandlerPluginSettings, PluginConfiguration } from './settings/settings.js';
import type { ReloadablePolicy } from './access/reloadable-policy.js';
import { type ClustersFile, NO_CLUSTERS, readClustersFile } from './clusters/clusters-file.js';
import { Inventory } from './clusters/inventory.js';
import { SystemdTransport } from './clusters/systemd/systemd-transport.js';
import { FleetUnitControl } from './clusters/fleet/fleet-unit-control.js';
import { SystemdUnitControl } from './clusters/systemd/systemd-unit-control.js';
import { FleetOnlyResolver, Transports } from './clusters/transports.js';
import { FleetUnitFiles } from './clusters/fleet/fleet-unit-files.js';
import { SystemdUnitFiles } from './clusters/systemd/systemd-unit-files.js';
import { UnitControls } from './clusters/unit-controls.js';
import { UnitFilesOfClusters } from './clusters/unit-files.js';
import { Discovery } from './clusters/fleet/discovery.js';
import { FleetHttpTransport } from './clusters/fleet/fleet-http-transport.js';
import type { Log } from './telemetry/log.js';
import { requestCodecs } from './rpc/codec/request-codecs.js';
import type { Metrics } from './telemetry/metrics/metrics.js';
import { RpcServer } from './rpc/rpc-server.js';
import { connect as amqpConnect } from './rpc/patched-amqplib.js';
import type { BrokerAddress } from './rpc/broker-address.js';
import type { Connect } from './rpc/open-connection.js';
import type { ClaimStore } from './claims/claim-store.js';
import type { Installation } from './openaperture/installation.js';
import { HostPolicy } from './network/connection-policy.js';
import { HttpClient } from './network/http-client.js';
import type { HttpTokens } from './access/http-tokens.js';
import type { Gateway, GatewayOptions } from './gateway/gateway.js';
import type { MetricsServer } from './gateway/metrics-server.js';
import { Clock } from './api/clock.js';
import { type Cluster, tokenOf } from './api/cluster.js';
import { Clusters } from './api/clusters.js';
import { EtcdResolver } from './api/etcd-resolver.js';
import { FleetTransport } from './api/fleet-transport.js';
import { canonicalHost } from './api/grammar.js';
import { RemoteShell } from './api/remote-shell.js';
import { UnitControl } from './api/unit-control.js';
import { UnitFiles } from './api/unit-files.js';
import type { Catalogue } from './core/catalogue.js';
import type { Isolation } from './core/isolation.js';
import { Runner } from './core/runner.js';
import { type LoaderOptions, loadPlugins, PluginSettingsError } from './core/plugin-loader.js';
import type { PluginWatch } from './core/plugin-watch.js';
import { CallEventBus } from './core/call-events.js';
import { logRequests } from './telemetry/request-log.js';
import { FIELD_NAMES } from './rpc/field-names.js';
import { auditStreamOf } from './rpc/queues.js';
import { systemClock } from './lib/clock.js';
import type { Logger } from './lib/logger.js';
import { settledWithin } from './lib/settled-within.js';
import { watchedByAll, type WatchUpstream } from './lib/upstream.js';
import { workingDirectory } from './lib/working-directory.js';
import { packageVersion } from './lib/package-version.js';
import { SshShell, type SshShellOptions } from './ssh/ssh-shell.js';
import { reasonOf } from './lib/errors.js';
import type { RunningAudit, RunningAuditOptions } from './access/audit/running-audit.js';
import { startWatchdog } from './watchdog/watchdog.js';
import type { Tracing } from './tracing/tracing.js';

const require = createRequire(import.meta.url);
// Not imported: Node would search all files of these CommonJS packages for the names that they export.
require('reflect-metadata/lite');
const { container: root, instanceCachingFactory }: typeof tsyringe = require('tsyringe');

/** The folder of the plugins in this package. It has the same path in the sources and in the build. */
export const OWN_PLUGINS = fileURLToPath(new URL('../plugins/', import.meta.url));

/** The folder of `src` and `plugins`, in the sources or in the build. */
const OWN_FOLDER = dirname(dirname(fileURLToPath(import.meta.url)));

const tokens = {
  policy: Symbol('ConnectionPolicy') as InjectionToken<HostPolicy>,
  /** For hosts that come from callers or from discovery. They are checked against `ALLOWED_HOSTS`. */
  clusterHttp: Symbol('HttpClient of clusters') as InjectionToken<HttpClient>,
  /** For servers that the operator has configured. */
  operatorHttp: Symbol('HttpClient of the operator') as InjectionToken<HttpClient>,
  inventory: Symbol('Inventory') as InjectionToken<Inventory>,
  discovery: Symbol('Discovery') as InjectionToken<Discovery>,
  ssh: Symbol('SshShell') as InjectionToken<SshShell>,
  fleetHttp: Symbol('FleetHttpTransport') as InjectionToken<FleetHttpTransport>,
  systemdControl: Symbol('SystemdUnitControl') as InjectionToken<SystemdUnitControl>,
};

/** A running service. */
export interface Service {
  readonly catalogue: Catalogue;
  /** The URL of the HTTP gateway; undefined without a gateway. */
  readonly httpUrl: string | undefined;
  /** The URL of the metrics; undefined when they are off. */
  readonly metricsUrl: string | undefined;
  /** What it uses besides its broker, as log fields: a number of entries, or `off`. No secret is in it. */
  readonly uses: Readonly<Record<string, string | number>>;
  /** The reasons why it accepts no requests now, or its gateway can send none; empty when neither is the case. */
  notReady(): string[];
  /** Reads again the files that may change while it runs. One that cannot be used is logged, and what was read before stays. */
  reload(): Promise<void>;
  /**
   * Drains and stops: accepts no new requests, requeues the waiting ones, gives running calls the grace time to end, then
   * stops them.
   * @returns whether every request was answered, or requeued before it began; the broker delivers the others again
   */
  stop(): Promise<boolean>;
}

type Brokers = () => Promise<readonly BrokerAddress[]>;

interface BrokerAccess {
  brokers: Brokers;
  connect: Connect;
}

/** How to find clusters. */
export type ClusterSettings = Configuration['clusters'] & {
  /** The clusters of a sandbox, which are named without a file. */
  listed?: ClustersFile;
};

export interface ServiceOptions {
  configuration: Configuration;
  log: Log;
  /** Is told when code of a plugin runs. */
  watch?: PluginWatch;
  clock?: Clock;
  /** How to find clusters; the configuration by default. */
  clusters?: ClusterSettings;
  /** The etcd token of the first cluster of a sandbox. */
  sandboxCluster?: string;
  /** How to log in to machines; the configuration by default. */
  ssh?: Configuration['ssh'];
  /** The addresses of the brokers and how to connect; the configuration by default. */
  broker?: BrokerAccess;
  /** Makes where the handlers of repeated calls run, with the settings of the actions; in this process by default. */
  isolation?: (pluginSettings: HandlerPluginSettings) => Isolation;
  /** Where audit lines go when they go to standard error; that of the process by default. */
  stderr?: NodeJS.WritableStream;
  /** Records traces; undefined: there are none. */
  tracing?: Tracing | undefined;
}

/** The settings and helpers from which the ports are created. */
interface PortOptions {
  clusters: ClusterSettings;
  ssh: Configuration['ssh'];
  log: Log;
  clock: Clock;
  /** Is told of each call to another server; undefined: nobody is. */
  watchUpstream?: WatchUpstream | undefined;
}

/** Registers the ports that actions inject, and their dependencies. */
function registerPorts(
  container: DependencyContainer,
  { clusters, ssh, log, clock, watchUpstream: begin }: PortOptions,
): void {
  const registerOnce = <T>(token: InjectionToken<T>, create: () => T) =>
    container.register(token, { useFactory: instanceCachingFactory(create) });
  container.register(Clock, { useValue: clock });
  registerOnce(tokens.policy, () => new HostPolicy(clusters.allowedHosts));
  registerOnce(tokens.operatorHttp, () => new HttpClient({ watch: begin && { kind: 'discovery', begin } }));
  registerOnce(tokens.clusterHttp, () => {
    const policy = container.resolve(tokens.policy);
    return new HttpClient({ policy, watch: begin && { kind: 'fleet', begin } });
  });
  registerOnce(tokens.inventory, () => inventoryOf(clusters, { clock, log }));
  registerOnce(tokens.discovery, () => {
    return new Discovery({
      http: container.resolve(tokens.operatorHttp),
      discoveryUrl: clusters.discoveryUrl,
      fleetPort: clusters.fleetPort,
      endpointsOf: (token) => container.resolve(tokens.inventory).file.endpoints.get(token),
      clock,
      log,
    });
  });
  registerOnce(tokens.ssh, () =>
    sshShell(ssh, {
      policy: container.resolve(tokens.policy),
      loginOf: (host) => container.resolve(tokens.inventory).file.logins.get(canonicalHost(host)),
      clock,
      log,
      watch: begin,
    }),
  );
  registerOnce(RemoteShell, () => container.resolve(tokens.ssh));
  registerOnce(Clusters, () => container.resolve(tokens.inventory));
  registerOnce(EtcdResolver, () => {
    return new FleetOnlyResolver(container.resolve(tokens.inventory), container.resolve(tokens.discovery));
  });
  const machinesOf = (cluster: Cluster) =>
    container.resolve(tokens.inventory).file.machines.get(tokenOf(cluster)) ?? [];
  registerOnce(tokens.fleetHttp, () => {
    return new FleetHttpTransport({
      http: container.resolve(tokens.clusterHttp),
      resolver: container.resolve(tokens.discovery),
      policy: container.resolve(tokens.policy),
      clock,
      log,
    });
  });
  registerOnce(tokens.systemdControl, () => {
    return new SystemdUnitControl({ shell: container.resolve(tokens.ssh), clock, machinesOf });
  });
  registerOnce(FleetTransport, () => {
    return new Transports({
      inventory: container.resolve(tokens.inventory),
      fleet: container.resolve(tokens.fleetHttp),
      systemd: new SystemdTransport({
        shell: container.resolve(tokens.ssh),
        units: container.resolve(tokens.systemdControl),
        machinesOf,
        clock,
      }),
    });
  });
  registerOnce(UnitFiles, () => {
    return new UnitFilesOfClusters({
      inventory: container.resolve(tokens.inventory),
      fleet: new FleetUnitFiles(container.resolve(tokens.fleetHttp)),
      systemd: new SystemdUnitFiles({ shell: container.resolve(tokens.ssh), machinesOf }),
    });
  });
  registerOnce(UnitControl, () => {
    const shell = container.resolve(tokens.ssh);
    return new UnitControls({
      inventory: container.resolve(tokens.inventory),
      fleet: new FleetUnitControl({ fleet: container.resolve(tokens.fleetHttp), shell, clock }),
      systemd: container.resolve(tokens.systemdControl),
    });
  });
}

/** The time limit for a connection to a machine. */
const SSH_CONNECT_MS = 5_000;
/** The time limit for the login on a machine, after the connection. */
const SSH_LOGIN_MS = 8_000;

function sshShell(
  ssh: Configuration['ssh'],
  {
    policy,
    loginOf,
    clock,
    log,
    watch,
  }: Pick<SshShellOptions, 'policy' | 'loginOf' | 'watch'> & { clock: Clock; log: Log },
): SshShell {
  try {
    return new SshShell({
      user: ssh.user,
      port: ssh.port,
      privateKey: ssh.privateKey,
      passphrase: ssh.passphrase,
      agentSocket: ssh.agentSocket,
      knownHostsFile: ssh.knownHostsFile,
      hostKeys: ssh.hostKeys,
      sudo: ssh.sudo,
      connectTimeoutMs: SSH_CONNECT_MS,
      handshakeTimeoutMs: SSH_LOGIN_MS,
      policy,
      loginOf,
      watch,
      clock,
      log,
    });
  } catch (cause) {
    throw new Error(`SSH_KEY_FILE cannot be used: ${reasonOf(cause)}`, { cause });
  }
}

/**
 * The clusters that `CLUSTERS_FILE` names.
 * @throws ConfigurationError that says why the file cannot be used
 */
export function clustersFileOf({ file, fleetPort }: Configuration['clusters']): ClustersFile {
  if (file === undefined) return NO_CLUSTERS;
  try {
    return readClustersFile(file.text, fleetPort);
  } catch (cause) {
    throw new ConfigurationError([`CLUSTERS_FILE cannot be used: ${reasonOf(cause)}`]);
  }
}

/** @throws ConfigurationError that says why the file cannot be used */
function inventoryOf(
  { file, listed, fleetPort }: ClusterSettings,
  { clock, log }: { clock: Clock; log: Log },
): Inventory {
  try {
    return new Inventory({ path: file?.path, listed, fleetPort, clock, log });
  } catch (cause) {
    throw new ConfigurationError([`CLUSTERS_FILE cannot be used: ${reasonOf(cause)}`]);
  }
}

/** Components of a service that is not started, for `doctor` and tests. Each one is created at its first use. */
export interface Components {
  /** What an action may inject, by its token. @throws Error when there is no such thing, or as the methods below */
  port: (token: symbol) => unknown;
  /** @throws Error that names the invalid setting of the Manager */
  installation: () => Promise<Installation | undefined>;
  /** @throws ConfigurationError when the clusters file cannot be used */
  resolver: () => Discovery;
  /** @throws ConfigurationError when the clusters file cannot be used */
  fleet: () => FleetTransport;
  /** @throws Error when the private key cannot be used */
  shell: () => SshShell;
  /** Undefined: no claim store is configured. It is not started. */
  claims: () => Promise<ClaimStore | undefined>;
  /** Undefined: the gateway has no tokens. @throws ConfigurationError when their file cannot be used */
  httpTokens: () => Promise<HttpTokens | undefined>;
  close: () => Promise<void>;
}

export interface ComponentsOptions {
  clusters: ClusterSettings;
  ssh: Configuration['ssh'];
  /** The OpenAperture installation; undefined: none. */
  openaperture?: Configuration['openaperture'];
  /** The claim store; undefined: none. */
  claims?: Configuration['claims'];
  /** The gateway; undefined: none. */
  http?: Configuration['http'];
  /** The name of this instance in the installation. */
  hostname: string;
  log: Log;
  clock?: Clock;
}

export function componentsOf({
  clusters,
  ssh,
  openaperture,
  claims,
  http,
  hostname,
  log,
  clock = systemClock,
}: ComponentsOptions): Components {
  const container = root.createChildContainer();
  registerPorts(container, { clusters, ssh, log, clock });
  let installation: Installation | undefined;
  let claimStore: ClaimStore | undefined;
  return {
    port: (token) => resolveDependency(container, token),
    installation: async () => (installation ??= await installationOf(openaperture, { hostname, clock, log })),
    resolver: () => container.resolve(tokens.discovery),
    fleet: () => container.resolve(FleetTransport),
    shell: () => container.resolve(tokens.ssh),
    claims: async () => (claimStore ??= await claimStoreOf(claims, { clock, log })),
    httpTokens: async () => httpTokensOf(http, { clock, log }),
    close: async () => {
      await claimStore?.stop();
      await Promise.all(
        [tokens.clusterHttp, tokens.operatorHttp].map(async (token) => container.resolve(token).close()),
      );
      await installation?.manager.close();
    },
  };
}

/** The settings that select the served actions. */
type ServedSettings = Pick<Configuration, 'plugins' | 'environment'>;

/** How the settings of the actions are read; undefined: they are not, as nothing runs. */
type SettingsReading = Pick<LoaderOptions, 'settings'>;

/** The actions that these settings serve, for description only: no connection is opened. */
export async function describeActions({
  plugins,
  environment,
  watchdogSeconds,
  settings,
}: ServedSettings & Pick<Configuration, 'watchdogSeconds'> & SettingsReading): Promise<Catalogue> {
  const watchdog = startWatchdog({ seconds: watchdogSeconds, format: 'text' });
  try {
    return await servedActions(
      { plugins, environment },
      { resolve: () => undefined, watch: watchdog, settings },
    );
  } finally {
    watchdog.stop();
  }
}

/** Why these settings contradict each other; undefined: every action that `ACTIONS` names is served. */
export function problemOfServed(
  catalogue: Catalogue,
  { only = [] }: Configuration['plugins'],
): string | undefined {
  // The plugin loader has refused unknown names, so that only READ_ONLY leaves out any of the others.
  const hidden = only.filter((name) => catalogue.find(name) === undefined);
  if (hidden.length === 0) return undefined;
  const nothing = hidden.length === only.length ? ', so that nothing would be served' : '';
  return `ACTIONS names ${hidden.join(', ')}, which READ_ONLY=true does not serve${nothing}: remove what changes something from ACTIONS, or unset READ_ONLY`;
}

async function servedActions(
  { plugins, environment }: ServedSettings,
  { resolve, watch, settings }: Pick<LoaderOptions, 'resolve' | 'watch' | 'settings'>,
): Promise<Catalogue> {
  const loading = loadPlugins({
    directories: [OWN_PLUGINS, ...(plugins.paths ?? [])],
    packages: plugins.packages,
    // A global installation has its packages beside this one.
    packagesFrom: [workingDirectory(), OWN_FOLDER],
    readOnly: plugins.readOnly,
    only: plugins.only,
    parametersName: FIELD_NAMES.parameters,
    checkResults: environment !== 'production',
    resolve,
    watch,
    settings,
    // The system clock even in tests: an import takes real time.
    clock: systemClock,
  });
  return loading.catch((error: unknown) => {
    throw error instanceof PluginSettingsError ? new ConfigurationError(error.problems) : error;
  });
}

/** The values of the settings of the served actions that have some, for handler processes. */
function valuesOfSettings(catalogue: Catalogue): HandlerPluginSettings {
  const entries = [...catalogue.settings.served.keys()].map(
    (name) => [name, catalogue.find(name)?.settings ?? {}] as const,
  );
  return Object.fromEntries(entries.filter(([, values]) => Object.keys(values).length > 0));
}

/**
 * The problems of the settings of plugins, for a configuration with other problems. Those of plugins that cannot be loaded are left
 * out.
 */
export async function problemsOfPluginSettings(
  configuration: PluginConfiguration,
): Promise<readonly string[]> {
  const { plugins, pluginSettings } = configuration;
  const hasNone =
    plugins.paths === undefined &&
    plugins.packages === undefined &&
    Object.keys(pluginSettings.inFile).length === 0;
  // The service's own have no settings that must be set, and a start that fails should fail soon.
  if (hasNone) return [];
  try {
    const settings = pluginSettingsFrom(pluginSettings);
    return settings((await describeActions(configuration)).settings).problems;
  } catch {
    return [];
  }
}

/** What the actions are opened with, and who is told what runs. */
type OpenOptions = ServedSettings & PortOptions & Pick<LoaderOptions, 'watch'> & SettingsReading;

/** The served actions, with the ports that they inject. */
export interface OpenedActions {
  readonly catalogue: Catalogue;
  readonly inventory: Inventory;
  /** Disposes the actions, then closes the connections to clusters and machines. @param withinMs in milliseconds */
  close: (withinMs: number) => Promise<void>;
}

/**
 * Loads the served actions, for the service or for a process that runs handlers for it.
 * @throws PluginError, or an Error that names the invalid setting
 */
export async function openActions(options: OpenOptions): Promise<OpenedActions> {
  const { log, clock } = options;
  const container = root.createChildContainer();
  registerPorts(container, options);
  // Before the plugins, so that a file that cannot be used is reported once, not for each plugin that needs it.
  container.resolve(tokens.discovery);
  container.resolve(tokens.ssh);
  const inventory = container.resolve(tokens.inventory);
  const catalogue = await servedActions(options, {
    resolve: (token) => resolveDependency(container, token),
    watch: options.watch,
    settings: options.settings,
  });
  inventory.start();
  return {
    catalogue,
    inventory,
    close: async (withinMs) => {
      inventory.stop();
      await catalogue
        .dispose(Math.min(DISPOSE_MS, withinMs - PORTS_MS), clock)
        .catch((error: unknown) => log.error('actions failed to clean up', { error }));
      // After the actions, which may use them to clean up.
      await Promise.all(
        [tokens.ssh, tokens.clusterHttp, tokens.operatorHttp].map(async (token: InjectionToken<Closable>) =>
          container.resolve(token).close(),
        ),
      );
    },
  };
}

/**
 * Starts the service. Plugins are loaded first, so that an invalid plugin stops the start before any request is accepted.
 * @throws PluginError, ConfigurationError with the problems of all files, or an Error that names the invalid setting
 */
export async function startService(options: ServiceOptions): Promise<Service> {
  try {
    return await startedService(options);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    // A file was refused: the others are looked at too, so that nobody has to start once for each.
    const others = await problemsOfFiles(options);
    throw new ConfigurationError([...new Set([...error.problems, ...others])]);
  }
}

async function startedService(options: ServiceOptions): Promise<Service> {
  const { configuration, log, watch, clock = systemClock, tracing } = options;
  const { environment, plugins, amqp, openaperture, rpc, claims, http, hostname } = configuration;
  const { ssh = configuration.ssh } = options;
  const clusters: ClusterSettings = options.clusters ?? configuration.clusters;
  const metrics = await metricsOf(configuration.metrics, { queue: rpc.queue, clock });
  const watchUpstream = watchedByAll(metrics?.watchUpstream, tracing?.watchUpstream);
  const inContextOf = tracing?.inContextOf;
  const policy = await policyOf(configuration.policyFile, { clock, log });
  const httpTokens = await httpTokensOf(http, { clock, log });
  const actions = await openActions({
    clusters,
    ssh,
    plugins,
    environment,
    log,
    watch,
    clock,
    watchUpstream,
    settings: pluginSettingsFrom(configuration.pluginSettings),
  });
  const { catalogue } = actions;
  for (const { variable, meant } of catalogue.undeclared)
    log.warn('unknown plugin setting', { variable, did_you_mean: meant });
  const contradiction = problemOfServed(catalogue, plugins);
  if (contradiction !== undefined) throw new ConfigurationError([contradiction]);
  const installation = await installationOf(openaperture, { hostname, clock, log, watchUpstream });
  const { brokers, connect } = options.broker ?? {
    brokers: installation?.brokers ?? (async () => (amqp?.urls ?? []).map((url) => ({ url }))),
    connect: amqpConnect,
  };
  const isolation = options.isolation?.(valuesOfSettings(catalogue));
  const logFor = (fields: Record<string, unknown>) => log.with(fields);
  const events = new CallEventBus(log);
  // Before the log, so that its lines have the trace.
  tracing?.watch(events, rpc.queue);
  logRequests(events, logFor);
  installation?.watch(events);
  const claimStore = await claimStoreOf(claims, { clock, log, watch: watchUpstream });
  const { inventory } = actions;
  // The broker from which requests are taken, or were taken last: the gateway must use the same one, as several brokers need
  // not be one cluster.
  let served: string | undefined;
  const servedBrokers: Brokers = async () => (served === undefined ? brokers() : [{ url: served }]);
  const audit = await auditOf(configuration, {
    events,
    broker: { connect, brokers: servedBrokers },
    stderr: options.stderr ?? process.stderr,
    version: packageVersion(),
    clock,
    log,
  });
  const runner = new Runner({
    catalogue,
    events,
    // Add a middleware here.
    middlewares: [],
    names: FIELD_NAMES,
    clock,
    logFor,
    maxCalls: rpc.prefetch,
    concurrency: rpc.concurrency,
    clusterConcurrency: rpc.clusterConcurrency,
    isolation,
    claims: claimStore,
    beforeChange: audit?.beforeChange,
    beforeNested: audit?.beforeNested,
    inContextOf,
    policy,
    ...((clusters.file ?? clusters.listed) !== undefined && {
      clusterName: (token: string) => inventory.file.names.get(token),
      clusterToken: (name: string) => inventory.file.tokens.get(name),
    }),
  });
  const memory = memoryShares(rpc.memoryBudgetBytes, { hasGateway: http !== undefined });
  const requests = new RpcServer({
    connection: {
      connect,
      brokers,
      tls: amqp?.tls,
      name: `fleet-manager ${hostname}`,
      onUsed: ({ address }) => {
        metrics?.service.connected();
        if (served === address.url) return;
        served = address.url;
        gateway?.brokersChanged();
        audit?.brokersChanged();
      },
      clock,
      log,
    },
    queue: rpc.queue,
    makes: { type: rpc.queueType, maxPriority: rpc.queueMaxPriority },
    bindings: installation?.bindings,
    prefetch: rpc.prefetch,
    onLost: installation?.refresh,
    runner,
    events,
    codecs: requestCodecs(rpc.maxMessageBytes),
    maxMessageBytes: rpc.maxMessageBytes,
    memoryBudgetBytes: memory.queue,
    maxReplyBytes: rpc.maxReplyBytes,
    channels: (flow) => installation?.channels(flow) ?? [],
    onDelivery: metrics && ((delivery) => metrics.service.delivered(delivery)),
    logFor,
    inContextOf,
  });
  metrics?.observe({
    events,
    actions: catalogue.describe().map(({ name }) => name),
    now: () => ({
      ready: (gateway ?? requests).notReady().length === 0,
      held: requests.held,
      ...requests.broker,
    }),
    depths: async () => requests.depths(),
  });
  const gateway = await gatewayOf(http, {
    brokers: servedBrokers,
    connect,
    queue: rpc.queue,
    tls: amqp?.tls,
    metrics:
      metrics === undefined || configuration.metrics?.port !== 'gateway'
        ? undefined
        : { source: metrics, token: configuration.metrics.token },
    describe: () => catalogue.describe(),
    sandboxCluster: options.sandboxCluster,
    notReady: () => requests.notReady(),
    maxBodyBytes: rpc.maxMessageBytes,
    memoryBytes: memory.gateway,
    traceRequest: tracing?.httpRequest,
    authenticate: httpTokens?.authenticate,
    hostname,
    clock,
    log,
    clientLog: log.with({ component: 'gateway' }),
  });
  if (policy === undefined) log.info('no policy', { allowed: 'every caller may do everything' });
  else log.info('policy loaded', { file: configuration.policyFile, rules: policy.ruleCount });
  // Add a file that may change here.
  const reloads: (() => void | Promise<void>)[] = [
    async () => policy?.reload(),
    () => inventory.reload(),
    () => httpTokens?.reload(),
    async () => audit?.reload(),
  ];
  const metricsServer = await metricsServerOf(configuration.metrics, { metrics, clock, log });
  policy?.start();
  httpTokens?.start();
  audit?.start();
  claimStore?.start();
  requests.start();
  installation?.start({
    publish: requests.publish,
    onPreferred: () => requests.onPreferred,
    running: () => runner.running(),
  });

  return {
    catalogue,
    uses: {
      policy_rules: policy?.ruleCount ?? 'off',
      named_clusters: (clusters.file ?? clusters.listed) === undefined ? 'off' : inventory.file.count,
      http_tokens: httpTokens?.count ?? 'off',
      audit: configuration.audit?.target ?? 'off',
      claims: claimStore === undefined ? 'off' : 'on',
    },
    httpUrl: gateway?.url,
    metricsUrl: metricsServer?.url ?? (configuration.metrics && gateway && `${gateway.url}/metrics`),
    notReady: () => (gateway ?? requests).notReady(),
    reload: async () => void (await Promise.all(reloads.map(async (reload) => reload()))),
    stop: async () => {
      log.info('shutting down', { held: requests.held });
      policy?.stop();
      httpTokens?.stop();
      gateway?.refuse();
      const graceEnds = clock.now() + configuration.shutdownGraceMs;
      const clean = await requests.drain(configuration.shutdownGraceMs);
      const leftMs = Math.max(MIN_CLOSE_MS, graceEnds + AFTER_GRACE_MS - clock.now());
      // At the same time: each may take its full time while the broker or a machine does not respond.
      const closed = Promise.all([
        gateway?.stop(Math.max(0, graceEnds - clock.now())),
        (async () => {
          await installation?.stop();
          await requests.close();
        })(),
        metricsServer?.stop(),
        // Every request has ended.
        audit?.close(leftMs - PORTS_MS),
        actions.close(leftMs),
        (async () => {
          await isolation?.close(Math.min(DISPOSE_MS, leftMs));
          // Only now: a change that ignores its end runs there until then, and the store keeps its units locked.
          await claimStore?.stop();
        })(),
      ]);
      const closeMs = tracing === undefined ? leftMs : leftMs - MIN_FLUSH_MS;
      if (await settledWithin(closeMs, clock, closed)) await closed;
      await tracing?.stop(Math.max(MIN_FLUSH_MS, graceEnds + AFTER_GRACE_MS - clock.now()));
      log.info('shut down', { clean });
      return clean;
    },
  };
}

// What is not configured is not loaded.

/** The OpenAperture installation; undefined when none is configured. */
async function installationOf(
  openaperture: Configuration['openaperture'],
  {
    hostname,
    clock,
    log,
    watchUpstream,
  }: { hostname: string; clock: Clock; log: Log; watchUpstream?: WatchUpstream | undefined },
): Promise<Installation | undefined> {
  if (openaperture === undefined) return undefined;
  const { Installation } = await import('./openaperture/installation.js');
  const { managerUrl, oauth, exchangeId, brokerId, moduleType, maxRecordBytes } = openaperture;
  return new Installation(
    { managerUrl, oauth, exchangeId, brokerId, moduleType, maxRecordBytes },
    { hostname, clock, log, watchUpstream },
  );
}

/**
 * Which callers may do what; undefined: there is no policy, and every caller may do everything.
 * @throws ConfigurationError
 */
export async function policyOf(
  file: string | undefined,
  { clock, log }: { clock: Clock; log: Logger },
): Promise<ReloadablePolicy | undefined> {
  if (file === undefined) return undefined;
  const { ReloadablePolicy } = await import('./access/reloadable-policy.js');
  try {
    return new ReloadablePolicy({ file, clock, log });
  } catch (cause) {
    throw new ConfigurationError([`POLICY_FILE cannot be used: ${reasonOf(cause)}`]);
  }
}

/**
 * The tokens of the HTTP gateway's callers; undefined when it has none.
 * @throws ConfigurationError
 */
async function httpTokensOf(
  http: Configuration['http'],
  { clock, log }: { clock: Clock; log: Log },
): Promise<HttpTokens | undefined> {
  const { token, tokensFile: file } = http ?? {};
  if (token === undefined && file === undefined) return undefined;
  const { HttpTokens } = await import('./access/http-tokens.js');
  try {
    return new HttpTokens({ token, file, clock, log });
  } catch (cause) {
    throw new ConfigurationError([`HTTP_TOKENS_FILE cannot be used: ${reasonOf(cause)}`]);
  }
}

/** Where the settings are that name files, and may be replaced, as in `ServiceOptions`. */
type FileSettings = Pick<ServiceOptions, 'clusters' | 'ssh' | 'log'> & {
  configuration: Pick<Configuration, 'policyFile' | 'http' | 'clusters' | 'ssh'>;
};

/** What is wrong with the content of the files that settings name. */
export async function problemsOfFiles({
  configuration: { policyFile, http, ...configured },
  clusters = configured.clusters,
  ssh = configured.ssh,
  log,
}: FileSettings): Promise<string[]> {
  const problems: string[] = [];
  const options = { clock: systemClock, log };
  const policy = new HostPolicy(clusters.allowedHosts);
  for (const read of [
    async () => policyOf(policyFile, options),
    async () => httpTokensOf(http, options),
    () => clustersFileOf(clusters),
    async () =>
      ssh.privateKey &&
      sshShell(ssh, { policy, loginOf: () => undefined, watch: undefined, ...options }).close(),
  ]) {
    try {
      await read();
    } catch (error) {
      problems.push(...(error instanceof ConfigurationError ? error.problems : [reasonOf(error)]));
    }
  }
  return problems;
}

/** The HTTP gateway, which is started; undefined when it is off. */
async function gatewayOf(
  http: Configuration['http'],
  options: Omit<GatewayOptions, 'host' | 'port' | 'token'>,
): Promise<Gateway | undefined> {
  if (http === undefined) return undefined;
  const { Gateway } = await import('./gateway/gateway.js');
  return Gateway.start({ ...http, ...options });
}

/** The store of claims; undefined when none is configured. It is not started. */
async function claimStoreOf(
  claims: Configuration['claims'],
  { clock, log, watch }: { clock: Clock; log: Log; watch?: WatchUpstream | undefined },
): Promise<ClaimStore | undefined> {
  if (claims === undefined) return undefined;
  const { ClaimStore } = await import('./claims/claim-store.js');
  return new ClaimStore({ ...claims, clock, log, watch });
}

/** The metrics; undefined when they are off. */
async function metricsOf(
  settings: Configuration['metrics'],
  { queue, clock }: { queue: string; clock: Clock },
): Promise<Metrics | undefined> {
  if (settings === undefined) return undefined;
  const { Metrics } = await import('./telemetry/metrics/metrics.js');
  return new Metrics({ version: packageVersion(), queue, clock });
}

/** The server of the metrics, which is started; undefined when they are off, or on the port of the gateway. */
async function metricsServerOf(
  settings: Configuration['metrics'],
  { metrics, clock, log }: { metrics: Metrics | undefined; clock: Clock; log: Log },
): Promise<(Pick<MetricsServer, 'stop'> & { url: string }) | undefined> {
  if (settings === undefined || metrics === undefined || settings.port === 'gateway') return undefined;
  const { MetricsServer } = await import('./gateway/metrics-server.js');
  const { host, port, token } = settings;
  const server = new MetricsServer({ host, port, token, metrics, clock, log });
  return { url: await server.start(), stop: async () => server.stop() };
}

/**
 * The audit, which is not started; undefined when nothing is audited.
 * @throws ConfigurationError when its file cannot be used
 */
async function auditOf(
  { audit, rpc, amqp, hostname }: Pick<Configuration, 'audit' | 'rpc' | 'amqp' | 'hostname'>,
  { broker, ...options }: Omit<RunningAuditOptions, 'stream' | 'worker'> & { broker: BrokerAccess; log: Log },
): Promise<RunningAudit | undefined> {
  if (audit === undefined) return undefined;
  const { RunningAudit } = await import('./access/audit/running-audit.js');
  const { clock, log } = options;
  const stream = async () => {
    const { StreamWriter } = await import('./rpc/stream-writer.js');
    return new StreamWriter({
      connection: {
        ...broker,
        tls: amqp?.tls,
        name: `fleet-manager ${hostname} audit`,
        clock,
        log: log.with({ component: 'audit' }),
      },
      stream: auditStreamOf(rpc.queue),
      maxAgeDays: audit.streamDays,
    });
  };
  try {
    return await RunningAudit.open(audit, { ...options, stream, worker: hostname });
  } catch (cause) {
    throw new ConfigurationError([`AUDIT cannot be used: ${reasonOf(cause)}`]);
  }
}

interface Closable {
  close(): Promise<void>;
}

/**
 * How long a stop may take after the grace time, in milliseconds. Operators are promised that the process ends within 5 s: the
 * rest is for its log (`FLUSH_MS` in `commands/main.ts`) and for a busy machine.
 */
const AFTER_GRACE_MS = 4_000;
/** The time limit for the actions to clean up, in milliseconds. */
const DISPOSE_MS = 3_000;
/** What is kept for the connections to clusters and machines, which are closed after that, in milliseconds. */
const PORTS_MS = 500;
/** What everything before leaves for all that is closed, in milliseconds, unless the process itself was stopped meanwhile. */
const MIN_CLOSE_MS = 1_000;
/** What is kept for sending the traces, after all else is closed, in milliseconds. */
const MIN_FLUSH_MS = 500;

function resolveDependency(container: DependencyContainer, token: symbol): unknown {
  if (!container.isRegistered(token)) throw new Error(`the service has no dependency ${String(token)}`);
  return container.resolve(token);
}
