import test from 'ava';
import { object, string } from 'yup';
import { prepareAction } from '../../src/core/prepare-action.js';
import { Cancelled, ConnectionLost } from '../../src/core/call.js';
import type { AccessDecision, AccessQuestion } from '../../src/core/access-policy.js';
import { ActionError, unitName } from '../../src/plugin.js';
import { FIELD_NAMES } from '../../src/rpc/field-names.js';
import { type IsolatedCall, MustRunAlone, NeverBegan, type PlaceNeeds } from '../../src/core/isolation.js';
import { untilAborted } from '../../src/lib/until-aborted.js';
import { doing } from '../support/actions.js';
import { openRunner, settle, watched } from '../support/open-runner.js';
import { fakeClaims } from './fake-claims.js';

/** What a test does with a call that core gives to the isolation. */
interface Isolated {
  call: IsolatedCall;
  resolve: (result: unknown) => void;
  reject: (error: unknown) => void;
}

/**
 * A runner whose repeated calls end as the test says, and with `holdsChecks` their checks too; the handler counts its runs.
 * `ready`: when there is a place in a process.
 */
function isolating(
  definition: Parameters<typeof doing>[1] = {},
  settings: Parameters<typeof openRunner>[1] = {},
  {
    holdsChecks = false,
    ready = Promise.resolve(),
    action: given,
  }: { holdsChecks?: boolean; ready?: Promise<void>; action?: ReturnType<typeof doing> } = {},
) {
  const isolated: Isolated[] = [];
  let handled = 0;
  const action = given ?? doing(async () => ({ handled: ++handled }), definition);
  const checks: Isolated[] = [];
  const { check } = prepareAction(action, () => undefined, { parametersName: FIELD_NAMES.parameters });
  const run = async (call: IsolatedCall) =>
    call.work === 'check' && !holdsChecks
      ? check(call.parameters)
      : new Promise((resolve, reject) => {
          (call.work === 'check' ? checks : isolated).push({ call, resolve, reject });
        });
  const entered: PlaceNeeds[] = [];
  let left = 0;
  const isolation = {
    enter: async (needs: PlaceNeeds) => {
      entered.push(needs);
      await untilAborted(ready, needs.signal);
      const leave = () => void left++;
      return { run: async (call: IsolatedCall) => run(call).finally(leave), leave };
    },
    run,
  };
  return {
    isolated,
    checks,
    /** The places that were asked for. */
    entered,
    /** How often a place was left. */
    left: () => left,
    handled: () => handled,
    ...openRunner([action], { isolation, ...settings }),
  };
}

const repeated = { delivery: 'repeated' } as const;
const settled = (error: ActionError) => ({ status: 'error', body: { code: error.code } }) as const;

test('a first call runs in this process, a repeated one in isolation', async (t) => {
  const { ask, isolated, handled } = isolating();
  t.like(await ask(), { status: 'completed', body: { handled: 1 } });
  t.is(isolated.length, 0);
  const reply = ask(repeated);
  await settle();
  isolated[0]?.resolve({ isolated: true });
  t.deepEqual(await reply, { status: 'completed', body: { isolated: true } });
  t.is(handled(), 1);
});

test('what an earlier delivery has begun runs in isolation, also when this delivery is called the first', async (t) => {
  for (const [definition, work] of [
    [{ effect: 'change', probe: async () => ({}) }, 'probe'],
    [{ effect: 'change', redelivery: 'run-again' }, 'run'],
  ] as const) {
    const { claims } = fakeClaims({ claimed: 'begun', begunFor: 'r0' });
    const { ask, isolated, handled } = isolating(definition, { claims });
    const reply = ask({ key: 'k', delivery: 'first', mayBeCopy: true });
    await settle();
    t.like(isolated[0]?.call, { id: 'r0', work, repeated: true, onProcessEnd: 'run-alone', isAlone: false });
    isolated[0]?.resolve({ isolated: true });
    t.deepEqual(await reply, { status: 'completed', body: { isolated: true } });
    t.is(handled(), 0);
  }
});

