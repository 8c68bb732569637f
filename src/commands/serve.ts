import { extname } from 'node:path';
import { type ConfigurationSource, configurationFile } from '../settings/given-settings.js';
import { isSandbox } from '../settings/is-sandbox.js';
import type { Configuration, HandlerPluginSettings } from '../settings/settings.js';
import { type ClusterSettings, type Service, type ServiceOptions, startService } from '../composition.js';
import { Log } from '../telemetry/log.js';
import { ProcessOutput } from '../telemetry/process-output.js';
import type { Catalogue } from '../core/catalogue.js';
import { startWatchdog, type Watchdog } from '../watchdog/watchdog.js';
import { ForkedIsolation } from '../isolation/forked-isolation.js';
import { systemClock } from '../lib/clock.js';
import { packageVersion } from '../lib/package-version.js';
import type { Supervision } from '../systemd/supervision.js';
import { startTracing } from '../tracing/start-tracing.js';
import type { Machine } from '../api/fleet-transport.js';
import type { Sandbox } from '../sandbox/sandbox.js';
import { firstRead } from './first-read.js';
import type { NodeWarnings } from './node-warnings.js';
import { readServedConfiguration } from './read-served-configuration.js';

/** The program of a process that runs handlers. It has the extension of this file: that of the sources, or of the build. */
const ISOLATED_HANDLERS = new URL(`../isolated-handlers${extname(import.meta.url)}`, import.meta.url);

/**
 * Runs the service until SIGTERM or SIGINT. At SIGHUP it reads its files again; a sandbox stops.
 * @param warnings logged from now on
 * @returns the exit code
 */
export async function serve(
  source: ConfigurationSource,
  warnings: NodeWarnings | undefined,
): Promise<number> {
  const configuration = await readServedConfiguration(source);
  const output = new ProcessOutput();
  const log = Log.create({ ...configuration.log, stream: output.logOutput });
  output.logOutput.reportDropped((lines) => log.error('log lines dropped', { lines }));
  warnings?.reportTo((warning) => log.warn('Node.js warning', { warning }));
  // Code of a plugin already runs while it is loaded.
  output.captureTo(log);
  // It watches until the process has ended: what a plugin leaves behind may still block it.
  const watchdog = startWatchdog({
    seconds: configuration.watchdogSeconds,
    format: configuration.log.format,
  });
  try {
    const tracing = await startTracing({ hostname: configuration.hostname, clock: systemClock, log });
    const file = configurationFile(source);
    const supervision = await supervisionOf(source, log);
    const started = { configuration, log, watchdog, tracing, configurationFile: file };
    return await run(started, output, supervision);
  } finally {
    watchdog.exitExpected();
    output.release();
  }
}

type Started = Pick<ServiceOptions, 'configuration' | 'log' | 'tracing'> & {
  watchdog: Watchdog;
  /** The path of the configuration file; undefined: all settings come from the environment. */
  configurationFile: string | undefined;
};

async function run(
  started: Started,
  output: ProcessOutput,
  supervision: Supervision | undefined,
): Promise<number> {
  const { configuration, log, watchdog } = started;
  // Before the start: without a listener a signal would end the process without its `exit` handlers.
  const inSandbox = isSandbox(configuration);
  const stopRequested = listenForStopSignals(
    inSandbox ? [...STOP_SIGNALS, CLOSED_TERMINAL] : STOP_SIGNALS,
    watchdog,
  );
  const reloadRequested = inSandbox ? undefined : listenForReload();
  const uncaught = untilUncaughtError(log).then(() => true);
  const { service, stop } = await (inSandbox
    ? startInSandbox(started, output)
    : configuration.sandboxCluster
      ? startOnSandboxCluster(started, output)
      : start(started, output, configuration));
  log.info('service started', {
    version: packageVersion(),
    node: process.version,
    environment: configuration.environment,
    configuration: started.configurationFile ?? 'environment variables',
    actions: service.catalogue.describe().map(({ name }) => name),
    ...(service.catalogue.packages.length > 0 && { packages: service.catalogue.packages }),
    ...(service.httpUrl !== undefined && { http: service.httpUrl }),
    ...(service.metricsUrl !== undefined && { metrics: service.metricsUrl }),
    ...service.uses,
  });
  supervision?.started(() => service.notReady());
  const reload = () => service.reload();
  reloadRequested?.(supervision === undefined ? reload : () => supervision.reloading(reload));
  const failed = await Promise.race([stopRequested().then(() => false), uncaught]);
  supervision?.stopping();
  await stop();
  // Requests that could not be answered are in the queue again, so nothing is lost.
  return failed ? 1 : 0;
}

