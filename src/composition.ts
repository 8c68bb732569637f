import 'reflect-metadata';
import { fileURLToPath } from 'node:url';
import {
  container as root,
  type DependencyContainer,
  type InjectionToken,
  instanceCachingFactory,
} from 'tsyringe';
import type { Configuration } from './settings/settings.js';
import { type NamedClusters, readClustersFile } from './clusters/clusters-file.js';
import { Discovery } from './clusters/fleet/discovery.js';
import { FleetHttpTransport } from './clusters/fleet/fleet-http-transport.js';
import type { Log } from './telemetry/log.js';
import { Codecs } from './rpc/codec/codecs.js';
import { ErlangCodec } from './rpc/codec/erlang.js';
import { jsonCodec } from './rpc/codec/json.js';
import { RpcServer } from './rpc/rpc-server.js';
import { connect as amqpConnect } from './rpc/patched-amqplib.js';
import type { BrokerAddress } from './rpc/broker-address.js';
import type { Connect } from './rpc/open-connection.js';
import { Installation } from './openaperture/installation.js';
import { HostPolicy } from './network/connection-policy.js';
import { HttpClient } from './network/http-client.js';
import { Gateway } from './gateway/gateway.js';
import { Clock } from './api/clock.js';
import { EtcdResolver } from './api/etcd-resolver.js';
import { FleetTransport } from './api/fleet-transport.js';
import { RemoteShell } from './api/remote-shell.js';
import type { Catalogue } from './core/catalogue.js';
import { Runner } from './core/runner.js';
import { loadPlugins } from './core/plugin-loader.js';
import { CallEventBus } from './core/call-events.js';
import { logRequests } from './telemetry/request-log.js';
import { WIRE_NAMES } from './rpc/field-names.js';
import { systemClock } from './lib/clock.js';
import { SshShell } from './ssh/ssh-shell.js';
import { reasonOf } from './lib/errors.js';

/** The service's own plugins; the build has the same folders as the sources. */
export const OWN_PLUGINS = fileURLToPath(new URL('../plugins/', import.meta.url));

const tokens = {
  policy: Symbol('ConnectionPolicy') as InjectionToken<HostPolicy>,
  /** To hosts that callers or discovery name: checked against `ALLOWED_HOSTS`. */
  clusterHttp: Symbol('HttpClient of clusters') as InjectionToken<HttpClient>,
  /** To what the operator has configured. */
  operatorHttp: Symbol('HttpClient of the operator') as InjectionToken<HttpClient>,
  discovery: Symbol('Discovery') as InjectionToken<Discovery>,
  ssh: Symbol('SshShell') as InjectionToken<SshShell>,
};

/** A running service. */
export interface Service {
  readonly catalogue: Catalogue;
  /** Where the HTTP gateway listens; undefined without one. */
  readonly httpUrl: string | undefined;
  /** Why it takes no requests right now; empty when it does. */
  notReady(): string[];
  /**
   * Drains and stops: takes nothing more, requeues what has not begun, gives what runs the grace time to end, then
   * stops it.
   * @returns whether everything was answered and acknowledged
   */
  stop(): Promise<boolean>;
}

type Brokers = () => Promise<readonly BrokerAddress[]>;

export interface ServiceOptions {
  configuration: Configuration;
  log: Log;
  clock?: Clock;
  /** How to find clusters, when not as the configuration says. */
  clusters?: Configuration['clusters'];
  /** How to log in to machines, when not as the configuration says. */
  ssh?: Configuration['ssh'];
  /** The broker's addresses and how to connect, when not those of the configuration. */
  broker?: { brokers: Brokers; connect: Connect };
}

/** What the ports are made with. */
interface BoundOptions {
  clusters: Configuration['clusters'];
  ssh: Configuration['ssh'];
  log: Log;
  clock: Clock;
}

