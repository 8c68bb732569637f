import test, { type ExecutionContext } from 'ava';
import { type Envelope, replyEnvelope } from '../../src/rpc/envelope.js';
import type { OutgoingReply } from '../../src/rpc/reply-channel.js';
import { RecordReplyChannel } from '../../src/openaperture/record-reply-channel.js';
import type { ManagerFault } from '../support/stand-in-manager.js';
import { eventually } from '../support/eventually.js';
import { openManager } from './open-manager.js';

const RECORD = /^\/messaging\/rpc_requests\/\d+$/;
const MESSAGING = /^\/messaging/;
/** What proxies send instead of the Manager's response. */
const NOT_FOUND_PAGE = {
  status: 404,
  body: '404 page not found\n',
  headers: { 'content-type': 'text/plain' },
};
const FORBIDDEN_PAGE = {
  status: 403,
  body: '<html>403 Forbidden</html>',
  headers: { 'content-type': 'text/html' },
};
const REQUEST = { etcd_token: 'token', action: 'list_units', action_parameters: null };

function envelopeOf(id: number | bigint | undefined): Envelope {
  return {
    queueName: '',
    id: id ?? null,
    recordId: id,
    requestBody: REQUEST,
    action: 'list_units',
    etcdToken: 'token',
    parameters: null,
    problem: undefined,
  };
}

function replyOf(body: unknown = [{ name: 'a.service' }]): OutgoingReply {
  return {
    body: Buffer.from('in the encoding of the request'),
    contentType: 'application/x-erlang-binary',
    plain: { status: 'completed', body },
  };
}

type ChannelOptions = NonNullable<Parameters<typeof openManager>[1]> & { maxRecordBytes?: number };

async function openChannel(
  t: ExecutionContext,
  { maxRecordBytes = 7_500_000, ...options }: ChannelOptions = {},
) {
  const opened = await openManager(t, options);
  const { client, clock, logs, manager } = opened;
  manager.addExchange(7);
  /** The calls to the service, in order. */
  const reported: string[] = [];
  const stop = new AbortController();
  const channel = new RecordReplyChannel({
    manager: client,
    exchangeId: 7,
    maxRecordBytes,
    pause: () => void reported.push('pause'),
    resume: () => reported.push('resume'),
    stopped: stop.signal,
    clock,
    log: logs.log,
  });
  const send = async (id: number | bigint, reply = replyOf(), changes: Partial<Envelope> = {}) =>
    channel.send(
      reply,
      { envelope: { ...envelopeOf(id), ...changes }, log: logs.log.with({ request: String(id) }) },
      stop.signal,
    );
  const check = async (id: number, signal = stop.signal) =>
    channel.check({ envelope: envelopeOf(id), log: logs.log.with({ request: String(id) }) }, signal);
  const refusal = async (id: number, signal = stop.signal) => (await check(id, signal)).refusal;
  return { ...opened, channel, reported, send, check, refusal, stop };
}

const ANOTHER = { ...REQUEST, action: 'restart_unit' };

test('a request with the id of a record gets its reply through the Manager', async (t) => {
  const { channel } = await openChannel(t);
  t.true(channel.reaches(envelopeOf(5)));
  t.true(channel.reaches(envelopeOf(0)));
  t.true(channel.reaches(envelopeOf(2n ** 60n)));
  t.false(channel.reaches(envelopeOf(undefined)));
});

test('a reply is saved whole into the record of its request', async (t) => {
  const { manager, send, reported, logs } = await openChannel(t);
  manager.addRecord(5);
  await send(5);
  t.deepEqual(
    manager.callsTo(RECORD).map(({ method, path }) => `${method} ${path}`),
    ['GET /messaging/rpc_requests/5', 'PUT /messaging/rpc_requests/5'],
  );
  t.deepEqual(JSON.parse(manager.records.get('5')?.saved ?? ''), {
    queue_name: '',
    id: 5,
    status: 'completed',
    request_body: REQUEST,
    response_body: [{ name: 'a.service' }],
  });
  t.deepEqual(reported, []);
  t.deepEqual(logs.lines, []);
});

test('ids and counts beyond the range of a number are saved as the same integers', async (t) => {
  const { manager, send } = await openChannel(t);
  const id = 9_007_199_254_740_993n;
  manager.addRecord(id);
  await send(id, replyOf({ bytes: 2n ** 70n }));
  const saved = manager.records.get(String(id))?.saved ?? '';
  t.true(saved.includes('"id":9007199254740993,'));
  t.true(saved.includes('"response_body":{"bytes":1180591620717411303424}'));
});

