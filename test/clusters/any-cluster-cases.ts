import type { ExecutionContext } from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { type Answer, type AnyCluster, changesIn } from './any-cluster.js';

/** What holds on every cluster, of whatever kind. Results are also checked against the schemas that the actions declare. */
export interface ClusterCase {
  /** What holds, as a sentence; what is different between the kinds, and why, is in it. */
  title: string;
  /** Each has units of its own: several cases may share a cluster. */
  holds: (t: ExecutionContext, cluster: AnyCluster) => Promise<void>;
}

const STRANGER = 'f'.repeat(32);
const QUICK = { settle_seconds: 1 };

/** The actions that change a unit, or read of one, with what each needs besides its name. */
const OF_A_UNIT: Readonly<Record<string, (unit: string) => object>> = {
  start_unit: () => ({}),
  stop_unit: () => ({}),
  restart_unit: () => ({}),
  reload_unit: () => ({}),
  reset_failed_unit: () => ({}),
  destroy_unit: (unit) => ({ confirm: unit }),
  unit_status: () => ({}),
  unit_file: () => ({}),
  unit_logs: () => ({}),
};
const ONLY_ON_FLEET = ['load_unit', 'unload_unit'];
const ONLY_ON_SYSTEMD = ['enable_unit', 'disable_unit'];
/** Those whose parameter may be no template. */
const OF_WHAT_RUNS = [
  'start_unit',
  'stop_unit',
  'restart_unit',
  'reload_unit',
  'reset_failed_unit',
  'unit_status',
  ...ONLY_ON_FLEET,
  ...ONLY_ON_SYSTEMD,
];

/** Those that this kind of cluster lacks. */
const lackingOn = ({ kind }: AnyCluster) => (kind === 'fleet' ? ONLY_ON_SYSTEMD : ONLY_ON_FLEET);

/** `machine_ids`, for a new unit: fleet chooses the machine itself. */
const placeIn = ({ kind, machines }: AnyCluster) =>
  kind === 'fleet' ? {} : { machine_ids: machines.slice(0, 1) };

/** What was done on each machine, or the code of the error. */
const didIn = (answer: Answer): string =>
  answer.code === 'completed'
    ? changesIn(answer)
        .map(({ did }) => did)
        .join()
    : answer.code;

const rowsIn = ({ body }: Answer): Record<string, unknown>[] =>
  Array.isArray(body) ? body.map(fieldsOf) : [];

const filesIn = ({ body }: Answer): Record<string, unknown>[] => {
  const { files } = fieldsOf(body);
  return Array.isArray(files) ? files.map(fieldsOf) : [];
};

const hostsMissingIn = ({ details }: Answer): unknown[] => {
  const { unreachable } = fieldsOf(details);
  return Array.isArray(unreachable) ? unreachable.map((each) => fieldsOf(each).host) : [];
};

