import test from 'ava';
import { object } from 'yup';
import type { AccessDecision, AccessQuestion } from '../../src/core/access-policy.js';
import { ActionError, glob, unitName } from '../../src/plugin.js';
import { doing } from '../support/actions.js';
import { codeOf, openRunner, settle, steered, TOKEN, watched } from '../support/open-runner.js';
import { fakeClaims } from './fake-claims.js';

const UNIT = { parameters: object({ unit: unitName().meta({ description: 'A unit.' }) }) };
const CHANGE = { effect: 'change', ...UNIT } as const;
const ALLOWED: AccessDecision = { allowed: true, rule: 'all', units: undefined };
const DENIED: AccessDecision = { allowed: false, needed: 'A rule for ops would be needed.' };

/** A policy that decides as the test says, and notes what it is asked. */
function deciding(decision: AccessDecision | ((question: AccessQuestion) => AccessDecision)) {
  const asked: AccessQuestion[] = [];
  const decide = (question: AccessQuestion) => {
    asked.push(question);
    return typeof decision === 'function' ? decision(question) : decision;
  };
  return { policy: { decide }, asked };
}

test('a policy is asked about the caller, the action, the cluster and the units of a call', async (t) => {
  const { policy, asked } = deciding(ALLOWED);
  const caller = { name: 'ops', verifiedBy: 'broker' } as const;
  const clusterName = (token: string) => (token === TOKEN ? 'production' : undefined);
  const { ask } = openRunner([doing(async () => ({}), CHANGE)], { policy, clusterName });
  await ask({ caller, parameters: { unit: 'a.service' } });
  t.is(asked.length, 1);
  const [question] = asked;
  t.is(question?.caller, caller);
  t.like(question?.action, { name: 'act', effect: 'change' });
  t.is(question?.cluster?.name, 'production');
  t.deepEqual(question?.units, ['a.service']);
  t.is(question?.unitMarks, 'names');
});

test('a call that the policy denies is forbidden, says what would be needed, and never begins', async (t) => {
  let runs = 0;
  const { policy } = deciding(DENIED);
  const { ask, events } = openRunner([doing(async () => ({ runs: runs++ }), CHANGE)], { policy });
  const told: string[] = [];
  events.on('denied', ({ call, action, needed }) => told.push(`${call.id} ${action.name}: ${needed}`));
  const settled = await ask();
  t.like(settled, { status: 'error', body: { code: 'forbidden' } });
  t.true(settled.status === 'error' && settled.body.errors[0]?.endsWith(DENIED.needed));
  t.deepEqual(told, [`r1 act: ${DENIED.needed}`]);
  t.is(runs, 0);
});

test('a call whose parameters are wrong is refused for them, and a policy is not asked', async (t) => {
  const { policy, asked } = deciding(DENIED);
  const { codeFor } = openRunner([doing(async () => ({}), CHANGE)], { policy });
  t.is(await codeFor({ parameters: { unit: 7 } }), 'invalid_parameters');
  t.is(await codeFor({ action: 'unknown' }), 'unknown_action');
  t.is(asked.length, 0);
});

test('a handler knows which units its caller may see', async (t) => {
  const action = doing(
    async ({ authorize, authorizesAll }) => ({
      all: authorizesAll,
      seen: ['web@1.service', 'web@2.service', 'db.service', ''].filter(authorize),
    }),
    { parameters: object({ name: glob().meta({ description: 'Some units.' }) }) },
  );
  const scoped = deciding({ ...ALLOWED, units: ['web@*.service', 'none.service'] });
  const bodyOf = async (settings: Parameters<typeof openRunner>[1]) => {
    const settled = await openRunner([action], settings).ask();
    return settled.status === 'completed' ? settled.body : settled;
  };
  t.deepEqual(await bodyOf({ policy: scoped.policy }), {
    all: false,
    seen: ['web@1.service', 'web@2.service'],
  });
  t.is(scoped.asked[0]?.unitMarks, 'patterns');
  const all = { all: true, seen: ['web@1.service', 'web@2.service', 'db.service', ''] };
  t.deepEqual(await bodyOf({ policy: deciding(ALLOWED).policy }), all);
  t.deepEqual(await bodyOf({}), all, 'without a policy');
});

