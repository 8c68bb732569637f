import test, { type ExecutionContext } from 'ava';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import type { Action } from '../../src/plugin.js';
import { InvalidMessage, readEnvelope, replyEnvelope, withoutRequest } from '../../src/rpc/envelope.js';
import { doing, echo } from '../support/actions.js';
import { embeddedBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { RawCaller, serveRequests } from '../support/requests.js';

/** Serves an action; `ask` sends an envelope and returns the whole reply. */
async function world(
  t: ExecutionContext,
  actions: readonly Action[],
  channels: readonly ReplyChannel[] = [],
) {
  const broker = embeddedBroker();
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

/** What is known of a message that is not a request. */
function refused(t: ExecutionContext, message: unknown) {
  const error = t.throws(() => readEnvelope(message), { instanceOf: InvalidMessage });
  return { text: error?.message, envelope: error?.envelope };
}

test('the id of a record is a whole number from 0 to the largest bigint of PostgreSQL, or its digits', (t) => {
  const largest = 2n ** 63n - 1n;
  for (const [id, recordId] of [
    [0, 0],
    ['0', 0],
    [7, 7],
    ['7', 7],
    [largest, largest],
    [String(largest), largest],
    [null, undefined],
    [undefined, undefined],
  ]) {
    const envelope = readEnvelope({ id, request_body });
    t.is(envelope.recordId, recordId as typeof envelope.recordId, String(id));
    t.is(envelope.id, id ?? null);
  }
  const others = [
    -1,
    -1n,
    -0,
    1.5,
    2 ** 53,
    NaN,
    largest + 1n,
    String(largest + 1n),
    '',
    '-1',
    '01',
    '1x',
    'x1',
    true,
    {},
  ];
  for (const id of others) {
    const { text, envelope } = refused(t, { id, request_body, queue_name: 'q' });
    t.is(text, 'its id is not the id of a record: a whole number from 0 to 9223372036854775807', typeof id);
    t.like(envelope, { id, recordId: undefined, queueName: 'q', requestBody: request_body });
  }
});

test('of a message that is not a request, the reply has what can be read', (t) => {
  for (const message of [null, 7, 'text', [], undefined])
    t.like(refused(t, message), {
      text: 'the message is not a map',
      envelope: { id: null, requestBody: {} },
    });
  for (const body of [undefined, null, [], 'text'])
    t.like(refused(t, { id: '13', queue_name: 'q', request_body: body }), {
      text: 'the message has no request_body',
      envelope: { id: '13', recordId: 13, queueName: 'q', requestBody: {} },
    });
  t.like(refused(t, { id: 13, queue_name: 'q', status: 'completed', request_body }), {
    text: 'its status is not that of a request: send the status not_started, or none',
    envelope: { id: 13, recordId: undefined, queueName: 'q', requestBody: request_body },
  });
});

test('an unknown key is named by its beginning', (t) => {
  const { problem } = readEnvelope({
    request_body: { ...request_body, none: null, [`${'k'.repeat(99)}lm`]: 1 },
  });
  const field = `request_body.${'k'.repeat(99)}l`;
  t.is(problem?.field, field);
  t.is(problem?.message, `${field} is an unknown key: the keys are action, etcd_token and action_parameters`);
  t.is(
    readEnvelope({ request_body: { ...request_body, action_parameters: {}, etcd_token: 'x' } }).problem,
    undefined,
  );
});

test('a reply without the copy of its request has the id of its record, and no other', (t) => {
  const answer = (id: unknown, given = {}) => {
    const envelope = { ...readEnvelope({ queue_name: 'q', request_body }), id, ...given };
    return replyEnvelope(withoutRequest(envelope), { status: 'completed', body: 1 });
  };
  const rest = { queue_name: '', status: 'completed', request_body: {}, response_body: 1 };
  t.deepEqual(answer('13', { recordId: 13 }), { id: '13', ...rest });
  t.deepEqual(answer('x'.repeat(1_000)), { id: null, ...rest });
  t.is(withoutRequest(readEnvelope({ id: '13', request_body })).recordId, 13);
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
  const broker = embeddedBroker();
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