export const CLUSTER_CASES: readonly ClusterCase[] = [
  {
    title: 'lists have the same shape, and a unit on several machines is one unit with a state on each',
    holds: async (t, { call, add, machines }) => {
      await add('everywhere.service', { isEverywhere: true });
      const units = rowsIn(await call('list_units', { name: 'everywhere.service' }));
      t.is(units.length, 1);
      t.like(units[0], { name: 'everywhere.service', machineID: null, desiredState: 'launched' });
      const states = rowsIn(await call('list_unit_states', { unit_name: 'everywhere.service' }));
      t.deepEqual(
        states.map(({ machineID, systemdActiveState }) => [machineID, systemdActiveState]),
        machines.map((id) => [id, 'active']),
      );
      const listed = rowsIn(await call('list_machines'));
      t.deepEqual(
        listed.map(({ id }) => id),
        machines,
      );
      t.deepEqual(rowsIn(await call('list_machines', { metadata: { nobody: 'has' } })), []);
      const [other] = machines.slice(1);
      const there = { unit_name: 'everywhere.service', machine_id: other };
      t.deepEqual(rowsIn(await call('list_unit_states', there)), states.slice(1, 2));
    },
  },
  {
    title: 'a unit on one machine is listed with that machine, its state and its file',
    holds: async (t, { call, add, machines }) => {
      await add('alone.service');
      const [machine] = machines;
      const [unit] = rowsIn(await call('list_units', { name: 'alon?.service', machine_id: machine }));
      t.like(unit, { name: 'alone.service', machineID: machine, currentState: 'launched' });
      const [state, ...others] = rowsIn(await call('list_unit_states', { unit_name: 'alone.service' }));
      t.like(state, { machineID: machine, systemdLoadState: 'loaded', systemdSubState: 'running' });
      t.deepEqual(others, []);
      const [file] = filesIn(await call('unit_file', { unit_name: 'alone.service' }));
      t.is(file?.hash, state?.hash);
      const [entry] = rowsIn(await call('list_unit_files', { name: 'alone.service' }));
      t.is(entry?.unit, 'alone.service');
    },
  },
  {
    title:
      'a unit is started once, with the states before and after, and a start of one that is up does nothing',
    holds: async (t, { call, add, starts, isUp, machines }) => {
      await add('start.service', { isUp: false });
      const start = async () => call('start_unit', { unit_name: 'start.service', ...QUICK });
      const [change, ...others] = changesIn(await start());
      t.like(change, {
        machine_id: machines[0],
        did: 'started',
        before: { load: 'loaded', active: 'inactive', sub: 'dead' },
        after: { load: 'loaded', active: 'active', sub: 'running' },
        error: null,
      });
      t.deepEqual(others, []);
      const [again] = changesIn(await start());
      t.like(again, {
        did: 'nothing',
        before: { active: 'active' },
        after: { active: 'active' },
        error: null,
      });
      t.true(await isUp('start.service'));
      t.is(await starts('start.service'), 1);
    },
  },
  {
    title: 'a unit is stopped with the states before and after, and a stop of one that is down does nothing',
    holds: async (t, { call, add, isUp }) => {
      await add('stop.service');
      const stop = async () => call('stop_unit', { unit_name: 'stop.service' });
      t.like(changesIn(await stop())[0], {
        did: 'stopped',
        before: { active: 'active' },
        after: { active: 'inactive', sub: 'dead' },
        error: null,
      });
      t.false(await isUp('stop.service'));
      t.like(changesIn(await stop())[0], { did: 'nothing', after: { active: 'inactive' }, error: null });
    },
  },
  {
    title: 'what is done to a unit on several machines is told of each of them',
    holds: async (t, { call, add, starts, machines }) => {
      await add('several.service', { isEverywhere: true });
      const unit = { unit_name: 'several.service' };
      for (const [action, did, more] of [
        ['stop_unit', 'stopped', {}],
        ['start_unit', 'started', QUICK],
        ['restart_unit', 'restarted', { ...QUICK, format: 'structured' }],
      ] as const) {
        const changes = changesIn(await call(action, { ...unit, ...more }));
        t.deepEqual(
          changes.map((change) => [change.machine_id, change.did, change.error]),
          machines.map((id) => [id, did, null]),
          action,
        );
      }
      t.is(await starts('several.service'), 2 * machines.length);
    },
  },
  {
    title: 'a restart answers with a text or with what was done, and starts a unit that was down',
    holds: async (t, { call, add, starts, machines }) => {
      await add('again.service');
      const unit = { unit_name: 'again.service', ...QUICK };
      const { body } = await call('restart_unit', unit);
      t.regex(String(body), /^again\.service was restarted/);
      const structured = await call('restart_unit', { ...unit, format: 'structured' });
      t.like(changesIn(structured)[0], {
        machine_id: machines[0],
        did: 'restarted',
        before: { active: 'active' },
        after: { active: 'active', sub: 'running' },
        error: null,
      });
      t.regex(String(fieldsOf(structured.body).text), /^again\.service was restarted/);
      t.is(await starts('again.service'), 2);
      await call('stop_unit', { unit_name: 'again.service' });
      t.is(didIn(await call('restart_unit', { ...unit, format: 'structured' })), 'started');
      t.regex(String((await call('restart_unit', unit)).body), /^again\.service was restarted/);
    },
  },
  {
    title: 'a unit whose program fails is not said to be started',
    holds: async (t, { call, add, failingText }) => {
      await add('fails.service', { text: failingText('fails.service'), isUp: false });
      for (const action of ['start_unit', 'restart_unit']) {
        const answer = await call(action, { unit_name: 'fails.service', ...QUICK });
        t.is(answer.code, 'unit_failed', action);
      }
      t.is(didIn(await call('reset_failed_unit', { unit_name: 'fails.service' })), 'reset');
      t.is(didIn(await call('reset_failed_unit', { unit_name: 'fails.service' })), 'nothing');
    },
  },
  {
    title:
      'a unit that has failed is started again on hosts; fleet, which has launched it already, leaves that to a restart',
    holds: async (t, { kind, call, add, failingText }) => {
      await add('failed.service', { text: failingText('failed.service'), isUp: false });
      const start = async () => call('start_unit', { unit_name: 'failed.service', ...QUICK });
      t.like(changesIn(await start())[0], { did: 'started', after: { active: 'failed' } });
      const again = await start();
      t.is(again.code, 'unit_failed');
      t.like(changesIn(again)[0], {
        did: kind === 'fleet' ? 'nothing' : 'started',
        before: { active: 'failed' },
        after: { active: 'failed' },
        error: { code: 'unit_failed' },
      });
      if (kind === 'fleet') t.regex(String(again.body), /restart it/);
      t.log('fleet is told not to launch it again, on hosts nothing is to be done');
      const stopped = await call('stop_unit', { unit_name: 'failed.service' });
      t.is(didIn(stopped), kind === 'fleet' ? 'stopped' : 'nothing');
    },
  },
  {
    title: 'a unit that is not there is not found, whatever is asked of it',
    holds: async (t, cluster) => {
      for (const [action, more] of Object.entries(OF_A_UNIT)) {
        const parameters = { unit_name: 'typo.service', ...more('typo.service') };
        t.is((await cluster.call(action, parameters)).code, 'unit_not_found', action);
      }
      const template = { unit_name: 'typo@.service', confirm: 'typo@.service' };
      t.is((await cluster.call('destroy_unit', template)).code, 'unit_not_found');
      t.is((await cluster.call('unit_file', { unit_name: 'typo@.service' })).code, 'unit_not_found');
    },
  },
  {
    title: 'a template cannot be started, stopped, or looked at as something that runs',
    holds: async (t, { call, add }) => {
      await add('shape@.service', { isUp: false });
      for (const action of OF_WHAT_RUNS)
        t.is((await call(action, { unit_name: 'shape@.service' })).code, 'invalid_parameters', action);
    },
  },
  {
    title: 'a verb that clusters of this kind lack is unsupported_by_cluster, and changes nothing',
    holds: async (t, cluster) => {
      const { call, add, isUp } = cluster;
      await add('verbs.service');
      for (const action of lackingOn(cluster)) {
        t.is((await call(action, { unit_name: 'verbs.service' })).code, 'unsupported_by_cluster', action);
      }
      t.true(await isUp('verbs.service'));
    },
  },
  {
    title: 'the verbs of one kind alone work there: enable and disable on hosts, load and unload on fleet',
    holds: async (t, { kind, call, add, text }) => {
      await add('own.service', {
        text: `${text('own.service')}[Install]\nWantedBy=multi-user.target\n`,
        isUp: false,
      });
      const [there, back] =
        kind === 'fleet'
          ? ([
              ['unload_unit', 'unloaded'],
              ['load_unit', 'loaded'],
            ] as const)
          : ([
              ['enable_unit', 'enabled'],
              ['disable_unit', 'disabled'],
            ] as const);
      for (const [action, did] of [there, back]) {
        t.is(didIn(await call(action, { unit_name: 'own.service' })), did, action);
        t.is(didIn(await call(action, { unit_name: 'own.service' })), 'nothing', action);
      }
    },
  },
  {
    title: 'a unit that is up, and whose file says how, is reloaded without a start',
    holds: async (t, { call, add, text, starts }) => {
      await add('reload.service', { text: `${text('reload.service')}ExecReload=/bin/true\n` });
      await add('noreload.service');
      const reload = async (unit: string) => didIn(await call('reload_unit', { unit_name: unit }));
      t.is(await reload('reload.service'), 'reloaded');
      t.is(await reload('noreload.service'), 'unit_cannot_reload');
      t.is(await starts('reload.service'), 0);
      await call('stop_unit', { unit_name: 'reload.service' });
      t.is(await reload('reload.service'), 'unit_not_active');
    },
  },
  {
    title:
      'a machine that is not of the cluster is not found, or cannot be named where fleet chooses the machines itself',
    holds: async (t, cluster) => {
      const { call, add, text, isUp } = cluster;
      await add('named.service');
      const named = { unit_name: 'named.service', machine_ids: [STRANGER] };
      const byFleet = cluster.kind === 'fleet' ? 'unsupported_by_cluster' : 'machine_not_found';
      for (const [action, code, more] of [
        ['restart_unit', 'machine_not_found', {}],
        ['reload_unit', 'machine_not_found', {}],
        ['reset_failed_unit', 'machine_not_found', {}],
        ['unit_status', 'machine_not_found', {}],
        ['start_unit', byFleet, {}],
        ['stop_unit', byFleet, {}],
        ['destroy_unit', byFleet, { confirm: 'named.service' }],
        ['put_unit', byFleet, { text: text('named.service') }],
        ['unit_file', byFleet, {}],
      ] as const)
        t.is((await call(action, { ...named, ...more })).code, code, action);
      t.is((await call('list_unit_files', { machine_ids: [STRANGER] })).code, byFleet);
      const plan = { operation: 'restart', units: 'named.service', dry_run: true };
      const rollout = await call('rollout', { ...plan, machine_ids: [STRANGER] });
      t.is(rollout.code, 'machine_not_found');
      t.true(await isUp('named.service'));
    },
  },
  {
    title: 'a file is written as it was shown before, is read as it was written, and is written once',
    holds: async (t, cluster) => {
      const { call, text, isUp, starts } = cluster;
      const unit = 'put.service';
      const given = { unit_name: unit, text: text(unit), ...placeIn(cluster), ...QUICK };
      t.log('a dry run');
      t.like(changesIn(await call('put_unit', { ...given, dry_run: true }))[0], {
        unit,
        did: 'created',
        replaced: null,
      });
      t.is((await call('unit_file', { unit_name: unit })).code, 'unit_not_found');
      t.log('new');
      t.is(didIn(await call('put_unit', given)), 'created');
      t.false(await isUp(unit));
      const [file] = filesIn(await call('unit_file', { unit_name: unit }));
      t.is(file?.text, text(unit));
      t.is(didIn(await call('put_unit', given)), 'nothing');
      t.log('started');
      const [made] = changesIn(await call('put_unit', { ...given, activate: 'start' }));
      t.like(made, { did: 'nothing', after: { active: 'active' }, error: null });
      t.is(await starts(unit), 1);
      const [state] = rowsIn(await call('list_unit_states', { unit_name: unit }));
      t.is(state?.hash, file?.hash);
      t.log('replaced, which restarts it');
      const newer = { unit_name: unit, text: `${text(unit)}Nice=5\n`, ...QUICK };
      t.like(changesIn(await call('put_unit', { ...newer, dry_run: true }))[0], {
        did: 'replaced',
        replaced: text(unit),
      });
      t.is(filesIn(await call('unit_file', { unit_name: unit }))[0]?.text, text(unit));
      t.is(await starts(unit), 1);
      t.like(changesIn(await call('put_unit', newer))[0], {
        did: 'replaced',
        replaced: text(unit),
        before: { active: 'active' },
        after: { active: 'active' },
        error: null,
      });
      t.is(await starts(unit), 2);
      const [changed] = filesIn(await call('unit_file', { unit_name: unit }));
      t.is(changed?.text, newer.text);
      t.not(changed?.hash, file?.hash);
      t.like(changesIn(await call('put_unit', newer))[0], {
        did: 'nothing',
        before: { active: 'active' },
        after: { active: 'active' },
      });
      t.is(await starts(unit), 2);
    },
  },
  {
    title: 'for a new unit fleet chooses the machine, and hosts must be named',
    holds: async (t, { kind, call, text }) => {
      const answer = await call('put_unit', { unit_name: 'where.service', text: text('where.service') });
      t.is(answer.code, kind === 'fleet' ? 'completed' : 'invalid_parameters');
      if (kind === 'systemd') t.regex(String(answer.body), /machine_ids must name/);
    },
  },
  {
    title: 'a file that cannot be used is refused with all others of the request, and nothing is changed',
    holds: async (t, cluster) => {
      const { call, add, text, starts } = cluster;
      await add('kept.service');
      const before = filesIn(await call('unit_file', { unit_name: 'kept.service' }));
      for (const wrong of ['[Service]\n', '# nothing\n', 'nonsense\n'])
        for (const dry of [true, false]) {
          const given = { unit_name: 'kept.service', text: wrong, dry_run: dry };
          t.is((await call('put_unit', given)).code, 'unit_file_invalid', wrong);
        }
      const units = [
        { unit_name: 'beside.service', text: text('beside.service') },
        { unit_name: 'kept.service', text: '[Service]\n' },
      ];
      t.is((await call('put_unit', { units, ...placeIn(cluster) })).code, 'unit_file_invalid');
      t.is((await call('unit_file', { unit_name: 'beside.service' })).code, 'unit_not_found');
      t.deepEqual(filesIn(await call('unit_file', { unit_name: 'kept.service' })), before);
      t.is(await starts('kept.service'), 0);
    },
  },
  {
    title: 'a unit that does not run with its new file gets its old one back, or is not there again',
    holds: async (t, cluster) => {
      const { call, add, failingText } = cluster;
      await add('back.service');
      const before = filesIn(await call('unit_file', { unit_name: 'back.service' }));
      const replaced = await call('put_unit', {
        unit_name: 'back.service',
        text: failingText('back.service'),
        ...QUICK,
      });
      t.is(replaced.code, 'unit_failed');
      t.like(changesIn(replaced)[0], { did: 'returned', error: { code: 'unit_failed' } });
      t.regex(String(replaced.body), /as before again/);
      t.deepEqual(filesIn(await call('unit_file', { unit_name: 'back.service' })), before);
      const created = await call('put_unit', {
        unit_name: 'brief.service',
        text: failingText('brief.service'),
        activate: 'start',
        ...placeIn(cluster),
        ...QUICK,
      });
      t.is(created.code, 'unit_failed');
      t.like(changesIn(created)[0], { did: 'returned' });
      t.is((await call('unit_file', { unit_name: 'brief.service' })).code, 'unit_not_found');
    },
  },
  {
    title: 'a template is written and removed, and is not started',
    holds: async (t, cluster) => {
      const { call, text } = cluster;
      const template = { unit_name: 'many@.service', text: text('many@.service') };
      const place = placeIn(cluster);
      const start = { ...place, activate: 'start', ...QUICK };
      t.is((await call('put_unit', { ...template, ...start })).code, 'invalid_parameters');
      t.is((await call('unit_file', { unit_name: 'many@.service' })).code, 'unit_not_found');
      const units = [template, { unit_name: 'one.service', text: text('one.service') }];
      const both = changesIn(await call('put_unit', { units, ...start }));
      t.deepEqual(
        both.map(({ unit, did, error }) => [unit, did, error]),
        [
          ['many@.service', 'created', null],
          ['one.service', 'created', null],
        ],
      );
      t.true(await cluster.isUp('one.service'));
      const [file] = filesIn(await call('unit_file', { unit_name: 'many@.service' }));
      t.is(file?.text, template.text);
      const gone = await call('destroy_unit', { unit_name: 'many@.service', confirm: 'many@.service' });
      t.is(didIn(gone), 'removed');
    },
  },
  {
    title: 'a unit is removed when its name is given twice, and is not found afterwards',
    holds: async (t, { call, add, isUp }) => {
      await add('gone.service');
      const unit = { unit_name: 'gone.service' };
      const refused = await call('destroy_unit', { ...unit, confirm: 'gone' });
      t.is(refused.code, 'invalid_parameters');
      t.regex(String(refused.body), /^gone\.service was not removed: confirm must be its name once more/);
      t.true(await isUp('gone.service'));
      const [change] = changesIn(await call('destroy_unit', { ...unit, confirm: 'gone.service' }));
      t.like(change, { did: 'stopped and removed', before: { active: 'active' }, error: null });
      t.false(await isUp('gone.service'));
      t.is((await call('destroy_unit', { ...unit, confirm: 'gone.service' })).code, 'unit_not_found');
      t.is((await call('start_unit', unit)).code, 'unit_not_found');
      t.deepEqual(rowsIn(await call('list_unit_files', { name: 'gone.service' })), []);
    },
  },
  {
    title:
      'a request that is delivered again has no second effect: hosts answer with what it came to, fleet with what it shows, or outcome_unknown',
    holds: async (t, cluster) => {
      const { call, add, text, starts, isUp } = cluster;
      const unit = 'twice.service';
      await add(unit, { isUp: false });
      const given = { unit_name: unit, ...QUICK };
      for (const [action, parameters, count] of [
        ['start_unit', given, 1],
        ['restart_unit', { ...given, format: 'structured' }, 2],
        ['put_unit', { ...given, text: `${text(unit)}Nice=5\n`, activate: 'start' }, 3],
        ['stop_unit', { unit_name: unit }, 3],
        ['destroy_unit', { unit_name: unit, confirm: unit }, 3],
      ] as const) {
        const key = `${action}-twice`;
        const first = await call(action, parameters, { key });
        t.is(first.code, 'completed', action);
        t.is(await starts(unit), count, action);
        const wasUp = await isUp(unit);
        const again = await call(action, parameters, { key, repeated: true });
        t.is(await starts(unit), count, `${action} again`);
        t.is(await isUp(unit), wasUp, `${action} again`);
        if (cluster.kind === 'systemd') t.deepEqual(again, first, action);
        else t.is(again.code, action === 'restart_unit' ? 'outcome_unknown' : 'completed', action);
      }
    },
  },
  {
    title: 'a request that is delivered again after somebody has changed the unit does not undo that',
    holds: async (t, cluster) => {
      const { call, add, isUp, starts } = cluster;
      const unit = 'since.service';
      await add(unit, { isUp: false });
      const given = { unit_name: unit, ...QUICK };
      await call('start_unit', given, { key: 'since' });
      await call('stop_unit', { unit_name: unit });
      const again = await call('start_unit', given, { key: 'since', repeated: true });
      t.is(didIn(again), cluster.kind === 'systemd' ? 'started' : 'outcome_unknown');
      t.false(await isUp(unit));
      t.is(await starts(unit), 1);
    },
  },
  {
    title: 'the units of a cluster are looked at on their machines',
    holds: async (t, { call, add, machines }) => {
      await add('seen.service', { isEverywhere: true });
      const { body } = await call('unit_status', { unit_name: 'seen.service' });
      t.like(body, { unit: 'seen.service', desired_state: 'launched' });
      const { machines: seen } = fieldsOf(body);
      const statuses = Array.isArray(seen) ? seen.map(fieldsOf) : [];
      t.deepEqual(
        Object.fromEntries(statuses.map(({ machine_id: id, active, error }) => [id, [active, error]])),
        Object.fromEntries(machines.map((id) => [id, ['active', null]])),
      );
      const logs = await call('unit_logs', { unit_name: 'seen.service' });
      t.is(logs.code, 'completed', String(logs.body));
      for (const id of machines) t.true(String(logs.body).includes(`==> ${id} <==`));
      const nodes = Object.values(fieldsOf((await call('node_info')).body)).map(fieldsOf);
      t.is(nodes.length, machines.length);
      t.true(nodes.every(({ os }) => fieldsOf(os).id !== undefined));
    },
  },
  {
    title: 'a rollout does what its dry run says, and says what was done',
    holds: async (t, cluster) => {
      const { call, add, starts } = cluster;
      const names = ['a', 'b', 'c'].map((letter) => `roll-${letter}.service`);
      for (const name of names) await add(name);
      const given = { operation: 'restart', units: 'roll-*', batch: '2', settle_seconds: 1 };
      const targetsIn = ({ body }: Answer) => {
        const { targets } = fieldsOf(body);
        return Array.isArray(targets) ? targets.map(fieldsOf) : [];
      };
      const plan = await call('rollout', { ...given, dry_run: true });
      t.like(plan.body, { ended: 'planned', count: 3, batches: 2 });
      t.deepEqual(
        targetsIn(plan).map(({ unit, batch, status }) => [unit, batch, status]),
        names.map((name, index) => [name, index < 2 ? 1 : 2, 'planned']),
      );
      for (const name of names) t.is(await starts(name), 0);
      const { plan_hash: hash } = fieldsOf(plan.body);
      t.is((await call('rollout', { ...given, batch: '1', plan_hash: hash })).code, 'stale_plan');
      const made = await call('rollout', { ...given, plan_hash: hash });
      t.like(made.body, { ended: 'completed', plan_hash: hash, left_stopped: [] }, String(made.body));
      t.deepEqual(
        targetsIn(made).map(({ unit, machine_id, batch, status, did }) => [
          unit,
          machine_id,
          batch,
          status,
          did,
        ]),
        targetsIn(plan).map(({ unit, machine_id, batch }) => [unit, machine_id, batch, 'done', 'restarted']),
      );
      for (const name of names) t.is(await starts(name), 1);
      const none = await call('rollout', { ...given, units: 'nothing-*' });
      t.is(none.code, 'nothing_selected');
    },
  },
];

