import { randomUUID } from 'node:crypto';
import test from 'ava';
import { Cluster } from '../../src/api/cluster.js';
import { unitFileHash } from '../../src/api/unit-file.js';
import {
  ActionError,
  Clock,
  FleetTransport,
  type Unit,
  type UnitState,
  UnitControl,
} from '../../src/plugin.js';
import restartUnit from '../../plugins/restart-unit/index.js';
import { UnitTurns } from '../../src/core/unit-turns.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { eventually } from '../support/eventually.js';
import { MACHINE_A, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { actionRequest } from '../support/action-request.js';
import { codeOf, during, letTimePass, puts, UNIT, world, onlyFleet } from './restart-world.js';

test('a restart really stops the unit and starts it again, and returns the evidence', async (t) => {
  const { sandbox, run } = await world(t);
  const starts = sandbox.cluster.starts(UNIT);
  const text = String(await run());
  t.is(sandbox.cluster.starts(UNIT), starts + 1);
  t.like(sandbox.cluster.unit(UNIT), { desiredState: 'launched', currentState: 'launched' });
  t.regex(text, /^web\.service was restarted\.$/m);
  t.regex(text, /^before: {2}launched, active\/running, hash [0-9a-f]{40} on machine [ab]{32}$/m);
  t.regex(text, /^stopped: loaded, .* \(after \d+\.\d s\)$/m);
  t.regex(
    text,
    /^started: launched, active\/running, hash [0-9a-f]{40} on machine [ab]{32} \(after \d+\.\d s\)$/m,
  );
});

test('a unit that was not running is started by a restart', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.setUnit(UNIT, { desiredState: 'inactive' });
  await run();
  t.like(sandbox.cluster.unit(UNIT), { currentState: 'launched' });
});

test('a unit that does not stop is reported, and left launched', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.behave(UNIT, 'never-stops');
  const error = await t.throwsAsync(async () => run({ wait_seconds: 5 }));
  t.is(codeOf(error), 'unit_did_not_stop');
  t.regex(error?.message ?? '', /Last state: .*active\/running/);
  t.like(sandbox.cluster.unit(UNIT), { desiredState: 'launched' });
});

test('a unit that fails immediately is reported with the observed states', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.behave(UNIT, 'fails-at-start');
  const error = await t.throwsAsync(async () => run());
  t.is(codeOf(error), 'unit_failed');
  t.regex(error?.message ?? '', /failed\/failed/);
});

test('a unit that had failed before can be restarted', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.setState(UNIT, { systemdActiveState: 'failed', systemdSubState: 'failed' });
  t.regex(String(await run()), /before: .*failed\/failed[\s\S]*started: .*active\/running/);
});

test('a unit that never comes up is reported after the wait', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.behave(UNIT, 'never-starts');
  const error = await t.throwsAsync(async () => run({ wait_seconds: 10 }));
  t.is(codeOf(error), 'unit_not_started');
  t.regex(
    error?.message ?? '',
    /was stopped, and set to launched, and is not shown as active after \d.*activating\/start/,
  );
});

test('a unit that flaps is not reported as restarted', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.behave(UNIT, 'flaps');
  const error = await t.throwsAsync(async () => run());
  t.is(codeOf(error), 'unit_flaps');
});

