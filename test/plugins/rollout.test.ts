import { isDeepStrictEqual } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import rollout from '../../plugins/rollout/index.js';
import { mixed, number, object, string } from 'yup';
import { type Action, defineAction, unitName } from '../../src/plugin.js';
import { openAction } from '../../src/testing.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';

interface Answer {
  ended: string;
  plan_hash: string;
  count: number;
  targets: {
    unit: string;
    states: string[];
    file_hash: string;
    batch: number;
    status: string;
    error: { code: string } | null;
  }[];
  left_stopped: string[];
  /** Of `stale_plan`. */
  plan?: Answer;
}

/** A fleet cluster of two machines with a dozen units, and a clock that leaps over every wait. */
const world = async (
  t: ExecutionContext,
  { failing = [], actions = [] }: { failing?: string[]; actions?: Action[] } = {},
) => {
  const clock = new LeapingClock();
  const units = Array.from({ length: 12 }, (_, index) => ({
    name: `web@${String(index + 1).padStart(2, '0')}.service`,
    options: service('/bin/web', { MachineID: index % 2 === 0 ? MACHINE_A : MACHINE_B }),
  }));
  const opened = await openAction(rollout, {
    clock,
    delays: { change: 1_500, report: 500, linger: 1_000 },
    machines: TWO_MACHINES,
    units,
    actions,
  });
  t.teardown(opened.stop);
  const { run, sandbox } = opened;
  for (const name of failing) sandbox.cluster.behave(name, 'fails-at-start');
  const orders = () => sandbox.cluster.requests.filter(({ method }) => method !== 'GET');
  return {
    clock,
    sandbox,
    cluster: sandbox.cluster,
    orders,
    run: async (parameters: object, options = {}) => (await run(parameters, options)) as unknown as Answer,
    failure: async (parameters: object, options = {}) =>
      t.throwsAsync<Error & { code: string; details: Answer & { count: number } }>(async () =>
        run(parameters, options),
      ),
  };
};

const ALL = { operation: 'restart', units: 'web@*.service' };

test('twelve units are restarted in batches of three, exactly as planned, and it stops where too many fail', async (t) => {
  const { run, failure, orders, cluster } = await world(t, {
    failing: ['web@04.service', 'web@05.service'],
  });
  const plan = await run({ ...ALL, batch: '3', dry_run: true });
  const starts = cluster.starts('web@07.service');
  t.is(orders().length, 0);
  t.is(plan.ended, 'planned');
  t.deepEqual(
    plan.targets.map(({ unit, batch }) => [unit, batch]),
    Array.from({ length: 12 }, (_, index) => [
      `web@${String(index + 1).padStart(2, '0')}.service`,
      Math.floor(index / 3) + 1,
    ]),
  );
  const error = await failure({
    ...ALL,
    batch: '3',
    plan_hash: plan.plan_hash,
    confirm_count: 12,
    max_failures: 1,
  });
  t.is(error.code, 'rollout_stopped');
  const { details } = error;
  t.is(details.ended, 'max_failures');
  t.deepEqual(
    details.targets.map(({ unit, batch }) => [unit, batch]),
    plan.targets.map(({ unit, batch }) => [unit, batch]),
  );
  t.deepEqual(
    details.targets.map(({ status }) => status).join(' '),
    'done done done failed failed done not_tried not_tried not_tried not_tried not_tried not_tried',
  );
  t.deepEqual(details.left_stopped, [`web@04.service on ${MACHINE_B}`, `web@05.service on ${MACHINE_A}`]);
  t.regex(error.message, /4 done, 2 failed, 6 not tried; left stopped: web@04\.service/);
  const touched = new Set(orders().map(({ path }) => /web(?:@|%40)\d+/.exec(path)?.[0]));
  t.is(touched.size, 6);
  t.is(cluster.starts('web@07.service'), starts);
});

test('failures that are allowed do not stop it, and are told', async (t) => {
  const { run } = await world(t, { failing: ['web@02.service'] });
  const answer = await run({ ...ALL, batch: '50%', max_failures: 1, confirm_count: 12 });
  t.is(answer.ended, 'completed');
  t.deepEqual(
    answer.targets.filter(({ status }) => status !== 'done').map(({ unit, error }) => [unit, error?.code]),
    [['web@02.service', 'unit_failed']],
  );
});

