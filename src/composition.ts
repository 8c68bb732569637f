import 'reflect-metadata';
import { fileURLToPath } from 'node:url';
import {
  container as root,
  type DependencyContainer,
  type InjectionToken,
  instanceCachingFactory,
} from 'tsyringe';
import { FleetManagerClient } from './client/client.js';
import type { Configuration } from './configuration.js';
import { type NamedClusters, readClustersFile } from './fleet/clusters-file.js';
import { DiscoveryResolver } from './fleet/etcd-resolver.js';
import { FleetHttpTransport } from './fleet/fleet-http-transport.js';
import type { Log } from './logging.js';
import { Codecs } from './messaging/codec/codecs.js';
import { ErlangCodec } from './messaging/codec/erlang.js';
import { jsonCodec } from './messaging/codec/json.js';
import { RequestService } from './messaging/request-service.js';
import { connect as amqpConnect } from './messaging/amqp.js';
import type { BrokerAddress, Connect } from './messaging/session.js';
import { Installation } from './openaperture/installation.js';
import { HostPolicy } from './network/connection-policy.js';
import { HttpClient } from './network/http-client.js';
import { HttpServer } from './operations/http-server.js';
import { Clock, EtcdResolver, FleetTransport, RemoteShell } from './plugin.js';
import type { Catalogue } from './runtime/catalogue.js';
import { Dispatcher } from './runtime/dispatcher.js';
import { loadPlugins } from './runtime/plugin-loader.js';
import { settledWithin } from './settled-within.js';
import { systemClock } from './system-clock.js';
import { SshShell } from './ssh/ssh-shell.js';

/** The plugins that come with the service; the build lays them out as the sources are. */
export const OWN_PLUGINS = fileURLToPath(new URL('../plugins/', import.meta.url));

const tokens = {
  policy: Symbol('ConnectionPolicy') as InjectionToken<HostPolicy>,
  /** To hosts that callers or discovery name: under policy. */
  clusterHttp: Symbol('HttpClient of clusters') as InjectionToken<HttpClient>,
  /** To what the operator has configured. */
  operatorHttp: Symbol('HttpClient of the operator') as InjectionToken<HttpClient>,
  discovery: Symbol('DiscoveryResolver') as InjectionToken<DiscoveryResolver>,
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
   * Drains and stops: takes nothing more, puts back what was not begun, lets what runs end within the grace time,
   * then aborts it.
   * @returns whether everything was answered and acknowledged
   */
  stop(): Promise<boolean>;
}

type Brokers = () => Promise<readonly BrokerAddress[]>;

export interface ServiceOptions {
  configuration: Configuration;
  log: Log;
  clock?: Clock;
  /** How long the import of one plugin may take, in milliseconds. */
  importTimeoutMs?: number;
  /** The broker's addresses and how to connect, when not those of the configuration. */
  broker?: { brokers: Brokers; connect: Connect };
}

/** Binds the parts that actions can ask for, and those they are made of. */
function bind(
  container: DependencyContainer,
  { configuration, log, clock = systemClock }: ServiceOptions,
): void {
  const once = <T>(token: InjectionToken<T>, make: () => T) =>
    container.register(token, { useFactory: instanceCachingFactory(make) });
  const { discoveryUrl, fleetPort, allowedHosts } = configuration;
  container.register(Clock, { useValue: clock });
  once(tokens.policy, () => new HostPolicy(allowedHosts));
  once(tokens.operatorHttp, () => new HttpClient());
  once(tokens.clusterHttp, () => new HttpClient(container.resolve(tokens.policy)));
  once(tokens.discovery, () => {
    const namedClusters = namedClustersOf(configuration);
    const http = container.resolve(tokens.operatorHttp);
    return new DiscoveryResolver({ http, discoveryUrl, fleetPort, namedClusters, clock, log });
  });
  once(tokens.ssh, () => sshShell(configuration, { policy: container.resolve(tokens.policy), clock, log }));
  once(RemoteShell, () => container.resolve(tokens.ssh));
  once(EtcdResolver, () => container.resolve(tokens.discovery));
  once(FleetTransport, () => {
    return new FleetHttpTransport(container.resolve(tokens.clusterHttp), container.resolve(tokens.discovery));
  });
}

/** What connecting to a machine, and then logging in there, may take. */
const SSH_TIMEOUTS = { connectTimeoutMs: 5_000, handshakeTimeoutMs: 8_000 };

