import { homedir, hostname } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { ConfigurationError } from '../../src/settings/configuration-error.js';
import { folder, INSTALLATION, problemsOf, serving } from '../support/settings.js';

test('with nothing set the service is a sandbox with these settings', (t) => {
  t.deepEqual(serving({}), {
    environment: 'development',
    pluginSettings: { env: {}, inFile: {}, file: undefined },
    amqp: undefined,
    amqpManagementUrl: undefined,
    openaperture: undefined,
    rpc: {
      queue: 'fleet_manager',
      queueType: 'classic',
      queueMaxPriority: undefined,
      prefetch: 200,
      concurrency: 50,
      clusterConcurrency: 20,
      maxMessageBytes: 1_048_576,
      memoryBudgetBytes: 268_435_456,
      maxReplyBytes: 16_777_216,
    },
    clusters: {
      discoveryUrl: 'https://discovery.etcd.io',
      fleetPort: 7002,
      file: undefined,
      allowedHosts: undefined,
    },
    audit: undefined,
    claims: undefined,
    plugins: { paths: undefined, packages: undefined, readOnly: false, only: undefined },
    policyFile: undefined,
    http: { host: '127.0.0.1', port: 8080, token: undefined, tokensFile: undefined },
    metrics: undefined,
    sandboxCluster: false,
    shutdownGraceMs: 20_000,
    watchdogSeconds: 30,
    ssh: {
      user: 'core',
      port: 22,
      privateKey: undefined,
      passphrase: undefined,
      agentSocket: undefined,
      knownHostsFile: join(homedir(), '.ssh/known_hosts'),
      hostKeys: 'strict',
      sudo: false,
    },
    log: { level: 'info', format: 'text' },
    hostname: hostname(),
  });
});

test('every setting is read', async (t) => {
  const directory = await folder(t, {
    'ca.pem': 'CA',
    'cert.pem': 'CERT',
    'key.pem': 'KEY',
    'clusters.json': '{"a":[]}',
    'ssh-key': 'SSH KEY',
  });
  const configuration = serving({
    NODE_ENV: 'production',
    AMQP_URL: 'amqps://user:password@one.example:5671/vhost, amqps://two.example',
    AMQP_CA_FILE: join(directory, 'ca.pem'),
    AMQP_CERT_FILE: join(directory, 'cert.pem'),
    AMQP_KEY_FILE: join(directory, 'key.pem'),
    QUEUE_NAME: 'requests',
    QUEUE_MAX_PRIORITY: '9',
    PREFETCH: '40',
    CONCURRENCY: '10',
    CLUSTER_CONCURRENCY: '5',
    ETCD_DISCOVERY_URL: 'http://etcd:2379/v2/keys/discovery',
    FLEET_API_PORT: '49153',
    CLUSTERS_FILE: join(directory, 'clusters.json'),
    ALLOWED_HOSTS: '10.0.0.0/8, *.example.org,127.0.0.1',
    CLAIMS_ETCD_URL: 'https://etcd1:2379, https://etcd2:2379',
    CLAIMS_ETCD_USER: 'worker',
    CLAIMS_ETCD_PASSWORD: ' pass word ',
    CLAIMS_ETCD_CA_FILE: join(directory, 'ca.pem'),
    SSH_USER: 'operator',
    SSH_PORT: '2222',
    SSH_KEY_FILE: join(directory, 'ssh-key'),
    SSH_PASSPHRASE: 'open sesame',
    SSH_AUTH_SOCK: '/run/agent',
    SSH_KNOWN_HOSTS: '/etc/known_hosts',
    SSH_HOST_KEYS: 'accept-new',
    SSH_SUDO: 'true',
    PLUGIN_PATHS: '/opt/plugins:more',
    PLUGINS: '@acme/fleet-actions, other-package',
    READ_ONLY: 'true',
    SANDBOX_CLUSTER: 'false',
    ACTIONS: 'list_units, list_machines',
    POLICY_FILE: '/etc/policy.yaml',
    HTTP_HOST: '0.0.0.0',
    HTTP_PORT: '0',
    HTTP_TOKEN: '0123456789abcdef',
    HTTP_TOKENS_FILE: '/etc/tokens.json',
    AMQP_MANAGEMENT_URL: 'https://admin:secret@one.example:15671',
    METRICS_HOST: '10.0.0.5',
    METRICS_PORT: '9187',
    METRICS_TOKEN: 'fedcba9876543210',
    AUDIT: '/var/log/audit.jsonl',
    AUDIT_REQUIRED: 'true',
    AUDIT_READS: 'true',
    AUDIT_STREAM_DAYS: '30',
    MAX_MESSAGE_BYTES: '2048',
    MEMORY_BUDGET_BYTES: '33554432',
    MAX_ANSWER_BYTES: '4096',
    SHUTDOWN_GRACE_SECONDS: '0',
    WATCHDOG_SECONDS: '0',
    LOG_LEVEL: 'debug',
    LOG_FORMAT: 'text',
    HOSTNAME: 'here',
  });
  t.deepEqual(configuration, {
    environment: 'production',
    pluginSettings: { env: {}, inFile: {}, file: undefined },
    amqp: {
      urls: ['amqps://user:password@one.example:5671/vhost', 'amqps://two.example'],
      tls: { ca: Buffer.from('CA'), cert: Buffer.from('CERT'), key: Buffer.from('KEY') },
    },
    amqpManagementUrl: 'https://admin:secret@one.example:15671',
    openaperture: undefined,
    rpc: {
      queue: 'requests',
      queueType: 'classic',
      queueMaxPriority: 9,
      prefetch: 40,
      concurrency: 10,
      clusterConcurrency: 5,
      maxMessageBytes: 2048,
      memoryBudgetBytes: 33_554_432,
      maxReplyBytes: 4096,
    },
    clusters: {
      discoveryUrl: 'http://etcd:2379/v2/keys/discovery',
      fleetPort: 49153,
      file: { path: join(directory, 'clusters.json'), text: '{"a":[]}' },
      allowedHosts: ['10.0.0.0/8', '*.example.org', '127.0.0.1'],
    },
    claims: {
      urls: ['https://etcd1:2379', 'https://etcd2:2379'],
      user: 'worker',
      password: ' pass word ',
      ca: Buffer.from('CA'),
    },
    plugins: {
      paths: ['/opt/plugins', 'more'],
      packages: ['@acme/fleet-actions', 'other-package'],
      readOnly: true,
      only: ['list_units', 'list_machines'],
    },
    policyFile: '/etc/policy.yaml',
    http: { host: '0.0.0.0', port: 0, token: '0123456789abcdef', tokensFile: '/etc/tokens.json' },
    metrics: { host: '10.0.0.5', port: 9187, token: 'fedcba9876543210' },
    audit: { target: '/var/log/audit.jsonl', required: true, reads: true, streamDays: 30 },
    sandboxCluster: false,
    shutdownGraceMs: 0,
    watchdogSeconds: 0,
    ssh: {
      user: 'operator',
      port: 2222,
      privateKey: Buffer.from('SSH KEY'),
      passphrase: 'open sesame',
      agentSocket: '/run/agent',
      knownHostsFile: '/etc/known_hosts',
      hostKeys: 'accept-new',
      sudo: true,
    },
    log: { level: 'debug', format: 'text' },
    hostname: 'here',
  });
});

