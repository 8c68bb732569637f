import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { copyFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { Cluster } from '../../src/api/cluster.js';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.js';
import { type Collector, startCollector } from '../tracing/collector.js';
import { sendsTo } from '../tracing/traced-service.js';
import { eventually } from '../support/eventually.js';
import type { TestBroker } from '../support/brokers.js';
import type { OwnBroker } from '../support/own-broker.js';
import { planted } from '../support/planted-secrets.js';
import { type Scrape, scrape } from '../support/scrape.js';
import { folder } from '../support/settings.js';
import { startWorker, type Worker } from '../support/worker.js';
import type { SentTo } from './ledger.js';
import { POLICIES, TOKENS, USERS } from './load.js';
import { CRASH, loadPlugins } from './plugins.js';

const run = promisify(execFile);

/** The user of the service on the broker. */
const SERVICE = 'fleet-service';
const METRICS_TOKEN = planted('metrics-token');

/** All that a service in production has around it. */
export interface World {
  queue: string;
  sandbox: Sandbox;
  collector: Collector;
  /** The settings of the workers, and of the commands. */
  env: Record<string, string>;
  named: SentTo;
  byToken: SentTo;
  unknown: SentTo;
  /** A secret parameter. */
  secret: string;
  /** Replaces the policy. */
  writePolicy: (text: string) => Promise<void>;
  /** Which handlers have run, as `NAME ID`. */
  runs: () => Promise<string[]>;
  serve: (settings?: Record<string, string>) => Promise<RunningWorker>;
}

export interface RunningWorker extends Worker {
  http: string;
  scrape: () => Promise<Scrape>;
}

/** Secrets of the settings that only commands use, or that must not matter. */
export const MORE_SECRETS = {
  AMQP_MANAGEMENT_URL: `http://manager:${planted('management-password')}@127.0.0.1:1`,
  CLAIMS_ETCD_URL: 'http://127.0.0.1:1',
  CLAIMS_ETCD_USER: 'fleet',
  CLAIMS_ETCD_PASSWORD: planted('claims-password'),
};

export const HTTP_TOKENS: Readonly<Record<string, string>> = Object.fromEntries(
  TOKENS.map((name) => [name, planted(`http-token-of-${name}`)]),
);

/** The broker, with the login of each user: to add one takes seconds on a busy machine. */
export interface Logins {
  service: TestBroker;
  callers: ReadonlyMap<string, TestBroker>;
}

export async function addUsers(broker: OwnBroker): Promise<Logins> {
  const callers = new Map<string, TestBroker>();
  for (const name of USERS) callers.set(name, await broker.user(name, {}));
  return { service: await broker.user(SERVICE, {}), callers };
}

/** A cluster, a collector, a policy, plugins and files with secrets. */
export async function openWorld(t: ExecutionContext, { service }: Logins): Promise<World> {
  const collector = await startCollector(t);
  const sandbox = await startSandbox({
    token: planted('etcd-token'),
    ssh: true,
    delays: { change: 10, report: 10, linger: 10 },
    units: ['web', 'api', 'db'].flatMap((kind) =>
      Array.from({ length: 10 }, (_, part) => ({
        name: `${kind}@${part}.service`,
        options: [{ section: 'Service', name: 'ExecStart', value: '/bin/sleep 1d' }],
      })),
    ),
  });
  t.teardown(async () => sandbox.stop());
  const { ssh } = sandbox;
  if (ssh === undefined) throw new Error('the machines have no SSH server');
  const files = await folder(t);
  const file = (name: string) => join(files, name);
  const passphrase = planted('ssh-passphrase');
  await copyFile(ssh.privateKeyFile, file('key'));
  await run('ssh-keygen', ['-q', '-p', '-a', '1', '-P', '', '-N', passphrase, '-f', file('key')]);
  for (const [name, source] of Object.entries({ ...loadPlugins(file('runs')), crash: CRASH })) {
    const path = join(files, name === 'crash' ? 'crash-plugins' : 'plugins', name);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, 'index.js'), source);
  }
  await writeFile(file('runs'), '');
  await writeFile(file('policy.yaml'), POLICIES.old);
  await writeFile(file('clusters.json'), JSON.stringify({ prod: { etcd_token: sandbox.token } }));
  const tokens = Object.entries(HTTP_TOKENS).map(([name, token]) => ({
    name,
    sha256: createHash('sha256').update(token).digest('hex'),
  }));
  await writeFile(file('tokens.json'), JSON.stringify(tokens));
  const queue = `production_${randomUUID()}`;
  const unknown = planted('unknown-token');
  const env = {
    AMQP_URL: service.url,
    QUEUE_NAME: queue,
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
    CLUSTERS_FILE: file('clusters.json'),
    SSH_USER: ssh.user,
    SSH_PORT: String(ssh.port),
    SSH_KEY_FILE: file('key'),
    SSH_PASSPHRASE: passphrase,
    SSH_KNOWN_HOSTS: ssh.knownHostsFile,
    SSH_SUDO: 'false',
    PLUGIN_PATHS: file('plugins'),
    POLICY_FILE: file('policy.yaml'),
    HTTP_PORT: '0',
    HTTP_TOKENS_FILE: file('tokens.json'),
    METRICS_PORT: '0',
    METRICS_TOKEN,
    ...sendsTo(collector),
    OTEL_EXPORTER_OTLP_HEADERS: `x-api-key=${planted('otel-header')}`,
  };
  const hash = new Cluster(sandbox.token).hash;
  return {
    queue,
    sandbox,
    collector,
    env,
    named: { sent: 'prod', hash, name: 'prod' },
    byToken: { sent: sandbox.token, hash, name: 'prod' },
    unknown: { sent: unknown, hash: new Cluster(unknown).hash, name: undefined },
    secret: planted('parameter'),
    writePolicy: async (text) => {
      await writeFile(file('policy.next'), text);
      await rename(file('policy.next'), file('policy.yaml'));
    },
    runs: async () => (await readFile(file('runs'), 'utf8')).split('\n').filter((line) => line !== ''),
    serve: async (settings = {}) => {
      const worker = await startWorker(t, { ...env, ...settings });
      const { http, metrics } = await eventually('its addresses', () =>
        worker.lines.find(({ message }) => message === 'service started'),
      );
      return { ...worker, http: String(http), scrape: async () => scrape(String(metrics), METRICS_TOKEN) };
    },
  };
}
