import test, { type ExecutionContext } from 'ava';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import type { Action } from '../../src/plugin.js';
import { doing, echo } from '../support/actions.js';
import { brokers } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { RawCaller, serveRequests } from '../support/requests.js';

/** Serves an action; `ask` sends an envelope and returns the whole reply. */
async function world(
  t: ExecutionContext,
  actions: readonly Action[],
  channels: readonly ReplyChannel[] = [],
) {
  const [broker] = brokers();
  if (broker === undefined) throw new Error('there is always the embedded broker');
  const { queue, service } = await serveRequests(t, broker, actions, {
    channels,
    maxMessageBytes: 1_000,
    maxAnswerBytes: 1_000,
  });
  const caller = await RawCaller.open(t, broker, queue);
  const ask = async (envelope: object) => {
    const { message } = await caller.replyFor(caller.sendRaw(JSON.stringify(envelope)));
    return JSON.parse(message.content.toString()) as Record<string, unknown> & {
      response_body: { code?: string } | null;
    };
  };
  return { caller, ask, service };
}

const request_body = { action: 'echo' };

test('an envelope that is not finished is a request, and a finished one is not', async (t) => {
  const { ask } = await world(t, [echo]);
  for (const status of ['not_started', 'in_progress', null, undefined])
    t.is((await ask({ status, request_body })).status, 'completed', String(status));
  for (const status of ['completed', 'error', '', 0, false, {}])
    t.is(
      (await ask({ status, request_body })).response_body?.code,
      'invalid_request',
      JSON.stringify(status),
    );
});

test('null keys of a request count as missing, and so does the name of an Elixir struct', async (t) => {
  const { ask } = await world(t, [echo]);
  const odd = { ...request_body, __struct__: 'Elixir.Request', etcd_token: null, something: null };
  t.is((await ask({ request_body: odd })).status, 'completed');
  const { response_body } = await ask({ request_body: { ...request_body, something: false } });
  t.is(response_body?.code, 'invalid_request');
});

test('a reply names the queue that its request named, and an empty text names none', async (t) => {
  const { ask } = await world(t, [echo]);
  t.is((await ask({ queue_name: 'fleet', request_body })).queue_name, 'fleet');
  for (const queue_name of [null, undefined])
    t.is((await ask({ queue_name, request_body })).queue_name, '', String(queue_name));
});

test('a reply without a result has the body null', async (t) => {
  const { ask } = await world(t, [doing(async () => undefined)]);
  const answer = await ask({ request_body: { action: 'act' } });
  t.like(answer, { status: 'completed', response_body: null });
  t.true('response_body' in answer);
});

test('a reply has at most the allowed number of bytes, and may have exactly that many', async (t) => {
  let length = 0;
  const { ask } = await world(t, [doing(async () => ({ text: 'x'.repeat(length) }))]);
  const own = { request_body: { action: 'act' } };
  const empty = JSON.stringify(await ask(own)).length;
  length = 1_000 - empty;
  const whole = await ask(own);
  t.like(whole, { status: 'completed', ...own });
  t.is(JSON.stringify(whole).length, 1_000);
  // Without the copy of its request it is short enough.
  length++;
  t.like(await ask(own), { status: 'completed', request_body: {} });
  const room = JSON.stringify(own.request_body).length - '{}'.length;
  length = 1_000 - empty + room;
  t.like(await ask(own), { status: 'completed', request_body: {} });
  length++;
  t.is((await ask(own)).response_body?.code, 'answer_too_large');
});

test('a message may have exactly the allowed number of bytes, and no more', async (t) => {
  const { caller } = await world(t, [echo]);
  const body = JSON.stringify({ request_body });
  const ask = async (bytes: number) => (await caller.replyFor(caller.sendRaw(body.padEnd(bytes)))).answer;
  t.is((await ask(1_000)).status, 'completed');
  t.is((await ask(1_001)).response_body.code, 'invalid_request');
});

test('a message that is itself a reply names no record to write to', async (t) => {
  const records: unknown[] = [];
  const recording: ReplyChannel = {
    needsPlainReply: true,
    reaches: ({ recordId }) => recordId !== undefined,
    send: async ({ plain }, { envelope }) => {
      records.push([envelope.id, plain?.status]);
      return 'sent';
    },
  };
  const { ask, caller, service } = await world(t, [echo], [recording]);
  await ask({ id: 13, status: 'completed', request_body });
  await caller.take('error queue');
  await ask({ id: 14, request_body });
  await ask({ id: 15 });
  await eventually('nothing is held', () => service.held === 0);
  t.deepEqual(records, [
    [14, 'completed'],
    [15, 'error'],
  ]);
});

test('the log names a request by the beginning of its id', async (t) => {
  const [broker] = brokers();
  if (broker === undefined) throw new Error('there is always the embedded broker');
  const { queue, logs } = await serveRequests(t, broker, [echo]);
  const caller = await RawCaller.open(t, broker, queue);
  for (const messageId of ['short', 'x'.repeat(200)]) {
    await caller.ask(request_body, { messageId });
  }
  await eventually('both are logged', () => logs.find(/^request completed$/).length === 2);
  t.deepEqual(
    logs.find(/^request completed$/).map(({ request }) => request),
    ['short', 'x'.repeat(128)],
  );
});
