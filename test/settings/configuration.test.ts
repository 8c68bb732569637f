import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  type Configuration,
  ConfigurationError,
  type ConfigurationSource,
  describeSettings,
  readConfiguration,
  type ShownSetting,
} from '../../src/settings/configuration.js';

type Env = Record<string, string>;

/** A folder with these files, removed when the test ends. */
async function folder(t: ExecutionContext, files: Record<string, string> = {}): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'configuration-'));
  t.teardown(() => rm(directory, { recursive: true }));
  await mkdir(join(directory, 'config'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  return directory;
}

const NOWHERE = '/nonexistent';

function read(env: Env, directory = NOWHERE): Configuration {
  return readConfiguration({ env, directory });
}

function serving(env: Env, directory = NOWHERE): Configuration {
  return readConfiguration({ env, directory }, { serving: true });
}

function problemsOf(t: ExecutionContext, work: () => unknown): readonly string[] {
  const error = t.throws(work, { instanceOf: ConfigurationError });
  return error?.problems ?? [];
}

function setting(source: ConfigurationSource, name: string): ShownSetting | undefined {
  return describeSettings(source).find((each) => each.name === name);
}

test('with nothing set the service is a sandbox with these settings', (t) => {
  t.deepEqual(serving({}), {
    environment: 'development',
    amqp: undefined,
    openaperture: undefined,
    queue: 'fleet_manager',
    prefetch: 200,
    concurrency: 50,
    clusterConcurrency: 20,
    discoveryUrl: 'https://discovery.etcd.io',
    fleetPort: 7002,
    clusters: undefined,
    allowedHosts: undefined,
    pluginPaths: [],
    readOnly: false,
    actions: undefined,
    http: { host: '127.0.0.1', port: 8080, token: undefined },
    maxMessageBytes: 1_048_576,
    maxAnswerBytes: 16_777_216,
    shutdownGraceMs: 20_000,
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
    PREFETCH: '40',
    CONCURRENCY: '10',
    CLUSTER_CONCURRENCY: '5',
    ETCD_DISCOVERY_URL: 'http://etcd:2379/v2/keys/discovery',
    FLEET_API_PORT: '49153',
    CLUSTERS_FILE: join(directory, 'clusters.json'),
    ALLOWED_HOSTS: '10.0.0.0/8, *.example.org,127.0.0.1',
    SSH_USER: 'operator',
    SSH_PORT: '2222',
    SSH_KEY_FILE: join(directory, 'ssh-key'),
    SSH_PASSPHRASE: 'open sesame',
    SSH_AUTH_SOCK: '/run/agent',
    SSH_KNOWN_HOSTS: '/etc/known_hosts',
    SSH_HOST_KEYS: 'accept-new',
    SSH_SUDO: 'true',
    PLUGIN_PATHS: '/opt/plugins:more',
    READ_ONLY: 'true',
    ACTIONS: 'list_units, list_machines',
    HTTP_HOST: '0.0.0.0',
    HTTP_PORT: '0',
    HTTP_TOKEN: '0123456789abcdef',
    MAX_MESSAGE_BYTES: '2048',
    MAX_ANSWER_BYTES: '4096',
    SHUTDOWN_GRACE_SECONDS: '0',
    LOG_LEVEL: 'debug',
    LOG_FORMAT: 'text',
    HOSTNAME: 'here',
  });
  t.deepEqual(configuration, {
    environment: 'production',
    amqp: {
      urls: ['amqps://user:password@one.example:5671/vhost', 'amqps://two.example'],
      tls: { ca: Buffer.from('CA'), cert: Buffer.from('CERT'), key: Buffer.from('KEY') },
    },
    openaperture: undefined,
    queue: 'requests',
    prefetch: 40,
    concurrency: 10,
    clusterConcurrency: 5,
    discoveryUrl: 'http://etcd:2379/v2/keys/discovery',
    fleetPort: 49153,
    clusters: '{"a":[]}',
    allowedHosts: ['10.0.0.0/8', '*.example.org', '127.0.0.1'],
    pluginPaths: ['/opt/plugins', 'more'],
    readOnly: true,
    actions: ['list_units', 'list_machines'],
    http: { host: '0.0.0.0', port: 0, token: '0123456789abcdef' },
    maxMessageBytes: 2048,
    maxAnswerBytes: 4096,
    shutdownGraceMs: 0,
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

test('off turns the gateway off', (t) => {
  t.is(serving({ HTTP_PORT: 'off', HTTP_HOST: '0.0.0.0' }).http, undefined);
});

test('the log is JSON in production, unless it is said otherwise', (t) => {
  const AMQP_URL = 'amqp://localhost';
  t.is(serving({ NODE_ENV: 'production', AMQP_URL }).log.format, 'json');
  t.is(serving({ NODE_ENV: 'production', AMQP_URL, LOG_FORMAT: 'text' }).log.format, 'text');
  t.is(serving({ LOG_FORMAT: 'json' }).log.format, 'json');
});

test('an empty variable counts as unset', (t) => {
  const names = describeSettings({ env: {}, directory: NOWHERE }).map(({ name }) => name);
  const env = Object.fromEntries(
    names.flatMap((name) => [
      [name, ''],
      [`${name}_FILE`, ''],
    ]),
  );
  t.deepEqual(serving(env), serving({}));
  t.like(setting({ env, directory: NOWHERE }, 'AMQP_URL'), { value: undefined, from: 'unset' });
  t.like(setting({ env, directory: NOWHERE }, 'PREFETCH'), { value: '200', from: 'default' });
});

const REFUSED: Record<string, [env: Env, problem: RegExp]> = {
  'a broker that is no AMQP URL': [{ AMQP_URL: 'http://localhost' }, /^AMQP_URL must be one or several amqp/],
  'a broker without a scheme': [{ AMQP_URL: 'localhost:5672' }, /^AMQP_URL must be/],
  'one broker of several that is no URL': [{ AMQP_URL: 'amqp://a,b' }, /^AMQP_URL must be/],
  'a list of no brokers': [{ AMQP_URL: ', ,' }, /^AMQP_URL must be/],
  'a password that ends the host early': [
    { AMQP_URL: 'amqp://user:12/34@host' },
    /write , \/ @ as %2C %2F %40/,
  ],
  'a password with a comma': [{ AMQP_URL: 'amqp://user:12,34@host' }, /write , \/ @ as %2C %2F %40/],
  'a CA file that is not there': [
    { AMQP_CA_FILE: '/nonexistent/ca' },
    /^AMQP_CA_FILE names a file that cannot be read: ENOENT/,
  ],
  'a clusters file that is not there': [
    { CLUSTERS_FILE: '/nonexistent/c' },
    /^CLUSTERS_FILE names a file that cannot be read/,
  ],
  'a certificate without a key': [
    { AMQP_CERT_FILE: '/dev/null' },
    /^AMQP_CERT_FILE and AMQP_KEY_FILE go together/,
  ],
  'a key without a certificate': [
    { AMQP_KEY_FILE: '/dev/null' },
    /^AMQP_CERT_FILE and AMQP_KEY_FILE go together/,
  ],
  'a queue name with spaces': [{ QUEUE_NAME: 'a b' }, /^QUEUE_NAME must be the name of a queue/],
  "a queue name of the broker's own": [{ QUEUE_NAME: 'amq.gen' }, /^QUEUE_NAME must be the name of a queue/],
  'a queue name that is too long': [
    { QUEUE_NAME: 'a'.repeat(201) },
    /^QUEUE_NAME must be the name of a queue/,
  ],
  'a count that is no number': [{ PREFETCH: 'many' }, /^PREFETCH must be a whole number$/],
  'a count with a fraction': [{ CONCURRENCY: '1.5' }, /^CONCURRENCY must be a whole number$/],
  'a count that is too small': [{ CLUSTER_CONCURRENCY: '0' }, /^CLUSTER_CONCURRENCY must be at least 1$/],
  'a count that is too large': [{ FLEET_API_PORT: '65536' }, /^FLEET_API_PORT must be at most 65535$/],
  'a discovery service that is no HTTP URL': [
    { ETCD_DISCOVERY_URL: 'etcd:2379' },
    /^ETCD_DISCOVERY_URL must be an http/,
  ],
  'a discovery service with a password, which no call to it can use': [
    { ETCD_DISCOVERY_URL: 'http://user:Zq@etcd:2379' },
    /^ETCD_DISCOVERY_URL must not hold a user name or password/,
  ],
  'an allowed host that is none': [{ ALLOWED_HOSTS: '10.0.0.0/99' }, /^ALLOWED_HOSTS: .*10\.0\.0\.0\/99/],
  'a flag that is neither true nor false': [{ READ_ONLY: 'yes' }, /^READ_ONLY must be true or false$/],
  'a list of no actions': [{ ACTIONS: ',' }, /^ACTIONS must name actions/],
  'a port that is no number': [{ HTTP_PORT: 'http' }, /^HTTP_PORT must be a port, 0 for a free one, or off$/],
  'a port that is too large': [{ HTTP_PORT: '65536' }, /^HTTP_PORT must be at most 65535$/],
  'a token that is short': [{ HTTP_TOKEN: 'secret' }, /^HTTP_TOKEN must have at least 16 characters$/],
  'a limit of messages that is too small': [
    { MAX_MESSAGE_BYTES: '10' },
    /^MAX_MESSAGE_BYTES must be at least 1024$/,
  ],
  'a limit of answers that is too large': [{ MAX_ANSWER_BYTES: '1e12' }, /^MAX_ANSWER_BYTES must be at most/],
  'an unknown log level': [{ LOG_LEVEL: 'verbose' }, /^LOG_LEVEL must be error, warn, info or debug$/],
  'an unknown log format': [{ LOG_FORMAT: 'xml' }, /^LOG_FORMAT must be json or text$/],
};

for (const [what, [env, problem]] of Object.entries(REFUSED)) {
  test(`refused: ${what}`, (t) => {
    const problems = problemsOf(t, () => read(env));
    t.is(problems.length, 1, problems.join('\n'));
    t.regex(problems[0] ?? '', problem);
  });
}

test('all problems are told at once, a line each', (t) => {
  const env = { PREFETCH: 'many', READ_ONLY: 'yes', HTTP_HOST: '0.0.0.0', AMQP_KEY_FILE: '/nonexistent/key' };
  const error = t.throws(() => serving({ ...env, NODE_ENV: 'production' }), {
    instanceOf: ConfigurationError,
  });
  t.is(error?.problems.length, 6);
  t.is(error?.message.split('\n').length, 7);
  for (const name of [...Object.keys(env), 'AMQP_URL', 'AMQP_CERT_FILE'])
    t.true(error?.message.includes(`\n  - ${name} `), name);
});

test('a setting that is faulty is not called missing', (t) => {
  const env = { AMQP_URL: 'localhost', HTTP_HOST: '0.0.0.0', HTTP_TOKEN: 'short' };
  const problems = problemsOf(t, () => serving({ ...env, NODE_ENV: 'production' }));
  t.deepEqual(
    problems.map((each) => each.split(' ')[0]),
    ['AMQP_URL', 'HTTP_TOKEN'],
  );
});

test('the file of the environment is read, and a variable goes over it', async (t) => {
  const directory = await folder(t, {
    'config/development.json': JSON.stringify({
      QUEUE_NAME: 'of_development',
      PREFETCH: 40,
      READ_ONLY: true,
    }),
    'config/staging.json': JSON.stringify({ QUEUE_NAME: 'of_staging', AMQP_URL: 'amqp://staging' }),
  });
  t.like(read({}, directory), { queue: 'of_development', prefetch: 40, readOnly: true });
  t.like(read({ QUEUE_NAME: 'of_env', READ_ONLY: 'false' }, directory), {
    queue: 'of_env',
    prefetch: 40,
    readOnly: false,
  });
  t.like(read({ QUEUE_NAME: '' }, directory), { queue: 'of_development' });
  t.like(serving({ NODE_ENV: 'staging' }, directory), {
    queue: 'of_staging',
    amqp: { urls: ['amqp://staging'] },
  });
});

test('a key of the file that is no setting is refused', async (t) => {
  const directory = await folder(t, {
    'config/development.json':
      '{"QUEUE": "x", "queue_name": "y", "HTTP_TOKEN_FILE": "z", "__proto__": {}, "PREFETCH": 40}',
  });
  const file = join(directory, 'config/development.json');
  t.deepEqual(
    problemsOf(t, () => read({}, directory)),
    ['QUEUE', 'queue_name', 'HTTP_TOKEN_FILE', '__proto__'].map(
      (key) => `${file}: there is no setting ${key}`,
    ),
  );
});

test('a file that cannot be used is refused, without a word of what is in it', async (t) => {
  for (const text of [
    '{"HTTP_TOKEN": "secretsecretsecret" x}',
    '["secretsecretsecret"]',
    '"secretsecretsecret"',
    'null',
    '',
  ]) {
    const directory = await folder(t, { 'config/development.json': text });
    const problems = problemsOf(t, () => read({}, directory));
    t.is(problems.length, 1);
    t.regex(
      problems[0] ?? '',
      /config\/development\.json cannot be read: it is not (valid JSON|a JSON object)$/,
    );
  }
});

test('values of the file that are no text, number or flag are refused', async (t) => {
  const directory = await folder(t, {
    'config/development.json': JSON.stringify({
      AMQP_URL: ['amqp://a'],
      ALLOWED_HOSTS: {},
      PREFETCH: null,
      LOG_LEVEL: [],
    }),
  });
  const problems = problemsOf(t, () => read({}, directory)).join('\n');
  for (const name of ['AMQP_URL', 'ALLOWED_HOSTS', 'PREFETCH', 'LOG_LEVEL'])
    t.regex(problems, new RegExp(`^${name} `, 'm'));
});

test('a secret is read from the file that NAME_FILE names, without its last line break', async (t) => {
  const directory = await folder(t, { token: '0123456789abcdef\n', url: 'amqp://user:pass%2Fword@host\r\n' });
  const env = { HTTP_TOKEN_FILE: join(directory, 'token'), AMQP_URL_FILE: join(directory, 'url') };
  t.like(read(env), {
    http: { token: '0123456789abcdef' },
    amqp: { urls: ['amqp://user:pass%2Fword@host'] },
  });
  t.like(setting({ env, directory }, 'HTTP_TOKEN'), { value: '***', from: 'environment' });
  t.like(setting({ env, directory }, 'AMQP_URL'), { value: 'amqp://***@host', from: 'environment' });
});

test('a secret goes over the one of the configuration file', async (t) => {
  const directory = await folder(t, {
    'config/development.json': '{"HTTP_TOKEN": "of the configuration"}',
    token: 'of the secret file',
  });
  t.is(read({ HTTP_TOKEN_FILE: join(directory, 'token') }, directory).http?.token, 'of the secret file');
});

test('a secret that cannot be read is told once, and is not called missing', async (t) => {
  const directory = await folder(t, { url: 'amqp://localhost' });
  const production = { NODE_ENV: 'production' };
  t.deepEqual(
    problemsOf(t, () =>
      serving({ ...production, AMQP_URL: 'amqp://localhost', AMQP_URL_FILE: '/nonexistent/url' }),
    ),
    ['AMQP_URL and AMQP_URL_FILE are both set: set one of them'],
  );
  const unreadable = problemsOf(t, () => serving({ ...production, AMQP_URL_FILE: '/nonexistent/url' }));
  t.is(unreadable.length, 1, unreadable.join('\n'));
  t.regex(unreadable[0] ?? '', /^AMQP_URL_FILE names a file that cannot be read/);
  t.notThrows(() => serving({ ...production, AMQP_URL_FILE: join(directory, 'url') }));
});

test('a list may be a list in the file, if only of texts without the sign that separates them', async (t) => {
  const lists = {
    ALLOWED_HOSTS: ['10.0.0.0/8', '*.example.org'],
    ACTIONS: ['a', 'b'],
    PLUGIN_PATHS: ['/a', '/b'],
  };
  const directory = await folder(t, { 'config/development.json': JSON.stringify(lists) });
  t.like(read({}, directory), {
    allowedHosts: lists.ALLOWED_HOSTS,
    actions: lists.ACTIONS,
    pluginPaths: lists.PLUGIN_PATHS,
  });
  t.like(setting({ env: {}, directory }, 'ACTIONS'), { value: 'a,b', from: 'file' });
  for (const ACTIONS of [['a', 3], ['a,b'], [['a']]]) {
    const wrong = await folder(t, { 'config/development.json': JSON.stringify({ ACTIONS }) });
    t.regex(problemsOf(t, () => read({}, wrong)).join(), /^ACTIONS must be text/);
  }
});

test('a secret that is given twice, or whose file cannot be read or is empty, is refused', async (t) => {
  const directory = await folder(t, { token: '0123456789abcdef', empty: '\n' });
  const twice = { HTTP_TOKEN: 'fedcba9876543210', HTTP_TOKEN_FILE: join(directory, 'token') };
  t.deepEqual(
    problemsOf(t, () => read(twice)),
    ['HTTP_TOKEN and HTTP_TOKEN_FILE are both set: set one of them'],
  );
  t.regex(
    problemsOf(t, () => read({ HTTP_TOKEN_FILE: '/nonexistent/t' })).join(),
    /^HTTP_TOKEN_FILE names a file/,
  );
  t.regex(problemsOf(t, () => read({ HTTP_TOKEN_FILE: join(directory, 'empty') })).join(), /HTTP_TOKEN must/);
});

test('what is no secret is not read from a file', async (t) => {
  const directory = await folder(t, { queue: 'requests' });
  t.is(read({ QUEUE_NAME_FILE: join(directory, 'queue') }).queue, 'fleet_manager');
});

test('outside of development the sandbox is refused, and AMQP_URL is what to set', (t) => {
  for (const NODE_ENV of ['production', 'staging', 'prod']) {
    t.deepEqual(
      problemsOf(t, () => serving({ NODE_ENV })),
      [
        `AMQP_URL is not set: without it the service is a sandbox, which is refused with NODE_ENV=${NODE_ENV}; set AMQP_URL to your RabbitMQ, such as amqp://user:password@host:5672`,
      ],
    );
    t.notThrows(() => serving({ NODE_ENV, AMQP_URL: 'amqp://localhost' }));
    t.notThrows(() => read({ NODE_ENV }), 'a caller may use the gateway');
  }
  t.notThrows(() => serving({ NODE_ENV: 'test' }));
});

const INSTALLATION = {
  MANAGER_URL: 'https://manager.example.com/api',
  OAUTH_LOGIN_URL: 'https://auth.example.com/oauth/token',
  OAUTH_CLIENT_ID: 'fleet-manager',
  OAUTH_CLIENT_SECRET: 'Zqsecret',
  EXCHANGE_ID: '7',
  BROKER_ID: '3',
};

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

test('in an installation, the names of a module fit the columns of the Manager', (t) => {
  for (const name of ['HOSTNAME', 'MODULE_TYPE']) {
    t.notThrows(() => serving({ ...INSTALLATION, [name]: 'x'.repeat(255) }));
    for (const value of ['x'.repeat(256), 'büro', 'Łódź', 'a\u0007b']) {
      const problems = problemsOf(t, () => serving({ ...INSTALLATION, [name]: value }));
      t.deepEqual(problems, [
        `${name} must be at most 255 printable ASCII characters: OpenAperture keeps no others of a module`,
      ]);
    }
  }
  t.is(serving({ AMQP_URL: 'amqp://host', HOSTNAME: 'büro' }).hostname, 'büro');
});

test('an installation that is set half is refused with the names of what is missing', (t) => {
  const names = Object.keys(INSTALLATION);
  for (const missing of [...names.map((name) => [name]), names.slice(1), names.slice(0, 3)]) {
    const env = Object.fromEntries(Object.entries(INSTALLATION).filter(([name]) => !missing.includes(name)));
    for (const reading of [read, serving])
      t.deepEqual(
        problemsOf(t, () => reading(env)),
        [`an OpenAperture installation is set half: set ${missing.join(', ')} too, or unset the others`],
      );
  }
});

test('of an installation everything is shown but its secret', (t) => {
  const source = { env: INSTALLATION, directory: NOWHERE };
  const shown = describeSettings(source);
  t.false(JSON.stringify(shown).includes('Zq'));
  t.is(setting(source, 'OAUTH_CLIENT_SECRET')?.value, '***');
  for (const name of [
    'MANAGER_URL',
    'OAUTH_LOGIN_URL',
    'OAUTH_CLIENT_ID',
    'EXCHANGE_ID',
    'BROKER_ID',
  ] as const)
    t.is(setting(source, name)?.value, INSTALLATION[name]);
  t.deepEqual(
    problemsOf(t, () => read({ OAUTH_CLIENT_SECRET: 'Zqsecret' })).filter((each) => each.includes('Zq')),
    [],
  );
});

test('a user name or password in a URL that does not take one is refused, and not repeated', (t) => {
  for (const name of ['MANAGER_URL', 'OAUTH_LOGIN_URL', 'ETCD_DISCOVERY_URL'])
    for (const login of ['user:Zqsecret', 'Zqsecret', ':Zqsecret'])
      t.deepEqual(
        problemsOf(t, () => read({ ...INSTALLATION, [name]: `https://${login}@host.example.com` })),
        [`${name} must not hold a user name or password`],
      );
});

test('certificates for amqps are refused with an installation, whose brokers are connected to without', async (t) => {
  const directory = await folder(t, { ca: 'PEM', cert: 'PEM', key: 'PEM' });
  const file = (name: string) => join(directory, name);
  const ca = { AMQP_CA_FILE: file('ca') };
  const all = { ...ca, AMQP_CERT_FILE: file('cert'), AMQP_KEY_FILE: file('key') };
  const urls: Env[] = [{}, { AMQP_URL: 'amqps://broker' }];
  for (const url of urls) {
    t.regex(
      problemsOf(t, () => serving({ ...INSTALLATION, ...url, ...ca }))[0] ?? '',
      /^AMQP_CA_FILE set, but with MANAGER_URL .*unset it$/,
    );
    t.regex(
      problemsOf(t, () => serving({ ...INSTALLATION, ...url, ...all }))[0] ?? '',
      /^AMQP_CA_FILE, AMQP_CERT_FILE, AMQP_KEY_FILE set, .*unset them$/,
    );
  }
});

test('half a configuration is refused: the sandbox would pass over it', (t) => {
  for (const [name, value] of [
    ['CLUSTERS_FILE', '/dev/null'],
    ['ALLOWED_HOSTS', '10.0.0.0/8'],
    ['AMQP_CA_FILE', '/dev/null'],
    ['ETCD_DISCOVERY_URL', 'http://localhost:2379'],
    ['FLEET_API_PORT', '49153'],
  ] as const) {
    t.deepEqual(
      problemsOf(t, () => serving({ [name]: value })),
      [
        `${name} is set, which a sandbox would pass over: set AMQP_URL too, to serve real clusters; or unset it, to run the sandbox`,
      ],
    );
    t.notThrows(() => serving({ [name]: value, AMQP_URL: 'amqp://localhost' }));
    t.notThrows(() => read({ [name]: value }));
  }
  t.deepEqual(
    problemsOf(t, () => serving({ FLEET_API_PORT: '49153', ALLOWED_HOSTS: '10.0.0.1' })),
    [
      'FLEET_API_PORT and ALLOWED_HOSTS are set, which a sandbox would pass over: set AMQP_URL too, to serve real clusters; or unset them, to run the sandbox',
    ],
  );
});

test('a gateway that others can reach needs a token', (t) => {
  for (const HTTP_HOST of ['0.0.0.0', '::', '10.0.0.1', 'example.org', '127.0.0.1.example.org']) {
    t.deepEqual(
      problemsOf(t, () => serving({ HTTP_HOST })),
      [`HTTP_HOST is ${HTTP_HOST}, which others can reach: set HTTP_TOKEN, or leave HTTP_HOST at 127.0.0.1`],
    );
    t.notThrows(() => serving({ HTTP_HOST, HTTP_TOKEN: '0123456789abcdef' }));
    t.notThrows(() => serving({ HTTP_HOST, HTTP_PORT: 'off' }));
    t.notThrows(() => read({ HTTP_HOST }), 'a caller says where the gateway is');
  }
  for (const HTTP_HOST of ['127.0.0.1', '127.1.2.3', '::1', 'localhost'])
    t.notThrows(() => serving({ HTTP_HOST }));
});

test('every setting is shown with its value, where that comes from, and what it is for', async (t) => {
  const directory = await folder(t, { 'config/development.json': '{"PREFETCH": 40, "READ_ONLY": true}' });
  const settings = describeSettings({ env: { CONCURRENCY: '10' }, directory });
  const shown = Object.fromEntries(settings.map(({ name, value, from }) => [name, [value, from]]));
  t.like(shown, {
    CONCURRENCY: ['10', 'environment'],
    PREFETCH: ['40', 'file'],
    READ_ONLY: ['true', 'file'],
    QUEUE_NAME: ['fleet_manager', 'default'],
    AMQP_URL: [undefined, 'unset'],
  });
  t.true(settings.every(({ about }) => about.length > 10));
});

test('what a setting is when it is not set is shown too, where that depends on something else', (t) => {
  const shown = (name: string, env: Env = {}) => setting({ env, directory: NOWHERE }, name);
  t.like(shown('LOG_FORMAT'), { value: 'text', from: 'default', default: undefined });
  t.like(shown('LOG_FORMAT', { NODE_ENV: 'production' }), { value: 'json', from: 'default' });
  t.is(shown('HOSTNAME')?.value, read({}).hostname);
  t.is(shown('SSH_KNOWN_HOSTS')?.value, read({}).ssh.knownHostsFile);
  t.like(shown('HOSTNAME', { HOSTNAME: 'here' }), { value: 'here', from: 'environment' });
});

test('a user name and password are shown of no URL', (t) => {
  for (const name of ['MANAGER_URL', 'OAUTH_LOGIN_URL', 'ETCD_DISCOVERY_URL']) {
    const shown = (url: string) => setting({ env: { [name]: url }, directory: NOWHERE }, name)?.value;
    t.is(shown('https://user:secret@host/path'), 'https://***@host/path');
    t.is(shown('HTTP://user:se/cret@host'), 'HTTP://***@host');
    t.is(shown('https://host:8080/path'), 'https://host:8080/path');
  }
});

test('of a broker the address is shown and what opens it is not', (t) => {
  const shown = (AMQP_URL: string) => setting({ env: { AMQP_URL }, directory: NOWHERE }, 'AMQP_URL')?.value;
  t.is(shown('amqp://localhost:5672/vhost'), 'amqp://localhost:5672/vhost');
  t.is(shown('amqp://user:secret@one:5672,amqps://user@two/v'), 'amqp://***@one:5672,amqps://***@two/v');
  t.is(shown('amqp://one, amqp://user:secret@two'), 'amqp://one,amqp://***@two');
  t.is(shown('amqp://user:secret@secret@host'), 'amqp://***@host');
  t.is(shown('amqp://user:12/secret@host'), 'amqp://***@host');
  t.is(shown('amqp://user:12,secret@host'), '***');
  t.is(shown('user:secret'), '***');
  t.is(shown('http://user:secret@host'), '***');
});

test('a secret never shows, whatever its form', (t) => {
  const password = fc
    .string({ minLength: 1, unit: fc.constantFrom(...`ab1/@:,?#%.=&-_ \\'`.split('')) })
    .map((each) => `12${each}Zq`);
  const property = fc.property(password, (secret) => {
    for (const AMQP_URL of [
      `amqp://user:${secret}@host`,
      `amqp://user:${encodeURIComponent(secret)}@host`,
      `amqp://user:${secret}@one,amqp://user:${secret}@two`,
      secret,
    ]) {
      const env = { AMQP_URL, HTTP_TOKEN: secret };
      const told = [JSON.stringify(describeSettings({ env, directory: NOWHERE }))];
      try {
        serving({ ...env, FLEET_API_PORT: 'x' });
      } catch (error) {
        told.push(String(error));
      }
      for (const text of told) if (text.includes('Zq')) return false;
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 1_000 }));
});

test('a token that reads as a URL is not shown', (t) => {
  for (const HTTP_TOKEN of [
    'token:0123456789abcdef',
    'https://user@host/0123456789',
    'amqp:0123456789abcdef',
  ])
    t.is(setting({ env: { HTTP_TOKEN }, directory: NOWHERE }, 'HTTP_TOKEN')?.value, '***');
});

test('a password may hold any sign that is percent-encoded', (t) => {
  const property = fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (password) => {
    const url = `amqp://user:${encodeURIComponent(password)}@host:5672/vhost`;
    t.deepEqual(read({ AMQP_URL: `${url},amqp://other` }).amqp?.urls, [url, 'amqp://other']);
  });
  fc.assert(property);
});