test('a unit whose requirements no machine meets is left unchanged', async (t) => {
  const { sandbox, run, probe } = await world(t, { MachineMetadata: '"role=web" "role=other"' });
  sandbox.cluster.setMetadata(MACHINE_A, 'role', 'idle');
  const error = await t.throwsAsync(async () => run());
  t.is(codeOf(error), 'unit_not_schedulable');
  t.regex(error?.message ?? '', /^web\.service was not changed \(/);
  t.regex(error?.message ?? '', /no machine that fleet lists meets MachineMetadata=role=web or role=other$/);
  t.is(puts(sandbox), 0);
  sandbox.cluster.setUnit(UNIT, { desiredState: 'loaded' });
  const again = await t.throwsAsync(async () => probe());
  t.regex(again?.message ?? '', /^web\.service was not changed by this run \(/);
  t.is(puts(sandbox), 0);
});

test('requirements that no machine meets together are reported together', async (t) => {
  const { sandbox, run } = await world(t, { MachineMetadata: '"role=web" "region=north"' });
  sandbox.cluster.setMetadata(MACHINE_A, 'region', 'south');
  const error = await t.throwsAsync(async () => run());
  t.is(codeOf(error), 'unit_not_schedulable');
  t.regex(
    error?.message ?? '',
    /no machine that fleet lists meets MachineMetadata=role=web, MachineMetadata=region=north$/,
  );
  t.is(puts(sandbox), 0);
});

test('a requirement that some machine meets is not reported beside one that none meets', async (t) => {
  const { run } = await world(t, { MachineMetadata: '"role=web" "region=south"' });
  const error = await t.throwsAsync(async () => run());
  t.is(codeOf(error), 'unit_not_schedulable');
  t.regex(error?.message ?? '', /no machine that fleet lists meets MachineMetadata=region=south$/);
});

test('a unit that is removed while it is being restarted is reported as such', async (t) => {
  const { sandbox, run } = await world(t);
  const outcome = t.throwsAsync(async () => run());
  await during(outcome, () => puts(sandbox) > 0);
  sandbox.cluster.removeUnit(UNIT);
  const error = await outcome;
  t.is(codeOf(error), 'unit_not_found');
  t.regex(error?.message ?? '', /was removed from the cluster while it was being restarted/);
});

test('a unit that crashes soon after its start is not reported as restarted', async (t) => {
  const { sandbox, run } = await world(t);
  const outcome = t.throwsAsync(async () => run());
  const isUp = () => sandbox.cluster.states()[0]?.systemdActiveState === 'active';
  await during(outcome, () => puts(sandbox) >= 2 && isUp());
  sandbox.cluster.setState(UNIT, { systemdActiveState: 'failed', systemdSubState: 'failed' });
  t.is(codeOf(await outcome), 'unit_failed');
});

test('a host of the fleet API that stops responding does not prevent the launch of the unit', async (t) => {
  const { sandbox, run, clock } = await world(t, {}, ['127.0.0.1', '127.0.0.2', '127.0.0.3']);
  const outcome = run({ wait_seconds: 60 });
  await during(outcome, () => puts(sandbox) > 0);
  const silent = sandbox.cluster.requests.find(({ method }) => method === 'PUT')?.host;
  sandbox.cluster.fail({ kind: 'hang', host: silent });
  letTimePass(t, clock);
  t.regex(String(await outcome), /was restarted/);
});

test('a fleet API that stops responding delays a cancelled request for less than its 30 s', async (t) => {
  const { sandbox, run, clock } = await world(t);
  const abort = new AbortController();
  const outcome = t.throwsAsync(async () => run({}, abort.signal));
  await during(outcome, () => puts(sandbox) > 0);
  sandbox.cluster.fail({ kind: 'hang' });
  abort.abort(new ActionError('cancelled', 'gone'));
  const cancelledAt = clock.now();
  letTimePass(t, clock);
  const error = await outcome;
  t.is(codeOf(error), 'outcome_unknown');
  t.regex(error?.message ?? '', /MAY NOW BE STOPPED/);
  t.true(clock.now() - cancelledAt < 30_000);
});

test('a global unit is restarted by its machines and not by fleet, and an unknown unit by nobody', async (t) => {
  const { sandbox, run } = await world(t, { Global: 'true' });
  t.is(codeOf(await t.throwsAsync(async () => run())), 'host_unreachable');
  t.is(codeOf(await t.throwsAsync(async () => run({ unit_name: 'no-such.service' }))), 'unit_not_found');
  t.is(puts(sandbox), 0);
});

test('a request that ends before the unit is touched says that nothing was changed, and can be sent again', async (t) => {
  for (const code of ['timeout', 'cancelled']) {
    const { sandbox, run } = await world(t);
    const abort = new AbortController();
    // While the starting point is read.
    sandbox.cluster.fail({ kind: 'hang' });
    const outcome = t.throwsAsync(async () => run({}, abort.signal), {
      message: 'web.service was not changed: enough',
    });
    await eventually('fleet is asked', () => sandbox.cluster.requests.length > 0);
    abort.abort(new ActionError(code, 'enough'));
    t.is(codeOf(await outcome), code);
    t.is(puts(sandbox), 0);
  }
});

test('a request whose signal is aborted with any error, before the unit is touched, is cancelled', async (t) => {
  const { sandbox, run } = await world(t);
  const abort = new AbortController();
  // While it reads the unit.
  setImmediate(() => abort.abort(new Error('enough')));
  const error = await t.throwsAsync(async () => run({}, abort.signal), {
    message: 'web.service was not changed: Error: enough',
  });
  t.is(codeOf(error), 'cancelled');
  t.is(puts(sandbox), 0);
});

test('a request that ends while another restart of the unit runs says that nothing was changed', async (t) => {
  const { sandbox, run } = await world(t);
  const abort = new AbortController();
  const first = run();
  const second = t.throwsAsync(async () => run({}, abort.signal), {
    message: 'web.service was not changed: enough',
  });
  abort.abort(new ActionError('timeout', 'enough'));
  t.is(codeOf(await second), 'timeout');
  await first;
  t.is(puts(sandbox), 2);
});

test('a request that is cancelled while the unit is stopped still launches it, and is no longer called retryable', async (t) => {
  for (const code of ['timeout', 'cancelled']) {
    const { sandbox, run } = await world(t);
    const abort = new AbortController();
    const outcome = t.throwsAsync(async () => run({}, abort.signal));
    await during(outcome, () => puts(sandbox) > 0);
    abort.abort(new ActionError(code, 'enough'));
    const error = await outcome;
    t.is(codeOf(error), 'unit_not_started');
    t.regex(
      error?.message ?? '',
      /^web\.service was stopped, and set to launched, .*; the request ended: enough\./,
    );
    t.like(sandbox.cluster.unit(UNIT), { desiredState: 'launched' });
  }
});

test('after an abort launching is tried for as long as the service waits for a change', async (t) => {
  const { sandbox, run, clock } = await world(t);
  const abort = new AbortController();
  const outcome = t.throwsAsync(async () => run({}, abort.signal));
  await during(outcome, () => puts(sandbox) > 0);
  sandbox.cluster.fail({ kind: '503', method: 'PUT' });
  abort.abort(new ActionError('timeout', 'enough'));
  const abortedAt = clock.now();
  t.is(codeOf(await outcome), 'unit_stopped');
  const took = clock.now() - abortedAt;
  t.true(took > 15_000 && took < 30_000, `${took} ms`);
});

test('a template is refused at once', async (t) => {
  const { sandbox, run } = await world(t);
  const error = await t.throwsAsync(async () => run({ unit_name: 'web@.service' }));
  t.is(codeOf(error), 'invalid_parameters');
  t.regex(error?.message ?? '', /is a template: only its instances run/);
  t.deepEqual(sandbox.cluster.requests, []);
});

test('a restart may take between one second and four minutes, in whole seconds, and takes 25 s by default', (t) => {
  const { check } = prepareAction(restartUnit, () => undefined);
  for (const wait_seconds of [1, 240])
    t.like(check({ unit_name: UNIT, wait_seconds }), { unit_name: UNIT, wait_seconds });
  for (const wait_seconds of [0, 241, 1.5])
    t.throws(
      () => check({ unit_name: UNIT, wait_seconds }),
      { message: /wait_seconds/ },
      String(wait_seconds),
    );
  t.deepEqual(check({ unit_name: UNIT }), {
    unit_name: UNIT,
    wait_seconds: 25,
    settle_seconds: 2,
    format: 'text',
  });
});

test('a unit that was on no machine is not said to have been stopped', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.addUnits([{ name: 'waits.service', behaviour: 'never-scheduled' }]);
  const error = await t.throwsAsync(async () => run({ unit_name: 'waits.service', wait_seconds: 10 }));
  t.is(codeOf(error), 'unit_not_scheduled');
  t.regex(
    error?.message ?? '',
    /^waits\.service was not running before, and set to launched; fleet has found no machine for it yet/,
  );
  t.notRegex(error?.message ?? '', /stopped/i);
});

test('a unit that was on no machine is started when fleet finds one', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.addUnits([{ name: 'waits.service', desiredState: 'inactive' }]);
  t.regex(
    String(await run({ unit_name: 'waits.service' })),
    /^waits\.service was started; it was not running before\.$/m,
  );
  t.is(puts(sandbox), 1);
});

