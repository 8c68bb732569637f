import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { describeSettings } from '../../src/settings/describe-settings.js';
import {
  folder,
  INSTALLATION,
  NOWHERE,
  problemsOf,
  read,
  serving,
  shownSetting,
} from '../support/settings.js';
import { planted } from '../support/planted-secrets.js';

test('an empty variable counts as unset', (t) => {
  const names = describeSettings({ env: {}, directory: NOWHERE }).map(({ name }) => name);
  const env = Object.fromEntries(
    names.flatMap((name) => [
      [name, ''],
      [`${name}_FILE`, ''],
    ]),
  );
  t.deepEqual(serving(env), serving({}));
  t.like(shownSetting({ env, directory: NOWHERE }, 'AMQP_URL'), { value: undefined, from: 'unset' });
  t.like(shownSetting({ env, directory: NOWHERE }, 'PREFETCH'), { value: '200', from: 'default' });
});

test('the configuration file of the environment is read, and a variable overrides it', async (t) => {
  const directory = await folder(t, {
    'config/development.json': JSON.stringify({
      QUEUE_NAME: 'of_development',
      PREFETCH: 40,
      READ_ONLY: true,
    }),
    'config/staging.json': JSON.stringify({ QUEUE_NAME: 'of_staging', AMQP_URL: 'amqp://staging' }),
  });
  t.like(read({}, directory), {
    rpc: { queue: 'of_development', prefetch: 40 },
    plugins: { readOnly: true },
  });
  t.like(read({ QUEUE_NAME: 'of_env', READ_ONLY: 'false' }, directory), {
    rpc: { queue: 'of_env', prefetch: 40 },
    plugins: { readOnly: false },
  });
  t.like(read({ QUEUE_NAME: '' }, directory), { rpc: { queue: 'of_development' } });
  t.like(serving({ NODE_ENV: 'staging' }, directory), {
    rpc: { queue: 'of_staging' },
    amqp: { urls: ['amqp://staging'] },
  });
});