test('a plan of a cluster that has changed since is refused, and nothing is touched', async (t) => {
  const { run, failure, cluster, clock, orders } = await world(t);
  const { plan_hash, count, targets } = await run({ ...ALL, dry_run: true });
  t.is(count, 12);
  cluster.setUnit('web@03.service', { desiredState: 'loaded' });
  cluster.setUnit('web@05.service', { options: service('/bin/other', { MachineID: MACHINE_A }) });
  await clock.sleep(5_000);
  const { code, details } = await failure({ ...ALL, plan_hash, confirm_count: 12 });
  t.is(code, 'stale_plan');
  t.is(orders().length, 0);
  t.deepEqual(details.plan, await run({ ...ALL, dry_run: true }));
  const now = new Map(details.plan?.targets.map((each) => [each.unit, each]));
  const changed = targets.filter(({ unit, ...then }) => {
    const { states, file_hash } = now.get(unit) ?? {};
    return !isDeepStrictEqual([then.states, then.file_hash], [states, file_hash]);
  });
  t.deepEqual(
    changed.map(({ unit }) => unit),
    ['web@03.service', 'web@05.service'],
  );
});

test('many targets need their number, and none at all is an error', async (t) => {
  const { failure, orders } = await world(t);
  const needed = await failure(ALL);
  t.is(needed.code, 'confirmation_needed');
  t.is(needed.details.count, 12);
  t.is((await failure({ ...ALL, confirm_count: 11 })).code, 'confirmation_needed');
  t.is((await failure({ operation: 'restart' })).code, 'nothing_selected');
  t.is((await failure({ operation: 'restart', metadata: {} })).code, 'nothing_selected');
  t.is((await failure({ operation: 'restart', units: 'none*' })).code, 'nothing_selected');
  t.is((await failure({ ...ALL, metadata: { role: 'none' } })).code, 'nothing_selected');
  t.is((await failure({ ...ALL, machine_ids: ['c'.repeat(32)] })).code, 'machine_not_found');
  t.is((await failure({ ...ALL, text: 'x' })).code, 'invalid_parameters');
  t.is((await failure({ operation: 'put', units: 'web@*', text: 'x' })).code, 'invalid_parameters');
  t.is((await failure({ ...ALL, batch: '0' })).code, 'invalid_parameters');
  t.is(orders().length, 0);
});

test('machines are selected by their ids and their metadata', async (t) => {
  const { run, cluster } = await world(t);
  cluster.setMetadata(MACHINE_B, 'role', 'other');
  const byMachine = await run({ ...ALL, machine_ids: [MACHINE_A], dry_run: true });
  const byMetadata = await run({ ...ALL, metadata: { role: 'other' }, dry_run: true });
  t.deepEqual([byMachine.count, byMetadata.count], [6, 6]);
  t.false(byMetadata.targets.some(({ unit }) => byMachine.targets.some((each) => each.unit === unit)));
});

test('a policy that does not allow all of a selection refuses it as a whole', async (t) => {
  const { failure, orders } = await world(t);
  const error = await failure({ ...ALL, confirm_count: 12 }, { units: ['web@01*'] });
  t.is(error.code, 'forbidden');
  t.is(orders().length, 0);
});

/** Does nothing but to call back, in place of the action of this name. */
const standIn = (onCall: (unit: string) => Promise<object>) =>
  defineAction({
    name: 'restart_unit',
    summary: 'Stands in for the one of the service.',
    target: 'cluster',
    effect: 'change',
    parameters: object({
      unit_name: unitName().required().meta({ description: 'The unit.' }),
      format: string().meta({ description: 'The form of the answer.' }),
      wait_seconds: number().meta({ description: 'The time limit.' }),
      settle_seconds: number().meta({ description: 'The time to settle.' }),
    }),
    result: mixed((value): value is object => value !== undefined)
      .defined()
      .meta({ type: 'object' }),
    handle: async ({ parameters }) => onCall(parameters.unit_name),
  });
const UP = { active: 'active', sub: 'running' };

test('a rollout that is stopped ends after the batch that runs, and says what was done', async (t) => {
  const abort = new AbortController();
  let calls = 0;
  const action = standIn(async () => {
    if (++calls === 4) abort.abort();
    return { changes: [{ did: 'restarted', before: UP, after: UP, error: null }] };
  });
  const { failure } = await world(t, { actions: [action] });
  const { signal } = abort;
  const error = await failure({ ...ALL, batch: '2', confirm_count: 12 }, { signal });
  t.is(error.code, 'rollout_stopped');
  t.is(error.details.ended, 'cancelled');
  t.is(calls, 4);
  t.is(error.details.targets.filter(({ status }) => status === 'done').length, 4);
  t.is(error.details.targets.filter(({ status }) => status === 'not_tried').length, 8);
});

test('no batch begins that could not end in time', async (t) => {
  const action = standIn(async () => ({
    changes: [{ did: 'restarted', before: UP, after: UP, error: null }],
  }));
  const { failure } = await world(t, { actions: [action] });
  const error = await failure(
    { ...ALL, batch: '4', pause_seconds: 20, confirm_count: 12 },
    { timeoutMs: 30_000 },
  );
  t.is(error.details.ended, 'deadline');
  t.is(error.details.targets.filter(({ status }) => status === 'done').length, 8);
});