test('a reply whose record is deleted is dropped without an error', async (t) => {
  const { manager, send, logs, reported, clock } = await openChannel(t);
  await send(5);
  t.is(manager.callsTo(RECORD, 'PUT').length, 0);
  manager.addRecord(6);
  const release = manager.hold(RECORD, 'PUT');
  const sent = send(6);
  await eventually('it is being saved', () => manager.callsTo(RECORD, 'PUT').length === 1);
  manager.records.delete('6');
  release();
  t.is(await sent, 'dropped');
  t.is(clock.slept, 0, 'soon');
  t.deepEqual(
    logs.lines.map(({ level, message, reason, request }) => [level, message, reason, request]),
    [
      ['info', 'reply dropped', 'the record of its request no longer exists', '5'],
      ['info', 'reply dropped', 'the record of its request no longer exists', '6'],
    ],
  );
  t.deepEqual(reported, []);
});

test('while the Manager is down for a minute, replies wait, the service pauses once, and this is logged once', async (t) => {
  const { manager, send, reported, logs, clock, until, whileTimePasses } = await openChannel(t);
  for (let id = 1; id <= 30; id++) manager.addRecord(id);
  await manager.down();
  const sent = Array.from({ length: 30 }, (_, index) => send(index + 1));
  let done = 0;
  for (const each of sent) void each.then(() => done++);
  const begun = clock.now();
  await until('a minute has passed', () => clock.now() - begun > 60_000);
  t.is(done, 0);
  t.deepEqual(reported, ['pause']);
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], { level: 'warn', message: 'record replies waiting for the Manager' });
  t.regex(String(logs.lines[0]?.reason), /OAUTH_LOGIN_URL|MANAGER_URL/);
  await manager.up();
  await whileTimePasses(Promise.all(sent));
  t.true([...manager.records.values()].every(({ status }) => status === 'completed'));
  t.deepEqual(reported, ['pause', 'resume']);
  t.is(logs.lines.length, 2);
  t.like(logs.lines[1], { level: 'info', message: 'record replies resumed' });
});

test('each outage is logged again', async (t) => {
  const { manager, send, reported, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5);
  for (let outage = 1; outage <= 2; outage++) {
    const end = manager.fail({ status: 503 });
    const sent = send(5);
    await until('it pauses', () => reported.length === 2 * outage - 1);
    end();
    await whileTimePasses(sent);
  }
  t.deepEqual(reported, ['pause', 'resume', 'pause', 'resume']);
});

test('a saved reply is never overwritten', async (t) => {
  const { manager, send, logs, reported } = await openChannel(t);
  for (const status of ['completed', 'error']) {
    manager.addRecord(5, { status, responseBody: 'what the first worker found' });
    await send(5);
    t.like(manager.records.get('5'), { status, responseBody: 'what the first worker found' });
  }
  manager.addRecord(5, { status: 'in_progress' });
  await send(5);
  t.is(manager.records.get('5')?.status, 'completed');
  t.deepEqual(
    logs.lines.map(({ message, reason }) => [message, reason]),
    [1, 2].map(() => ['reply dropped', 'the record of its request already has a reply']),
  );
  t.deepEqual(reported, []);
});

/** Saves a reply, but the response to the PUT is lost. */
async function openLostResponse(t: ExecutionContext, reply = replyOf()) {
  const opened = await openChannel(t);
  const { manager, send, until } = opened;
  manager.addRecord(5);
  manager.loseResponse(RECORD, 'PUT');
  const sent = send(5, reply);
  await until('it is written', () => manager.records.get('5')?.status === 'completed', 1);
  return { ...opened, sent, reply };
}

test('a reply that was saved is not dropped when the response of the Manager is lost', async (t) => {
  const { manager, sent, logs, whileTimePasses } = await openLostResponse(t);
  t.is(await whileTimePasses(sent), 'sent');
  t.is(manager.callsTo(RECORD, 'PUT').length, 1);
  t.deepEqual(logs.lines, []);
});

test('when the record is gone after such a lost response, it is not claimed that its caller got no reply', async (t) => {
  const { manager, sent, logs, whileTimePasses } = await openLostResponse(t);
  manager.records.delete('5');
  t.is(await whileTimePasses(sent), 'dropped');
  t.is(
    logs.find(/^reply dropped$/)[0]?.reason,
    'the record of its request no longer exists; an earlier attempt may have saved the reply',
  );
});

test('a reply that is saved already when its error is to replace it is the one that its caller got', async (t) => {
  const { manager, send, logs, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5);
  manager.fail({ path: RECORD, method: 'PUT', times: 1 });
  const sent = send(5, replyOf('x'.repeat(1_000_000)));
  await until('it is cut', () => manager.callsTo(RECORD, 'PUT').length === 1, 1);
  manager.loseResponse(RECORD, 'PUT');
  t.is(await whileTimePasses(sent), 'sent');
  t.is(manager.callsTo(RECORD, 'PUT').length, 2);
  t.is(manager.records.get('5')?.status, 'completed');
  t.deepEqual(logs.lines, []);
});