test('a change in isolation counts as begun only when it has a place in a process', async (t) => {
  const change = { effect: 'change' } as const;
  const call = { ...repeated, key: 'k' };
  const never = new Promise<void>(() => {});
  const stopped = fakeClaims({ claimed: 'begun' });
  const definition = { ...change, redelivery: 'run-again' } as const;
  const waiting = isolating(definition, { claims: stopped.claims }, { ready: never });
  const code = waiting.codeFor(call);
  while (!stopped.asked.includes('claim')) await settle();
  await settle();
  await waiting.drain(1_000);
  t.is(await code, 'released');
  t.deepEqual(stopped.asked, ['claim', 'release']);

  const away = new ActionError('service_unavailable', 'no process could be started');
  const failed = fakeClaims({ claimed: 'begun' });
  const none = isolating(definition, { claims: failed.claims }, { ready: Promise.reject(away) });
  t.is(await none.codeFor(call), 'outcome_unknown');
  t.deepEqual(failed.asked, ['claim', 'settle']);

  const claimed = fakeClaims({ claimed: 'begun' });
  const able = isolating(definition, { claims: claimed.claims });
  const made = able.codeFor(call);
  while (able.isolated.length === 0) await settle();
  t.deepEqual(claimed.asked, ['claim', 'begin']);
  t.is(able.left(), 0);
  able.isolated[0]?.resolve({});
  t.is(await made, 'completed');
  t.true(able.left() > 0);
});

test('a change that must run alone waits for a process of its own before it counts as begun', async (t) => {
  const { claims, asked } = fakeClaims();
  const { codeFor, entered, isolated, drain } = isolating(
    { effect: 'change' },
    { claims },
    { ready: new Promise(() => {}) },
  );
  const code = codeFor({ ...repeated, key: 'k', mustRunAlone: true });
  while (entered.length === 0) await settle();
  t.like(entered[0], { isAlone: true, onProcessEnd: 'unknown' });
  await drain(1_000);
  t.is(await code, 'released');
  t.deepEqual(asked, ['claim', 'release']);
  t.is(isolated.length, 0);
});

test('a change waits for a place as long as its caller, also when it may have been made elsewhere', async (t) => {
  const { claims, settled: noted } = fakeClaims();
  const { codeFor, entered, clock } = isolating(
    { effect: 'change' },
    { claims },
    { ready: new Promise(() => {}) },
  );
  const code = codeFor({ ...repeated, key: 'k', mayBeCopy: true, timeoutMs: 5_000 });
  while (entered.length === 0) await settle();
  clock.advance(5_000);
  t.is(await code, 'timeout');
  t.true(entered[0]?.signal.aborted);
  t.like(noted, [{ body: { code: 'timeout' } }]);
});

test('a change that was stopped and is known not to have begun is told so', async (t) => {
  const { claims } = fakeClaims();
  const { codeFor, isolated, clock } = isolating({ effect: 'change' }, { claims });
  const code = codeFor({ ...repeated, key: 'k', timeoutMs: 5_000 });
  while (isolated.length === 0) await settle();
  clock.advance(5_000);
  isolated[0]?.reject(new NeverBegan(isolated[0].call.signal.reason));
  t.is(await code, 'timeout');
});

test('a change that may not begin after all leaves its place', async (t) => {
  const away = new ActionError('service_unavailable', 'the store is away');
  const { claims } = fakeClaims({ fails: { begin: away } });
  const { codeFor, isolated, left } = isolating({ effect: 'change' }, { claims });
  t.is(await codeFor({ ...repeated, key: 'k' }), 'service_unavailable');
  t.is(left(), 1);
  t.is(isolated.length, 0);
});

test('without an isolation a repeated call runs in this process', async (t) => {
  const { ask } = openRunner([doing(async ({ repeated: again }) => ({ again }))]);
  t.deepEqual(await ask(repeated), { status: 'completed', body: { again: true } });
});

test('the isolation gets what the handler needs', async (t) => {
  const { ask, isolated, clock } = isolating({ effect: 'change', redelivery: 'run-again' });
  const caller = { name: 'ops', verifiedBy: 'broker' } as const;
  void ask({ ...repeated, id: '13', target: 'secret', parameters: { text: 'a' }, caller, timeoutMs: 500 });
  await settle();
  t.like(isolated[0]?.call, {
    id: '13',
    action: 'act',
    token: 'secret',
    parameters: { text: 'a' },
    caller,
    deadline: clock.now() + 500,
    onProcessEnd: 'run-alone',
    isAlone: false,
  });
});

test('a read and a check whose shared process has ended are released, to run alone', async (t) => {
  const read = isolating();
  const replyToRead = read.ask(repeated);
  await settle();
  t.like(read.isolated[0]?.call, { onProcessEnd: 'give-back', isAlone: false });
  read.isolated[0]?.reject(new MustRunAlone('exit code 7'));
  t.deepEqual(await replyToRead, { status: 'released', mustRunAlone: true });
  for (const effect of ['read', 'change'] as const) {
    const { ask, checks, isolated } = isolating({ effect }, {}, { holdsChecks: true });
    const reply = ask(repeated);
    await settle();
    t.like(checks[0]?.call, { onProcessEnd: 'give-back', isAlone: false });
    checks[0]?.reject(new MustRunAlone('exit code 7'));
    t.deepEqual(await reply, { status: 'released', mustRunAlone: true });
    t.is(isolated.length, 0);
  }
});

