import { join } from 'node:path';
import test from 'ava';
import { type Env, folder, INSTALLATION, problemsOf, read, serving } from '../support/settings.js';

const REFUSED: Record<string, [env: Env, problem: RegExp]> = {
  'a certificate without a key': [
    { AMQP_CERT_FILE: '/dev/null' },
    /^AMQP_CERT_FILE and AMQP_KEY_FILE require each other/,
  ],
  'a key without a certificate': [
    { AMQP_KEY_FILE: '/dev/null' },
    /^AMQP_CERT_FILE and AMQP_KEY_FILE require each other/,
  ],
  'a login for a claim store that is not set': [
    { CLAIMS_ETCD_USER: 'worker', CLAIMS_ETCD_PASSWORD: 'secret' },
    /^CLAIMS_ETCD_USER, CLAIMS_ETCD_PASSWORD set, but CLAIMS_ETCD_URL is not/,
  ],
  'a user of the claim store without a password': [
    { CLAIMS_ETCD_URL: 'http://etcd:2379', CLAIMS_ETCD_USER: 'worker' },
    /^CLAIMS_ETCD_USER and CLAIMS_ETCD_PASSWORD require each other/,
  ],
  'a list of claim stores with one that is no URL': [
    { CLAIMS_ETCD_URL: 'http://etcd1:2379,etcd2:2379' },
    /^CLAIMS_ETCD_URL must be an http/,
  ],
  'priorities of quorum queues': [
    { QUEUE_TYPE: 'quorum', QUEUE_MAX_PRIORITY: '5' },
    /^QUEUE_MAX_PRIORITY is set, but QUEUE_TYPE is quorum/,
  ],
  'an audit that is required, and off': [
    { AUDIT_REQUIRED: 'true', AUDIT_READS: 'true' },
    /^AUDIT_REQUIRED, AUDIT_READS set, but AUDIT is off/,
  ],
  'an audit that is required, and goes where nothing says that it is kept': [
    { AUDIT: 'stderr', AUDIT_REQUIRED: 'true' },
    /^AUDIT_REQUIRED is true, but AUDIT is stderr/,
  ],
  'a word for the audit that is none': [
    { AUDIT: 'steam' },
    /^AUDIT must be off, stderr, stream, or the path/,
  ],
  'a port that is too large': [{ HTTP_PORT: '65536' }, /^HTTP_PORT must be at most 65535$/],
  'a port of the metrics that is too large': [
    { METRICS_PORT: '65536' },
    /^METRICS_PORT must be at most 65535$/,
  ],
};

for (const [what, [env, problem]] of Object.entries(REFUSED)) {
  test(`refused: ${what}`, (t) => {
    const problems = problemsOf(t, () => read(env));
    t.is(problems.length, 1, problems.join('\n'));
    t.regex(problems[0] ?? '', problem);
  });
}

test('a memory budget without room for the largest request is refused, with the figure that is needed', (t) => {
  const MEBIBYTE = 1024 * 1024;
  const needs = (env: Env): number => {
    const [problem = '', ...more] = problemsOf(t, () => serving({ AMQP_URL: 'amqp://localhost', ...env }));
    t.deepEqual(more, []);
    const [, least] =
      /^MEMORY_BUDGET_BYTES is \d+.*: it must be at least (\d+) to decode a request of MAX_MESSAGE_BYTES/.exec(
        problem,
      ) ?? [];
    return Number(least);
  };
  for (const HTTP_PORT of ['0', 'off']) {
    const large = { HTTP_PORT, MAX_MESSAGE_BYTES: String(64 * MEBIBYTE) };
    const least = needs(large);
    t.true(least > 4 * 64 * MEBIBYTE);
    t.is(needs({ ...large, MEMORY_BUDGET_BYTES: String(least - 1) }), least);
    t.notThrows(() =>
      serving({ AMQP_URL: 'amqp://localhost', ...large, MEMORY_BUDGET_BYTES: String(least) }),
    );
    t.notThrows(() => read({ AMQP_URL: 'amqp://localhost', ...large }), 'a caller decodes no requests');
  }
});