for (const [what, kept] of [
  ['the record has it', true],
  ['its caller has deleted the record', false],
] as const)
  test(`a saved reply that is sent again, as its request was delivered again, is not dropped when ${what}`, async (t) => {
    const { manager, send, logs } = await openChannel(t);
    manager.addRecord(5);
    const reply = replyOf();
    t.is(await send(5, reply), 'sent');
    if (!kept) manager.records.delete('5');
    t.is(await send(5, reply), 'sent');
    t.is(manager.callsTo(RECORD, 'PUT').length, 1);
    t.deepEqual(logs.lines, []);
  });

for (const [what, fault] of [
  ['refused', { status: 429, path: RECORD, method: 'PUT', times: 1 }],
  ['never written', { path: RECORD, method: 'GET', times: 1 }],
] as const)
  test(`a reply that was ${what} is dropped when the record has another one meanwhile`, async (t) => {
    const { manager, send, logs, until, whileTimePasses } = await openChannel(t);
    manager.addRecord(5);
    manager.fail(fault);
    const sent = send(5);
    await until('it has failed', () => manager.callsTo(RECORD, fault.method).length === 1, 1);
    manager.addRecord(5, { status: 'completed', responseBody: 'of another worker' });
    t.is(await whileTimePasses(sent), 'dropped');
    t.is(logs.find(/^reply dropped$/).length, 1);
  });

test('the reply of a request is never saved into the open record of another one', async (t) => {
  const { manager, send, logs, reported } = await openChannel(t);
  manager.addRecord(77, { requestBody: ANOTHER });
  t.is(await send(77), 'dropped');
  t.like(manager.records.get('77'), { status: 'not_started', requestBody: ANOTHER, responseBody: null });
  t.is(manager.callsTo(RECORD, 'PUT').length, 0);
  t.like(logs.lines[0], { level: 'warn', message: 'reply dropped', request: '77' });
  t.regex(String(logs.lines[0]?.reason), /^its id is that of another request: the record 77/);
  t.deepEqual(reported, []);
});

test('a request with the id of the open record of another one is refused before it runs', async (t) => {
  const { manager, refusal } = await openChannel(t);
  manager.addRecord(77, { requestBody: ANOTHER });
  t.regex(String(await refusal(77)), /^its id is that of another request: the record 77/);
  manager.addRecord(77, { requestBody: { ...REQUEST, more: 'ignored' } });
  t.is(await refusal(77), undefined);
  manager.addRecord(77, { requestBody: null });
  t.is(await refusal(77), undefined, 'a record without a request proves nothing');
  t.is(await refusal(78), undefined, 'there is no such record');
  manager.addRecord(77, { requestBody: ANOTHER, status: 'completed' });
  t.is(await refusal(77), undefined, 'it has its reply already, and will not be written');
});

test('the Manager vouches for a request exactly when its open record is that of the request', async (t) => {
  const { manager, check } = await openChannel(t);
  const vouchedFor = async () => (await check(77)).vouchesFor;
  manager.addRecord(77, { requestBody: { ...REQUEST, more: 'ignored' } });
  t.deepEqual(await vouchedFor(), { name: 'manager', verifiedBy: 'manager' });
  for (const [record, why] of [
    [{ requestBody: ANOTHER }, 'it is that of another request'],
    [{ requestBody: null }, 'it does not say what was asked for'],
    [{ requestBody: REQUEST, status: 'completed' }, 'it has its reply already'],
  ] as const) {
    manager.addRecord(77, record);
    t.is(await vouchedFor(), undefined, why);
  }
  manager.records.delete('77');
  t.is(await vouchedFor(), undefined, 'there is none');
});

test('while the Manager is down, it is not known whether a request may run, and the service takes no more', async (t) => {
  const { manager, refusal, reported, logs, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5, { requestBody: REQUEST });
  manager.addRecord(77, { requestBody: ANOTHER });
  await manager.down();
  const checks = [refusal(5), refusal(77)];
  await until('it pauses', () => reported.length > 0);
  await manager.up();
  const [own, another] = await whileTimePasses(Promise.all(checks));
  t.is(own, undefined);
  t.regex(String(another), /another request/);
  t.deepEqual(reported, ['pause', 'resume']);
  t.is(logs.find(/^record replies waiting for the Manager$/).length, 1);
});

test('a request whose record the Manager will not show is refused: at once when that is final, else after ten minutes', async (t) => {
  const { manager, refusal, reported, clock, until } = await openChannel(t);
  manager.addRecord(5, { requestBody: REQUEST });
  const end = manager.fail({ status: 400, path: RECORD });
  t.regex(String(await refusal(5)), /^the record 5 of its id cannot be read: .*400/);
  end();
  manager.fail({ status: 500, path: RECORD, body: '' });
  const begun = clock.now();
  let refused: string | undefined;
  void refusal(5).then((reason) => (refused = reason));
  await until('it is abandoned', () => refused !== undefined, 5_000);
  t.true(clock.now() - begun >= 10 * 60_000);
  t.regex(String(refused), /^the record 5 of its id cannot be read: .*500/);
  t.deepEqual(reported, []);
});

