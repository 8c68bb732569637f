import test from 'ava';
import fc from 'fast-check';
import { type Env, INSTALLATION, problemsOf, read } from '../support/settings.js';

const REFUSED: Record<string, [env: Env, problem: RegExp]> = {
  'a broker that is not an AMQP URL': [
    { AMQP_URL: 'http://localhost' },
    /^AMQP_URL must be one or more amqp/,
  ],
  'a broker without a scheme': [{ AMQP_URL: 'localhost:5672' }, /^AMQP_URL must be/],
  'one of several brokers that is not a URL': [{ AMQP_URL: 'amqp://a,b' }, /^AMQP_URL must be/],
  'an empty list of brokers': [{ AMQP_URL: ', ,' }, /^AMQP_URL must be/],
  'a heartbeat that is not a number': [
    { AMQP_URL: 'amqp://a?heartbeat=abc' },
    /^AMQP_URL has a heartbeat that is not a whole number from 1 to 3600/,
  ],
  'a heartbeat with a unit': [{ AMQP_URL: 'amqp://a?heartbeat=10s' }, /^AMQP_URL has a heartbeat that/],
  'a negative heartbeat': [{ AMQP_URL: 'amqp://a?heartbeat=-1' }, /^AMQP_URL has a heartbeat that/],
  'no heartbeat': [{ AMQP_URL: 'amqp://a?heartbeat=0' }, /^AMQP_URL has a heartbeat that/],
  'a second heartbeat that is not a number': [
    { AMQP_URL: 'amqp://a?heartbeat=5&heartbeat=x' },
    /^AMQP_URL has a heartbeat that/,
  ],
  'too few channels, at one of several brokers': [
    { AMQP_URL: 'amqp://a,amqp://b/v?channelMax=3' },
    /^AMQP_URL has a channelMax that is not a whole number from 4 to 65535/,
  ],
  'frames that are smaller than AMQP allows': [
    { AMQP_URL: 'amqp://a?heartbeat=5&frameMax=10' },
    /^AMQP_URL has a frameMax that is not a whole number from 4096 to 131072/,
  ],
  'a CA file that does not exist': [
    { AMQP_CA_FILE: '/nonexistent/ca' },
    /^AMQP_CA_FILE names a file that cannot be read: ENOENT/,
  ],
  'a clusters file that does not exist': [
    { CLUSTERS_FILE: '/nonexistent/c' },
    /^CLUSTERS_FILE names a file that cannot be read/,
  ],
  'a queue name with spaces': [{ QUEUE_NAME: 'a b' }, /^QUEUE_NAME must be the name of a queue/],
  'a queue name that is reserved for the broker': [
    { QUEUE_NAME: 'amq.gen' },
    /^QUEUE_NAME must be the name of a queue/,
  ],
  'a queue name that is too long': [
    { QUEUE_NAME: 'a'.repeat(201) },
    /^QUEUE_NAME must have at most 200 bytes; it is "/,
  ],
  'a queue name with too many bytes': [
    { QUEUE_NAME: 'é'.repeat(101) },
    /^QUEUE_NAME must have at most 200 bytes; it is "/,
  ],
  'a name of the worker that is too long': [
    { HOSTNAME: 'é'.repeat(513) },
    /^HOSTNAME must have at most 1024 bytes; it is "/,
  ],
  'a count that is not a number': [{ PREFETCH: 'many' }, /^PREFETCH must be a whole number; it is "/],
  'a count with a space in it': [{ PREFETCH: '4 0' }, /^PREFETCH must be a whole number; it is "4 0"$/],
  'a count with a fraction': [{ CONCURRENCY: '1.5' }, /^CONCURRENCY must be a whole number; it is "/],
  'a count that is too small': [
    { CLUSTER_CONCURRENCY: '0' },
    /^CLUSTER_CONCURRENCY must be at least 1; it is "/,
  ],
  'a count that is too large': [
    { FLEET_API_PORT: '65536' },
    /^FLEET_API_PORT must be at most 65535; it is "/,
  ],
  'a discovery service that is not an HTTP URL': [
    { ETCD_DISCOVERY_URL: 'etcd:2379' },
    /^ETCD_DISCOVERY_URL must be an http/,
  ],
  'a discovery service with a password': [
    { ETCD_DISCOVERY_URL: 'http://user:Zq@etcd:2379' },
    /^ETCD_DISCOVERY_URL must not contain a user name or password/,
  ],
  'an allowed host that is not valid': [
    { ALLOWED_HOSTS: '10.0.0.0/99' },
    /^ALLOWED_HOSTS: .*10\.0\.0\.0\/99/,
  ],
  'a URL with a login in the place of allowed hosts': [
    { ALLOWED_HOSTS: '10.0.0.0/8,http://u:Zq@h' },
    /^ALLOWED_HOSTS: entry 2 is not an address, .*; it is "\*\*\*"$/,
  ],
  'a URL with a login in the place of another text': [
    { SSH_USER: 'http://u:Zq@h' },
    /^SSH_USER must not be a URL with a user name, a password or a query; it is "http:\/\/\*\*\*@h"$/,
  ],
  'a host to listen on that is a URL': [
    { HTTP_HOST: 'http://localhost' },
    /^HTTP_HOST must be an address or the name of a host; it is "http:\/\/localhost"$/,
  ],
  'a flag that is neither true nor false': [
    { READ_ONLY: 'yes' },
    /^READ_ONLY must be true or false; it is "/,
  ],
  'an empty list of actions': [{ ACTIONS: ',' }, /^ACTIONS must name actions/],
  'a package with its version': [
    { PLUGINS: 'good,@acme/actions@1.2.0' },
    /^PLUGINS must be names of npm packages, such as @acme\/fleet-actions, separated by commas; for a folder use PLUGIN_PATHS; it is "/,
  ],
  'a package that is a path': [{ PLUGINS: './actions' }, /^PLUGINS must be names of npm packages/],
  'an empty list of packages': [{ PLUGINS: ' , ' }, /^PLUGINS must be names of npm packages/],
  'a port that is not a number': [
    { HTTP_PORT: 'http' },
    /^HTTP_PORT must be a port number, 0 for a free port, or off; it is "/,
  ],
  'a port of the metrics that is another word': [
    { METRICS_PORT: 'on' },
    /^METRICS_PORT must be a port number, 0 for a free port, gateway or off; it is "/,
  ],
  'a token that is too short': [{ HTTP_TOKEN: 'secret' }, /^HTTP_TOKEN must have at least 16 characters$/],
  'a token that is not ASCII': [{ HTTP_TOKEN: 'sécret-of-sixteen' }, /^HTTP_TOKEN must be printable ASCII$/],
  'a management plugin without a scheme': [
    { AMQP_MANAGEMENT_URL: 'rabbit:15672' },
    /^AMQP_MANAGEMENT_URL must be an http:\/\/ or https:\/\/ URL/,
  ],
  'a management plugin with an @ in its password': [
    { AMQP_MANAGEMENT_URL: 'http://user:pass@word@rabbit:15672' },
    /^AMQP_MANAGEMENT_URL must be .*%40$/,
  ],
  'a management plugin with the scheme of the broker': [
    { AMQP_MANAGEMENT_URL: 'amqp://rabbit:5672' },
    /^AMQP_MANAGEMENT_URL must be an http/,
  ],
  'a broker with the scheme of its management plugin': [
    { AMQP_URL: 'http://rabbit:15672' },
    /^AMQP_URL must be one or more amqp/,
  ],
  'a limit for requests that is too small': [
    { MAX_MESSAGE_BYTES: '10' },
    /^MAX_MESSAGE_BYTES must be at least 1024; it is "/,
  ],
  'a limit for replies that is too large': [
    { MAX_ANSWER_BYTES: '1e12' },
    /^MAX_ANSWER_BYTES must be at most/,
  ],
  'an unknown log level': [
    { LOG_LEVEL: 'verbose' },
    /^LOG_LEVEL must be error, warn, info or debug; it is "/,
  ],
  'an unknown log format': [{ LOG_FORMAT: 'xml' }, /^LOG_FORMAT must be json or text; it is "/],
};

for (const [what, [env, problem]] of Object.entries(REFUSED)) {
  test(`refused: ${what}`, (t) => {
    const problems = problemsOf(t, () => read(env));
    t.is(problems.length, 1, problems.join('\n'));
    t.regex(problems[0] ?? '', problem);
  });
}

for (const password of [
  'Zq@qZ',
  '@Zq',
  'Zq/qZ',
  '12/Zq',
  '12?Zq',
  'Zq#qZ',
  '12#Zq',
  'Zq,qZ',
  'Zq%qZ',
  'Zq%4',
  'Zq/@qZ',
])
  test(`a password that is not encoded is refused in every URL, and not shown: ${password}`, (t) => {
    const [problem = '', ...more] = problemsOf(t, () => read({ AMQP_URL: `amqp://user:${password}@host` }));
    t.regex(problem, /^AMQP_URL must .*percent-encode , \/ \? # % @ as %2C %2F %3F %23 %25 %40$/);
    t.deepEqual(more, []);
    for (const name of ['MANAGER_URL', 'OAUTH_LOGIN_URL', 'ETCD_DISCOVERY_URL']) {
      const url = `https://user:${password}@host`;
      const problems = problemsOf(t, () => read({ ...INSTALLATION, [name]: url }));
      t.is(problems.length, 1);
      t.regex(problems[0] ?? '', new RegExp(`^${name} must not contain a user name or password`));
      t.notRegex(problems[0] ?? '', /Zq/);
    }
  });

test('an encoded password is accepted, and so are those characters elsewhere', (t) => {
  const url =
    'amqps://us%40er:%2C%2F%3F%23%25%40:!$&;=+~@host:5671/v%2Fh?heartbeat=5&channelMax=4&frameMax=4096';
  t.deepEqual(read({ AMQP_URL: `${url},amqp://[::1]:5672` }).amqp?.urls, [url, 'amqp://[::1]:5672']);
  t.is(read({ ETCD_DISCOVERY_URL: 'http://etcd/a%40b' }).clusters.discoveryUrl, 'http://etcd/a%40b');
});

test('a refused value is shown, cut and without control characters; a secret is not', (t) => {
  const problemOf = (env: Env) => problemsOf(t, () => read(env)).join('\n');
  t.is(
    problemOf({ LOG_LEVEL: 'in\u001b]0;x\u0007fo' }),
    'LOG_LEVEL must be error, warn, info or debug; it is "in\\u001b]0;x\\u0007fo"',
  );
  t.true(problemOf({ PREFETCH: 'x'.repeat(100_000) }).length < 250);
  for (const HTTP_TOKEN of ['Zqsecret', '"Zqsecret"']) t.false(problemOf({ HTTP_TOKEN }).includes('Zq'));
  t.false(problemOf({ AMQP_URL: 'amqp://svc:Zqsecret' }).includes('Zq'));
  t.false(problemOf({ HTTP_HOST: 'http://svc:Zqsecret@host', HTTP_PORT: 'x' }).includes('Zq'));
});

test('quotes around a value are refused, and named as what docker --env-file keeps; those of a passphrase belong to it', (t) => {
  for (const [name, value] of Object.entries({
    SSH_USER: 'core',
    READ_ONLY: 'true',
    HTTP_PORT: '8080',
    HTTP_TOKEN: '0123456789abcdef',
    AMQP_URL: 'amqp://localhost',
  }))
    for (const quote of ['"', "'"]) {
      const problems = problemsOf(t, () => read({ [name]: `${quote}${value}${quote}` }));
      t.is(problems.length, 1);
      t.regex(problems[0] ?? '', new RegExp(`^${name} must .*; remove the quotes .*docker run --env-file`));
    }
  t.is(read({ SSH_PASSPHRASE: '"open sesame"' }).ssh.passphrase, '"open sesame"');
});

test('the address of a service link of Kubernetes is refused as a port, with the cause and the cure', (t) => {
  for (const [name, service] of [
    ['FLEET_API_PORT', 'fleet-api'],
    ['HTTP_PORT', 'http'],
    ['SSH_PORT', 'ssh'],
  ]) {
    const problems = problemsOf(t, () => read({ [name ?? '']: 'tcp://10.1.2.3:4001' }));
    t.is(problems.length, 1);
    t.regex(
      problems[0] ?? '',
      new RegExp(
        `^${name} must be .*; it is "tcp://10\\.1\\.2\\.3:4001"; Kubernetes sets it for a service with the name ${service}: set enableServiceLinks: false`,
      ),
    );
  }
});

test('a user name or password is refused in a URL that must not have one, and is not repeated', (t) => {
  for (const name of ['MANAGER_URL', 'OAUTH_LOGIN_URL', 'ETCD_DISCOVERY_URL'])
    for (const login of ['user:Zqsecret', 'Zqsecret', ':Zqsecret'])
      t.deepEqual(
        problemsOf(t, () => read({ ...INSTALLATION, [name]: `https://${login}@host.example.com` })),
        [
          `${name} must not contain a user name or password; elsewhere, write an @ as %40; it is "https://***@host.example.com"`,
        ],
      );
});

test('a password may contain any percent-encoded character', (t) => {
  const property = fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (password) => {
    const url = `amqp://user:${encodeURIComponent(password)}@host:5672/vhost`;
    t.deepEqual(read({ AMQP_URL: `${url},amqp://other` }).amqp?.urls, [url, 'amqp://other']);
  });
  fc.assert(property);
});
