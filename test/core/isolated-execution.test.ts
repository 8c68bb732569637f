import test from 'ava';
import { ActionError } from '../../src/plugin.js';
import type { IsolatedCall } from '../../src/core/isolation.js';
import { doing } from '../support/actions.js';
import { openRunner, settle } from '../support/open-runner.js';
import { fakeClaims } from './fake-claims.js';

/** What a test does with a call that core gives to the isolation. */
interface Isolated {
  call: IsolatedCall;
  resolve: (result: unknown) => void;
  reject: (error: unknown) => void;
}

/** A runner whose repeated calls end as the test says; the handler itself counts its runs. */
function isolating(
  definition: Parameters<typeof doing>[1] = {},
  settings: Parameters<typeof openRunner>[1] = {},
) {
  const isolated: Isolated[] = [];
  let handled = 0;
  const action = doing(async () => ({ handled: ++handled }), definition);
  const isolation = {
    run: async (call: IsolatedCall) =>
      new Promise((resolve, reject) => {
        isolated.push({ call, resolve, reject });
      }),
  };
  return { isolated, handled: () => handled, ...openRunner([action], { isolation, ...settings }) };
}

const repeated = { delivery: 'repeated' } as const;
const settled = (error: ActionError) => ({ status: 'error', body: { code: error.code } }) as const;

test('a first call runs in this process, a repeated one in isolation', async (t) => {
  const { ask, isolated, handled } = isolating();
  t.like(await ask(), { status: 'completed', body: { handled: 1 } });
  t.is(isolated.length, 0);
  const reply = ask(repeated);
  isolated[0]?.resolve({ isolated: true });
  t.deepEqual(await reply, { status: 'completed', body: { isolated: true } });
  t.is(handled(), 1);
});

test('what an earlier delivery has begun runs in isolation, also when this delivery is called the first', async (t) => {
  for (const [definition, work] of [
    [{ effect: 'change', probe: async () => ({}) }, 'probe'],
    [{ effect: 'change', redelivery: 'run-again' }, 'run'],
  ] as const) {
    const { claims } = fakeClaims({ claimed: 'begun' });
    const { ask, isolated, handled } = isolating(definition, { claims });
    const reply = ask({ key: 'k', delivery: 'first', mayBeCopy: true });
    await settle();
    t.like(isolated[0]?.call, { work, repeated: true, mayRunAgain: true });
    isolated[0]?.resolve({ isolated: true });
    t.deepEqual(await reply, { status: 'completed', body: { isolated: true } });
    t.is(handled(), 0);
  }
});

test('without an isolation a repeated call runs in this process', async (t) => {
  const { ask } = openRunner([doing(async ({ repeated: again }) => ({ again }))]);
  t.deepEqual(await ask(repeated), { status: 'completed', body: { again: true } });
});

test('the isolation gets what the handler needs', async (t) => {
  const { ask, isolated, clock } = isolating({ effect: 'change', redelivery: 'run-again' });
  const caller = { name: 'ops', verifiedBy: 'broker' } as const;
  void ask({ ...repeated, id: '13', target: 'secret', parameters: { text: 'a' }, caller, timeoutMs: 500 });
  t.like(isolated[0]?.call, {
    id: '13',
    action: 'act',
    token: 'secret',
    parameters: { text: 'a' },
    caller,
    deadline: clock.now() + 500,
    mayRunAgain: true,
  });
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
    isolated.pop()?.reject(error);
    t.like(await reply, settled(error));
  }
});

test('a result that cannot be sent is checked here too', async (t) => {
  const { codeFor, isolated } = isolating();
  const code = codeFor(repeated);
  isolated[0]?.resolve({ states: new Map() });
  t.is(await code, 'internal');
});

test('its warnings are in the reply', async (t) => {
  const { ask, isolated } = isolating();
  const reply = ask(repeated);
  isolated[0]?.call.onWarning('one is missing');
  isolated[0]?.resolve({});
  t.deepEqual(await reply, { status: 'completed', body: {}, details: { warnings: ['one is missing'] } });
});

test('an isolated read ends at its deadline, and its signal is aborted', async (t) => {
  const { codeFor, isolated, clock } = isolating();
  const code = codeFor({ ...repeated, timeoutMs: 100 });
  clock.advance(100);
  t.is(await code, 'timeout');
  t.like(isolated[0]?.call.signal.reason, { code: 'timeout' });
});

test('an isolated change that is stopped reports its outcome, or has an unknown one', async (t) => {
  const { codeFor, isolated, clock } = isolating({ effect: 'change', redelivery: 'run-again' });
  const [reports, rejects] = [1, 2].map(() => codeFor({ ...repeated, timeoutMs: 100 }));
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
      isolated.pop()?.reject(new ActionError(each, 'so'));
      t.is(await found, each);
    }
    void codeFor(repeated);
    await settle();
    t.is(isolated.length, 0, 'three failures in a row');
  });
}