test('when fleet lists fewer machines than there are, a unit without a machine is not blamed on the caller', async (t) => {
  const hosts = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];
  const { sandbox, run } = await world(t, { MachineMetadata: 'gpu=true' }, hosts);
  const refused = await t.throwsAsync(async () => run());
  t.is(codeOf(refused), 'cluster_incomplete');
  t.regex(
    refused?.message ?? '',
    /web\.service was not changed .*MachineMetadata=gpu=true\. Discovery names 3 hosts/,
  );
  t.is(puts(sandbox), 0);
  sandbox.cluster.addUnits([{ name: 'waits.service', behaviour: 'never-scheduled' }]);
  const error = await t.throwsAsync(async () => run({ unit_name: 'waits.service', wait_seconds: 5 }));
  t.is(codeOf(error), 'unit_not_started');
  t.regex(error?.message ?? '', /fleet has found no machine for it yet.*Discovery names 3 hosts/);
});

test('a oneshot unit is done when it has run and ended well', async (t) => {
  const { sandbox, run } = await world(t);
  const options = [...service('/bin/job'), { section: 'Service', name: 'Type', value: 'oneshot' }];
  const kept = [...options, { section: 'Service', name: 'RemainAfterExit', value: 'yes' }];
  sandbox.cluster.addUnits([
    { name: 'job.service', options },
    { name: 'kept.service', options: kept },
  ]);
  const text = String(await run({ unit_name: 'job.service' }));
  t.regex(text, /^job\.service was started, and ended without a failure; it was not running before\.$/m);
  t.regex(text, /^started: launched, inactive\/dead/m);
  t.is(sandbox.cluster.starts('job.service'), 1);
  t.regex(
    String(await run({ unit_name: 'kept.service' })),
    /was restarted\.[^]*started: launched, active\/exited/,
  );
});

