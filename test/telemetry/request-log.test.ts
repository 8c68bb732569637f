import test from 'ava';
import { ANONYMOUS } from '../../src/api/caller.js';
import { Cluster } from '../../src/api/cluster.js';
import type { Call, Reply } from '../../src/core/call.js';
import { CallEventBus } from '../../src/core/call-events.js';
import { Catalogue } from '../../src/core/catalogue.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { logRequests } from '../../src/telemetry/request-log.js';
import { doing } from '../support/actions.js';
import { logLines } from '../support/log-lines.js';

const action = doing(async () => ({}), { name: 'act' });
const [description] = new Catalogue([prepareAction(action, () => undefined)]).describe();

function opened() {
  const logs = logLines();
  const events = new CallEventBus(logs.log);
  logRequests(events, (fields) => logs.log.with(fields));
  const call: Call = {
    id: 'r7',
    action: 'act',
    target: 'very-secret-token',
    parameters: {},
    timeoutMs: undefined,
    waitedMs: 0,
    caller: ANONYMOUS,
    door: 'amqp',
    encoding: 'json',
    attempt: 1,
    context: {},
    delivery: 'first',
    mayBeCopy: false,
    wantsReply: true,
    wantsParts: false,
    signal: new AbortController().signal,
  };
  const cluster = new Cluster('very-secret-token');
  /** From its arrival at 1000 to its settlement. */
  const settle = (
    settled: Reply & { cause?: unknown; replyOf?: string },
    { admitted = true, began = true, units = [] as string[] } = {},
  ) => {
    events.emit('received', { call, at: 1_000 });
    if (admitted && description !== undefined)
      events.emit('admitted', { call, action: description, cluster, units, rule: undefined, at: 1_000 });
    if (began) events.emit('began', { call, at: 1_200 });
    events.emit('settled', { call, settled, at: 1_700 });
  };
  return { events, logs, call, cluster, settle };
}

const DONE: Reply = { status: 'completed', body: {} };

test('a request gets one line, when its reply has been sent', (t) => {
  const { events, logs, call, cluster, settle } = opened();
  settle(DONE);
  t.is(logs.lines.length, 0);
  events.emit('answered', { call, reply: DONE, dropped: false, at: 2_000 });
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], {
    level: 'info',
    message: 'request completed',
    request: 'r7',
    action: 'act',
    cluster: cluster.hash,
    took_ms: 500,
    waited_ms: 200,
    dropped: undefined,
  });
  t.false(JSON.stringify(logs.lines).includes('very-secret-token'));
});

test('each line names the caller, and the units that the request names', (t) => {
  for (const [units, unit] of [
    [[], undefined],
    [['a.service'], 'a.service'],
    [['a.service', 'b.service'], 'a.service b.service'],
  ] as const) {
    const { events, logs, call, settle } = opened();
    settle(DONE, { units: [...units] });
    events.emit('answered', { call, reply: DONE, dropped: false, at: 2_000 });
    t.is(logs.lines[0]?.caller, 'anonymous');
    t.is(logs.lines[0]?.unit, unit);
  }
});

test('the beginning of a change is logged, and not that of a read', (t) => {
  const { events, logs, call } = opened();
  const change = description && { ...description, effect: 'change' as const };
  for (const each of [description, change]) {
    events.emit('received', { call, at: 1_000 });
    if (each !== undefined)
      events.emit('admitted', {
        call,
        action: each,
        cluster: undefined,
        units: [],
        rule: undefined,
        at: 1_000,
      });
    events.emit('began', { call, at: 1_200 });
  }
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], { level: 'info', message: 'change started', request: 'r7', action: 'act' });
});

test('a failure of the service or of the cluster is a warning, a defect an error, and one of the caller neither', (t) => {
  for (const [code, dropped, level] of [
    ['invalid_parameters', false, 'info'],
    ['forbidden', false, 'info'],
    ['invalid_parameters', true, 'warn'],
    ['cluster_unreachable', false, 'warn'],
    ['timeout', false, 'warn'],
    ['a_code_of_a_plugin', false, 'warn'],
    ['internal', false, 'error'],
    ['worker_lost', true, 'error'],
  ] as const) {
    const { events, logs, call, settle } = opened();
    const reply: Reply = { status: 'error', body: { errors: ['no'], code } };
    settle(reply);
    events.emit('answered', { call, reply, dropped, at: 2_000 });
    t.is(logs.lines[0]?.level, level, code);
  }
});

