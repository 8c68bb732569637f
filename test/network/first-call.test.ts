import test from 'ava';
import { HttpFailure } from '../../src/network/bounded-call.js';
import { HttpClient } from '../../src/network/http-client.js';
import { useUpFiles } from '../support/without-files.js';
import { respondWith, serve } from './http-server.js';

const options = () => ({ signal: new AbortController().signal, timeoutMs: 60_000 });

if (process.platform === 'linux') {
  test('a first call that finds no file descriptor left fails, and the next one does not', async (t) => {
    const server = await serve(t, respondWith(200, '{"n":1}'));
    const http = new HttpClient();
    t.teardown(() => http.close());
    const giveBack = useUpFiles(t);
    const error = await t.throwsAsync(http.call('GET', server.url, options()), { instanceOf: HttpFailure });
    t.regex(error?.message ?? '', /EMFILE/);
    t.true(error?.notSent);
    giveBack();
    t.deepEqual((await http.call('GET', server.url, options())).json(), { n: 1 });
  });
}

test('a client that was closed before its first call makes none', async (t) => {
  const server = await serve(t, respondWith(200, '{}'));
  const http = new HttpClient();
  await http.close();
  await t.throwsAsync(http.call('GET', server.url, options()), {
    instanceOf: HttpFailure,
    message: /closed/,
  });
  t.is(server.connections(), 0);
});