test('equal reads share a run only with those of callers who may see the same units', async (t) => {
  const { action, runs } = steered({ coalesce: true });
  const { policy } = deciding(({ caller }) => ({
    ...ALLOWED,
    units: caller.name === 'all' ? undefined : [caller.name],
  }));
  const { ask } = openRunner([action], { policy });
  const named = (name: string) => ({ caller: { name, verifiedBy: 'broker' as const } });
  const names = ['a', 'all', 'a', 'b', 'all', 'a', 'b'];
  const replies = names.map((name, index) => watched(ask({ id: `r${index}`, ...named(name) })));
  for (let index = 0; index < 6; index++) {
    runs[index]?.resolve({ run: index });
    await settle();
  }
  t.is(runs.length, 6, 'of each kind one at once, and one for those who came later');
  const bodies = replies
    .map((reply) => reply())
    .map((reply) => (reply?.status === 'completed' ? reply.body : reply));
  const runOf = (index: number) => JSON.stringify(bodies[index]);
  t.is(runOf(2), runOf(5), 'both waited for the second run of a');
  t.is(new Set([0, 1, 2, 3, 4, 6].map(runOf)).size, 6);
});

test('what is to be done before a change is done before it begins, and not before a read', async (t) => {
  for (const claimed of [false, true]) {
    const order: string[] = [];
    const change = doing(async () => ({ order: order.push('change') }), CHANGE);
    const read = doing(async () => ({}), { name: 'read' });
    const { claims, asked } = fakeClaims({ onBegin: () => order.push('claim begun') });
    const { policy } = deciding(ALLOWED);
    const told: unknown[] = [];
    const { ask } = openRunner([change, read], {
      policy,
      ...(claimed && { claims }),
      beforeChange: async ({ call, action, cluster, units, parameters, rule, work }) => {
        await settle();
        order.push('before');
        told.push({ id: call.id, action, cluster: cluster?.hash, units, parameters, rule, work });
      },
    });
    const parameters = { unit: 'a.service' };
    const token = { key: 'k' };
    t.is(codeOf(await ask({ ...token, parameters })), 'completed');
    t.is(codeOf(await ask({ action: 'read' })), 'completed');
    t.deepEqual(order, claimed ? ['before', 'claim begun', 'change'] : ['before', 'change']);
    const { length } = told;
    t.is(length, 1);
    t.like(told[0], { id: 'r1', action: 'act', units: ['a.service'], parameters, rule: 'all', work: 'run' });
    t.is(asked.length > 0, claimed);
  }
});

test('a change does not begin when what is to be done before it fails, also with a store of claims', async (t) => {
  for (const claimed of [false, true]) {
    let runs = 0;
    const { claims, settled } = fakeClaims();
    const { ask } = openRunner([doing(async () => ({ runs: runs++ }), CHANGE)], {
      ...(claimed && { claims }),
      beforeChange: async () => {
        throw new ActionError('service_unavailable', 'the audit cannot be written');
      },
    });
    const reply = await ask({ key: 'k', parameters: { unit: 'a.service' } });
    t.like(reply, { body: { code: 'service_unavailable', errors: ['the audit cannot be written'] } });
    t.is(runs, 0);
    t.is(settled.length, claimed ? 1 : 0, 'the refusal is noted for other workers');
  }
});

test('a change that waits for what is to be done before it ends with its time, or is released by a shutdown', async (t) => {
  for (const end of ['time', 'shutdown'] as const) {
    let runs = 0;
    const { ask, clock, drain } = openRunner([doing(async () => ({ runs: runs++ }), CHANGE)], {
      beforeChange: async (_change, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    });
    const reply = watched(ask({ timeoutMs: 1_000 }));
    await settle();
    if (end === 'time') clock.advance(1_000);
    else void drain(0);
    await settle();
    t.is(
      codeOf(reply() ?? { status: 'completed', body: 'nothing yet' }),
      end === 'time' ? 'timeout' : 'released',
    );
    t.is(runs, 0);
  }
});

test('a handler runs in the context of its call', async (t) => {
  let context = 'none';
  const seen: string[] = [];
  const { ask } = openRunner([doing(async ({ id }) => ({ seen: seen.push(`${id} in ${context}`) }))], {
    inContextOf: (call, run) => {
      context = call.id;
      try {
        return run();
      } finally {
        context = 'none';
      }
    },
  });
  await Promise.all([ask({ id: 'a' }), ask({ id: 'b' })]);
  t.deepEqual(seen, ['a in a', 'b in b']);
});