/** Binds the ports that actions inject, and the parts that these are made of. */
function bind(container: DependencyContainer, { clusters, ssh, log, clock }: BoundOptions): void {
  const once = <T>(token: InjectionToken<T>, make: () => T) =>
    container.register(token, { useFactory: instanceCachingFactory(make) });
  container.register(Clock, { useValue: clock });
  once(tokens.policy, () => new HostPolicy(clusters.allowedHosts));
  once(tokens.operatorHttp, () => new HttpClient());
  once(tokens.clusterHttp, () => new HttpClient({ policy: container.resolve(tokens.policy) }));
  once(tokens.discovery, () => {
    return new Discovery({
      http: container.resolve(tokens.operatorHttp),
      discoveryUrl: clusters.discoveryUrl,
      fleetPort: clusters.fleetPort,
      namedClusters: namedClustersOf(clusters.file, clusters.fleetPort),
      clock,
      log,
    });
  });
  once(tokens.ssh, () => sshShell(ssh, { policy: container.resolve(tokens.policy), clock, log }));
  once(RemoteShell, () => container.resolve(tokens.ssh));
  once(EtcdResolver, () => container.resolve(tokens.discovery));
  once(FleetTransport, () => {
    return new FleetHttpTransport(container.resolve(tokens.clusterHttp), container.resolve(tokens.discovery));
  });
}

/** What connecting to a machine may take. */
const SSH_CONNECT_MS = 5_000;
/** What logging in there may take, once it is connected. */
const SSH_LOGIN_MS = 8_000;

function sshShell(
  ssh: Configuration['ssh'],
  { policy, clock, log }: { policy: HostPolicy; clock: Clock; log: Log },
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
      clock,
      log,
    });
  } catch (cause) {
    throw new Error(`SSH_KEY_FILE cannot be used: ${reasonOf(cause)}`, { cause });
  }
}

/** @param file the text of the clusters file; undefined: there is none */
function namedClustersOf(file: string | undefined, fleetPort: number): NamedClusters {
  if (file === undefined) return new Map();
  try {
    return readClustersFile(file, fleetPort);
  } catch (cause) {
    throw new Error(`CLUSTERS_FILE cannot be used: ${reasonOf(cause)}`, { cause });
  }
}

/** Parts of a service that is not started, for `doctor` and tests; each is made when it is asked for. */
export interface Parts {
  /** @throws Error that says what in the configuration of the Manager cannot be used */
  installation: () => Installation | undefined;
  /** @throws Error when the clusters file cannot be used */
  resolver: () => EtcdResolver;
  /** @throws Error when the clusters file cannot be used */
  fleet: () => FleetTransport;
  /** @throws Error when the private key cannot be used */
  shell: () => SshShell;
  close: () => Promise<void>;
}

export interface PartsOptions {
  clusters: Configuration['clusters'];
  ssh: Configuration['ssh'];
  /** The installation that the service is a module of; left out: none. */
  openaperture?: Configuration['openaperture'];
  /** The name of this instance in the installation. */
  hostname: string;
  log: Log;
  clock?: Clock;
}

export function partsOf({
  clusters,
  ssh,
  openaperture,
  hostname,
  log,
  clock = systemClock,
}: PartsOptions): Parts {
  const container = root.createChildContainer();
  bind(container, { clusters, ssh, log, clock });
  let installation: Installation | undefined;
  return {
    installation: () => (installation ??= installationOf(openaperture, { hostname, clock, log })),
    resolver: () => container.resolve(tokens.discovery),
    fleet: () => container.resolve(FleetTransport),
    shell: () => container.resolve(tokens.ssh),
    close: async () => {
      await Promise.all(
        [tokens.clusterHttp, tokens.operatorHttp].map(async (token) => container.resolve(token).close()),
      );
      await installation?.manager.close();
    },
  };
}

/** What says which actions are served. */
type ServedSettings = Pick<Configuration, 'plugins' | 'environment'>;

/** The actions that these settings serve, only to be described: nothing is connected. */
export async function describeActions({ plugins, environment }: ServedSettings): Promise<Catalogue> {
  return servedActions({ plugins, environment }, () => undefined);
}

async function servedActions(
  { plugins, environment }: ServedSettings,
  resolve: (token: symbol) => unknown,
): Promise<Catalogue> {
  return loadPlugins({
    directories: [OWN_PLUGINS, ...(plugins.paths ?? [])],
    readOnly: plugins.readOnly,
    only: plugins.only,
    parametersName: WIRE_NAMES.parameters,
    checkResults: environment !== 'production',
    resolve,
    // An import takes real time, also in a service whose clock is a test's.
    clock: systemClock,
  });
}

