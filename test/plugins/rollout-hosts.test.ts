import test, { type ExecutionContext } from 'ava';
import rollout from '../../plugins/rollout/index.js';
import { openAction } from '../../src/testing.js';

interface Answer {
  ended: string;
  plan_hash: string;
  count: number;
  batches: number;
  targets: {
    unit: string;
    machine_id: string;
    batch: number;
    status: string;
    before: { active: string } | null;
    error: { code: string } | null;
  }[];
  left_stopped: string[];
}

const UNITS = ['api', 'cron', 'mail', 'web'].map((name) => `shop-${name}.service`);
const TEXT = '[Service]\nExecStart=/opt/shop/run\nExecReload=/bin/true\n';

/** Three simulated hosts with systemd, on each of which four units of a shop run. */
const world = async (t: ExecutionContext) => {
  const { run, sandbox, warnings, stop } = await openAction(rollout);
  t.teardown(stop);
  const hosts = sandbox.systemd;
  hosts.addUnits(UNITS.map((name) => ({ name, text: TEXT })));
  const options = { cluster: hosts.name };
  const machines = hosts.machines.map(({ id }) => id).toSorted();
  const quick = { operation: 'restart', units: 'shop-*', settle_seconds: 0, confirm_count: 12 };
  return {
    hosts,
    machines,
    warnings,
    run: async (given: object = {}) => (await run({ ...quick, ...given }, options)) as Answer,
    failure: async (given: object = {}) =>
      t.throwsAsync<Error & { code: string; details: Answer }>(async () =>
        run({ ...quick, ...given }, options),
      ),
    invocations: () => UNITS.flatMap((name) => hosts.states(name).map(({ invocationID }) => invocationID)),
  };
};

test('four units on three hosts are restarted machine by machine, as the dry run says', async (t) => {
  const { run, machines, invocations } = await world(t);
  const before = invocations();
  const plan = await run({ batch: '4', dry_run: true });
  t.deepEqual(invocations(), before);
  t.deepEqual(
    plan.targets.map(({ unit, machine_id, batch, status }) => [unit, machine_id, batch, status]),
    machines.flatMap((id, index) => UNITS.map((unit) => [unit, id, index + 1, 'planned'])),
  );
  t.true(plan.targets.every((target) => target.before?.active === 'active'));
  const answer = await run({ batch: '4', plan_hash: plan.plan_hash });
  t.is(answer.ended, 'completed');
  t.deepEqual(
    answer.targets.map(({ unit, machine_id, batch }) => [unit, machine_id, batch]),
    plan.targets.map(({ unit, machine_id, batch }) => [unit, machine_id, batch]),
  );
  t.true(answer.targets.every(({ status }) => status === 'done'));
  t.is(new Set([...before, ...invocations()]).size, 24, 'each was started once more');
});

test('a batch with a unit on several hosts changes it on all of them, and one that fails stops the rest', async (t) => {
  const { hosts, machines, failure } = await world(t);
  const [, second = ''] = machines;
  hosts.behave('shop-mail.service', 'fails-at-start', { machines: [second] });
  const { code, details } = await failure({ batch: '8' });
  t.is(code, 'rollout_stopped');
  t.is(details.ended, 'max_failures');
  t.deepEqual(
    details.targets.map(({ status }) => status),
    'done done done done done done failed done not_tried not_tried not_tried not_tried'.split(' '),
  );
  t.deepEqual(details.left_stopped, [`shop-mail.service on ${second}`]);
});

test('put writes the file to each selected host, also to those that do not have the unit', async (t) => {
  const { hosts, machines, run, failure, warnings } = await world(t);
  const [first = '', second = ''] = machines;
  hosts.removeUnit('shop-web.service', { machines: [second] });
  const given = {
    operation: 'put',
    units: 'shop-web.service',
    machine_ids: [first, second],
    text: TEXT.replace('run', 'run --new'),
    confirm_count: 2,
  };
  const { ended, targets } = await run(given);
  t.is(ended, 'completed');
  t.is(targets.length, 2);
  for (const id of [first, second]) t.regex(hosts.file('shop-web.service', id) ?? '', /--new/);
  await run({ ...given, text: `${given.text}[X-Fleet]\nGlobal=true\n` });
  t.deepEqual(warnings, ['shop-web.service: systemd ignores the section [X-Fleet]']);
  const nowhere = await failure({ ...given, units: 'shop-new.service', machine_ids: undefined });
  t.is(nowhere.code, 'nothing_selected');
  t.regex(nowhere.message, /select where it shall be/);
});

test('an instance that nothing has loaded is started where its template is, on the machines that are named', async (t) => {
  const { hosts, machines, run, failure } = await world(t);
  const [first = '', second = '', third = ''] = machines;
  hosts.addUnits([{ name: 'job@.service', text: TEXT }]);
  hosts.removeUnit('job@.service', { machines: [third] });
  const given = { operation: 'start', units: 'job@7.service', confirm_count: 2 };
  t.is((await failure(given)).code, 'nothing_selected');
  t.is((await failure({ ...given, machine_ids: machines })).code, 'unit_not_found');
  const { targets } = await run({ ...given, machine_ids: [first, second] });
  t.deepEqual(
    targets.map(({ machine_id: id, status }) => [id, status]),
    [
      [first, 'done'],
      [second, 'done'],
    ],
  );
  t.is(
    (await failure({ ...given, units: 'none@7.service', machine_ids: machines })).code,
    'nothing_selected',
  );
});

test('a unit of the distribution is selected by its name, and by no pattern', async (t) => {
  const { run, failure } = await world(t);
  t.is((await run({ units: 'cron.service', dry_run: true })).count, 3);
  t.is((await failure({ units: 'cron.servic?', dry_run: true })).code, 'nothing_selected');
});

test('a dry run warns of a rollout that cannot end within a request', async (t) => {
  const { run, warnings } = await world(t);
  await run({ dry_run: true, pause_seconds: 10 });
  t.deepEqual(warnings, []);
  await run({ dry_run: true, pause_seconds: 60 });
  t.regex(warnings.join(), /at least 660 s/);
});