function sshShell({ ssh }: Configuration, parts: { policy: HostPolicy; clock: Clock; log: Log }): SshShell {
  try {
    return new SshShell({ ...ssh, ...SSH_TIMEOUTS, ...parts });
  } catch (cause) {
    throw new Error(
      `SSH_KEY_FILE cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

function namedClustersOf({ clusters, fleetPort }: Configuration): NamedClusters {
  if (clusters === undefined) return new Map();
  try {
    return readClustersFile(clusters, fleetPort);
  } catch (cause) {
    throw new Error(
      `CLUSTERS_FILE cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

/** Parts of a service that is not started, for looking whether each of them works: made when they are asked for. */
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

export function partsOf(options: ServiceOptions): Parts {
  const container = root.createChildContainer();
  bind(container, options);
  let installation: Installation | undefined;
  return {
    installation: () => (installation ??= installationOf(options)),
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

function brokersOf({ amqp }: Configuration, installation: Installation | undefined): Brokers {
  return installation?.brokers ?? (async () => (amqp?.urls ?? []).map((url) => ({ url })));
}

/** The actions that a configuration serves, for those who only describe them: nothing is connected. */
export async function describeActions(
  configuration: Configuration,
  { importTimeoutMs }: Pick<ServiceOptions, 'importTimeoutMs'> = {},
): Promise<Catalogue> {
  return loadPlugins({
    ...pluginOptions(configuration),
    resolve: () => undefined,
    clock: systemClock,
    importTimeoutMs,
  });
}

function pluginOptions({ pluginPaths, readOnly, actions, environment }: Configuration) {
  const checkResults = environment !== 'production';
  return { directories: [OWN_PLUGINS, ...pluginPaths], readOnly, only: actions, checkResults };
}

/**
 * Starts the service: plugins first, so that one that cannot be served stops the start before anything is taken.
 * @throws PluginError, or an Error that says what in the configuration cannot be used
 */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { configuration, log, clock = systemClock } = options;
  const container = root.createChildContainer();
  bind(container, options);
  const catalogue = await loadPlugins({
    ...pluginOptions(configuration),
    resolve: (token) => partOf(container, token),
    // An import takes the machine's own time, whatever time the service goes by.
    clock: systemClock,
    importTimeoutMs: options.importTimeoutMs,
  });
  const installation = installationOf(options);
  const { brokers, connect } = options.broker ?? {
    brokers: brokersOf(configuration, installation),
    connect: amqpConnect,
  };
  const logFor = (fields: Record<string, unknown>) => log.with(fields);
  const dispatcher = new Dispatcher({
    ...configuration,
    catalogue,
    clock,
    logFor,
    onUnhandled: installation?.unhandled,
  });
  const requests = new RequestService({
    ...configuration,
    dispatcher,
    codecs: new Codecs([jsonCodec, new ErlangCodec()]),
    connect,
    brokers,
    tls: configuration.amqp?.tls,
    bindings: installation?.bindings,
    onLost: installation?.refresh,
    replies: (flow) => installation?.replies(flow) ?? [],
    name: `fleet-manager ${configuration.hostname}`,
    clock,
    log,
    logFor,
  });
  const gateway = await startGateway(options, { brokers, connect, requests, catalogue });
  requests.start();
  installation?.start({
    publish: requests.publish,
    onPreferred: () => requests.onPreferred,
    running: () => dispatcher.running(),
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
function installationOf({
  configuration,
  log,
  clock = systemClock,
}: ServiceOptions): Installation | undefined {
  const { openaperture, hostname } = configuration;
  return openaperture === undefined ? undefined : new Installation(openaperture, { hostname, clock, log });
}

/** Time for answers that the service has sent to come back to the gateway. */
const ANSWERS_MS = 3_000;
/** Time for the actions to clean up. */
const DISPOSE_MS = 5_000;

interface Gateway {
  url: string;
  /** Takes no more calls. */
  refuse: () => void;
  stop: () => Promise<void>;
}

/** The gateway is a caller like any other: it has a client of its own and goes through the queue. */
async function startGateway(
  { configuration, log, clock = systemClock }: ServiceOptions,
  parts: { brokers: Brokers; connect: Connect; requests: RequestService; catalogue: Catalogue },
): Promise<Gateway | undefined> {
  const { http, queue, amqp, maxMessageBytes } = configuration;
  if (http === undefined) return undefined;
  const { brokers, connect, requests, catalogue } = parts;
  const client = new FleetManagerClient({
    brokers,
    queue,
    connect,
    clock,
    tls: amqp?.tls,
    log: log.with({ part: 'gateway' }),
  });
  const gateway = new HttpServer({
    ...http,
    client,
    describe: () => catalogue.describe(),
    notReady: () => requests.notReady(),
    maxBodyBytes: maxMessageBytes,
    log,
  });
  const stop = async () => {
    // Answers that have been sent may still be on their way through the broker.
    await settledWithin(ANSWERS_MS, clock, gateway.answered());
    // What is still asked is told now, so that the gateway can close.
    await client.close();
    await gateway.stop();
  };
  try {
    return { url: await gateway.start(), refuse: () => gateway.refuse(), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function partOf(container: DependencyContainer, token: symbol): unknown {
  if (!container.isRegistered(token)) throw new Error(`there is no part ${String(token)} in this service`);
  return container.resolve(token);
}
