import test from 'ava';
import { mixed, object, string } from 'yup';
import {
  ActionCallError,
  ActionError,
  Actions,
  type Action,
  defineAction,
  unitName,
} from '../../src/plugin.js';
import type { AccessPolicy } from '../../src/core/access-policy.js';
import type { NestedChange } from '../../src/core/before-change.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import type { ActionRequest } from '../../src/plugin.js';
import { doing } from '../support/actions.js';
import { openRunner, settle } from '../support/open-runner.js';
import { fakeClaims } from './fake-claims.js';

type Request = ActionRequest<unknown, unknown>;

/** An action that calls others as the test says. */
function calling(
  handle: (actions: Actions, request: Request) => Promise<unknown>,
  definition: Partial<Pick<Action, 'name' | 'effect' | 'target' | 'coalesce' | 'timeoutMs'>> = {},
): Action {
  return defineAction({
    name: 'act',
    summary: 'Calls others.',
    target: 'optional',
    effect: 'read',
    parameters: object({
      unit: unitName().meta({ description: 'A unit.' }),
      text: string().meta({ description: 'Text.' }),
    }),
    result: mixed().meta({ format: 'anything' }),
    inject: { actions: Actions },
    handle: async (request, { actions }) => (await handle(actions, request)) ?? {},
    ...definition,
  });
}

const UNIT = { parameters: object({ unit: unitName().required().meta({ description: 'A unit.' }) }) };
const unit = 'a.service';
const other = 'b.service';

const inner = (handle: Parameters<typeof doing>[0], definition: Parameters<typeof doing>[1] = {}) =>
  doing(handle, { name: 'inner', ...definition });
const change = (handle: Parameters<typeof doing>[0]) => inner(handle, { effect: 'change', ...UNIT });

const CALLER = { name: 'ci', verifiedBy: 'broker' } as const;

test('a nested run has the caller, the id, the cluster and the checked parameters, and logs its own name', async (t) => {
  const seen: Request[] = [];
  const nested = inner(async (request) => {
    seen.push(request);
    request.log.info('nested runs');
    request.warn('something is missing');
    return { n: 1 };
  });
  const { ask, logs } = openRunner([
    calling(async (actions) => actions.call('inner', { text: 'x' })),
    nested,
  ]);
  const settled = await ask({ caller: CALLER });
  t.deepEqual(settled, {
    status: 'completed',
    body: { n: 1 },
    details: { warnings: ['something is missing'] },
  });
  t.like(seen[0], { id: 'r1', caller: CALLER, parameters: { text: 'x' }, repeated: false });
  t.truthy(seen[0]?.cluster);
  t.like(logs.find(/^nested runs$/)[0], { request: 'r1', action: 'inner', caller: 'ci' });
});

test('it needs no place of its own: with one place for all, an action calls another', async (t) => {
  const actions = [calling(async (port) => port.call('inner')), inner(async () => ({}))];
  const { codeFor } = openRunner(actions, { maxCalls: 4, concurrency: 1, clusterConcurrency: 1 });
  t.deepEqual(await Promise.all([codeFor(), codeFor(), codeFor()]), ['completed', 'completed', 'completed']);
});

test('an error of the nested action passes on as it is', async (t) => {
  const failing = inner(async () => {
    throw new ActionError('unit_failed', 'it failed', { details: { a: 1 } });
  });
  const { ask } = openRunner([calling(async (actions) => actions.call('inner')), failing]);
  t.like(await ask(), { status: 'error', body: { code: 'unit_failed', details: { a: 1 } } });
});

for (const [what, code, call] of [
  ['an action that is not served', 'unknown_action', async (actions: Actions) => actions.call('none')],
  ['wrong parameters', 'invalid_parameters', async (actions: Actions) => actions.call('inner', { text: 3 })],
  [
    'an action that refuses its parameters itself',
    'invalid_parameters',
    async (actions: Actions) => actions.call('picky'),
  ],
  [
    'an action with a wrong time limit',
    'invalid_request',
    async (actions: Actions) => actions.call('inner', {}, { timeoutMs: Number.NaN }),
  ],
  [
    'an action with what is no signal',
    'invalid_request',
    async (actions: Actions) => actions.call('inner', {}, { signal: {} as AbortSignal }),
  ],
  ['a change from a read', 'invalid_request', async (actions: Actions) => actions.call('changing')],
  [
    'an action that needs a cluster, without one',
    'invalid_request',
    async (actions: Actions) => actions.call('on_cluster'),
  ],
] as const)
  test(`a call of ${what} is a defect of the action that calls, which may catch it`, async (t) => {
    let ran = false;
    const served = [
      inner(async () => ({})),
      inner(
        async () => {
          throw new ActionError('invalid_parameters', 'no such pattern');
        },
        { name: 'picky' },
      ),
      inner(async () => ((ran = true), {}), { name: 'changing', effect: 'change' }),
      inner(async () => ({}), { name: 'on_cluster', target: 'cluster' }),
    ];
    const outside = openRunner([calling(async (actions) => call(actions)), ...served]);
    t.is(await outside.codeFor({ target: undefined }), 'internal');
    t.regex(String(outside.logs.find(/action failed unexpectedly/)[0]?.error), /ActionCallError/);
    const caught = openRunner([
      calling(async (actions) =>
        call(actions).catch((error: unknown) => error instanceof ActionCallError && error.code),
      ),
      ...served,
    ]);
    t.like(await caught.ask({ target: undefined }), { status: 'completed', body: code });
    t.false(ran);
  });

