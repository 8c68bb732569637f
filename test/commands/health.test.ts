import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { health } from '../../src/commands/health.js';
import { startTcpServer } from '../support/tcp-server.js';
import { runCli, startCli } from './cli-process.js';

/** A gateway that gives these responses. @returns its port */
async function gateway(
  t: ExecutionContext,
  responses: Readonly<Record<string, { status: number; body: unknown }>>,
): Promise<string> {
  const server = createServer(({ url = '' }, response) => {
    const { status, body } = responses[url] ?? { status: 404, body: {} };
    response.writeHead(status).end(JSON.stringify(body));
  });
  t.teardown(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return String((server.address() as AddressInfo).port);
}

test('a service that responds is alive, and one that takes requests is ready', async (t) => {
  const service = await startCli(t, ['serve'], { env: { HTTP_PORT: '0' } });
  const [, url = ''] = await service.printed(/^ {2}gateway +(http:\S+)$/m);
  await service.printed(/accepting requests/);
  const env = { HTTP_PORT: new URL(url).port };
  t.like(await runCli(t, ['health'], { env }), { code: 0, stdout: 'alive\n', stderr: '' });
  t.like(await runCli(t, ['health', '--ready'], { env }), { code: 0, stdout: 'ready\n', stderr: '' });
});

test('a service without a broker is alive and not ready, and the reasons are shown', async (t) => {
  const env = {
    HTTP_PORT: await gateway(t, {
      '/livez': { status: 200, body: { alive: true } },
      '/readyz': { status: 503, body: { ready: false, reasons: ['no broker', 'and\u001b[2Jmore'] } },
    }),
  };
  t.is((await runCli(t, ['health'], { env })).code, 0);
  t.like(await runCli(t, ['health', '--ready'], { env }), {
    code: 1,
    stdout: '',
    stderr: 'not ready: no broker; and\\u001b[2Jmore\n',
  });
});

test('a service that refuses, fails or does not respond is not alive', async (t) => {
  const failing = { HTTP_PORT: await gateway(t, { '/livez': { status: 500, body: {} } }) };
  t.like(await runCli(t, ['health'], { env: failing }), {
    code: 1,
    stderr: 'the gateway answers with status 500\n',
  });
  const refused = await runCli(t, ['health'], { env: { HTTP_PORT: '1' } });
  t.is(refused.code, 1);
  t.regex(refused.stderr, /^the gateway does not respond: .*ECONNREFUSED 127\.0\.0\.1:1\n$/);
  const silent = String(await startTcpServer(t, () => undefined));
  t.is(await health({ limitMs: 50 }, { env: { HTTP_PORT: silent }, directory: '/' }), 1);
});

test('a response without an end, or in another protocol, is none of a service that is alive', async (t) => {
  const endless = createServer((_request, response) => {
    const more = () => response.write('x'.repeat(65_536), () => !response.destroyed && setImmediate(more));
    more();
  });
  t.teardown(() => endless.closeAllConnections());
  await once(endless.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => void endless.close());
  const { port } = endless.address() as AddressInfo;
  const without = await runCli(t, ['health'], { env: { HTTP_PORT: String(port) } });
  t.is(without.code, 1);
  t.regex(without.stderr, /^the gateway does not respond: its response has more than 100000 characters\n$/);
  const switching = await startTcpServer(t, (socket) =>
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n'),
  );
  const other = await runCli(t, ['health'], { env: { HTTP_PORT: String(switching) } });
  t.is(other.code, 1);
  t.regex(other.stderr, /another protocol/);
});

test('without a gateway the service counts as alive, but nothing says whether it is ready', async (t) => {
  for (const HTTP_PORT of ['off', '0']) {
    t.is((await runCli(t, ['health'], { env: { HTTP_PORT } })).code, 0);
    const ready = await runCli(t, ['health', '--ready'], { env: { HTTP_PORT } });
    t.is(ready.code, 1);
    t.regex(ready.stderr, /set HTTP_PORT/);
  }
});

test('settings that cannot be used are unhealthy, with a code that Docker has not reserved', async (t) => {
  t.like(await runCli(t, ['health'], { env: { HTTP_PORT: 'x' } }), { code: 1, stdout: '' });
});