/** What systemd is told; undefined when it did not start this process as a service that notifies it. */
async function supervisionOf(
  { env }: Pick<ConfigurationSource, 'env'>,
  log: Log,
): Promise<Supervision | undefined> {
  if (!env.NOTIFY_SOCKET) return undefined;
  const { supervise } = await import('../systemd/supervision.js');
  return supervise(env, { pid: process.pid, clock: systemClock, log });
}

interface Running {
  service: Service;
  stop: () => Promise<boolean>;
}

/** @param how it finds clusters and logs in to their machines */
async function start(
  { configuration, log, watchdog, tracing }: Started,
  output: ProcessOutput,
  { clusters, ssh }: { clusters: ClusterSettings; ssh: Configuration['ssh'] },
): Promise<Running> {
  const { environment, plugins, rpc, watchdogSeconds, hostname } = configuration;
  const isolation = (pluginSettings: HandlerPluginSettings) =>
    new ForkedIsolation({
      module: ISOLATED_HANDLERS,
      settings: {
        environment,
        plugins,
        pluginSettings,
        clusters,
        ssh,
        log: configuration.log,
        maxReplyBytes: rpc.maxReplyBytes,
        watchdogSeconds,
        hostname,
      },
      clock: systemClock,
      log,
      onLine: (line) => output.logOutput.write(`${line}\n`),
      activeTrace: tracing?.activeTrace,
    });
  const service = await startService({
    configuration,
    clusters,
    ssh,
    log,
    watch: watchdog,
    isolation,
    tracing,
    stderr: output.logOutput,
  });
  return { service, stop: () => service.stop() };
}

/** Starts the service with the broker of the settings and simulated clusters. */
async function startOnSandboxCluster(started: Started, output: ProcessOutput): Promise<Running> {
  const [{ startSandbox }, { clusterSettings, sshSettings }] = await Promise.all([
    import('../sandbox/sandbox.js'),
    import('../sandbox/sandbox-settings.js'),
  ]);
  const sandbox = await startSandbox({ ssh: true });
  try {
    const { service, stop } = await start(started, output, {
      clusters: clusterSettings(sandbox),
      ssh: sshSettings(sandbox) ?? started.configuration.ssh,
    });
    started.log.warn('sandbox cluster started', {
      etcd_token: sandbox.token,
      because: 'SANDBOX_CLUSTER is true',
    });
    return {
      service,
      stop: async () => {
        const clean = await stop();
        await sandbox.stop();
        return clean;
      },
    };
  } catch (error) {
    await sandbox.stop();
    throw error;
  }
}

/** Starts the service with a broker in this process and simulated clusters. */
async function startInSandbox(
  { configuration, log, watchdog, tracing }: Started,
  output: ProcessOutput,
): Promise<Running> {
  // Imported only here: a configured service does not need the sandbox.
  const [{ startSandbox }, { clusterSettings, sshSettings }, { EmbeddedBroker }] = await Promise.all([
    import('../sandbox/sandbox.js'),
    import('../sandbox/sandbox-settings.js'),
    import('../sandbox/embedded-broker.js'),
  ]);
  const sandbox = await startSandbox({ ssh: true });
  const broker = {
    brokers: async () => [{ url: 'amqp://fleet-manager@embedded.invalid' }],
    connect: new EmbeddedBroker().connect,
  };
  const { token } = sandbox;
  try {
    const service = await startService({
      configuration,
      clusters: clusterSettings(sandbox),
      sandboxCluster: token,
      ssh: sshSettings(sandbox),
      log,
      watch: watchdog,
      broker,
      stderr: output.logOutput,
      tracing,
    });
    const { httpUrl, catalogue } = service;
    // A sandbox always has a gateway; the check of the settings refuses one without.
    if (httpUrl !== undefined) {
      const secured = configuration.http?.token !== undefined || configuration.http?.tokensFile !== undefined;
      const call = firstCall(httpUrl, catalogue, { token, secured });
      if (configuration.log.format === 'json') log.info('sandbox started', { first_call: call });
      else output.print(introduction(service, { sandbox, httpUrl, call }));
    }
    const stop = async () => {
      const clean = await service.stop();
      await sandbox.stop();
      return clean;
    };
    return { service, stop };
  } catch (error) {
    await sandbox.stop();
    throw error;
  }
}