test('actions call each other four deep and no deeper, also themselves', async (t) => {
  let runs = 0;
  const self = calling(async (actions) => {
    runs++;
    return actions.call('act');
  });
  const { codeFor, logs } = openRunner([self]);
  t.is(await codeFor(), 'internal');
  t.is(runs, 5);
  t.regex(
    String(logs.find(/action failed unexpectedly/)[0]?.error),
    /actions call each other more than 4 deep: act > act > act > act > act > act/,
  );
});

test('an action whose runs are shared cannot call others', (t) => {
  t.throws(
    () =>
      prepareAction(
        calling(async () => ({}), { coalesce: true }),
        () => undefined,
      ),
    {
      message: /its field 'coalesce' must be false: the action calls others/,
    },
  );
});

test('the policy is asked for the nested action with the same caller, and gives it its scope', async (t) => {
  const asked: unknown[] = [];
  const policy: AccessPolicy = {
    decide: ({ caller, action: { name }, units }) => {
      asked.push([caller.name, name, units]);
      return name === 'forbidden_one'
        ? { allowed: false, needed: 'a rule' }
        : { allowed: true, rule: 'r', units: name === 'inner' ? ['a*'] : undefined };
    },
  };
  const scoped = inner(
    async ({ authorize, authorizesAll }) => ({
      sees: authorize(unit),
      other: authorize(other),
      authorizesAll,
    }),
    UNIT,
  );
  const denied = inner(async () => ({}), { name: 'forbidden_one' });
  const parent = calling(async (actions, { parameters }) =>
    actions.call((parameters as { text?: string }).text ?? 'inner', {
      ...((parameters as { text?: string }).text === undefined && { unit }),
    }),
  );
  const { ask, codeFor } = openRunner([parent, scoped, denied], { policy });
  t.like(await ask({ caller: CALLER }), { body: { sees: true, other: false, authorizesAll: false } });
  t.deepEqual(asked, [
    ['ci', 'act', []],
    ['ci', 'inner', [unit]],
  ]);
  t.is(await codeFor({ parameters: { text: 'forbidden_one' } }), 'forbidden');
});

