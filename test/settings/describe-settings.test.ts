import test from 'ava';
import fc from 'fast-check';
import { describeSettings } from '../../src/settings/describe-settings.js';
import {
  type Env,
  folder,
  INSTALLATION,
  NOWHERE,
  problemsOf,
  read,
  serving,
  shownSetting,
} from '../support/settings.js';

test('every setting of an installation is shown except its secret', (t) => {
  const source = { env: INSTALLATION, directory: NOWHERE };
  const shown = describeSettings(source);
  t.false(JSON.stringify(shown).includes('Zq'));
  t.is(shownSetting(source, 'OAUTH_CLIENT_SECRET')?.value, '***');
  for (const name of [
    'MANAGER_URL',
    'OAUTH_LOGIN_URL',
    'OAUTH_CLIENT_ID',
    'EXCHANGE_ID',
    'BROKER_ID',
  ] as const)
    t.is(shownSetting(source, name)?.value, INSTALLATION[name]);
  t.deepEqual(
    problemsOf(t, () => read({ OAUTH_CLIENT_SECRET: 'Zqsecret' })).filter((each) => each.includes('Zq')),
    [],
  );
});

test('every setting is shown with its value, the source of the value, and its purpose', async (t) => {
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

test('a default that depends on the environment or the machine is shown too', (t) => {
  const shown = (name: string, env: Env = {}) => shownSetting({ env, directory: NOWHERE }, name);
  t.like(shown('LOG_FORMAT'), { value: 'text', from: 'default', default: undefined });
  t.like(shown('LOG_FORMAT', { NODE_ENV: 'production' }), { value: 'json', from: 'default' });
  t.is(shown('HOSTNAME')?.value, read({}).hostname);
  t.is(shown('SSH_KNOWN_HOSTS')?.value, read({}).ssh.knownHostsFile);
  t.like(shown('HOSTNAME', { HOSTNAME: 'here' }), { value: 'here', from: 'environment' });
});

test('the user name and password of a URL are not shown', (t) => {
  for (const name of ['MANAGER_URL', 'OAUTH_LOGIN_URL', 'ETCD_DISCOVERY_URL']) {
    const shown = (url: string) => shownSetting({ env: { [name]: url }, directory: NOWHERE }, name)?.value;
    t.is(shown('https://user:secret@host/path'), 'https://***@host/path');
    t.is(shown('HTTP://user:se/cret@host'), 'HTTP://***@host');
    t.is(shown('https://host:8080/path'), 'https://host:8080/path');
  }
});

test('the address of a broker is shown, its credentials are not', (t) => {
  const shown = (AMQP_URL: string) =>
    shownSetting({ env: { AMQP_URL }, directory: NOWHERE }, 'AMQP_URL')?.value;
  t.is(shown('amqp://localhost:5672/vhost'), 'amqp://localhost:5672/vhost');
  t.is(shown('amqp://user:secret@one:5672,amqps://user@two/v'), 'amqp://***@one:5672,amqps://***@two/v');
  t.is(shown('amqp://one, amqp://user:secret@two'), 'amqp://one,amqp://***@two');
  t.is(shown('amqp://user:secret@secret@host'), 'amqp://***@host');
  t.is(shown('amqp://user:12/secret@host'), 'amqp://***@host');
  t.is(shown('amqp://user:12,secret@host'), '***');
  t.is(shown('user:secret'), '***');
  t.is(shown('amqp://svc:s3cretPassw0rd'), 'amqp://***');
  t.is(shown('amqp://svc:12345'), 'amqp://svc:***', 'the host was forgotten, and 12345 is the password');
  t.is(shown('amqp://svc:12/Zq'), 'amqp://svc:***');
  t.is(shown('amqp://10.0.0.1:12345/v,amqp://broker:5672'), 'amqp://10.0.0.1:12345/v,amqp://broker:5672');
  t.is(shown('amqps://host/v?password=Zq'), 'amqps://host/v?***');
  t.is(shown('http://user:secret@host'), '***');
});

const password = fc
  .string({ minLength: 1, unit: fc.constantFrom(...`ab1/@:,?#%.=&-_ \\'`.split('')) })
  .map((each) => `12${each}Zq`);

/** All that the settings show to people: what `config` prints, and what stops the service. */
function shownOf(env: Env): string {
  const shown = JSON.stringify(describeSettings({ env, directory: NOWHERE }));
  try {
    serving(env);
    return shown;
  } catch (error) {
    return `${shown}\n${String(error)}`;
  }
}

test('the password of a URL in the place of any other setting is never shown', (t) => {
  const names = describeSettings({ env: {}, directory: NOWHERE }).flatMap(({ name }) => [
    name,
    `${name}_FILE`,
  ]);
  const property = fc.property(fc.constantFrom(...names), password, (name, secret) => {
    for (const url of [
      `http://user:${secret}@host`,
      `amqps://user:${secret}@host`,
      `http://host/?token=${secret.replaceAll('@', '')}`,
      `//user:${secret}@host`,
      `user:${secret}@host`,
      `http//user:${secret}@host`,
      `http:user:${secret}@host`,
      `10.0.0.0/8, http://user:${secret}@host`,
      `"http://user:${secret}@host"`,
    ])
      for (const NODE_ENV of ['development', 'production']) {
        const shown = shownOf({ NODE_ENV, HTTP_TOKEN: '0123456789abcdef', [name]: url });
        if (shown.includes('Zq')) throw new Error(`${name}=${url} is shown: ${shown.slice(-600)}`);
      }
  });
  t.notThrows(() => fc.assert(property, { numRuns: 1_000 }));
});

test('a secret is never shown, in any form', (t) => {
  const property = fc.property(password, (secret) => {
    for (const AMQP_URL of [
      `amqp://user:${secret}@host`,
      `amqp://user:${encodeURIComponent(secret)}@host`,
      `amqp://user:${secret}@one,amqp://user:${secret}@two`,
      // What follows an @ cannot be told from a host.
      `amqp://user:x${secret.replaceAll('@', '')}`,
      `amqps://host?password=${secret}`,
      secret,
    ]) {
      const env = {
        AMQP_URL,
        HTTP_TOKEN: secret,
        ETCD_DISCOVERY_URL: AMQP_URL.replace('amqp', 'http'),
        MANAGER_URL: AMQP_URL,
      };
      if (shownOf({ ...env, FLEET_API_PORT: 'x' }).includes('Zq')) return false;
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 1_000 }));
});

test('a whole discovery URL is shown without its token', (t) => {
  const ETCD_DISCOVERY_URL = 'https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579';
  const shown = shownSetting({ env: { ETCD_DISCOVERY_URL }, directory: NOWHERE }, 'ETCD_DISCOVERY_URL');
  t.is(shown?.value, 'https://discovery.etcd.io/***');
});

test('a token that looks like a URL is not shown', (t) => {
  for (const HTTP_TOKEN of [
    'token:0123456789abcdef',
    'https://user@host/0123456789',
    'amqp:0123456789abcdef',
  ])
    t.is(shownSetting({ env: { HTTP_TOKEN }, directory: NOWHERE }, 'HTTP_TOKEN')?.value, '***');
});