test('a oneshot unit that remains after its exit, in any spelling of systemd, is up when it is active', async (t) => {
  for (const value of ['y', 'TRUE', 't', '1', 'On']) {
    const { sandbox, run } = await world(t);
    const options = [
      ...service('/bin/job'),
      { section: 'Service', name: 'Type', value: 'oneshot' },
      { section: 'Service', name: 'RemainAfterExit', value },
    ];
    sandbox.cluster.addUnits([{ name: 'kept.service', options }]);
    t.regex(String(await run({ unit_name: 'kept.service' })), /was restarted\.[^]*active\/exited/, value);
  }
});

test('a oneshot unit that fails is reported as failed', async (t) => {
  const { sandbox, run } = await world(t);
  const options = [...service('/bin/job'), { section: 'Service', name: 'Type', value: 'oneshot' }];
  sandbox.cluster.addUnits([{ name: 'job.service', options, behaviour: 'fails-at-start' }]);
  t.is(codeOf(await t.throwsAsync(async () => run({ unit_name: 'job.service' }))), 'unit_failed');
});

test('a rerun says that it is one, and starts a unit that an earlier attempt has stopped', async (t) => {
  const { sandbox, run, probe, clock, warnings } = await world(t);
  sandbox.cluster.setUnit(UNIT, { desiredState: 'loaded' });
  await clock.sleep(5_000);
  const again = run({}, new AbortController().signal, { repeated: true });
  t.is(codeOf(await t.throwsAsync(again)), 'outcome_unknown');
  const text = String(await probe());
  t.regex(text, /^web\.service was started; it was not running before\.$/m);
  t.regex(text, /^before: {2}loaded, inactive\/dead/m);
  const note = "another worker may have begun this request: 'before' is what this run has found";
  t.true(text.includes(`note:    ${note}\n`), text);
  t.deepEqual(warnings, [`web.service: ${note}`]);
  t.like(sandbox.cluster.unit(UNIT), { desiredState: 'launched', currentState: 'launched' });
});

test('a step of the system time changes nothing', async (t) => {
  const { sandbox, run, clock } = await world(t);
  const starts = sandbox.cluster.starts(UNIT);
  const outcome = run();
  for (const count of [1, 2]) {
    await during(outcome, () => puts(sandbox) >= count);
    clock.stepWallTime(count === 1 ? 3_600_000 : -7_200_000);
  }
  t.regex(String(await outcome), /was restarted/);
  t.is(sandbox.cluster.starts(UNIT), starts + 1);
});

