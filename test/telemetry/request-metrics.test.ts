import test from 'ava';
import fc from 'fast-check';
import { ANONYMOUS } from '../../src/api/caller.js';
import { ERROR_CODES } from '../../src/api/error-codes.js';
import type { Call, Reply } from '../../src/core/call.js';
import { CallEventBus } from '../../src/core/call-events.js';
import { RequestMetrics } from '../../src/telemetry/metrics/request-metrics.js';
import { DESCRIPTION } from '../support/action-description.js';
import { logLines } from '../support/log-lines.js';
import { callOf } from '../support/open-runner.js';

const ACTION = { ...DESCRIPTION, name: 'act' };
const DONE: Reply = { status: 'completed', body: {} };
const failed = (code: string): Reply => ({ status: 'error', body: { errors: ['no'], code } });

function opened() {
  const events = new CallEventBus(logLines().log);
  const metrics = new RequestMetrics(events, ['act', 'other']);
  const act = metrics.actions.get('act');
  if (act === undefined) throw new Error('the action is not counted');
  const admit = (call: Call, at: number) =>
    events.emit('admitted', { call, action: ACTION, cluster: undefined, units: [], rule: undefined, at });
  const answer = (call: Call, reply: Reply, at: number, dropped = false) =>
    events.emit('answered', { call, reply, dropped, at });
  return { events, metrics, act, admit, answer };
}

/** How many replies had each code, of all actions, encodings and doors. */
function codesIn({ actions }: RequestMetrics): Record<string, number> {
  const codes: Record<string, number> = {};
  for (const { outcomes } of actions.values())
    for (const [code, encodings] of outcomes)
      for (const doors of encodings.values())
        codes[code] = (codes[code] ?? 0) + doors.amqp + doors.http + doors.manager;
  return codes;
}

const countOf = ({ counts }: { counts: readonly number[] }) => counts.reduce((sum, each) => sum + each, 0);

test('wait, run and reply are the times between the events of a call', (t) => {
  const { events, act, admit, answer, metrics } = opened();
  const call = callOf({ waitedMs: 300, attempt: 3 });
  events.emit('received', { call, at: 1_000 });
  admit(call, 1_000);
  t.like(act, { waiting: 1, running: 0 });
  events.emit('began', { call, at: 1_200 });
  t.like(act, { waiting: 0, running: 1 });
  events.emit('settled', { call, settled: DONE, at: 5_200 });
  t.like(act, { waiting: 0, running: 0 });
  answer(call, DONE, 5_210);
  t.is(act.wait.sum, 0.5);
  t.is(act.run.sum, 4);
  t.is(act.reply.sum, 0.01);
  t.is(act.attempts.sum, 3);
  t.is(metrics.processed.get('completed')?.sum, 4.21);
});

test('a change that is looked into first, and runs then, counts as one run', (t) => {
  const { events, act, admit, answer } = opened();
  const call = callOf();
  events.emit('received', { call, at: 0 });
  admit(call, 0);
  events.emit('began', { call, at: 0 });
  events.emit('began', { call, at: 1_000 });
  t.is(act.running, 1);
  events.emit('settled', { call, settled: DONE, at: 3_000 });
  answer(call, DONE, 3_000);
  t.is(act.running, 0);
  t.is(countOf(act.run), 1);
  t.is(act.run.sum, 3);
});

test('a call that is refused, late or released is in none of the times that it did not have', (t) => {
  const { events, act, admit, answer } = opened();
  const [refused, late, released, givenUp] = [callOf(), callOf(), callOf(), callOf()];
  for (const call of [refused, late, released, givenUp]) events.emit('received', { call, at: 0 });
  events.emit('settled', { call: refused, settled: failed('invalid_parameters'), at: 0 });
  answer(refused, failed('invalid_parameters'), 0);
  for (const call of [late, released, givenUp]) admit(call, 0);
  events.emit('settled', { call: late, settled: failed('timeout'), at: 2_000 });
  answer(late, failed('timeout'), 2_000);
  events.emit('released', { call: released, at: 2_000 });
  events.emit('began', { call: givenUp, at: 0 });
  events.emit('settled', { call: givenUp, settled: DONE, at: 1_000 });
  events.emit('unanswered', { call: givenUp, at: 1_000 });
  t.like(act, { waiting: 0, running: 0, released: 1, unanswered: 1 });
  t.is(countOf(act.wait), 3);
  t.is(act.wait.sum, 4);
  t.is(countOf(act.run), 1);
  t.is(countOf(act.reply), 2);
});

test('denied calls, shared runs, dropped replies and dead letters are counted', (t) => {
  const { events, act, admit, answer, metrics } = opened();
  const [denied, first, second] = [callOf(), callOf({ id: 'r1' }), callOf({ id: 'r2' })];
  for (const call of [denied, first, second]) events.emit('received', { call, at: 0 });
  events.emit('denied', { call: denied, action: ACTION, cluster: undefined, units: [], needed: '', at: 0 });
  events.emit('settled', { call: denied, settled: failed('forbidden'), at: 0 });
  answer(denied, failed('forbidden'), 0);
  for (const call of [first, second]) {
    admit(call, 0);
    events.emit('began', { call, at: 0, sharedRun: 'r1' });
    events.emit('settled', { call, settled: DONE, at: 0 });
    answer(call, DONE, 0, call === second);
  }
  for (const kind of ['invalid', 'invalid', 'worker_lost', 'defect'] as const)
    events.emit('deadLettered', { reason: 'secret', kind, message: undefined, caller: ANONYMOUS, at: 0 });
  t.like(act, { denied: 1, coalesced: 1, dropped: 1 });
  t.deepEqual(metrics.deadLetters, { invalid: 2, worker_lost: 1, defect: 1 });
  t.deepEqual(codesIn(metrics), { forbidden: 1, completed: 2 });
});

test('whatever callers and plugins send, labels stay few, and every reply is counted', (t) => {
  const anything = fc.oneof(
    fc.string(),
    fc.constantFrom('act', '__proto__', 'constructor', ''),
    fc.anything({ maxDepth: 0 }),
  );
  const code = fc.oneof(
    fc.constantFrom(...Object.keys(ERROR_CODES), 'completed', 'other'),
    fc.stringMatching(/^[a-z][a-z0-9_]{0,10}$/),
    fc.string(),
  );
  fc.assert(
    fc.property(
      fc.array(fc.record({ action: anything, code }), { minLength: 200, maxLength: 300 }),
      (requests) => {
        const { events, metrics, answer } = opened();
        for (const { action, code: given } of requests) {
          const call = callOf({ action, caller: ANONYMOUS });
          events.emit('received', { call, at: 0 });
          events.emit('settled', { call, settled: failed(given), at: 0 });
          answer(call, failed(given), 0);
        }
        t.deepEqual([...metrics.actions.keys()], ['act', 'other', 'unknown']);
        const codes = codesIn(metrics);
        const labels = Object.keys(codes);
        const ofPlugins = labels.filter((label) => !Object.hasOwn(ERROR_CODES, label) && label !== 'other');
        t.true(ofPlugins.length <= 50);
        t.true(labels.every((label) => /^[a-z][a-z0-9_]{0,63}$/.test(label)));
        t.is(
          Object.values(codes).reduce((sum, each) => sum + each, 0),
          requests.length,
        );
        t.false(Object.hasOwn(codes, 'completed'), 'an error is not counted as completed');
      },
    ),
    { numRuns: 10 },
  );
});