/** What holds of a cluster as a whole, which the case has for itself. */
export const WHOLE_CLUSTER_CASES: readonly ClusterCase[] = [
  {
    title: 'nothing is found in a healthy cluster, and what fails is',
    holds: async (t, { call, add, heal, failingText }) => {
      await heal();
      await add('fine.service', { isEverywhere: true });
      const { body } = await call('check_cluster');
      t.deepEqual(body, []);
      await add('ill.service', { text: failingText('ill.service'), isUp: false });
      await call('start_unit', { unit_name: 'ill.service', ...QUICK });
      t.deepEqual(
        rowsIn(await call('check_cluster')).map(({ severity, kind, subject }) => [severity, kind, subject]),
        [['error', 'unit_failed', 'ill.service']],
      );
    },
  },
  {
    title: 'an answer that lacks a machine that does not answer says so, and has the others',
    holds: async (t, cluster) => {
      const { call, add, machines } = cluster;
      await add('part.service', { isEverywhere: true });
      const host = await cluster.hasSilentMachine();
      for (const action of ['list_units', 'list_unit_states', 'list_machines']) {
        const answer = await call(action);
        t.is(answer.code, 'completed', action);
        t.deepEqual(hostsMissingIn(answer), [host], action);
      }
      for (const [action, did, more] of [
        ['restart_unit', 'restarted', { ...QUICK, format: 'structured' }],
        ['start_unit', 'nothing', QUICK],
        ['reset_failed_unit', 'nothing', {}],
        ['stop_unit', 'stopped', {}],
      ] as const) {
        const answer = await call(action, { unit_name: 'part.service', ...more });
        t.is(answer.code, 'completed', `${action}: ${String(answer.body)}`);
        t.true(changesIn(answer).length > 0 && changesIn(answer).length <= machines.length, action);
        t.true(
          changesIn(answer).every((change) => change.did === did),
          action,
        );
        t.deepEqual(hostsMissingIn(answer), [host], action);
      }
    },
  },
];
