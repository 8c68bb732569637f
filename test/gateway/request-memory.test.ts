import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import type { AnswerEnvelope } from '../../src/client/client.js';
import type { ActionDescription } from '../../src/core/action-description.js';
import { ManualClock } from '../support/manual-clock.js';
import { eventually } from '../support/eventually.js';
import { DONE, openGateway } from './open-gateway.js';

const MEBIBYTE = 1024 * 1024;
/** Room for one of these, but not for two. */
const LARGE = JSON.stringify({ action_parameters: { text: 'x'.repeat(MEBIBYTE) } });
const MEMORY_BYTES = 8 * MEBIBYTE;

/** A gateway whose calls are answered when the test says. */
async function open(
  t: ExecutionContext,
  {
    memoryBytes = MEMORY_BYTES,
    arrivalMs,
    effect = 'read',
  }: { memoryBytes?: number; arrivalMs?: number; effect?: 'read' | 'change' } = {},
) {
  const clock = new ManualClock();
  const calls: ((envelope?: AnswerEnvelope) => void)[] = [];
  const { url, port, logs } = await openGateway(
    t,
    async () => new Promise((resolve) => calls.push((envelope = DONE) => resolve(envelope))),
    {
      describe: () => [{ name: 'act', effect } as ActionDescription],
      maxBodyBytes: 2 * MEBIBYTE,
      memoryBytes,
      arrivalMs,
      clock,
    },
  );
  const post = async (body: string) => {
    const response = await fetch(`${url}/v1/actions/act`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    return { status: response.status, text: await response.text() };
  };
  /** Sends the beginning of a request. */
  const begin = async (header: string, body = ''): Promise<Socket> => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    socket.write(
      `POST /v1/actions/act HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${header}\r\n\r\n${body}`,
    );
    return socket;
  };
  return { url, post, begin, calls, logs, clock };
}

/** Asserts that a call is refused as one to try again. */
function isRefused(t: ExecutionContext, { status, text: body }: { status: number; text: string }): void {
  t.is(status, 503);
  t.like(JSON.parse(body), { status: 'error', response_body: { code: 'service_unavailable' } });
  t.regex(body, /MEMORY_BUDGET_BYTES is used up by other calls; call again/);
}

test('a call without room is refused until another one has its reply, and health is answered all the time', async (t) => {
  const { url, post, calls, logs } = await open(t);
  const first = post(LARGE);
  await eventually('it is called', () => calls.length === 1);
  isRefused(t, await post(LARGE));
  isRefused(t, await post(LARGE));
  t.is(calls.length, 1);
  for (const path of ['livez', 'readyz']) t.is((await fetch(`${url}/${path}`)).status, 200);
  const small = post('{}');
  await eventually('a small one has room', () => calls.length === 2);
  for (const answer of calls) answer();
  for (const call of [first, small]) t.is((await call).status, 200);
  const next = post(LARGE);
  await eventually('a large one has room again', () => calls.length === 3);
  calls[2]?.();
  t.is((await next).status, 200);
  await eventually('the log has the end', () => logs.find(/^gateway memory free again$/).length === 1);
  t.is(logs.find(/^gateway memory used up$/).length, 1);
});

for (const [what, header] of [
  ['that announces its size', `content-length: ${LARGE.length}`],
  ['of unknown size', 'transfer-encoding: chunked'],
] as const) {
  test(`a call ${what} counts from its arrival, and is refused before its body is read`, async (t) => {
    const { begin, post, calls } = await open(t);
    const arriving = await begin(`${header}\r\nexpect: 100-continue`);
    // The gateway has its headers.
    t.regex(String((await once(arriving, 'data'))[0]), /^HTTP\/1\.1 100 /);
    const refused = await text(await begin(`${header}\r\nconnection: close`));
    t.regex(refused, /^HTTP\/1\.1 503 /);
    arriving.destroy();
    const next = eventually('there is room again', async () => (await post(LARGE)).status === 200);
    await eventually('it is called', () => calls.length === 1);
    calls[0]?.();
    await next;
  });
}

