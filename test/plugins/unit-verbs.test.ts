import test, { type ExecutionContext } from 'ava';
import loadUnit from '../../plugins/load-unit/index.js';
import putUnit from '../../plugins/put-unit/index.js';
import reloadUnit from '../../plugins/reload-unit/index.js';
import startUnit from '../../plugins/start-unit/index.js';
import stopUnit from '../../plugins/stop-unit/index.js';
import unloadUnit from '../../plugins/unload-unit/index.js';
import type { Action, UnitPut } from '../../src/plugin.js';
import { openAction } from '../../src/testing.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';

const UNIT = 'web.service';

/** A fleet cluster of two machines, on which actions run with a clock that leaps over every wait. */
const world = async (
  t: ExecutionContext,
  action: Action,
  fleetOptions: Record<string, string> = { MachineID: MACHINE_A },
) => {
  // As long as a simulated machine waits before it looks again.
  const clock = new LeapingClock({ leapMs: 100 });
  const opened = await openAction(action, {
    clock,
    delays: { change: 1_500, report: 500, linger: 1_000 },
    machines: TWO_MACHINES,
    units: [{ name: UNIT, options: service('/bin/web', fleetOptions) }],
  });
  t.teardown(opened.stop);
  const { run, sandbox } = opened;
  const parameters = { unit_name: UNIT };
  const shown = (name = UNIT) => {
    const unit = sandbox.cluster.unit(name);
    return unit === 'poisoned' ? undefined : unit;
  };
  return {
    cluster: sandbox.cluster,
    ssh: () => sandbox.ssh,
    shown,
    /** Sets its desired state, and lets fleet carry it out. */
    set: async (desiredState: string) => {
      sandbox.cluster.setUnit(UNIT, { desiredState });
      await clock.sleep(5_000);
    },
    orders: () => sandbox.cluster.requests.filter(({ method }) => method !== 'GET').length,
    changes: async (more: object = {}, options: { repeated?: boolean } = {}) =>
      ((await run({ ...parameters, ...more }, options)) as { changes: UnitPut[] }).changes,
    failure: async (more: object = {}, options: { repeated?: boolean } = {}) =>
      t.throwsAsync<
        Error & { code: string; details: { changes: UnitPut[]; unit?: string; problems?: string[] } }
      >(async () => run({ ...parameters, ...more }, options)),
  };
};

test('start_unit says what fleet shows of a unit that does not come up', async (t) => {
  for (const [behaviour, code] of [
    ['fails-at-start', 'unit_failed'],
    ['never-starts', 'unit_not_started'],
    ['never-scheduled', 'unit_not_started'],
  ] as const) {
    const { failure, cluster, set } = await world(t, startUnit);
    await set('inactive');
    cluster.behave(UNIT, behaviour);
    const error = await failure({ wait_seconds: 15 });
    t.is(error.code, code, behaviour);
    t.is(error.details.changes[0]?.error?.code, code);
  }
});

test('stop_unit says when a unit does not stop, and leaves the order with fleet', async (t) => {
  const { failure, cluster, shown } = await world(t, stopUnit);
  cluster.behave(UNIT, 'never-stops');
  t.is((await failure({ wait_seconds: 15 })).code, 'unit_did_not_stop');
  t.is(shown()?.desiredState, 'loaded');
});

test('unload_unit takes a unit off its machine, and load_unit puts it on one without starting it', async (t) => {
  const unloading = await world(t, unloadUnit);
  t.like((await unloading.changes())[0], { did: 'unloaded', before: { active: 'active' }, error: null });
  t.like(unloading.shown(), { desiredState: 'inactive', machineID: null });
  const loading = await world(t, loadUnit);
  await loading.set('inactive');
  t.like((await loading.changes())[0], { did: 'loaded', error: null });
  t.like(loading.shown(), { desiredState: 'loaded', machineID: MACHINE_A });
  const nowhere = await world(t, loadUnit, { MachineID: 'c'.repeat(32) });
  await nowhere.set('inactive');
  t.is((await nowhere.failure({ wait_seconds: 15 })).code, 'unit_not_scheduled');
});

test('a machine on which fleet shows the unit, and which SSH does not reach, is an error beside what the others did', async (t) => {
  const { failure, ssh } = await world(t, reloadUnit, { Global: 'true' });
  ssh().fail({ kind: 'refuse', machine: MACHINE_B });
  const { code, details } = await failure();
  t.is(code, 'partly_changed');
  t.deepEqual(
    details.changes.map(({ machine_id: id, error }) => [id, error?.code]),
    [
      [MACHINE_A, 'unit_cannot_reload'],
      [MACHINE_B, 'host_unreachable'],
    ],
  );
});

test('a change that was delivered before is not ordered from fleet again', async (t) => {
  const { changes, failure, set, orders } = await world(t, startUnit);
  t.log('fleet has it as asked: an earlier delivery may have done that');
  t.like((await changes({}, { repeated: true }))[0], { error: null });
  t.log('it has not: it was not made, or somebody has changed it since');
  await set('loaded');
  t.is((await failure({}, { repeated: true })).code, 'outcome_unknown');
  t.is(orders(), 0);
});

const TEXT = `[Service]\nExecStart=/bin/web --new\n\n[X-Fleet]\nMachineID=${MACHINE_A}\n`;

