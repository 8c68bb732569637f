import { createServer } from 'node:net';
import test from 'ava';
import { Endpoints } from '../../src/sandbox/endpoints.js';

// A documentation address (RFC 5737), which no machine has.
const ELSEWHERE = '192.0.2.1';

test('addresses that this machine does not have are ignored only when requested', async (t) => {
  const endpoints = new Endpoints(() => createServer());
  t.teardown(() => endpoints.stop());
  await t.throwsAsync(endpoints.listen(['127.0.0.1', ELSEWHERE], 0), { message: /cannot listen/ });
  t.deepEqual(endpoints.hosts, []);
  const port = await endpoints.listen([ELSEWHERE, '127.0.0.1'], 0, { skipMissing: true });
  t.true(port > 0);
  t.deepEqual(endpoints.hosts, ['127.0.0.1']);
});

test('a taken port is not ignored', async (t) => {
  const endpoints = new Endpoints(() => createServer());
  t.teardown(() => endpoints.stop());
  const port = await endpoints.listen(['127.0.0.1'], 0);
  await t.throwsAsync(endpoints.listen(['127.0.0.1'], port, { skipMissing: true }), {
    message: `the sandbox cannot listen on port ${port} of 127.0.0.1`,
  });
});