test('launching is tried again while the fleet API is down, and is reported when it stays down', async (t) => {
  const { sandbox, run, find } = await world(t);
  const failing = async (times: number | undefined) => {
    let end = async () => {};
    const outcome = run().then(
      () => 'restarted',
      (error: unknown) => codeOf(error),
    );
    await during(outcome, () => puts(sandbox) > 0);
    end = sandbox.cluster.fail({ kind: '503', method: 'PUT', times });
    const code = await outcome;
    await end();
    sandbox.cluster.requests.splice(0);
    return code;
  };
  // Logged once when it begins and once when it ends, not at each attempt.
  const [began, ended] = [/^unit launch failed$/, /^unit launched$/].map((phrase) => () => find(phrase));
  if (began === undefined || ended === undefined) throw new Error('no phrases');
  t.is(await failing(3), 'restarted');
  t.is(began().length, 1);
  t.deepEqual(
    ended().map(({ unit, failures }) => ({ unit, failures })),
    [{ unit: UNIT, failures: 3 }],
  );
  t.is(await failing(undefined), 'unit_stopped');
  t.is(began().length, 2);
  t.is(ended().length, 1);
});

test('a unit that did not stop, and cannot be launched again, is not reported as stopped', async (t) => {
  const { sandbox, run } = await world(t);
  sandbox.cluster.behave(UNIT, 'never-stops');
  const outcome = t.throwsAsync(async () => run({ wait_seconds: 5 }));
  await during(outcome, () => puts(sandbox) > 0);
  sandbox.cluster.fail({ kind: '503', method: 'PUT' });
  const error = await outcome;
  t.is(codeOf(error), 'outcome_unknown');
  t.regex(
    error?.message ?? '',
    /MAY NOW BE STOPPED: fleet did not confirm that it starts it again: .*active\/running/,
  );
});

test('a change whose outcome is unknown is followed by launching anyway', async (t) => {
  const { sandbox, run, find } = await world(t);
  // For as long as stopping is tried to be reported.
  const end = sandbox.cluster.fail({ kind: 'drop', method: 'PUT' });
  const warned = find(/^unit launch failed$/);
  const outcome = t.throwsAsync(async () => run());
  await during(outcome, () => find(/^unit launch failed$/).length > warned.length);
  await end();
  const error = await outcome;
  t.is(codeOf(error), 'outcome_unknown');
  t.regex(error?.message ?? '', /not known whether fleet stopped web\.service .*launched again/);
  t.like(sandbox.cluster.unit(UNIT), { desiredState: 'launched' });
});

test('a lost response does not prevent the restart of the unit', async (t) => {
  const { sandbox, run } = await world(t);
  const starts = sandbox.cluster.starts(UNIT);
  sandbox.cluster.fail({ kind: 'drop-answer', method: 'PUT', times: 1 });
  t.regex(String(await run()), /was restarted/);
  t.is(sandbox.cluster.starts(UNIT), starts + 1);
});

test('an order to stop that may have been accepted is followed by launching, whatever the next tries return', async (t) => {
  const clock = new LeapingClock();
  const sent: string[] = [];
  let desiredState: string = 'launched';
  const unit = (): Unit => ({
    name: UNIT,
    options: [],
    desiredState,
    currentState: desiredState,
    machineID: MACHINE_A,
  });
  const state = (): UnitState => ({
    name: UNIT,
    hash: unitFileHash([]),
    machineID: MACHINE_A,
    systemdLoadState: 'loaded',
    systemdActiveState: desiredState === 'launched' ? 'active' : 'inactive',
    systemdSubState: 'any',
  });
  const fleet: Pick<FleetTransport, 'machines' | 'unit' | 'unitStates' | 'setDesiredState'> = {
    machines: async () => TWO_MACHINES,
    unit: async () => {
      if (sent.length > 0 && sent.at(-1) === 'loaded')
        throw new ActionError('cluster_unreachable', 'fleetd starts again');
      return unit();
    },
    unitStates: async () => [state()],
    setDesiredState: async (_cluster, _name, wanted) => {
      sent.push(wanted);
      if (wanted === 'launched' || sent.length === 1) desiredState = wanted;
      if (sent.length === 1) throw new ActionError('outcome_unknown', 'the answer was lost');
      if (wanted === 'loaded') throw new ActionError('cluster_unreachable', 'fleetd starts again');
    },
  };
  const parts = new Map<symbol, unknown>([
    [FleetTransport, fleet],
    [Clock, clock],
    [UnitControl, onlyFleet],
  ]);
  const action = prepareAction(restartUnit, (token) => parts.get(token));
  const running = action.run(
    actionRequest({ parameters: action.check({ unit_name: UNIT }), cluster: new Cluster('token') }),
  );
  t.is(codeOf(await t.throwsAsync(running)), 'outcome_unknown');
  t.is(sent.at(-1), 'launched');
  t.is(desiredState, 'launched');
});