test('a check that waits for the Manager ends with the reason when the service stops, and the outage does not', async (t) => {
  const { manager, refusal, reported, logs, until, stop, clock } = await openChannel(t);
  manager.fail({ status: 503 });
  const check = refusal(5);
  await until('it pauses', () => reported.length > 0);
  stop.abort(new Error('the service stops'));
  await t.throwsAsync(check, { message: 'the service stops' });
  t.deepEqual(reported, ['pause']);
  t.deepEqual(logs.find(/^record replies resumed$/), []);
  t.is(clock.pending, 0);
});

/** Checks of requests whose time passes while the Manager is down. */
async function openLateChecks(t: ExecutionContext) {
  const opened = await openChannel(t);
  const { manager, refusal, reported, until } = opened;
  manager.addRecord(5);
  manager.addRecord(6);
  const end = manager.fail({ status: 503 });
  const late = new AbortController();
  const checks = [refusal(5, late.signal), refusal(6, late.signal)];
  await until('it pauses', () => reported.length > 0);
  late.abort(new Error('the time of the request has passed'));
  for (const check of checks) await t.throwsAsync(check, { message: 'the time of the request has passed' });
  return { ...opened, end };
}

test('an outage lasts until the Manager responds again, also when the time of all requests passes', async (t) => {
  const { manager, reported, logs, clock, until, end } = await openLateChecks(t);
  const before = manager.calls.length;
  await until('the Manager is asked', () => manager.calls.length > before + 6);
  t.deepEqual(reported, ['pause']);
  t.deepEqual(logs.find(/^record replies resumed$/), []);
  end();
  await until('the service goes on', () => reported.length > 1);
  t.deepEqual(reported, ['pause', 'resume']);
  t.is(logs.find(/^record replies resumed$/).length, 1);
  t.is(clock.pending, 0, 'the Manager is not asked any more');
});

test('a reply that is saved after the time of all other requests ends the outage', async (t) => {
  const { send, reported, clock, end } = await openLateChecks(t);
  end();
  t.is(await send(5), 'sent');
  t.deepEqual(reported, ['pause', 'resume']);
  t.is(clock.pending, 0);
});

test('a reply that waits after the time of all other requests continues the outage', async (t) => {
  const { send, reported, logs, until, whileTimePasses, clock, end } = await openLateChecks(t);
  let sent = false;
  const sending = send(5).then(() => (sent = true));
  const begun = clock.now();
  await until('a minute has passed', () => clock.now() - begun > 60_000);
  t.false(sent);
  t.deepEqual(reported, ['pause']);
  end();
  await whileTimePasses(sending);
  t.deepEqual(reported, ['pause', 'resume']);
  t.is(logs.find(/^record replies waiting for the Manager$/).length, 1);
  t.is(logs.find(/^record replies resumed$/).length, 1);
  t.is(clock.pending, 0);
});

test('the Manager is not asked any more when the service stops', async (t) => {
  const { reported, stop, clock } = await openLateChecks(t);
  t.is(clock.pending, 1);
  stop.abort(new Error('the service stops'));
  t.is(clock.pending, 0);
  t.deepEqual(reported, ['pause']);
});

test('a single failure of the Manager causes no pause', async (t) => {
  const { manager, send, reported, logs, whileTimePasses } = await openChannel(t);
  for (const fault of [{ status: 500 }, { status: 503 }, {}]) {
    manager.addRecord(5);
    manager.fail({ ...fault, path: RECORD, times: 1 });
    await whileTimePasses(send(5));
    t.is(manager.records.get('5')?.status, 'completed');
  }
  t.deepEqual(reported, []);
  t.deepEqual(logs.lines, []);
});

test('a Manager that is down is noticed within two seconds, and immediately when it requests a wait', async (t) => {
  const { manager, send, reported, clock, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5);
  await manager.down();
  let begun = clock.now();
  const sent = send(5);
  await until('it pauses', () => reported.length === 1, 2);
  t.true(clock.now() - begun <= 2_000);
  await manager.up();
  await whileTimePasses(sent);
  manager.addRecord(5);
  manager.fail({ status: 503, headers: { 'retry-after': '20' }, path: MESSAGING, times: 2 });
  begun = clock.now();
  const before = clock.slept;
  const again = send(5);
  await eventually('it pauses', () => reported.length === 3);
  t.is(clock.now(), begun);
  await whileTimePasses(again, 10);
  t.true(clock.now() - begun >= 20_000);
  t.true(clock.slept - before < 21_000, String(clock.slept - before));
});

