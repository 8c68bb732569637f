import test from 'ava';
import { MockAgent } from 'undici';
import { boundedCall, HttpFailure } from '../../src/network/bounded-call.js';

for (const [code, notSent, syscall] of [
  ['UND_ERR_SOCKET', false],
  ['ECONNRESET', false],
  ['EPIPE', false],
  ['UND_ERR_BODY_TIMEOUT', false],
  ['ECONNREFUSED', true],
  ['ENOTFOUND', true],
  ['EHOSTUNREACH', true, 'connect'],
  ['EHOSTUNREACH', false, 'read'],
  ['ENETUNREACH', false, 'write'],
] as const) {
  test(`a call that fails with ${code}${syscall ? ` of ${syscall}` : ''} says whether the server can have received it`, async (t) => {
    const dispatcher = new MockAgent();
    dispatcher.disableNetConnect();
    const failure = Object.assign(new Error('it failed'), { code, syscall });
    dispatcher.get('http://server').intercept({ path: '/', method: 'PUT' }).replyWithError(failure);
    t.teardown(async () => dispatcher.close());
    const { signal } = new AbortController();
    const call = boundedCall({
      method: 'PUT',
      url: new URL('http://server/'),
      body: '{}',
      dispatcher,
      signal,
      timeoutMs: 60_000,
    });
    t.like(await t.throwsAsync(call, { instanceOf: HttpFailure }), { message: code, notSent });
  });
}