test('put_unit replaces the file of a unit that fleet has, keeps its desired state, and shows before what it would do', async (t) => {
  const { changes, shown, orders } = await world(t, putUnit);
  const [plan] = await changes({ text: TEXT, dry_run: true });
  t.like(plan, {
    did: 'replaced',
    replaced: `[Service]\nExecStart=/bin/web\n\n[X-Fleet]\nMachineID=${MACHINE_A}\n`,
  });
  t.regex(plan?.diff ?? '', /^--- web\.service\n\+\+\+ web\.service\n/);
  t.deepEqual(plan?.diff?.match(/^[+-]\w.*$/gm), ['-ExecStart=/bin/web', '+ExecStart=/bin/web --new']);
  t.is(orders(), 0);
  t.like((await changes({ text: TEXT }))[0], { did: 'replaced', after: { active: 'active' }, error: null });
  t.is(shown()?.options[0]?.value, '/bin/web --new');
  t.like((await changes({ text: TEXT }))[0], { did: 'nothing' });
  t.log('fleet keeps no comments, so a comment more is no difference');
  t.like((await changes({ text: `# why\n${TEXT}`, dry_run: true }))[0], { did: 'nothing', diff: null });
  const [made] = await changes({ unit_name: 'new.service', text: TEXT });
  t.like(made, { did: 'created', replaced: null, error: null });
  t.is(shown('new.service')?.desiredState, 'inactive');
});

test('put_unit that is delivered again looks whether the unit runs, and orders nothing from fleet', async (t) => {
  const { changes, failure, cluster, orders, set } = await world(t, putUnit);
  const [first] = await changes({ text: TEXT });
  const ordered = orders();
  t.like((await changes({ text: TEXT }, { repeated: true }))[0], { error: null, after: first?.after ?? {} });
  t.log('an earlier delivery wrote it, and did not see that it fails');
  cluster.behave(UNIT, 'fails-at-start');
  await set('loaded');
  await set('launched');
  t.is((await failure({ text: TEXT }, { repeated: true })).code, 'unit_failed');
  t.log('somebody has stopped it since');
  await set('loaded');
  const again = await failure({ text: TEXT, activate: 'start' }, { repeated: true });
  t.is(again.code, 'outcome_unknown');
  t.is(orders(), ordered);
});

test('put_unit takes one unit with its text, or several', async (t) => {
  const { failure, orders } = await world(t, putUnit);
  for (const more of [
    {},
    { unit_name: undefined },
    { text: TEXT, units: [{ unit_name: 'a.service', text: TEXT }] },
    { unit_name: undefined, units: [1, 2].map(() => ({ unit_name: 'a.service', text: TEXT })) },
  ])
    t.is((await failure(more)).code, 'invalid_parameters');
  t.is(orders(), 0);
});

test('put_unit refuses what fleet would not keep, and stops at the first file that fails', async (t) => {
  const { failure, changes, orders, cluster, shown } = await world(t, putUnit);
  for (const text of ['[Service]\n', '# a comment\n'])
    t.is((await failure({ text, dry_run: true })).code, 'unit_file_invalid', text);
  t.is(
    (await failure({ unit_name: 'x@.service', text: TEXT, activate: 'start' })).code,
    'invalid_parameters',
  );
  for (const [lines, problems] of [
    ['MachineId=1\nGlobals=true', ['[X-Fleet] has no option MachineId', '[X-Fleet] has no option Globals']],
    ['Global=true\nMachineOf=web.service', ['[X-Fleet]: Global cannot be used with MachineOf']],
  ] as const) {
    const refused = await failure({ text: `[Service]\nExecStart=/bin/web\n\n[X-Fleet]\n${lines}\n` });
    t.is(refused.code, 'unit_file_invalid');
    t.deepEqual(refused.details, { unit: UNIT, problems: [...problems] });
  }
  t.is(orders(), 0);
  t.like((await changes({ unit_name: 'x@.service', text: TEXT }))[0], { did: 'created' });
  const end = cluster.fail({ kind: '500', method: 'PUT', path: /b\.service/ });
  const units = ['a', 'b', 'c'].map((name) => ({ unit_name: `${name}.service`, text: TEXT }));
  const error = await failure({ unit_name: undefined, units });
  await end();
  t.deepEqual(
    error.details.changes.map(({ unit, did, error: each }) => [unit, did, each === null]),
    [
      ['a.service', 'created', true],
      ['b.service', 'unknown', false],
    ],
  );
  t.is(shown('c.service'), undefined);
});

test('put_unit keeps continued lines as fleet does, and writes none of several files when fleet cannot keep one', async (t) => {
  const { changes, failure, orders, shown } = await world(t, putUnit);
  const before = orders();
  const continued = '[Service]\nExecStart=/bin/web \\\n  --fast\n';
  const units = [
    { unit_name: UNIT, text: continued },
    { unit_name: 'other.service', text: '[Service]\nExecStart=/bin/other\nnonsense\n' },
  ];
  const refused = await failure({ unit_name: undefined, units });
  t.is(refused.code, 'unit_file_invalid');
  t.regex(refused.message, /^Nothing was changed: .*other\.service: line 3: /);
  t.is(orders(), before);
  const [plan] = await changes({ text: '[Service]\nExecStart=/bin/web \\\n# why\n', dry_run: true });
  t.regex(plan?.warnings.join('\n') ?? '', /^line 3: .*comment/);
  await changes({ text: continued });
  t.deepEqual(shown()?.options, [{ section: 'Service', name: 'ExecStart', value: '/bin/web \\\n  --fast' }]);
});