test('what must run alone is checked alone and runs alone', async (t) => {
  const { ask, checks, isolated } = isolating({}, {}, { holdsChecks: true });
  const reply = ask({ ...repeated, mustRunAlone: true });
  await settle();
  t.true(checks[0]?.call.isAlone);
  checks[0]?.resolve({});
  await settle();
  t.true(isolated[0]?.call.isAlone);
  isolated[0]?.resolve({});
  t.like(await reply, { status: 'completed' });
});

test('a change may run again in isolation only when its action says so', async (t) => {
  const { claims } = fakeClaims({ claimed: 'new' });
  const { ask, isolated } = isolating({ effect: 'change' }, { claims });
  const reply = ask({ ...repeated, key: 'k' });
  await settle();
  t.like(isolated[0]?.call, { onProcessEnd: 'unknown' });
  isolated[0]?.resolve({});
  await reply;
});

test('a call that is refused does not reach the isolation', async (t) => {
  const { codeFor, isolated } = isolating({ effect: 'change' });
  t.is(await codeFor(repeated), 'outcome_unknown');
  t.is(await codeFor({ ...repeated, parameters: { nothing: 1 } }), 'invalid_parameters');
  t.is(isolated.length, 0);
});

test('its errors reach the caller', async (t) => {
  const { ask, isolated } = isolating();
  for (const error of [new ActionError('worker_lost', 'so'), new ActionError('unit_not_found', 'so')]) {
    const reply = ask(repeated);
    await settle();
    isolated.pop()?.reject(error);
    t.like(await reply, settled(error));
  }
});

test('a result that cannot be sent is checked here too', async (t) => {
  const { codeFor, isolated } = isolating();
  const code = codeFor(repeated);
  await settle();
  isolated[0]?.resolve({ states: new Map() });
  t.is(await code, 'internal');
});

test('its warnings are in the reply', async (t) => {
  const { ask, isolated } = isolating();
  const reply = ask(repeated);
  await settle();
  isolated[0]?.call.onWarning('one is missing');
  isolated[0]?.resolve({});
  t.deepEqual(await reply, { status: 'completed', body: {}, details: { warnings: ['one is missing'] } });
});

test('an isolated read ends at its deadline, and its signal is aborted', async (t) => {
  const { codeFor, isolated, clock } = isolating();
  const code = codeFor({ ...repeated, timeoutMs: 100 });
  await settle();
  clock.advance(100);
  t.is(await code, 'timeout');
  t.like(isolated[0]?.call.signal.reason, { code: 'timeout' });
});

test('an isolated read whose connection is lost is released: another worker gets it', async (t) => {
  const connection = new AbortController();
  const { ask, isolated, events, clock } = isolating();
  const unsettled: string[] = [];
  events.on('released', ({ call }) => unsettled.push(call.id));
  const reply = ask({ ...repeated, id: '13', signal: connection.signal });
  await settle();
  const lost = new ConnectionLost('lost');
  connection.abort(lost);
  t.deepEqual(await reply, { status: 'released' });
  t.is(isolated[0]?.call.signal.reason, lost);
  t.deepEqual(unsettled, ['13']);
  t.is(clock.pending, 0);
});

test('a read in this process, and an isolated change, go on when their connection is lost', async (t) => {
  for (const [definition, call] of [
    [{}, {}],
    [{ effect: 'change', redelivery: 'run-again' }, repeated],
  ] as const) {
    const connection = new AbortController();
    let finish = () => {};
    const action = doing(async () => new Promise((resolve) => (finish = () => resolve({}))), definition);
    const { isolated, ask } = isolating(definition, {}, { action });
    const reply = ask({ ...call, signal: connection.signal });
    await settle();
    connection.abort(new ConnectionLost('lost'));
    finish();
    isolated[0]?.resolve({});
    t.like(await reply, { status: 'completed' });
  }
});

test('an isolated change that is stopped reports its outcome, or has an unknown one', async (t) => {
  const { codeFor, isolated, clock } = isolating({ effect: 'change', redelivery: 'run-again' });
  const [reports, rejects] = [1, 2].map(() => codeFor({ ...repeated, timeoutMs: 100 }));
  await settle();
  clock.advance(100);
  isolated[0]?.reject(new ActionError('unit_stopped', 'it is stopped'));
  isolated[1]?.reject(isolated[1].call.signal.reason);
  t.is(await reports, 'unit_stopped');
  t.is(await rejects, 'outcome_unknown');
});