/**
 * Starts the service. Plugins are loaded first, so that a wrong one ends the start before any request is taken.
 * @throws PluginError, or an Error that says what in the configuration cannot be used
 */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { configuration, log, clock = systemClock } = options;
  const { environment, plugins, amqp, openaperture, rpc, http, hostname } = configuration;
  const { clusters = configuration.clusters, ssh = configuration.ssh } = options;
  const container = root.createChildContainer();
  bind(container, { clusters, ssh, log, clock });
  const catalogue = await servedActions({ plugins, environment }, (token) => partOf(container, token));
  const installation = installationOf(openaperture, { hostname, clock, log });
  const { brokers, connect } = options.broker ?? {
    brokers: installation?.brokers ?? (async () => (amqp?.urls ?? []).map((url) => ({ url }))),
    connect: amqpConnect,
  };
  const logFor = (fields: Record<string, unknown>) => log.with(fields);
  const events = new CallEventBus();
  logRequests(events, logFor);
  installation?.watch(events);
  const runner = new Runner({
    catalogue,
    events,
    // A middleware is one line here.
    middlewares: [],
    names: WIRE_NAMES,
    clock,
    logFor,
    prefetch: rpc.prefetch,
    concurrency: rpc.concurrency,
    clusterConcurrency: rpc.clusterConcurrency,
  });
  const requests = new RpcServer({
    connection: {
      connect,
      brokers,
      tls: amqp?.tls,
      name: `fleet-manager ${hostname}`,
      clock,
      log,
    },
    queue: rpc.queue,
    bindings: installation?.bindings,
    prefetch: rpc.prefetch,
    onLost: installation?.refresh,
    runner,
    events,
    codecs: new Codecs([jsonCodec, new ErlangCodec()]),
    maxMessageBytes: rpc.maxMessageBytes,
    maxReplyBytes: rpc.maxReplyBytes,
    channels: (flow) => installation?.channels(flow) ?? [],
    logFor,
  });
  const gateway =
    http === undefined
      ? undefined
      : await Gateway.start({
          host: http.host,
          port: http.port,
          token: http.token,
          brokers,
          connect,
          queue: rpc.queue,
          tls: amqp?.tls,
          describe: () => catalogue.describe(),
          notReady: () => requests.notReady(),
          maxBodyBytes: rpc.maxMessageBytes,
          clock,
          log,
          clientLog: log.with({ part: 'gateway' }),
        });
  requests.start();
  installation?.start({
    publish: requests.publish,
    onPreferred: () => requests.onPreferred,
    running: () => runner.running(),
  });

  return {
    catalogue,
    httpUrl: gateway?.url,
    notReady: () => requests.notReady(),
    stop: async () => {
      log.info('shutting down', { held: requests.held });
      gateway?.refuse();
      const clean = await requests.drain(configuration.shutdownGraceMs);
      await gateway?.stop();
      await installation?.stop();
      await requests.close();
      await catalogue
        .dispose(DISPOSE_MS, clock)
        .catch((error: unknown) => log.error('actions failed to clean up', { error }));
      await container.resolve(tokens.ssh).close();
      await Promise.all(
        [tokens.clusterHttp, tokens.operatorHttp].map(async (token) => container.resolve(token).close()),
      );
      log.info('shut down', { clean });
      return clean;
    },
  };
}

/** The OpenAperture installation that the service is a module of, when one is configured. */
function installationOf(
  openaperture: Configuration['openaperture'],
  { hostname, clock, log }: { hostname: string; clock: Clock; log: Log },
): Installation | undefined {
  if (openaperture === undefined) return undefined;
  const { managerUrl, oauth, exchangeId, brokerId, moduleType, maxRecordBytes } = openaperture;
  return new Installation(
    { managerUrl, oauth, exchangeId, brokerId, moduleType, maxRecordBytes },
    { hostname, clock, log },
  );
}

/** Time for the actions to clean up. */
const DISPOSE_MS = 5_000;

function partOf(container: DependencyContainer, token: symbol): unknown {
  if (!container.isRegistered(token)) throw new Error(`there is no part ${String(token)} in this service`);
  return container.resolve(token);
}
