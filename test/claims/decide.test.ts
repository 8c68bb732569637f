import test from 'ava';
import type { ClaimRecord, RecordedName, StoredReply } from '../../src/claims/claim-record.js';
import { decide } from '../../src/claims/decide.js';

const DONE: StoredReply = { status: 'completed', body: 'made' };
const failed = (code: string): StoredReply => ({ status: 'error', body: { errors: ['so'], code } });
const EARLIER: RecordedName = { id: 'r1', askedFor: 'this', message: 'm1' };

/** What is in the store of the request r1, with the message m1. */
function recorded(changes: Partial<ClaimRecord>): ClaimRecord {
  return {
    state: 'settled',
    worker: 'w',
    run: 'run',
    action: 'act',
    repeated: false,
    named: EARLIER,
    begunAt: 'then',
    ...changes,
  };
}

const asking = (changes: Partial<RecordedName> = {}, isRepeated = false) => ({
  isRepeated,
  named: { id: 'r2', askedFor: 'this', message: 'm2', ...changes },
});
const SOMETHING_ELSE = asking({ askedFor: 'that' });
const SAME_MESSAGE = asking({ message: 'm1' });
const SAME_AGAIN = asking({ message: 'm1' }, true);

test('a request with the key of a change that was made gets its reply, and one for something else is refused', (t) => {
  const found = recorded({ settled: DONE });
  t.deepEqual(decide(found, false, asking()), { do: 'answer', reply: DONE, replyOf: 'r1' });
  t.deepEqual(decide(found, false, asking({}, true)), { do: 'answer', reply: DONE, replyOf: 'r1' });
  for (const same of [SAME_MESSAGE, SAME_AGAIN])
    t.deepEqual(decide(found, false, same), { do: 'answer', reply: DONE });
  t.deepEqual(decide(found, false, SOMETHING_ELSE), { do: 'refuse' });
});

test('an error of a change that began is kept for its key, unless it says that nothing was changed', (t) => {
  for (const code of ['unit_failed', 'unit_not_found', 'outcome_unknown', 'internal', 'own_code']) {
    const found = recorded({ settled: failed(code) });
    t.like(decide(found, false, asking()), { do: 'answer', replyOf: 'r1' }, code);
    t.deepEqual(decide(found, false, SOMETHING_ELSE), { do: 'refuse' });
  }
  for (const code of ['cluster_unreachable', 'service_unavailable', 'timeout', 'cancelled']) {
    const found = recorded({ settled: failed(code) });
    for (const each of [asking(), asking({}, true), SOMETHING_ELSE, SAME_MESSAGE])
      t.deepEqual(decide(found, false, each), { do: 'take', wasBegun: false }, code);
  }
  const large: StoredReply = { status: 'error', code: 'unit_failed', bytes: 100_000, hash: 'h' };
  t.like(decide(recorded({ settled: large }), false, asking()), { do: 'answer' });
});

test('a change that never began leaves its key free, whatever its error', (t) => {
  const { begunAt: _never, ...found } = recorded({ settled: failed('worker_lost') });
  for (const each of [asking(), SOMETHING_ELSE])
    t.deepEqual(decide(found, true, each), { do: 'take', wasBegun: false });
});

test('a message that was refused is refused when it is delivered again, also with a key', (t) => {
  const { begunAt: _never, ...found } = recorded({ settled: failed('cluster_busy') });
  t.like(decide(found, false, SAME_AGAIN), { do: 'answer', reply: { body: { code: 'cluster_busy' } } });
  t.deepEqual(decide(found, false, asking({}, true)), { do: 'take', wasBegun: false });
});

test('while a change is being made, one with its key waits, and one for something else is refused', (t) => {
  for (const state of ['claimed', 'begun'] as const) {
    const found = recorded({ state });
    t.deepEqual(decide(found, true, asking()), { do: 'wait', isOther: true });
    t.deepEqual(decide(found, true, SAME_AGAIN), { do: 'wait', isOther: false });
    t.deepEqual(decide(found, true, SOMETHING_ELSE), { do: 'refuse' });
  }
});

test('of a lost worker, what had begun may have been done for every request with the key, and what had not leaves it free', (t) => {
  const begun = recorded({ state: 'begun' });
  t.deepEqual(decide(begun, false, asking()), { do: 'take', wasBegun: true });
  t.deepEqual(decide(begun, false, SAME_AGAIN), { do: 'take', wasBegun: true });
  t.deepEqual(decide(begun, false, SOMETHING_ELSE), { do: 'refuse' });
  const claimed = recorded({ state: 'claimed' });
  for (const each of [asking(), SOMETHING_ELSE])
    t.deepEqual(decide(claimed, false, each), { do: 'take', wasBegun: false });
});

test('messages without an identity are never taken for the same one', (t) => {
  const { message: _none, ...anonymous } = EARLIER;
  const again = { isRepeated: true, named: anonymous };
  t.like(decide(recorded({ named: anonymous, settled: DONE }), false, again), { replyOf: 'r1' });
  t.deepEqual(decide(recorded({ named: anonymous, state: 'begun' }), true, again), {
    do: 'wait',
    isOther: true,
  });
});