test('the deadline and the stop of the request reach the nested run, and its own limit stops only itself', async (t) => {
  const signals: AbortSignal[] = [];
  const waiting = inner(async ({ signal }) => {
    signals.push(signal);
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  const parent = calling(async (actions, { parameters }) =>
    (parameters as { text?: string }).text === undefined
      ? actions.call('inner')
      : actions.call('inner', {}, { timeoutMs: 50 }).catch(({ code }: ActionError) => ({ code })),
  );
  const { ask, clock, drain, codeFor } = openRunner([parent, waiting]);
  const late = codeFor({ timeoutMs: 100 });
  await settle();
  clock.advance(100);
  t.is(await late, 'timeout');
  t.true(signals[0]?.aborted);
  const limited = ask({ parameters: { text: 'limited' } });
  await settle();
  clock.advance(50);
  t.like(await limited, { status: 'completed', body: { code: 'timeout' } });
  const stopped = codeFor();
  await settle();
  const drained = drain(0);
  await settle();
  clock.advance(1);
  t.is(await stopped, 'cancelled');
  t.true(signals[2]?.aborted);
  await drained;
});

test('a nested change that is stopped and does not report its outcome is unknown', async (t) => {
  const stuck = inner(
    async ({ signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('gone')))),
    { effect: 'change' },
  );
  const parent = calling(async (actions) => actions.call('inner', {}, { timeoutMs: 10 }), {
    effect: 'change',
  });
  const { ask, clock } = openRunner([parent, stuck]);
  const asked = ask();
  await settle();
  clock.advance(10);
  t.like(await asked, { body: { code: 'outcome_unknown', details: { stopped_by: 'timeout' } } });
});

test('a nested change shares the units of the request, and runs one after the other', async (t) => {
  const parent = calling(
    async (actions) => {
      await actions.call('inner', { unit });
      return actions.call('inner', { unit });
    },
    { effect: 'change' },
  );
  const { codeFor } = openRunner([parent, change(async () => ({}))]);
  t.is(await codeFor({ parameters: { unit } }), 'completed');
});

test('two changes of one unit within a request do not run at the same time', async (t) => {
  const parent = calling(
    async (actions) => {
      const both = await Promise.allSettled([
        actions.call('inner', { unit }),
        actions.call('inner', { unit }),
      ]);
      return both.map((each) => (each.status === 'rejected' ? each.reason.code : each.status));
    },
    { effect: 'change' },
  );
  for (const parameters of [{ unit }, {}]) {
    const { ask } = openRunner([
      parent,
      change(async () => new Promise((end) => setImmediate(() => end({})))),
    ]);
    t.like(await ask({ parameters }), { body: ['fulfilled', 'cluster_busy'] });
  }
});

test('another unit is taken only if it is free, for as long as the nested change runs', async (t) => {
  const parent = calling(
    async (actions) => {
      await actions.call('inner', { unit: other });
      return actions.call('inner', { unit: other });
    },
    { effect: 'change' },
  );
  const ends: (() => void)[] = [];
  const slow = doing(async () => new Promise((end) => ends.push(() => end({}))), {
    name: 'slow',
    effect: 'change',
    ...UNIT,
  });
  const { codeFor } = openRunner([parent, change(async () => ({})), slow]);
  const running = codeFor({ action: 'slow', parameters: { unit: other } });
  await settle();
  t.is(await codeFor(), 'cluster_busy');
  ends.shift()?.();
  t.is(await running, 'completed');
  t.is(await codeFor(), 'completed');
  const again = codeFor({ action: 'slow', parameters: { unit: other } });
  await settle();
  ends.shift()?.();
  t.is(await again, 'completed');
});

test('two changes that want the unit of each other do not wait for each other', async (t) => {
  let begun = 0;
  let bothHave = () => {};
  const have = new Promise<void>((resolve) => (bothHave = resolve));
  const crossing = calling(
    async (actions, { parameters }) => {
      if (++begun === 2) bothHave();
      await have;
      const own = (parameters as { unit: string }).unit;
      return actions.call('inner', { unit: own === unit ? other : unit });
    },
    { effect: 'change' },
  );
  const { codeFor } = openRunner([crossing, change(async () => ({}))]);
  const both = [codeFor({ parameters: { unit } }), codeFor({ parameters: { unit: other } })];
  t.deepEqual(await Promise.all(both), ['cluster_busy', 'cluster_busy']);
});

test('a nested change is announced as a change of its own, and does not begin when that fails', async (t) => {
  const told: unknown[] = [];
  const beforeNested = async ({ action, units, parameters, call }: NestedChange) => {
    if (units.includes(other)) throw new ActionError('service_unavailable', 'no audit');
    told.push([action, units, parameters, call.id, call.caller.name]);
    return (outcome: string) => void told.push(outcome);
  };
  const runs: unknown[] = [];
  const parent = calling(
    async (actions, { parameters }) =>
      actions.call('inner', { unit: (parameters as { text?: string }).text ?? unit }),
    { effect: 'change' },
  );
  const { codeFor } = openRunner([parent, change(async ({ parameters }) => (runs.push(parameters), {}))], {
    beforeNested,
  });
  t.is(await codeFor({ caller: CALLER }), 'completed');
  t.deepEqual(told, [['inner', [unit], { unit }, 'r1', 'ci'], 'completed']);
  t.is(await codeFor({ parameters: { text: other } }), 'service_unavailable');
  t.is(runs.length, 1);
  // The turn of the unit was given back.
  t.is(await codeFor({ action: 'inner', parameters: { unit: other } }), 'completed');
});

test('with a claim store a nested change locks its units in the claim of the request, and frees them at its end', async (t) => {
  const parent = calling(async (actions) => actions.call('inner', { unit: other }), { effect: 'change' });
  const store = fakeClaims();
  const { codeFor } = openRunner([parent, change(async () => ({}))], { claims: store.claims });
  t.is(await codeFor({ target: undefined }), 'completed');
  t.deepEqual(store.asked, ['claim', 'begin', `try none ${other}`, `free ${other}`, 'settle']);
  const elsewhere = fakeClaims({ isElsewhere: [other] });
  const busy = openRunner([parent, change(async () => ({}))], { claims: elsewhere.claims });
  t.is(await busy.codeFor(), 'cluster_busy');
  t.is(await busy.codeFor({ action: 'inner', parameters: { unit: other } }), 'completed');
});

test('what an action does not wait for is stopped when it ends, and it can call nothing after that', async (t) => {
  let stopped: unknown;
  let later: unknown;
  const waiting = inner(
    async ({ signal }) =>
      new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          stopped = signal.reason;
          reject(signal.reason);
        }),
      ),
  );
  const parent = calling(async (actions) => {
    void actions.call('inner').catch(() => {});
    await settle();
    setImmediate(() => void actions.call('inner').catch((error: unknown) => (later = error)));
    return {};
  });
  const { codeFor } = openRunner([parent, waiting]);
  t.is(await codeFor(), 'completed');
  await settle();
  await settle();
  t.like(stopped, { code: 'cancelled' });
  t.true(later instanceof ActionCallError);
});

