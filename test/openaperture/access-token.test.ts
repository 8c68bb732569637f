import { inspect } from 'node:util';
import test from 'ava';
import { ManagerClient } from '../../src/openaperture/manager-client.js';
import { ManagerError } from '../../src/openaperture/manager-error.js';
import { eventually } from '../support/eventually.js';
import { notAborted, openManager, withToken } from './open-manager.js';

const OAUTH = /^\/oauth/;
const BROKER = /^\/messaging\/brokers\/1$/;

test('a token is requested with client credentials, and the Manager accepts it', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addBroker(1);
  await client.broker(1, notAborted());
  const [login, call] = manager.calls;
  t.like(login, { method: 'POST', path: '/oauth/token' });
  t.deepEqual(login?.body, {
    grant_type: 'client_credentials',
    client_id: manager.clientId,
    client_secret: manager.clientSecret,
  });
  t.regex(String(call?.headers.authorization), /^Bearer access_token=token-\S+$/);
});

test('a token is kept until 30 s before it expires', async (t) => {
  const { manager, client, clock } = await openManager(t, { tokenSeconds: 600 });
  manager.addBroker(1);
  await client.broker(1, notAborted());
  clock.advance(569_999);
  await client.broker(1, notAborted());
  t.is(manager.callsTo(OAUTH).length, 1);
  clock.advance(1);
  await client.broker(1, notAborted());
  t.is(manager.callsTo(OAUTH).length, 2);
});

test('a token that lives at most 30 s is used once', async (t) => {
  const { manager, client } = await openManager(t, { tokenSeconds: 30 });
  manager.addBroker(1);
  await client.broker(1, notAborted());
  await client.broker(1, notAborted());
  t.is(manager.callsTo(OAUTH).length, 2);
});

test('a token that has become invalid early is renewed, and the call succeeds', async (t) => {
  const { manager, client, clock } = await openManager(t);
  manager.addBroker(1);
  await client.broker(1, notAborted());
  manager.revokeTokens();
  await client.broker(1, notAborted());
  t.is(manager.callsTo(OAUTH).length, 2);
  t.is(manager.callsTo(BROKER).length, 3);
  t.is(clock.pending, 0, 'nothing was waited for');
});

test('a POST that must not be repeated is repeated when its token was refused', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addBroker(1);
  await client.broker(1, notAborted());
  manager.revokeTokens();
  const envelope = { queue_name: '', id: null, status: 'not_started', request_body: {}, response_body: null };
  t.is(await client.createRecord(envelope, notAborted()), 1);
});

test('of many calls that are refused together, one renews the token for all', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addBroker(1);
  await client.broker(1, notAborted());
  manager.revokeTokens();
  await Promise.all(Array.from({ length: 20 }, () => client.broker(1, notAborted())));
  t.is(manager.callsTo(OAUTH).length, 2);
});

test('of many calls that need the first token, one requests it', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addBroker(1);
  const release = manager.hold(OAUTH);
  const calls = Array.from({ length: 20 }, () => client.broker(1, notAborted()));
  await eventually('the token is asked for', () => manager.callsTo(OAUTH).length > 0);
  release();
  await Promise.all(calls);
  t.is(manager.callsTo(OAUTH).length, 1);
});

test('a caller that leaves does not cancel the renewal for the others', async (t) => {
  const { manager, client } = await openManager(t);
  manager.addBroker(1);
  const release = manager.hold(OAUTH);
  const leaving = new AbortController();
  const left = client.broker(1, { signal: leaving.signal });
  const stays = client.broker(1, notAborted());
  await eventually('the token is asked for', () => manager.callsTo(OAUTH).length > 0);
  leaving.abort(new Error('no longer wanted'));
  await t.throwsAsync(left, { message: 'no longer wanted' });
  release();
  t.is((await stays).id, 1);
  t.is(manager.callsTo(OAUTH).length, 1);
});

test('a token that is refused again right after its renewal is reported as a refusal, with what to check', async (t) => {
  const { manager, client } = await openManager(t);
  manager.fail({ status: 401, path: BROKER });
  const error = await t.throwsAsync(client.broker(1, notAborted()), { instanceOf: ManagerError });
  t.like(error, { kind: 'refused', status: 401, temporary: true });
  t.regex(error?.message ?? '', /OAUTH_CLIENT_ID.*OAUTH_LOGIN_URL/);
  t.is(manager.callsTo(BROKER).length, 2);
  t.is(manager.callsTo(OAUTH).length, 2);
});

test('a client that OAuth refuses is reported what to check, and does not try again', async (t) => {
  const { manager, client, clock } = await openManager(t, { secret: 'not-the-secret' });
  const error = await t.throwsAsync(client.broker(1, notAborted()), { instanceOf: ManagerError });
  t.like(error, { kind: 'refused', status: 401 });
  t.regex(error?.message ?? '', /invalid_client.*OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET/);
  t.is(manager.calls.length, 1);
  t.is(clock.pending, 0);
});

test('while the OAuth server is down, even what may not be repeated is tried again: the Manager has seen nothing', async (t) => {
  const { manager, client, whileTimePasses } = await openManager(t);
  manager.fail({ path: OAUTH, times: 1 });
  manager.fail({ status: 503, path: OAUTH, times: 1 });
  const envelope = { queue_name: '', id: null, status: 'not_started', request_body: {}, response_body: null };
  t.is(await whileTimePasses(client.createRecord(envelope, notAborted())), 1);
  t.is(manager.records.size, 1);
});