test('a simulated cluster with a real broker is refused beside settings of real clusters', (t) => {
  const env = { AMQP_URL: 'amqp://localhost', SANDBOX_CLUSTER: 'true' };
  t.true(serving({ ...env, CLAIMS_ETCD_URL: 'http://etcd:2379' }).sandboxCluster);
  const [problem = '', ...more] = problemsOf(t, () =>
    serving({ ...env, FLEET_API_PORT: '1', SSH_USER: 'root' }),
  );
  t.regex(problem, /^FLEET_API_PORT and SSH_USER set, but SANDBOX_CLUSTER is true/);
  t.deepEqual(more, []);
});

test('a sandbox has no stream for the audit, but may have a file', (t) => {
  const [problem = '', ...more] = problemsOf(t, () => serving({ AUDIT: 'stream' }));
  t.regex(problem, /^AUDIT is stream, but the broker of a sandbox has no streams/);
  t.deepEqual(more, []);
  t.is(serving({ AUDIT: './audit.jsonl' }).audit?.target, './audit.jsonl');
  t.is(serving({}).audit, undefined);
});

test('outside of development and test the sandbox is refused, and the problem names AMQP_URL', (t) => {
  for (const NODE_ENV of ['production', 'staging', 'prod']) {
    t.deepEqual(
      problemsOf(t, () => serving({ NODE_ENV })),
      [
        `AMQP_URL is not set: without it the service is a sandbox, which NODE_ENV=${NODE_ENV} does not allow; set AMQP_URL to your RabbitMQ, such as amqp://user:password@host:5672`,
      ],
    );
    t.notThrows(() => serving({ NODE_ENV, AMQP_URL: 'amqp://localhost' }));
    t.notThrows(() => read({ NODE_ENV }), 'a caller may use the gateway');
  }
  t.notThrows(() => serving({ NODE_ENV: 'test' }));
});

test('in an installation, the names of a module fit the columns of the Manager', (t) => {
  for (const name of ['HOSTNAME', 'MODULE_TYPE']) {
    t.notThrows(() => serving({ ...INSTALLATION, [name]: 'x'.repeat(255) }));
    for (const value of ['x'.repeat(256), 'büro', 'Łódź', 'a\u0007b']) {
      const problems = problemsOf(t, () => serving({ ...INSTALLATION, [name]: value }));
      t.deepEqual(problems, [
        `${name} must be at most 255 printable ASCII characters: OpenAperture stores no others for a module`,
      ]);
    }
  }
  t.is(serving({ AMQP_URL: 'amqp://host', HOSTNAME: 'büro' }).hostname, 'büro');
});

test('an incomplete installation is refused, and the problem names the missing settings', (t) => {
  const names = Object.keys(INSTALLATION);
  for (const missing of [...names.map((name) => [name]), names.slice(1), names.slice(0, 3)]) {
    const env = Object.fromEntries(Object.entries(INSTALLATION).filter(([name]) => !missing.includes(name)));
    for (const reading of [read, serving])
      t.deepEqual(
        problemsOf(t, () => reading(env)),
        [
          `an OpenAperture installation needs all of its settings: set ${missing.join(', ')} too, or unset the others`,
        ],
      );
  }
});