test('a request ends, and releases its units and its claim, when the changes that it does not wait for have ended', async (t) => {
  const ends: (() => void)[] = [];
  // As a restart does, it goes on when it is stopped.
  const lasting = change(async () => new Promise((end) => ends.push(() => end({}))));
  const parent = calling(
    async (actions) =>
      Promise.all([
        actions.call('inner', { unit: other }),
        settle().then(() => {
          throw new ActionError('unit_failed', 'it failed');
        }),
      ]),
    { effect: 'change' },
  );
  const store = fakeClaims();
  const { codeFor } = openRunner([parent, lasting], { claims: store.claims });
  let hasEnded = false;
  const asked = codeFor({ target: undefined }).finally(() => (hasEnded = true));
  for (let turns = 0; turns < 10; turns++) await settle();
  t.false(hasEnded);
  t.false(store.asked.includes('settle'));
  ends.shift()?.();
  t.is(await asked, 'unit_failed');
  t.deepEqual(store.asked.slice(-2), [`free ${other}`, 'settle']);
});

test('what a change reports while what it has called runs on is its last word at a shutdown', async (t) => {
  const lasting = change(async () => new Promise(() => {}));
  const report = new ActionError('unit_failed', 'one has failed', { details: { done: ['a.service'] } });
  const parent = calling(
    async (actions, { signal }) => {
      void actions.call('inner', { unit: other }).catch(() => {});
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      throw report;
    },
    { effect: 'change' },
  );
  const { ask, drain, clock } = openRunner([parent, lasting]);
  const asked = ask();
  await settle();
  const drained = drain(10_000);
  clock.advance(5_000);
  await settle();
  clock.advance(5_000);
  await drained;
  t.like(await asked, { body: { code: 'unit_failed', details: { done: ['a.service'] } } });
});

test('a stop of the service reaches what an action calls before its signal is aborted', async (t) => {
  const seen: unknown[] = [];
  const parent = calling(async (actions) => actions.call('inner', { unit: other }), { effect: 'change' });
  const draining = change(async ({ drain, signal }) => {
    seen.push(drain.reportBy);
    await new Promise((resolve) => drain.signal.addEventListener('abort', resolve));
    seen.push(drain.reportBy - clock.now(), signal.aborted);
    return {};
  });
  const { codeFor, drain, clock } = openRunner([parent, draining]);
  const asked = codeFor();
  await settle();
  const drained = drain(10_000);
  t.is(await asked, 'completed');
  await drained;
  t.deepEqual(seen, [Number.POSITIVE_INFINITY, 10_000, false]);
});

test('an error that says that nothing was changed is not believed of an action that has called a change', async (t) => {
  const busy = async () => {
    throw new ActionError('cluster_busy', 'try again', { details: { retry_after_ms: 5 } });
  };
  const parent = (first: string) =>
    calling(
      async (actions) => {
        await actions.call(first, { unit: other }).catch(() => {});
        return busy();
      },
      { effect: 'change' },
    );
  const served = [
    change(async () => ({})),
    doing(busy, { name: 'refused', effect: 'change', ...UNIT }),
    doing(async () => ({}), { name: 'look', ...UNIT }),
  ];
  const { ask } = openRunner([parent('inner'), ...served]);
  t.like(await ask(), {
    body: { code: 'outcome_unknown', details: { stopped_by: 'cluster_busy', retry_after_ms: 5 } },
  });
  for (const harmless of ['refused', 'look', 'none'])
    t.is(await openRunner([parent(harmless), ...served]).codeFor(), 'cluster_busy', harmless);
});

test('an action learns which actions are served, and cannot change what they are', async (t) => {
  const parent = calling(async (actions) => {
    const [described] = actions.describe();
    t.throws(() => Object.assign(described ?? {}, { effect: 'change' }), { instanceOf: TypeError });
    t.throws(() => Object.assign(described?.parameters.properties ?? {}, { a: 1 }), {
      instanceOf: TypeError,
    });
    return actions.describe().map(({ name }) => name);
  });
  const { ask } = openRunner([parent, inner(async () => ({}))]);
  t.like(await ask(), { body: ['act', 'inner'] });
});