const OUTAGES: readonly (readonly [string, ManagerFault])[] = [
  ['500', { status: 500, path: MESSAGING }],
  ['502', { status: 502, path: MESSAGING }],
  ['429', { status: 429, path: MESSAGING }],
  ['a cut connection', { path: MESSAGING }],
  ['401 to every token', { status: 401, path: MESSAGING }],
  ['a redirect', { status: 302, path: MESSAGING, headers: { location: '/' } }],
  ["a proxy's page", { status: 200, path: MESSAGING, body: '<html>We are back soon</html>' }],
  ["a proxy's page with 404", { ...NOT_FOUND_PAGE, path: MESSAGING }],
  ["a proxy's page with 403", { ...FORBIDDEN_PAGE, path: MESSAGING }],
  ['an OAuth server that is down', { path: /^\/oauth/ }],
  ['an OAuth server that refuses the client', { status: 401, path: /^\/oauth/ }],
  ['an OAuth server that is not found', { status: 404, path: /^\/oauth/ }],
];

for (const [what, fault] of OUTAGES) {
  test(`a reply is kept, and finally saved, while the Manager gives ${what}`, async (t) => {
    const { manager, send, reported, logs, until, whileTimePasses } = await openChannel(t);
    manager.addRecord(5);
    const end = manager.fail(fault);
    const sent = send(5);
    await until('it has retried for a while', () => manager.calls.length > 12, 2_000);
    t.deepEqual(reported, ['pause']);
    t.is(logs.lines.length, 1);
    t.not(manager.records.get('5')?.status, 'completed');
    end();
    await whileTimePasses(sent);
    t.is(manager.records.get('5')?.status, 'completed');
    t.deepEqual(reported, ['pause', 'resume']);
  });
}

test('a reply is kept while the Manager hangs', async (t) => {
  const { manager, send, reported, until, whileTimePasses } = await openChannel(t, { timeoutMs: 300 });
  manager.addRecord(5);
  const release = manager.hold(MESSAGING);
  const sent = send(5);
  await until('it pauses', () => reported.length > 0);
  release();
  await whileTimePasses(sent);
  t.is(manager.records.get('5')?.status, 'completed');
  t.deepEqual(reported, ['pause', 'resume']);
});

test('a service that stops gives up waiting replies, with the reason, and the outage does not end', async (t) => {
  const { manager, send, reported, logs, until, stop, clock } = await openChannel(t);
  manager.fail({ status: 503 });
  const sent = [send(5), send(6)];
  await until('it pauses', () => reported.length > 0);
  stop.abort(new Error('the service stops'));
  for (const each of sent) await t.throwsAsync(each, { message: 'the service stops' });
  t.deepEqual(reported, ['pause']);
  t.deepEqual(logs.find(/^record replies resumed$/), []);
  t.is(clock.pending, 0);
});

test('a reply that the Manager refuses for good is replaced by an error, so that its caller does not wait', async (t) => {
  const { manager, send, reported, logs } = await openChannel(t);
  manager.addRecord(5);
  manager.fail({
    status: 400,
    method: 'PUT',
    times: 1,
    body: '{"errors":[{"message":"One or more fields for MessagingRpcRequest were invalid"}]}',
  });
  await send(5);
  const record = manager.records.get('5');
  t.is(record?.status, 'error');
  t.like(record?.responseBody, { code: 'internal' });
  t.deepEqual(record?.requestBody, REQUEST);
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], {
    level: 'error',
    message: 'reply replaced',
    request: '5',
  });
  t.regex(String(logs.lines[0]?.reason), /400: One or more fields for MessagingRpcRequest were invalid/);
  t.deepEqual(reported, []);
});

for (const oversize of ['answered', 'cut'] as const) {
  test(`a reply of more bytes than the Manager reads is replaced within seconds, without a pause, when its request is ${oversize}`, async (t) => {
    const opened = await openChannel(t, { oversize, maxRecordBytes: 100_000_000 });
    const { manager, send, reported, logs, clock, whileTimePasses } = opened;
    manager.addRecord(5);
    // In small steps, so that the calls of a busy machine keep their time limit.
    await whileTimePasses(send(5, replyOf('x'.repeat(8_000_000))), 10);
    t.true(clock.slept < 5_000, String(clock.slept));
    t.like(manager.records.get('5'), { status: 'error', responseBody: { code: 'answer_too_large' } });
    t.deepEqual(manager.records.get('5')?.requestBody, REQUEST);
    t.deepEqual(reported, []);
    t.like(logs.lines.at(-1), { level: 'error', message: 'reply replaced' });
  });
}

test('a reply of more than MAX_RECORD_BYTES is replaced without a try, and one of exactly that size is saved', async (t) => {
  const { manager, send, logs } = await openChannel(t, { maxRecordBytes: 2_000 });
  const rest = JSON.stringify(replyEnvelope(envelopeOf(5), { status: 'completed', body: '' })).length;
  manager.addRecord(5);
  await send(5, replyOf(`é${'x'.repeat(2_000 - rest - 2)}`));
  t.is(manager.records.get('5')?.status, 'completed');
  manager.addRecord(6);
  await send(6, replyOf(`é${'x'.repeat(2_000 - rest - 1)}`));
  t.like(manager.records.get('6'), { status: 'error', responseBody: { code: 'answer_too_large' } });
  t.is(manager.callsTo(RECORD, 'PUT').length, 2);
  t.regex(String(logs.lines.at(-1)?.reason), /^it has 2001 bytes, and MAX_RECORD_BYTES is 2000$/);
});