test('a key of the file that is not a setting is refused', async (t) => {
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

test('an invalid file is refused, and the problem does not quote it', async (t) => {
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

test('settings that may be in an unreadable file are not also reported as missing', async (t) => {
  const directory = await folder(t, { 'config/production.json': '{"AMQP_URL": ' });
  const given: Record<string, string>[] = [{}, { HTTP_HOST: '0.0.0.0' }, { MANAGER_URL: 'http://manager' }];
  for (const env of given) {
    const problems = problemsOf(t, () => serving({ ...env, NODE_ENV: 'production' }, directory));
    t.is(problems.length, 1, problems.join('\n'));
    t.regex(problems[0] ?? '', /config\/production\.json cannot be read/);
  }
});

test('values of the file other than text, numbers and booleans are refused', async (t) => {
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
  t.like(shownSetting({ env, directory }, 'HTTP_TOKEN'), { value: '***', from: 'environment' });
  t.like(shownSetting({ env, directory }, 'AMQP_URL'), { value: 'amqp://***@host', from: 'environment' });
});

test('a secret from its own file overrides the configuration file', async (t) => {
  const directory = await folder(t, {
    'config/development.json': '{"HTTP_TOKEN": "of the configuration"}',
    token: 'of the secret file',
  });
  t.is(read({ HTTP_TOKEN_FILE: join(directory, 'token') }, directory).http?.token, 'of the secret file');
});

test('a secret that cannot be read is reported once, and not also as missing', async (t) => {
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
  // Instead of a path it may be the secret itself.
  const mistaken = planted('secret in place of its file');
  const [shown = ''] = problemsOf(t, () => serving({ ...production, AMQP_URL_FILE: mistaken }));
  t.regex(shown, /^AMQP_URL_FILE names a file that cannot be read/);
  t.false(shown.includes(mistaken), 'the secret is shown');
});

test('a list may be a JSON list in the file, if its items are texts without the separator', async (t) => {
  const lists = {
    ALLOWED_HOSTS: ['10.0.0.0/8', '*.example.org'],
    ACTIONS: ['a', 'b'],
    PLUGIN_PATHS: ['/a', '/b'],
  };
  const directory = await folder(t, { 'config/development.json': JSON.stringify(lists) });
  t.like(read({}, directory), {
    clusters: { allowedHosts: lists.ALLOWED_HOSTS },
    plugins: { only: lists.ACTIONS, paths: lists.PLUGIN_PATHS },
  });
  t.like(shownSetting({ env: {}, directory }, 'ACTIONS'), { value: 'a,b', from: 'file' });
  for (const ACTIONS of [['a', 3], ['a,b'], [['a']]]) {
    const wrong = await folder(t, { 'config/development.json': JSON.stringify({ ACTIONS }) });
    t.regex(problemsOf(t, () => read({}, wrong)).join(), /^ACTIONS must be a string/);
  }
});

test('spaces and line breaks around a value do not belong to it, as in an env file with CRLF; nothing else counts as unset', async (t) => {
  const names = describeSettings({ env: {}, directory: NOWHERE }).map(({ name }) => name);
  const directory = await folder(t, { token: '0123456789abcdef' });
  const env: Record<string, string> = {
    NODE_ENV: 'test',
    AMQP_URL: 'amqp://host',
    QUEUE_NAME: 'requests',
    PREFETCH: '40',
    READ_ONLY: 'true',
    ACTIONS: 'list_units',
    HTTP_PORT: '0',
    HTTP_TOKEN_FILE: join(directory, 'token'),
    SSH_HOST_KEYS: 'accept-new',
    LOG_LEVEL: 'debug',
    LOG_FORMAT: 'json',
  };
  for (const [before, after] of [
    ['', '\r'],
    [' \t', ' \r\n'],
  ]) {
    const inFile = Object.entries(env).map(([name, value]) => [name, `${before}${value}${after}`]);
    const empty = names
      .filter((name) => !(name in env) && name !== 'HTTP_TOKEN')
      .map((name) => [name, after]);
    t.deepEqual(serving(Object.fromEntries([...inFile, ...empty])), serving(env));
  }
  t.is(shownSetting({ env: { LOG_LEVEL: 'debug\r' }, directory }, 'LOG_LEVEL')?.value, 'debug');
});

test('the spaces of a passphrase and of a client secret belong to them, a line break at the end does not', async (t) => {
  for (const end of ['', '\r', '\n', '\r\n']) {
    const directory = await folder(t, { secret: ` open sesame ${end}` });
    const SSH_PASSPHRASE_FILE = join(directory, 'secret');
    t.is(read({ SSH_PASSPHRASE: ` open sesame ${end}` }).ssh.passphrase, ' open sesame ');
    t.is(read({ SSH_PASSPHRASE_FILE }).ssh.passphrase, ' open sesame ');
    const { OAUTH_CLIENT_SECRET: _replaced, ...others } = INSTALLATION;
    const env = { ...others, OAUTH_CLIENT_SECRET_FILE: join(directory, 'secret') };
    t.is(read(env).openaperture?.oauth.clientSecret, ' open sesame ');
  }
});

test('a byte order mark at the beginning of a file is skipped', async (t) => {
  const directory = await folder(t, {
    'config/test.json': '\ufeff{"PREFETCH": 40}',
    clusters: '\ufeff{"a": []}',
    pem: '\ufeffPEM',
    secret: '\ufeff0123456789abcdef',
  });
  const file = (name: string) => join(directory, name);
  const configuration = read(
    {
      NODE_ENV: 'test',
      CLUSTERS_FILE: file('clusters'),
      SSH_KEY_FILE: file('pem'),
      HTTP_TOKEN_FILE: file('secret'),
      AMQP_URL: 'amqps://host',
      AMQP_CA_FILE: file('pem'),
    },
    directory,
  );
  t.is(configuration.rpc.prefetch, 40);
  t.deepEqual(configuration.clusters.file, { path: file('clusters'), text: '{"a": []}' });
  t.is(String(configuration.ssh.privateKey), 'PEM');
  t.is(String(configuration.amqp?.tls.ca), 'PEM');
  t.is(configuration.http?.token, '0123456789abcdef');
});

test('a file in UTF-16 is refused, and the problem says so', async (t) => {
  const directory = await folder(t);
  const clusters = join(directory, 'clusters');
  await writeFile(clusters, '\ufeff{"a": []}', 'utf16le');
  t.deepEqual(
    problemsOf(t, () => read({ CLUSTERS_FILE: clusters })),
    [
      `CLUSTERS_FILE names a file that cannot be read: it is in UTF-16: save it as UTF-8; it is "${clusters}"`,
    ],
  );
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

test('a setting that is not a secret is not read from a file', async (t) => {
  const directory = await folder(t, { queue: 'requests' });
  t.is(read({ QUEUE_NAME_FILE: join(directory, 'queue') }).rpc.queue, 'fleet_manager');
});

test('a credential of systemd is the value of its setting, or the file that its setting names', async (t) => {
  const directory = await folder(t, {
    'fleet-manager_AMQP_URL': 'amqp://of-credential\n',
    'fleet-manager_PREFETCH': '40\n',
    'fleet-manager_SSH_KEY_FILE': 'a key',
    'of-another_AMQP_URL': 'amqp://other',
  });
  const env = { CREDENTIALS_DIRECTORY: directory };
  const { amqp, rpc, ssh } = serving(env);
  t.deepEqual(amqp?.urls, ['amqp://of-credential']);
  t.is(rpc.prefetch, 40);
  t.is(String(ssh.privateKey), 'a key');
  const source = { env, directory: NOWHERE };
  t.like(shownSetting(source, 'SSH_KEY_FILE'), {
    value: join(directory, 'fleet-manager_SSH_KEY_FILE'),
    from: 'environment',
  });
});

test('a credential overrides the configuration file', async (t) => {
  const directory = await folder(t, {
    'config/development.json': '{"AMQP_URL": "amqp://of-file"}',
    'fleet-manager_AMQP_URL': 'amqp://of-credential',
  });
  t.deepEqual(read({ CREDENTIALS_DIRECTORY: directory }, directory).amqp?.urls, ['amqp://of-credential']);
});

test('a credential beside another source of the same setting, or for no setting, is refused', async (t) => {
  const directory = await folder(t, {
    'fleet-manager_AMQP_URL': 'amqp://of-credential',
    'fleet-manager_HTTP_TOKEN': 'tokentokentokentoken',
    'fleet-manager_AMQPURL': 'amqp://of-credential',
  });
  const env = { CREDENTIALS_DIRECTORY: directory, AMQP_URL: 'amqp://of-env', HTTP_TOKEN_FILE: '/token' };
  t.deepEqual(
    problemsOf(t, () => read(env)),
    [
      'AMQP_URL and the credential fleet-manager_AMQP_URL are both set: set one of them',
      'HTTP_TOKEN_FILE and the credential fleet-manager_HTTP_TOKEN are both set: set one of them',
      'there is no setting for the credential fleet-manager_AMQPURL',
    ],
  );
});

test('without a folder of credentials nothing is read from one', (t) => {
  t.deepEqual(serving({ CREDENTIALS_DIRECTORY: '' }), serving({}));
  t.deepEqual(serving({ CREDENTIALS_DIRECTORY: NOWHERE }), serving({}));
});