test('certificates for amqps are refused with an installation, whose brokers have no amqps addresses', async (t) => {
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

test('certificates are refused without an amqps address, as nothing would use them', async (t) => {
  const directory = await folder(t, { ca: 'PEM' });
  const AMQP_CA_FILE = join(directory, 'ca');
  t.deepEqual(
    problemsOf(t, () => read({ AMQP_URL: 'amqp://one,amqp://two', AMQP_CA_FILE })),
    [
      'AMQP_CA_FILE set, but AMQP_URL has no amqps:// address, and certificates are used for no other: use amqps://, or unset it',
    ],
  );
  t.notThrows(() => read({ AMQP_URL: 'amqp://one, amqps://two', AMQP_CA_FILE }));
});

test('brokers of AMQP_URL and of a Manager contradict each other', (t) => {
  const both = { ...INSTALLATION, AMQP_URL: 'amqp://localhost' };
  t.deepEqual(
    problemsOf(t, () => serving(both)),
    [
      'AMQP_URL and MANAGER_URL are both set, but with MANAGER_URL the brokers come from the Manager: unset one of them',
    ],
  );
  t.notThrows(() => read(both), 'a caller uses the Manager');
});

test('a sandbox without its gateway is refused, as nothing could call it', (t) => {
  t.deepEqual(
    problemsOf(t, () => serving({ HTTP_PORT: 'off' })),
    [
      'HTTP_PORT is off and AMQP_URL is not set, so nothing could call the service: set AMQP_URL, to serve real clusters; or HTTP_PORT, to call the sandbox',
    ],
  );
  t.notThrows(() => serving({ HTTP_PORT: 'off', AMQP_URL: 'amqp://localhost' }));
});

test('settings of real clusters are refused without a broker: the sandbox would ignore them', (t) => {
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
        `${name} is set, which a sandbox would ignore: set AMQP_URL too, to serve real clusters; or unset it, to run the sandbox`,
      ],
    );
    t.notThrows(() => serving({ [name]: value, AMQP_URL: 'amqps://localhost' }));
    t.notThrows(() => read({ [name]: value }));
  }
  t.deepEqual(
    problemsOf(t, () => serving({ FLEET_API_PORT: '49153', ALLOWED_HOSTS: '10.0.0.1' })),
    [
      'FLEET_API_PORT and ALLOWED_HOSTS are set, which a sandbox would ignore: set AMQP_URL too, to serve real clusters; or unset them, to run the sandbox',
    ],
  );
});

test('a gateway that other machines can reach needs a token', (t) => {
  for (const HTTP_HOST of ['0.0.0.0', '::', '10.0.0.1', 'example.org', '127.0.0.1.example.org']) {
    t.deepEqual(
      problemsOf(t, () => serving({ HTTP_HOST })),
      [
        `HTTP_HOST is ${HTTP_HOST}, which other machines can reach: set HTTP_TOKEN or HTTP_TOKENS_FILE, or leave HTTP_HOST at 127.0.0.1`,
      ],
    );
    t.notThrows(() => serving({ HTTP_HOST, HTTP_TOKEN: '0123456789abcdef' }));
    t.notThrows(() => serving({ HTTP_HOST, HTTP_TOKENS_FILE: '/etc/tokens.json' }));
    t.notThrows(() => serving({ AMQP_URL: 'amqp://localhost', HTTP_HOST, HTTP_PORT: 'off' }));
    t.notThrows(() => read({ HTTP_HOST }), '`call` uses it as the address of the gateway');
  }
  for (const HTTP_HOST of ['127.0.0.1', '127.1.2.3', '::1', 'localhost'])
    t.notThrows(() => serving({ HTTP_HOST }));
});

test('metrics that other machines can reach need a token', (t) => {
  for (const METRICS_HOST of ['0.0.0.0', '::', '10.0.0.1']) {
    const env = { METRICS_PORT: '9187', METRICS_HOST };
    t.deepEqual(
      problemsOf(t, () => serving(env)),
      [
        `METRICS_HOST is ${METRICS_HOST}, which other machines can reach: set METRICS_TOKEN, or leave METRICS_HOST at 127.0.0.1`,
      ],
    );
    t.notThrows(() => serving({ ...env, METRICS_TOKEN: '0123456789abcdef' }));
    t.notThrows(() => serving({ METRICS_HOST }), 'they are off');
    t.notThrows(() => serving({ METRICS_PORT: 'gateway', METRICS_HOST }), 'the gateway has its own address');
  }
  t.notThrows(() => serving({ METRICS_PORT: '9187' }));
});

test('metrics on the port of a gateway that is off are refused', (t) => {
  const env = { AMQP_URL: 'amqp://localhost', METRICS_PORT: 'gateway' };
  t.deepEqual(
    problemsOf(t, () => serving({ ...env, HTTP_PORT: 'off' })),
    ['METRICS_PORT is gateway, but HTTP_PORT is off: set a port for the metrics, or for the gateway'],
  );
  t.notThrows(() => serving(env));
});