test('a request that is too large to be sent back is left out of the error', async (t) => {
  const { manager, send } = await openChannel(t, { maxRecordBytes: 2_000 });
  manager.addRecord(5);
  await send(5, replyOf('x'.repeat(2_000)), {
    queueName: 'x'.repeat(2_000),
    requestBody: { a: 'x'.repeat(2_000) },
  });
  t.like(manager.records.get('5'), { status: 'error', responseBody: { code: 'answer_too_large' } });
  t.deepEqual(manager.records.get('5')?.requestBody, {});
});

for (const [what, fault] of [
  ['a cut', {}],
  ['a 502 of a proxy', { status: 502 }],
  ['a 504 of a proxy', { status: 504 }],
] as const) {
  test(`a large reply that fails with ${what}, while other calls work, is replaced within seconds without a pause`, async (t) => {
    const { manager, send, reported, clock, whileTimePasses } = await openChannel(t);
    manager.addRecord(5);
    const end = manager.fail({ ...fault, path: RECORD, method: 'PUT', times: 2 });
    await whileTimePasses(send(5, replyOf('x'.repeat(1_000_000))), 10);
    end();
    t.true(clock.slept < 5_000, String(clock.slept));
    t.like(manager.records.get('5')?.responseBody, { code: 'answer_too_large' });
    t.deepEqual(reported, []);
  });
}

test('a large reply that the Manager does not read to its end is replaced after two tries without a pause', async (t) => {
  const { manager, send, reported, until, whileTimePasses } = await openChannel(t, { timeoutMs: 5_000 });
  manager.addRecord(5);
  const release = manager.hold(RECORD, 'PUT');
  const sent = send(5, replyOf('x'.repeat(1_000_000)));
  await until('it is tried a third time', () => manager.callsTo(RECORD, 'PUT').length === 3, 100);
  t.like(manager.callsTo(RECORD, 'PUT')[2]?.body, { response_body: { code: 'answer_too_large' } });
  t.deepEqual(reported, []);
  release();
  await whileTimePasses(sent);
});

test('a large reply that fails while the Manager fails on other calls too is kept', async (t) => {
  const { manager, send, reported, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5);
  const ends = [
    manager.fail({ status: 502, path: RECORD, method: 'PUT' }),
    manager.fail({ status: 502, path: /exchanges/ }),
  ];
  const sent = send(5, replyOf('x'.repeat(1_000_000)));
  await until('it has been tried a while', () => manager.callsTo(RECORD, 'PUT').length > 5, 2_000);
  t.deepEqual(reported, ['pause']);
  for (const end of ends) end();
  await whileTimePasses(sent);
  t.is(manager.records.get('5')?.status, 'completed');
  t.deepEqual(reported, ['pause', 'resume']);
});

test('after an outage, other replies do not wait for one that is too large', async (t) => {
  const { manager, send, reported, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5);
  const outage = manager.fail({ status: 503 });
  const sent = send(5, replyOf('x'.repeat(1_000_000)));
  await until('it pauses', () => reported.length === 1);
  outage();
  const refusal = manager.fail({ path: RECORD, method: 'PUT', times: 2 });
  await until('the first try after the outage fails', () => manager.callsTo(RECORD, 'PUT').length === 1);
  await until('the service goes on', () => reported.length === 2, 1);
  t.deepEqual(reported, ['pause', 'resume']);
  t.is(manager.records.get('5')?.status, 'not_started');
  await whileTimePasses(sent);
  refusal();
  t.like(manager.records.get('5')?.responseBody, { code: 'answer_too_large' });
  t.deepEqual(reported, ['pause', 'resume']);
});

test('the result of a change is saved without the copy of its request, if that copy is too large', async (t) => {
  const { manager, send, logs } = await openChannel(t, { maxRecordBytes: 2_000 });
  for (const large of [{ queueName: 'x'.repeat(2_000) }, { requestBody: { a: 'x'.repeat(2_000) } }]) {
    manager.addRecord(5);
    await send(5, replyOf('web.service was restarted'), large);
    t.deepEqual(JSON.parse(manager.records.get('5')?.saved ?? ''), {
      queue_name: '',
      id: 5,
      status: 'completed',
      request_body: {},
      response_body: 'web.service was restarted',
    });
  }
  t.deepEqual(logs.lines, []);
});

test('two cut connections count as too large only above 64 KiB, and only while saving', async (t) => {
  const { manager, send, whileTimePasses } = await openChannel(t);
  const rest = JSON.stringify(replyEnvelope(envelopeOf(5), { status: 'completed', body: '' })).length;
  for (const [bytes, method, status] of [
    [65_537, 'PUT', 'error'],
    [65_536, 'PUT', 'completed'],
    [1_000_000, 'GET', 'completed'],
  ] as const) {
    manager.addRecord(5);
    const end = manager.fail({ path: RECORD, method, times: 2 });
    await whileTimePasses(send(5, replyOf('x'.repeat(bytes - rest))));
    t.is(manager.records.get('5')?.status, status, `${bytes} ${method}`);
    end();
  }
});