test('two concurrent restarts of one unit run one after the other', async (t) => {
  const { sandbox, run } = await world(t);
  const starts = sandbox.cluster.starts(UNIT);
  const texts = await Promise.all([run(), run()]);
  t.is(texts.length, 2);
  t.is(sandbox.cluster.starts(UNIT), starts + 2);
  const states = sandbox.cluster.requests.filter(({ method }) => method === 'PUT').length;
  t.is(states, 4);
});

/** The action on a fleet that shows the states of the test, and records its orders. */
function scripted(
  show: (world: { desiredState: string; launchedMs: number }) => Partial<UnitState>,
  beforeOrder: () => Promise<unknown> = async () => new Promise(setImmediate),
) {
  const clock = new LeapingClock();
  const orders: string[] = [];
  const own: string = randomUUID();
  const desired = new Map<string, string>();
  let launchedAt = Number.NEGATIVE_INFINITY;
  const stateOf = (name: string) => desired.get(name) ?? 'launched';
  const fleet: Pick<FleetTransport, 'machines' | 'unit' | 'unitStates' | 'setDesiredState'> = {
    machines: async () => TWO_MACHINES,
    unit: async (_cluster, name) => {
      const [desiredState, currentState] = [stateOf(name), stateOf(name)];
      return { name, options: [], desiredState, currentState, machineID: MACHINE_A };
    },
    unitStates: async (_cluster, { unitName = UNIT }) => [
      {
        name: unitName,
        hash: unitFileHash([]),
        machineID: MACHINE_A,
        systemdLoadState: 'loaded',
        systemdActiveState: stateOf(unitName) === 'launched' ? 'active' : 'inactive',
        systemdSubState: 'any',
        ...show({ desiredState: stateOf(unitName), launchedMs: clock.now() - launchedAt }),
      },
    ],
    setDesiredState: async (_cluster, name, wanted) => {
      // Fleet is slow, so that others could come between.
      await beforeOrder();
      orders.push(`${wanted} ${name}`);
      desired.set(name, wanted);
      if (wanted === 'launched') launchedAt = clock.now();
    },
  };
  const parts = new Map<symbol, unknown>([
    [FleetTransport, fleet],
    [Clock, clock],
    [UnitControl, onlyFleet],
  ]);
  const action = prepareAction(restartUnit, (token) => parts.get(token));
  // As the service runs changes.
  const turns = new UnitTurns();
  const run = async (name = UNIT, { signal = new AbortController().signal, token = own } = {}) => {
    const parameters = action.check({ unit_name: name });
    const cluster = new Cluster(token);
    return turns.run(cluster, action.unitsIn(parameters), signal, async () =>
      action.run(actionRequest({ parameters, cluster, signal })),
    );
  };
  return { run, orders, sinceLaunch: () => clock.now() - launchedAt };
}

const FAILED = { systemdActiveState: 'failed', systemdSubState: 'failed' };

test('a failure from before the restart, which fleet still shows for a while, is not reported as a new one', async (t) => {
  const { run } = scripted(({ desiredState, launchedMs }) =>
    desiredState !== 'launched' || launchedMs < 7_500 ? FAILED : {},
  );
  t.regex(String(await run()), /stopped: .*failed\/failed[\s\S]*started: .*active\/any/);
});

test('a failure that fleet shows for longer than an old one can last is reported', async (t) => {
  const { run, sinceLaunch } = scripted(() => FAILED);
  t.is(codeOf(await t.throwsAsync(run())), 'unit_failed');
  t.true(sinceLaunch() >= 8_000 && sinceLaunch() < 9_000);
});

