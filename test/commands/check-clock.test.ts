import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { checkClock } from '../../src/commands/check-clock.js';

/** A server; its name is `it`. */
async function server(t: ExecutionContext, answer: (response: ServerResponse) => void) {
  const http = createServer((_request, response) => answer(response));
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  t.teardown(() => http.close().closeAllConnections());
  const { port } = http.address() as AddressInfo;
  return { name: 'it', url: `http://127.0.0.1:${port}/` };
}

const NOON = Date.UTC(2024, 4, 1, 12);
const options = { clock: { wallTime: () => NOON }, limitMs: 60_000 };

test('the clock of this host is compared with the Date header of servers, whatever their status is', async (t) => {
  const at = async (offsetMs: number) =>
    server(t, (response) => {
      response.writeHead(401, { date: new Date(NOON + offsetMs).toUTCString() });
      response.end();
    });
  const same = await at(0);
  t.deepEqual(await checkClock([same], options), {
    result: 'ok',
    lines: ['the clock of this host agrees with it'],
  });
  // The header has whole seconds.
  t.is((await checkClock([await at(-2_000)], options)).result, 'ok');
  for (const [offset, text] of [
    [-3_000, '2.0 s behind'],
    [2_000, '2.0 s ahead of'],
  ] as const) {
    const { result, lines } = await checkClock([same, await at(offset)], options);
    t.is(result, 'warning');
    t.is(lines[0], `the clock of it is ${text} the clock of this host`);
    t.regex(lines[1] ?? '', /^-> .*NTP/);
  }
});

test('a server that does not tell its time is left out', async (t) => {
  const dateless = await server(t, (response) => {
    response.sendDate = false;
    response.end();
  });
  const silent = await server(t, () => undefined);
  const finding = await checkClock([dateless, silent], { ...options, limitMs: 100 });
  t.deepEqual(finding, { result: 'skipped', lines: ['not checked: no server tells its time'] });
});