test('a large reply whose connection is cut is kept, unless it is cut again immediately', async (t) => {
  const { manager, send, clock, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5);
  const end = manager.fail({ path: RECORD, method: 'PUT', times: 1 });
  const sent = send(5, replyOf('x'.repeat(1_000_000)));
  await until('it is cut', () => manager.callsTo(RECORD, 'PUT').length === 1, 1);
  await manager.down();
  const begun = clock.now();
  await until('the Manager is down for a while', () => clock.now() - begun > 30_000);
  end();
  manager.fail({ path: RECORD, method: 'PUT', times: 1 });
  await manager.up();
  await whileTimePasses(sent);
  t.is(manager.callsTo(RECORD, 'PUT').length, 3);
  t.is(manager.records.get('5')?.status, 'completed');
});

test('a reply that cannot be written as JSON is replaced by an error', async (t) => {
  const { manager, send } = await openChannel(t);
  manager.addRecord(5);
  const body: Record<string, unknown> = {};
  body.self = body;
  await send(5, replyOf(body));
  t.is(manager.records.get('5')?.status, 'error');
});

for (const status of [400, 422]) {
  test(`a reply that the Manager refuses with ${status}, even as an error, is dropped and blocks no other`, async (t) => {
    const { manager, send, reported, logs, clock } = await openChannel(t);
    manager.addRecord(5);
    manager.fail({ status, method: 'PUT' });
    await send(5);
    t.is(manager.callsTo(RECORD, 'PUT').length, 2);
    t.like(logs.lines.at(-1), {
      level: 'error',
      message: 'reply dropped',
      request: '5',
    });
    t.deepEqual(reported, []);
    t.is(clock.pending, 0);
  });
}

function isReplaced(call: { text: string } | undefined): boolean {
  return call?.text.includes('The Manager refuses the reply') ?? false;
}

const FAULTS_OF_ONE: readonly (readonly [string, ManagerFault])[] = [
  ['500', { status: 500 }],
  ['502', { status: 502 }],
  ['429', { status: 429 }],
  ['a cut connection', {}],
  ['401', { status: 401 }],
  ["a proxy's page", { status: 200, body: '<html>Blocked</html>' }],
  ["a proxy's page with 404", NOT_FOUND_PAGE],
  ["a proxy's page with 403", FORBIDDEN_PAGE],
];

for (const [what, fault] of FAULTS_OF_ONE)
  test(`a single reply whose saving gets ${what} delays no other, is tried for ten minutes, then replaced by an error`, async (t) => {
    const { manager, send, reported, logs, clock, until, whileTimePasses } = await openChannel(t);
    manager.addRecord(5);
    manager.addRecord(6);
    const begun = clock.now();
    const end = manager.fail({ ...fault, path: /rpc_requests\/5$/, method: 'PUT' });
    const stuck = send(5);
    await until('it has been tried a while', () => manager.callsTo(RECORD, 'PUT').length > 10, 2_000);
    t.is(await send(6), 'sent');
    t.deepEqual(reported, []);
    await until('it is abandoned', () => isReplaced(manager.callsTo(RECORD, 'PUT').at(-1)), 5_000);
    t.true(clock.now() - begun >= 10 * 60_000);
    end();
    await whileTimePasses(stuck);
    t.like(manager.records.get('5'), { status: 'error', responseBody: { code: 'internal' } });
    t.is(logs.find(/^reply failed while the Manager works$/).length, 1);
    t.is(logs.find(/^reply replaced$/).length, 1);
    t.deepEqual(reported, []);
  });

for (const [what, fault] of FAULTS_OF_ONE.filter(([, { status }]) => status !== 200))
  test(`a record whose reading gets ${what} delays no other, and is tried for ten minutes`, async (t) => {
    const { manager, send, refusal, reported, clock, until, whileTimePasses } = await openChannel(t);
    manager.addRecord(5);
    manager.addRecord(6);
    const begun = clock.now();
    manager.fail({ ...fault, path: /rpc_requests\/5$/, method: 'GET' });
    const stuck = Promise.all([send(5), refusal(5)]);
    await until('it has been tried a while', () => manager.callsTo(RECORD, 'GET').length > 20, 2_000);
    t.is(await refusal(6), undefined);
    t.is(await send(6), 'sent');
    const [sent, refused] = await whileTimePasses(stuck, 5_000);
    t.true(clock.now() - begun >= 10 * 60_000);
    t.is(sent, 'dropped');
    t.regex(String(refused), /^the record 5 of its id cannot be read/);
    t.is(manager.records.get('5')?.status, 'not_started');
    t.deepEqual(reported, []);
  });