function introduction(
  { catalogue }: Service,
  { sandbox, httpUrl, call }: { sandbox: Sandbox; httpUrl: string; call: string },
): string {
  const { token, fleetPort, discoveryUrl, systemd, ssh } = sandbox;
  const reachable = (machines: readonly Machine[] = []) =>
    machines
      .flatMap(({ primaryIP }) => (ssh?.hosts ?? []).find((host) => host === primaryIP) ?? [])
      .join(', ');
  return [
    '',
    'SANDBOX: no broker is configured, so these are simulated clusters with a broker inside this process.',
    'It connects to no real machine, and all its data is lost when it stops. Set AMQP_URL to serve real clusters.',
    '',
    `  actions     ${catalogue
      .describe()
      .map(({ name }) => name)
      .join(', ')}`,
    `  cluster     etcd_token "${token}", fleet API at http://127.0.0.1:${fleetPort}`,
    `  machines    ${reachable(sandbox.cluster.machines)}, reachable by SSH`,
    `  discovery   ${discoveryUrl}`,
    `  systemd     etcd_token "${systemd?.name}": ${reachable(systemd?.machines) || 'no machines'}, plain systemd hosts, by SSH`,
    `  gateway     ${httpUrl}`,
    '',
    'Make a first call, from another terminal:',
    '',
    `  ${call}`,
    '',
    '',
  ].join('\n');
}

/** A shell command that calls an action without parameters, or lists the actions when every action needs parameters. */
function firstCall(
  httpUrl: string,
  catalogue: Catalogue,
  { token, secured }: { token: string; secured: boolean },
): string {
  const simple = firstRead(catalogue.describe());
  const authorization = secured ? ' -H "authorization: Bearer $HTTP_TOKEN"' : '';
  return simple === undefined
    ? `curl -s ${httpUrl}/v1/actions${authorization}`
    : `curl -s ${httpUrl}/v1/actions/${simple.name}${authorization} -H 'content-type: application/json' -d '{"etcd_token":"${token}"}'`;
}

type StopSignal = readonly [name: NodeJS.Signals, number: number];

const STOP_SIGNALS: readonly StopSignal[] = [
  ['SIGTERM', 15],
  ['SIGINT', 2],
];
const CLOSED_TERMINAL: StopSignal = ['SIGHUP', 1];

/**
 * Listens for these signals. The returned function waits for the next one. A signal while nothing waits ends the process
 * immediately: one during the start, or a second one during the shutdown.
 */
function listenForStopSignals(
  signals: readonly StopSignal[],
  watchdog: Pick<Watchdog, 'exitExpected'>,
): () => Promise<void> {
  let stop: (() => void) | undefined;
  // Without a listener, Node opens its debugger on a port.
  process.on('SIGUSR1', () => {});
  for (const [signal, number] of signals) {
    process.on(signal, () => {
      if (stop === undefined) {
        watchdog.exitExpected();
        process.exit(128 + number);
      }
      stop();
      stop = undefined;
    });
  }
  return async () => new Promise((resolve) => (stop = resolve));
}

/** Listens for SIGHUP. The returned function sets what it runs: at once, when the signal came before. */
function listenForReload(): (reload: () => Promise<void>) => void {
  let isWanted = false;
  let reloading: (() => Promise<void>) | undefined;
  process.on('SIGHUP', () => {
    isWanted = reloading === undefined;
    void reloading?.();
  });
  return (reload) => {
    reloading = reload;
    if (isWanted) void reload();
  };
}

/**
 * Resolves at the first uncaught exception. The state of the process is then unknown, so the service must drain and stop.
 * An unhandled rejection is only logged.
 */
async function untilUncaughtError(log: Log): Promise<void> {
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error }));
  return new Promise((resolve) => {
    process.on('uncaughtException', (error) => {
      log.error('uncaught exception', { error });
      resolve();
    });
  });
}