test('the line of a request that an operator has sent again says how often', (t) => {
  const { events, logs, call } = opened();
  events.emit('answered', { call: { ...call, replays: 2 }, reply: DONE, dropped: false, at: 2_000 });
  events.emit('answered', { call, reply: DONE, dropped: false, at: 2_000 });
  t.deepEqual(
    logs.lines.map(({ replays }) => replays),
    [2, undefined],
  );
});

test('the line of a request that got the reply to an earlier one names that', (t) => {
  const { events, logs, call, settle } = opened();
  settle({ ...DONE, replyOf: 'r3' }, { began: false });
  events.emit('answered', { call, reply: DONE, dropped: false, at: 2_000 });
  t.like(logs.lines[0], { message: 'request completed', reply_of: 'r3' });
});

test('the line says what the caller really got', (t) => {
  const { events, logs, call, settle } = opened();
  settle(DONE);
  const reply: Reply = { status: 'error', body: { errors: ['too large'], code: 'answer_too_large' } };
  events.emit('answered', { call, reply, dropped: false, at: 2_000 });
  t.like(logs.lines[0], { message: 'request failed', code: 'answer_too_large', reason: 'too large' });
});

test('a reply that no queue accepted is marked as dropped', (t) => {
  const { events, logs, call, settle } = opened();
  settle(DONE);
  events.emit('answered', { call, reply: DONE, dropped: true, at: 2_000 });
  t.like(logs.lines[0], { message: 'request completed', dropped: true });
});

test('a refused call has no waiting time; one that is late while it waits has no running time', (t) => {
  for (const [state, times] of [
    [
      { admitted: false, began: false },
      { took_ms: 700, waited_ms: 0 },
    ],
    [
      { admitted: true, began: false },
      { took_ms: 0, waited_ms: 700 },
    ],
  ] as const) {
    const { events, logs, call, settle } = opened();
    const reply: Reply = { status: 'error', body: { errors: ['no'], code: 'timeout' } };
    settle(reply, state);
    events.emit('answered', { call, reply, dropped: false, at: 2_000 });
    t.like(logs.lines[0], times);
  }
});

test('an unexpected error is logged with its stack', (t) => {
  const { logs, settle } = opened();
  settle({
    status: 'error',
    body: { errors: ['x'], code: 'internal' },
    cause: new TypeError('secret reason'),
  });
  t.like(logs.lines[0], { level: 'error', message: 'action failed unexpectedly', request: 'r7' });
  t.regex(String(logs.lines[0]?.error), /TypeError: secret reason\n\s+at .*request-log\.test/);
});

test('a request whose reply could not be sent before the service stopped is logged as unanswered', (t) => {
  const { events, logs, call, settle } = opened();
  settle(DONE);
  events.emit('unanswered', { call, at: 2_000 });
  t.like(logs.lines[0], { level: 'warn', message: 'request unanswered', request: 'r7', took_ms: 500 });
});

test('a request that is released gets no line; a message that is dead-lettered gets its reason', (t) => {
  const { events, logs, call } = opened();
  events.emit('received', { call, at: 1_000 });
  events.emit('released', { call, at: 1_500 });
  t.is(logs.lines.length, 0);
  const caller = { name: 'ops', verifiedBy: 'broker' } as const;
  for (const message of ['m1', undefined])
    events.emit('deadLettered', { kind: 'invalid', reason: 'not valid JSON', message, caller, at: 1_600 });
  t.like(logs.lines[0], { request: 'm1', caller: 'ops' });
  t.false('request' in (logs.lines[1] ?? {}));
  t.like(logs.lines[0], { level: 'warn', message: 'message dead-lettered', reason: 'not valid JSON' });
});