test('a single reply whose saving hangs delays no other', async (t) => {
  const { manager, send, reported, until, whileTimePasses } = await openChannel(t, { timeoutMs: 3_000 });
  manager.addRecord(5);
  manager.addRecord(6);
  const release = manager.hold(/rpc_requests\/5$/, 'PUT');
  const stuck = send(5);
  await until('it is tried a third time', () => manager.callsTo(RECORD, 'PUT').length === 3, 100);
  t.is(await send(6), 'sent');
  t.deepEqual(reported, []);
  release();
  t.is(await whileTimePasses(stuck), 'sent');
});

test('while the Manager saves no reply, none is abandoned, although it responds to other calls', async (t) => {
  const { manager, send, reported, clock, until, whileTimePasses } = await openChannel(t);
  for (const id of [5, 6, 7]) manager.addRecord(id);
  const outage = manager.fail({ status: 500, path: RECORD, method: 'PUT' });
  const begun = clock.now();
  const sent = Promise.all([send(5), send(6)]);
  await until('half an hour has passed', () => clock.now() - begun > 30 * 60_000, 5_000);
  outage();
  t.deepEqual(await whileTimePasses(sent), ['sent', 'sent']);
  manager.addRecord(5);
  manager.addRecord(6);
  manager.fail({ status: 500, path: /rpc_requests\/[56]$/, method: 'PUT' });
  const stuck = Promise.all([send(5), send(6)]);
  await until('both have been tried a while', () => clock.now() - begun > 60 * 60_000, 5_000);
  await send(7);
  t.deepEqual(await whileTimePasses(stuck, 5_000), ['dropped', 'dropped'], 'another one was saved');
  t.deepEqual(reported, []);
});

test("a proxy's 404 or 403 is not taken for an answer about a record: neither before a request runs, nor after", async (t) => {
  const { manager, send, refusal, logs, until, whileTimePasses } = await openChannel(t);
  for (const page of [NOT_FOUND_PAGE, { status: 404, body: '' }, FORBIDDEN_PAGE]) {
    manager.addRecord(5);
    const end = manager.fail({ ...page, path: RECORD });
    const before = manager.callsTo(RECORD).length;
    let ended = 0;
    const work = [send(5), refusal(5)].map(async (each) => each.finally(() => ended++));
    const tried = () => ended > 0 || manager.callsTo(RECORD).length > before + 6;
    await until('both have been tried', tried, 2_000);
    t.is(ended, 0);
    end();
    t.deepEqual(await whileTimePasses(Promise.all(work)), ['sent', undefined]);
    t.is(manager.records.get('5')?.status, 'completed');
  }
  t.deepEqual(logs.find(/^reply (dropped|replaced)$/), []);
});

test('a reply that the Manager fails on, even as an error, is dropped after ten minutes, with a log line', async (t) => {
  const { manager, send, reported, logs, clock, until } = await openChannel(t);
  manager.addRecord(5);
  const begun = clock.now();
  manager.fail({ status: 500, path: RECORD });
  let done = false;
  void send(5).then(() => (done = true));
  await until('it is abandoned', () => done, 5_000);
  t.true(clock.now() - begun >= 10 * 60_000);
  t.like(logs.lines.at(-1), {
    level: 'error',
    message: 'reply dropped',
    request: '5',
  });
  t.deepEqual(reported, []);
});

test('while the Manager fails on everything, nothing is abandoned', async (t) => {
  const { manager, send, reported, clock, until, whileTimePasses } = await openChannel(t);
  manager.addRecord(5);
  const end = manager.fail({ status: 500, path: MESSAGING });
  const begun = clock.now();
  const sent = send(5);
  await until('half an hour has passed', () => clock.now() - begun > 30 * 60_000, 5_000);
  t.deepEqual(reported, ['pause']);
  end();
  await whileTimePasses(sent);
  t.is(manager.records.get('5')?.status, 'completed');
});

test('a token that is revoked during a call loses no reply', async (t) => {
  const { manager, send, reported } = await openChannel(t);
  for (let id = 1; id <= 20; id++) {
    manager.addRecord(id);
    if (id % 5 === 0) manager.revokeTokens();
    await send(id);
  }
  t.true([...manager.records.values()].every(({ status }) => status === 'completed'));
  t.is(manager.callsTo(/^\/oauth/).length, 5);
  t.deepEqual(reported, []);
});

test('neither the token nor the etcd token is in the log, whatever fails', async (t) => {
  const { manager, send, logs, until, whileTimePasses } = await openChannel(t);
  const request = { ...REQUEST, etcd_token: 'sesame' };
  manager.addRecord(5);
  const end = manager.fail({ status: 500 });
  const sent = send(5, replyOf(), { requestBody: request });
  await until('it is logged', () => logs.lines.length > 0);
  end();
  manager.fail({ status: 400, method: 'PUT' });
  await whileTimePasses(sent);
  const text = JSON.stringify(logs.lines);
  t.false(text.includes('sesame'));
  t.notRegex(text, /token-|secret-/);
});