test('an OAuth server that stays down is named, with its setting', async (t) => {
  const { manager, client, whileTimePasses } = await openManager(t);
  manager.fail({ path: OAUTH });
  const error = await t.throwsAsync(whileTimePasses(client.broker(1, notAborted())), {
    instanceOf: ManagerError,
  });
  t.like(error, { kind: 'unreachable', temporary: true, notSent: true });
  t.regex(error?.message ?? '', /OAUTH_LOGIN_URL/);
  t.is(manager.callsTo(OAUTH).length, 3);
});

test('an OAuth server that hangs is abandoned', async (t) => {
  const { manager, client, whileTimePasses } = await openManager(t, { timeoutMs: 200 });
  t.teardown(manager.hold(OAUTH));
  const error = await t.throwsAsync(whileTimePasses(client.broker(1, notAborted())), {
    instanceOf: ManagerError,
  });
  t.is(error?.kind, 'unreachable');
  t.regex(error?.message ?? '', /no response within 200 ms.*OAUTH_LOGIN_URL/);
});

test('a 404 from the OAuth server does not mean that the Manager has no record', async (t) => {
  const { manager, client } = await openManager(t);
  manager.fail({ status: 404, path: OAUTH });
  const error = await t.throwsAsync(client.recordState(1, notAborted()), { instanceOf: ManagerError });
  t.like(error, { kind: 'failed', temporary: true });
  t.regex(error?.message ?? '', /check OAUTH_LOGIN_URL/);
});

test('a response from the OAuth server without a usable token is not used', async (t) => {
  const { manager, client } = await openManager(t);
  for (const body of [
    '',
    'null',
    '[]',
    '<html>',
    '{"expires_in":600}',
    '{"access_token":"","expires_in":600}',
    '{"access_token":"two words","expires_in":600}',
    '{"access_token":"line\\nbreak","expires_in":600}',
    '{"access_token":5,"expires_in":600}',
    '{"access_token":"a"}',
    '{"access_token":"a","expires_in":"soon"}',
    '{"access_token":"a","expires_in":-1}',
  ]) {
    const end = manager.fail({ status: 200, path: OAUTH, body });
    const error = await t.throwsAsync(client.broker(1, notAborted()), { instanceOf: ManagerError }, body);
    t.is(error?.kind, 'invalid_response', body);
    t.regex(error?.message ?? '', /OAUTH_LOGIN_URL/);
    end();
  }
  t.is(manager.callsTo(BROKER).length, 0);
});

test('no error reports the token or the secret, whatever goes wrong', async (t) => {
  const opened = await openManager(t, { timeoutMs: 200 });
  const { manager, client, whileTimePasses } = opened;
  manager.addBroker(1);
  await withToken(opened);
  const token = String(manager.calls.at(-1)?.headers.authorization).slice('Bearer access_token='.length);
  const echo = (text: string) => JSON.stringify({ errors: [{ message: `bad ${text}` }], error: text });
  const secrets = [manager.clientSecret, token];
  const check = async () => {
    const error = await t.throwsAsync(whileTimePasses(client.broker(1, notAborted())), {
      instanceOf: ManagerError,
    });
    const shown = inspect(error, { depth: 20, showHidden: true });
    for (const secret of secrets) t.false(shown.includes(secret), shown);
    t.notRegex(shown, /token-/);
  };
  for (const status of [302, 400, 403, 500]) {
    const end = manager.fail({ status, path: BROKER, body: echo(token) });
    await check();
    end();
  }
  for (const fault of [{ path: BROKER }, { path: BROKER, status: 200, body: token }]) {
    const end = manager.fail(fault);
    await check();
    end();
  }
  const release = manager.hold(BROKER);
  await check();
  release();
  manager.revokeTokens();
  for (const status of [400, 404, 500]) {
    const end = manager.fail({ status, path: OAUTH, body: echo(manager.clientSecret) });
    await check();
    end();
    manager.revokeTokens();
  }
  const end = manager.fail({
    status: 200,
    path: OAUTH,
    body: `{"access_token":"${token}\\n","expires_in":600}`,
  });
  await check();
  end();
  await manager.down();
  await check();
});

test('a URL with a password is refused without showing it', (t) => {
  const make = (url: string, oauthUrl: string) => () =>
    new ManagerClient({
      url,
      oauth: { url: oauthUrl, clientId: 'a', clientSecret: 'b' },
      clock: { now: () => 0, wallTime: () => 0, sleep: async () => {}, after: () => () => {} },
    });
  const good = 'http://127.0.0.1:1/';
  const bad = 'http://me:hunter2@127.0.0.1:1/';
  for (const [make_, setting] of [
    [make(bad, good), 'MANAGER_URL'],
    [make(good, bad), 'OAUTH_LOGIN_URL'],
    [make('127.0.0.1', good), 'MANAGER_URL'],
    [make(good, 'ftp://127.0.0.1'), 'OAUTH_LOGIN_URL'],
  ] as const) {
    const error = t.throws(make_);
    t.true(error?.message.includes(setting));
    t.false(inspect(error).includes('hunter2'));
  }
});