test('a failure that was not there before the start is reported immediately', async (t) => {
  const { run, sinceLaunch } = scripted(({ desiredState, launchedMs }) =>
    desiredState === 'launched' && launchedMs < 60_000 ? FAILED : {},
  );
  t.is(codeOf(await t.throwsAsync(run())), 'unit_failed');
  t.true(sinceLaunch() < 1_000);
});

const RESTART = [`loaded ${UNIT}`, `launched ${UNIT}`];

test('of many concurrent restarts of one unit, two wait, and the others are refused at once', async (t) => {
  const { run, orders } = scripted(() => ({}));
  const admitted = [run(), run(), run()];
  for (const refused of [run(), run()]) {
    const error = await t.throwsAsync(refused, {
      instanceOf: ActionError,
      message: `${UNIT} was not changed: 3 changes of it run or wait already`,
    });
    t.like(error, { code: 'cluster_busy', details: { retry_after_ms: 10_000 } });
  }
  await Promise.all(admitted);
  t.deepEqual(orders, [...RESTART, ...RESTART, ...RESTART]);
  await run();
  t.is(orders.length, 8);
});

test('a restart that is cancelled while it waits does not let others run beside the running one', async (t) => {
  const { run, orders } = scripted(() => ({}));
  const leaving = new AbortController();
  const first = run();
  const second = run(UNIT, leaving);
  const third = run();
  leaving.abort(new ActionError('cancelled', 'gone'));
  t.is(codeOf(await t.throwsAsync(second)), 'cancelled');
  await Promise.all([first, third]);
  t.deepEqual(orders, [...RESTART, ...RESTART]);
});

test('a restart that is cancelled while it waits ends immediately', async (t) => {
  let go: () => void = () => {};
  const released = new Promise<void>((resolve) => (go = resolve));
  const { run, orders } = scripted(
    () => ({}),
    async () => released,
  );
  const leaving = new AbortController();
  const first = run();
  const second = run(UNIT, leaving);
  leaving.abort(new ActionError('cancelled', 'gone'));
  t.is(codeOf(await t.throwsAsync(second)), 'cancelled');
  t.deepEqual(orders, []);
  go();
  await first;
  t.deepEqual(orders, RESTART);
});

test('a restart that fails lets the next one start', async (t) => {
  let fails = true;
  const { run, orders } = scripted(({ desiredState }) =>
    fails && desiredState === 'launched' ? FAILED : {},
  );
  const first = t.throwsAsync(run());
  const second = run();
  t.is(codeOf(await first), 'unit_failed');
  fails = false;
  t.regex(String(await second), /was started; it was not running before/);
  t.deepEqual(orders, [...RESTART, ...RESTART]);
});

test('a restart that arrives after one has ended, while another runs, waits for that one', async (t) => {
  const { run, orders } = scripted(() => ({}));
  const first = run();
  const second = run();
  await first;
  await Promise.all([second, run()]);
  t.deepEqual(orders, [...RESTART, ...RESTART, ...RESTART]);
});

test('restarts of other units, and of units of other clusters, are not waited for', async (t) => {
  let asked = 0;
  let go: () => void = () => {};
  const allAsked = new Promise<void>((resolve) => (go = resolve));
  // No order completes before each of the three has received one.
  const { run } = scripted(
    () => ({}),
    async () => {
      if (++asked === 3) go();
      await allAsked;
    },
  );
  const ends = [run(), run('other.service'), run(UNIT, { token: 'other' })];
  await eventually('each has started', () => asked >= 3);
  await t.notThrowsAsync(Promise.all(ends));
});

test('a unit that is up when its request ends, but was not watched for long enough, is not said to be down', async (t) => {
  const { run, orders, sinceLaunch } = scripted(() => ({}));
  const leaving = new AbortController();
  const outcome = t.throwsAsync(run(UNIT, leaving));
  await during(outcome, () => orders.length >= 2 && sinceLaunch() >= 2_000);
  leaving.abort(new ActionError('timeout', 'the deadline is over'));
  const error = await outcome;
  t.is(codeOf(error), 'outcome_unknown');
  t.regex(
    error?.message ?? '',
    /was stopped, and set to launched; it is up, but was watched for \d\.\d s only/,
  );
});