test('a call whose caller goes away while its body arrives leaves nothing counted', async (t) => {
  // Two small calls fit, with less to spare than what many such calls would leave.
  const { url, post, begin, calls } = await open(t, { memoryBytes: 2 * 17 * 1024 });
  for (let times = 0; times < 100; times++) {
    const arriving = await begin('content-length: 2\r\nexpect: 100-continue');
    await once(arriving, 'data');
    arriving.write('{');
    arriving.destroy();
  }
  t.is((await fetch(`${url}/readyz`)).status, 200);
  const both = [post('{}'), post('{}')];
  await eventually('both are called', () => calls.length === 2);
  for (const answer of calls) answer();
  for (const call of both) t.is((await call).status, 200);
});

test('what a body contains counts, not only its size', async (t) => {
  const { post, calls } = await open(t);
  const first = post('{}');
  await eventually('it is called', () => calls.length === 1);
  const many = JSON.stringify({ action_parameters: { list: Array(50_000).fill(1) } });
  t.true(many.length * 6 < MEMORY_BYTES / 10);
  isRefused(t, await post(many));
  calls[0]?.();
  t.is((await first).status, 200);
});

test('a reply counts until its caller has read it', async (t) => {
  const { post, begin, calls } = await open(t);
  const slow = await begin('content-length: 2', '{}');
  await eventually('it is called', () => calls.length === 1);
  slow.pause();
  calls[0]?.({ status: 'completed', response_body: 'x'.repeat(20 * MEBIBYTE) });
  await eventually('another call is refused', async () => {
    const other = post('{}');
    const isCalled = await Promise.race([
      other.then(() => false),
      eventually('it is called', () => calls.length === 2).then(() => true),
    ]);
    if (!isCalled) isRefused(t, await other);
    calls.splice(1).forEach((answer) => answer());
    return !isCalled;
  });
  slow.resume();
  const next = eventually('there is room again', async () => (await post('{}')).status === 200);
  await eventually('it is called', () => calls.length === 2);
  calls[1]?.();
  await next;
});

test('a caller that does not read its reply is cut off, and its memory is free again', async (t) => {
  const { post, begin, calls, clock } = await open(t);
  const deaf = await begin('content-length: 2', '{}');
  await eventually('it is called', () => calls.length === 1);
  deaf.pause();
  const size = 20 * MEBIBYTE;
  calls[0]?.({ status: 'completed', response_body: 'x'.repeat(size) });
  await eventually('its time counts', () => clock.pending === 1);
  clock.advance(30_000 + size / 64);
  isRefused(t, await post(LARGE));
  clock.advance(1_000);
  const next = eventually('there is room again', async () => (await post(LARGE)).status === 200);
  await eventually('it is called', () => calls.length === 2);
  calls[1]?.();
  await next;
});

test('a caller whose body does not arrive is cut off, though it keeps its side open', async (t) => {
  const { post, begin, calls } = await open(t, { arrivalMs: 100 });
  const late = await begin(`content-length: ${LARGE.length}`);
  t.regex(String((await once(late, 'data'))[0]), /^HTTP\/1\.1 408 /);
  // On a busy machine a whole body may come too late, too.
  const posted = async () => (await post(LARGE).catch(() => undefined))?.status === 200;
  const next = eventually('there is room again', posted);
  await eventually('it is called', () => calls.length === 1);
  calls[0]?.();
  await next;
});

for (const [effect, title] of [
  ['read', 'a reply of a read without room beside those that were not read yet is refused'],
  ['change', 'a reply of a change is not refused, since its caller would not know its outcome'],
] as const) {
  test(title, async (t) => {
    const { post, begin, calls } = await open(t, { effect });
    const large = { status: 'completed', response_body: 'x'.repeat(20 * MEBIBYTE) } as const;
    const slow = await begin('content-length: 2', '{}');
    slow.pause();
    await eventually('it is called', () => calls.length === 1);
    const other = post('{}');
    await eventually('the other is called', () => calls.length === 2);
    calls[0]?.(large);
    calls[1]?.(large);
    const reply = await other;
    if (effect === 'read') isRefused(t, reply);
    else t.deepEqual(JSON.parse(reply.text), large);
  });
}

test('a call alone has room however large it is', async (t) => {
  const { post, calls } = await open(t, { memoryBytes: 1 });
  const only = post(LARGE);
  await eventually('it is called', () => calls.length === 1);
  isRefused(t, await post('{}'));
  calls[0]?.();
  t.is((await only).status, 200);
});
