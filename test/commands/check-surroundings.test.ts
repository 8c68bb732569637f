import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import test from 'ava';
import { checkClock, checkDisk, checkEnvironment } from '../../src/commands/check-surroundings.js';

test('variables that are settings, or that do not concern the service, are not mentioned', (t) => {
  const env = {
    AMQP_URL: 'amqp://host',
    AMQP_URL_FILE: '/f',
    PATH: '/bin',
    HOME: '/root',
    LANG: 'C',
    USER: 'x',
  };
  const ofSystemd = { INVOCATION_ID: 'x', JOURNAL_STREAM: '8:1', MANAGERPID: '1', NODE_VERSION: '20' };
  t.is(checkEnvironment({ ...env, ...ofSystemd }), undefined);
});

test('a mistyped setting, the file of a setting that is no secret, and a proxy are mentioned with what to do', (t) => {
  const lines = (env: Record<string, string>) => checkEnvironment(env)?.lines.join('\n') ?? '';
  t.regex(lines({ RED_ONLY: 'true' }), /^RED_ONLY is set, .*READ_ONLY, rename it$/);
  t.regex(lines({ amqp_url: 'amqp://host' }), /^amqp_url is set, .*AMQP_URL, rename it$/);
  t.regex(lines({ QUEUE_NAME_FILE: '/x' }), /^QUEUE_NAME_FILE is set, but only a secret .* set QUEUE_NAME$/);
  t.regex(lines({ HTTPS_PROXY: 'http://p' }), /^HTTPS_PROXY set, but the service uses no proxy/);
  t.is(checkEnvironment({ RED_ONLY: 'true' })?.result, 'ok');
});

test('certificates that are not checked, or that cannot be read, are failures', (t) => {
  const off = checkEnvironment({ NODE_TLS_REJECT_UNAUTHORIZED: '0' });
  t.is(off?.result, 'FAILED');
  t.regex(off?.lines.join('\n') ?? '', /impersonate a server\n-> unset it/);
  const missing = checkEnvironment({ NODE_EXTRA_CA_CERTS: '/nonexistent/ca' });
  t.is(missing?.result, 'FAILED');
  t.regex(missing?.lines.join('\n') ?? '', /ENOENT.*\n-> set it to a file/);
});

test('a clock that is wrong is a failure, in both directions, and one that is right is not mentioned', async (t) => {
  const now = Date.UTC(2026, 0, 1);
  const server = createServer((_request, response) => {
    response.setHeader('date', new Date(now).toUTCString());
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const check = async (offset: number) => checkClock(url, { limitMs: 60_000, wallTime: () => now + offset });
  t.is(await check(0), undefined);
  t.is(await check(-20_000), undefined);
  t.regex(
    (await check(3_600_000))?.lines.join('\n') ?? '',
    /is 3600 s ahead of that of 127.*\n-> set the clock/,
  );
  t.regex((await check(-60_000))?.lines.join('\n') ?? '', /is 60 s behind that of 127/);
  t.is(await checkClock('http://127.0.0.1:1/', { limitMs: 1_000, wallTime: () => 0 }), undefined);
});

test('a disk with room is not mentioned, and a full one is a failure', async (t) => {
  t.is(await checkDisk('/tmp/known_hosts'), undefined);
  t.is(await checkDisk('/nonexistent/known_hosts'), undefined, 'another check reports it');
  // procfs has no free space.
  const full = await checkDisk('/proc/known_hosts');
  t.is(full?.result, 'FAILED');
  t.regex(full?.lines.join('\n') ?? '', /the disk of \/proc is full.*\n-> free some space/);
});