test('METRICS_PORT is the port of the metrics, or that of the gateway', (t) => {
  const portOf = (METRICS_PORT: string) => serving({ METRICS_PORT }).metrics?.port;
  t.is(portOf('9187'), 9187);
  t.is(portOf('0'), 0);
  t.is(portOf('gateway'), 'gateway');
  t.is(portOf('off'), undefined);
});

test('HTTP_PORT=off disables the gateway', (t) => {
  t.is(serving({ AMQP_URL: 'amqp://host', HTTP_PORT: 'off', HTTP_HOST: '0.0.0.0' }).http, undefined);
});

test('the log is JSON in production, unless LOG_FORMAT says otherwise', (t) => {
  const AMQP_URL = 'amqp://localhost';
  t.is(serving({ NODE_ENV: 'production', AMQP_URL }).log.format, 'json');
  t.is(serving({ NODE_ENV: 'production', AMQP_URL, LOG_FORMAT: 'text' }).log.format, 'text');
  t.is(serving({ LOG_FORMAT: 'json' }).log.format, 'json');
});

test('the settings of an OpenAperture installation are read, in production too', (t) => {
  const expected = {
    managerUrl: 'https://manager.example.com/api',
    oauth: {
      url: 'https://auth.example.com/oauth/token',
      clientId: 'fleet-manager',
      clientSecret: 'Zqsecret',
    },
    exchangeId: 7,
    brokerId: 3,
    moduleType: 'fleet_manager',
    maxRecordBytes: 7_500_000,
  };
  t.deepEqual(serving({ ...INSTALLATION, NODE_ENV: 'production' }).openaperture, expected);
  t.is(
    serving({ ...INSTALLATION, MODULE_TYPE: 'fleet_manager_2' }).openaperture?.moduleType,
    'fleet_manager_2',
  );
  t.is(serving({ ...INSTALLATION, MAX_RECORD_BYTES: '1000000' }).openaperture?.maxRecordBytes, 1_000_000);
  t.is(serving(INSTALLATION).amqp, undefined);
});

test('all problems are reported together, one per line', (t) => {
  const env = { PREFETCH: 'many', READ_ONLY: 'yes', HTTP_HOST: '0.0.0.0', AMQP_KEY_FILE: '/nonexistent/key' };
  const error = t.throws(() => serving({ ...env, NODE_ENV: 'production' }), {
    instanceOf: ConfigurationError,
  });
  t.is(error?.problems.length, 6);
  t.is(error?.message.split('\n').length, 7);
  for (const name of [...Object.keys(env), 'AMQP_URL', 'AMQP_CERT_FILE'])
    t.true(error?.message.includes(`\n  - ${name} `), name);
});

test('an invalid setting is not reported as missing', (t) => {
  const env = { AMQP_URL: 'localhost', HTTP_HOST: '0.0.0.0', HTTP_TOKEN: 'short' };
  const problems = problemsOf(t, () => serving({ ...env, NODE_ENV: 'production' }));
  t.deepEqual(
    problems.map((each) => each.split(' ')[0]),
    ['AMQP_URL', 'HTTP_TOKEN'],
  );
});