test('a change for which no process can be started has an unknown outcome, a read can be sent again', async (t) => {
  for (const [effect, code] of [
    ['change', 'outcome_unknown'],
    ['read', 'service_unavailable'],
  ] as const) {
    const { codeFor, isolated } = isolating({ effect, redelivery: 'run-again' });
    const found = codeFor(repeated);
    await settle();
    isolated[0]?.reject(new ActionError('service_unavailable', 'no process'));
    t.is(await found, code);
  }
});

test('a response of the cluster in isolation gives the cluster its full room', async (t) => {
  const { ask, isolated } = isolating({}, { clusterConcurrency: 6 });
  for (let n = 0; n < 6; n++) void ask(repeated);
  await settle();
  t.is(isolated.length, 4, 'as for every new cluster');
  isolated[0]?.call.onResponse();
  await settle();
  t.is(isolated.length, 6);
});

test('a cluster that cannot be reached from isolation three times in a row is not tried', async (t) => {
  const { codeFor, isolated } = isolating();
  for (let n = 0; n < 3; n++) {
    const code = codeFor(repeated);
    await settle();
    isolated.pop()?.reject(new ActionError('cluster_unreachable', 'so'));
    t.is(await code, 'cluster_unreachable');
  }
  void codeFor(repeated);
  await settle();
  t.is(isolated.length, 0);
});

for (const code of ['worker_lost', 'service_unavailable']) {
  test(`${code} says nothing about the cluster`, async (t) => {
    const { codeFor, isolated } = isolating();
    for (const each of ['cluster_unreachable', 'cluster_unreachable', code, 'cluster_unreachable']) {
      const found = codeFor(repeated);
      await settle();
      isolated.pop()?.reject(new ActionError(each, 'so'));
      t.is(await found, each);
    }
    void codeFor(repeated);
    await settle();
    t.is(isolated.length, 0, 'three failures in a row');
  });
}

const TEXT = { parameters: object({ text: string().default('none').meta({ description: 'A text.' }) }) };

test('the parameters of a repeated call are checked in isolation, and run as that gives them', async (t) => {
  const { ask, checks, isolated, clock } = isolating(TEXT, {}, { holdsChecks: true });
  const reply = ask({ ...repeated, id: '13', parameters: { text: 'a' } });
  await settle();
  const sent = { id: '13', action: 'act', parameters: { text: 'a' }, token: undefined };
  t.like(checks[0]?.call, { ...sent, work: 'check', repeated: true, deadline: clock.now() + 150_000 });
  checks[0]?.resolve({ text: 'checked' });
  await settle();
  t.deepEqual(isolated[0]?.call.parameters, { text: 'checked' });
  isolated[0]?.resolve({});
  t.deepEqual(await reply, { status: 'completed', body: {} });
});

test('a caller whom the policy allows nothing gets no process for the check of parameters', async (t) => {
  const policy = { decide: () => ({ allowed: false, needed: 'A rule.' }) as const };
  for (const call of [repeated, { ...repeated, mustRunAlone: true }]) {
    const { codeFor, checks, events } = isolating(TEXT, { policy }, { holdsChecks: true });
    let denied = 0;
    events.on('denied', () => denied++);
    t.is(await codeFor({ ...call, parameters: { text: 'a' } }), 'forbidden');
    t.is(checks.length, 0);
    t.is(denied, 1);
  }
});

test('whether the policy allows the units of a repeated call is known after the check of its parameters', async (t) => {
  const asked: string[] = [];
  const decide = ({ units, unitMarks }: AccessQuestion): AccessDecision => {
    asked.push(`${unitMarks} ${units.join()}`);
    return units.length === 0
      ? { allowed: true, rule: 'a', units: ['a.service'] }
      : { allowed: false, needed: 'b' };
  };
  const parameters = object({ unit: unitName().meta({ description: 'A unit.' }) });
  const { codeFor } = isolating({ parameters }, { policy: { decide } });
  t.is(await codeFor({ ...repeated, parameters: { unit: 'b.service' } }), 'forbidden');
  t.deepEqual(asked, ['patterns ', 'names b.service']);
});

test('a check that ends its processes is told its caller, and nothing runs', async (t) => {
  for (const effect of ['read', 'change'] as const) {
    const { codeFor, checks, isolated } = isolating({ effect }, {}, { holdsChecks: true });
    const code = codeFor(repeated);
    await settle();
    checks[0]?.reject(new ActionError('worker_lost', 'so'));
    t.is(await code, 'worker_lost');
    t.is(isolated.length, 0);
  }
});

test('a call whose connection is lost, or whose service stops, while its parameters are checked is released', async (t) => {
  const connection = new AbortController();
  const { ask, checks, drain, clock } = isolating({}, {}, { holdsChecks: true });
  const [first, second] = [ask({ ...repeated, signal: connection.signal }), ask(repeated)];
  await settle();
  connection.abort(new ConnectionLost('lost'));
  t.deepEqual(await first, { status: 'released' });
  const reply = watched(second);
  t.is(reply(), undefined);
  await drain(1_000);
  t.deepEqual(await second, { status: 'released' });
  t.true(checks.every(({ call }) => call.signal.aborted));
  t.is(clock.pending, 0);
});

test('a call whose caller no longer waits while its parameters are checked is cancelled', async (t) => {
  const caller = new AbortController();
  const { codeFor, checks, isolated } = isolating({}, {}, { holdsChecks: true });
  const code = codeFor({ ...repeated, signal: caller.signal });
  await settle();
  caller.abort(new Cancelled('its caller is gone'));
  t.is(await code, 'cancelled');
  t.true(checks[0]?.call.signal.aborted);
  t.is(isolated.length, 0);
});

test('the check of parameters takes from the time of the call', async (t) => {
  const { codeFor, checks, isolated, clock } = isolating({}, {}, { holdsChecks: true });
  const codes = [codeFor({ ...repeated, timeoutMs: 300 }), codeFor({ ...repeated, timeoutMs: 100 })];
  await settle();
  clock.advance(100);
  for (const { resolve } of checks) resolve({});
  t.is(await codes[1], 'timeout');
  t.is(isolated[0]?.call.deadline, clock.now() + 200);
});

test('the check of the parameters of a read ends when its caller waits no longer', async (t) => {
  const { ask, checks, clock } = isolating({}, {}, { holdsChecks: true });
  const reply = watched(ask({ ...repeated, timeoutMs: 5_000, waitedMs: 1_000 }));
  await settle();
  clock.advance(3_999);
  await settle();
  t.is(reply(), undefined);
  clock.advance(1);
  await settle();
  t.like(reply(), {
    body: { code: 'timeout', errors: ['Request has timed out during execution! (after 5000 ms)'] },
  });
  t.true(checks[0]?.call.signal.aborted);
  t.like(await ask({ ...repeated, timeoutMs: 5_000, waitedMs: 5_000 }), { body: { code: 'timeout' } });
  t.is(checks.length, 1);
  void ask({ ...repeated, timeoutMs: 5_000, waitedMs: 4_999 });
  await settle();
  t.is(checks.length, 2, 'for its last millisecond');
});

test('the parameters of a change are checked also when its caller waits no longer', async (t) => {
  const { claims } = fakeClaims({ claimed: { status: 'completed', body: 'made' } });
  const { ask, checks, clock } = isolating({ effect: 'change' }, { claims }, { holdsChecks: true });
  const call = { ...repeated, key: 'k', mayBeCopy: true } as const;
  const replies = [ask({ ...call, timeoutMs: 5_000 }), ask({ ...call, timeoutMs: 5_000, waitedMs: 5_000 })];
  await settle();
  clock.advance(149_999);
  for (const { resolve } of checks) resolve({});
  for (const reply of replies) t.deepEqual(await reply, { status: 'completed', body: 'made' });
});

test('a check that does not end is given up', async (t) => {
  const { ask, checks, clock } = isolating({}, {}, { holdsChecks: true });
  const reply = ask(repeated);
  await settle();
  clock.advance(150_000);
  t.like(await reply, {
    body: { code: 'timeout', errors: ['Request has timed out during execution! (after 150000 ms)'] },
  });
  t.true(checks[0]?.call.signal.aborted);
  const change = isolating({ effect: 'change' }, {}, { holdsChecks: true });
  const late = change.codeFor({ ...repeated, timeoutMs: 5_000 });
  await settle();
  change.clock.advance(150_000);
  t.is(await late, 'outcome_unknown');
});

test('an action that does not exist is not checked in isolation', async (t) => {
  const { codeFor, checks } = isolating({}, {}, { holdsChecks: true });
  t.is(await codeFor({ ...repeated, action: 'nothing' }), 'unknown_action');
  t.is(checks.length, 0);
});
