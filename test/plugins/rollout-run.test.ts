import test from 'ava';
import fc from 'fast-check';
import { planOf, type Target } from '../../plugins/rollout/plan.js';
import { type RunOptions, runPlan } from '../../plugins/rollout/run.js';
import { Cluster } from '../../src/api/cluster.js';
import { ActionError, type Actions, type UnitState } from '../../src/plugin.js';
import { ServiceDrain } from '../../src/core/service-drain.js';
import { LeapingClock } from '../support/leaping-clock.js';

const UNITS = ['a.service', 'b.service', 'c.service', 'd.service'];
const MACHINES = ['1', '2', '3'].map((digit) => digit.repeat(32));
const ALL: Target[] = UNITS.flatMap((unit) =>
  MACHINES.map((machineID) => ({ unit, machineID, states: ['active'], hash: null })),
);
const keyOf = (unit: string, machine: string | null) => `${unit} ${machine}`;

interface Trouble {
  /** The targets that fail, by `keyOf`. */
  failing?: ReadonlySet<string>;
  /** The targets that are active when their action ends, and not after that. */
  fading?: ReadonlySet<string>;
  /** Those of `failing` that come up when they are started once more. */
  curable?: boolean;
  /** Whether the cluster does not answer after a batch. */
  isSilent?: boolean;
  /** Whether an action goes on until the test lets it end. */
  isLasting?: boolean;
  /** How long each action takes, in milliseconds. */
  tookMs?: number;
  onCall?: (calls: number) => void;
}

/** A cluster of systemd hosts on which every unit runs, as its actions and its states show it. */
const world = ({
  failing,
  fading,
  curable = false,
  isSilent = false,
  isLasting = false,
  tookMs = 0,
  onCall,
}: Trouble = {}) => {
  const clock = new LeapingClock();
  const abort = new AbortController();
  const drain = new ServiceDrain();
  const calls: { action: string; unit: string; machines: string[] }[] = [];
  const running = new Set<string>();
  const down = new Set<string>(fading);
  const states = async (): Promise<UnitState[]> => {
    if (isSilent) throw new ActionError('cluster_unreachable', 'no machine answers');
    return ALL.map(({ unit, machineID }) => ({
      name: unit,
      hash: null,
      machineID,
      systemdLoadState: 'loaded',
      systemdActiveState: down.has(keyOf(unit, machineID)) ? 'failed' : 'active',
      systemdSubState: null,
    }));
  };
  const call = async (action: string, given: object = {}) => {
    abort.signal.throwIfAborted();
    const { unit_name: unit, machine_ids: machines } = given as { unit_name: string; machine_ids: string[] };
    if (running.has(unit)) throw new ActionError('cluster_busy', `${unit} has another change`);
    running.add(unit);
    calls.push({ action, unit, machines });
    onCall?.(calls.length);
    await clock.sleep(tookMs);
    if (isLasting) await new Promise(() => {});
    running.delete(unit);
    const changes = machines.map((machine) => {
      const isBad = failing?.has(keyOf(unit, machine)) === true && (action === 'restart_unit' || !curable);
      if (isBad) down.add(keyOf(unit, machine));
      else if (action === 'start_unit') down.delete(keyOf(unit, machine));
      return {
        machine_id: machine,
        did: action === 'restart_unit' ? 'restarted' : 'started',
        before: { active: 'active' },
        after: { active: isBad ? 'failed' : 'active' },
        took_ms: tookMs,
        error: isBad ? { code: 'unit_failed', message: `${unit} failed` } : null,
      };
    });
    if (changes.some(({ error }) => error !== null))
      throw new ActionError('unit_failed', `${unit} failed`, { details: { changes } });
    return { unit, changes };
  };
  return {
    calls,
    abort,
    clock,
    /** The service begins to stop; changes have this long to report. */
    shutDown: (reportMs: number) => drain.begin(new Error('shutdown'), clock.now() + reportMs),
    run: async (
      batch: string,
      { limitMs = 3_600_000, ...more }: Partial<RunOptions> & { limitMs?: number } = {},
    ) => {
      const options: RunOptions = {
        operation: 'restart',
        text: undefined,
        pauseMs: 0,
        settleMs: 0,
        waitMs: 60_000,
        maxFailures: 0,
        namesMachines: true,
        warn: () => {},
        ...more,
      };
      const request = {
        cluster: new Cluster('lab'),
        signal: abort.signal,
        drain,
        deadline: clock.now() + limitMs,
      };
      // A test's result is what it says.
      const actions = { call } as unknown as Pick<Actions, 'call'>;
      return runPlan(planOf('restart', ALL, batch, undefined), request, options, {
        actions,
        fleet: { unitStates: states },
        clock,
      });
    },
  };
};

test('whatever fails: the batches are as planned, no unit is changed twice at once, and nothing begins after too many failures', async (t) => {
  const keys = ALL.map(({ unit, machineID }) => keyOf(unit, machineID));
  await fc.assert(
    fc.asyncProperty(
      fc.subarray(keys),
      fc.subarray(keys),
      fc.integer({ min: 1, max: 13 }),
      fc.integer({ min: 0, max: 12 }),
      async (failing, fading, size, maxFailures) => {
        const bad = new Set([...failing, ...fading]);
        const { run, calls } = world({ failing: new Set(failing), fading: new Set(fading) });
        const { end, targets } = await run(String(size), { maxFailures });
        const plan = planOf('restart', ALL, String(size), undefined);
        let failures = 0;
        const expected = plan.targets.map(({ unit, machineID, batch }) => {
          const before = plan.targets.filter((each) => each.batch < batch);
          failures = before.filter((each) => bad.has(keyOf(each.unit, each.machineID))).length;
          if (failures > maxFailures) return 'not_tried';
          return bad.has(keyOf(unit, machineID)) ? 'failed' : 'done';
        });
        t.deepEqual(
          targets.map(({ status }) => status),
          expected,
        );
        t.deepEqual(
          targets.map(({ unit, machine_id }) => keyOf(unit, machine_id)),
          plan.targets.map(({ unit, machineID }) => keyOf(unit, machineID)),
        );
        const failed = expected.filter((status) => status === 'failed').length;
        t.is(end, failed > maxFailures ? 'max_failures' : 'completed');
        const restarted = calls.filter(({ action }) => action === 'restart_unit');
        t.is(
          restarted.flatMap(({ machines }) => machines).length,
          expected.filter((status) => status !== 'not_tried').length,
        );
        t.false(targets.some(({ error }) => error?.code === 'cluster_busy'));
      },
    ),
    { numRuns: 50 },
  );
});

test('what is down after a failed restart is started once more, and named when that does not help', async (t) => {
  const failing = new Set([keyOf('a.service', MACHINES[0] ?? '')]);
  const helpless = world({ failing });
  t.deepEqual((await helpless.run('1')).leftStopped, [`a.service on ${MACHINES[0]}`]);
  t.deepEqual(
    helpless.calls.map(({ action }) => action),
    ['restart_unit', 'start_unit'],
  );
  const curable = world({ failing, curable: true });
  const { end, targets, leftStopped } = await curable.run('1');
  t.is(end, 'max_failures');
  t.deepEqual(leftStopped, []);
  t.like(targets[0], { status: 'failed', before: { active: 'active' }, after: { active: 'active' } });
  t.regex(targets[0]?.error?.message ?? '', /It was started again$/);
});

test('a target that nothing is known of any more is not forgotten among those that are down', async (t) => {
  const lost = world({ isSilent: true, onCall: () => lose() });
  const lose = () => {
    throw new ActionError('outcome_unknown', 'the machine is gone');
  };
  const { targets, leftStopped } = await lost.run('1');
  t.like(targets[0], { status: 'failed', error: { code: 'outcome_unknown' }, before: { active: 'active' } });
  t.deepEqual(leftStopped, [`a.service on ${MACHINES[0]}`]);
});

test('what a stop of the request kept from beginning was not tried', async (t) => {
  const stopped = world({
    onCall: (calls) => {
      if (calls === 2) stopped.abort.abort(new ActionError('cancelled', 'The service shuts down'));
    },
  });
  const { end, targets } = await stopped.run('4');
  t.is(end, 'cancelled');
  t.deepEqual(
    targets.slice(0, 4).map(({ status }) => status),
    ['done', 'done', 'not_tried', 'not_tried'],
  );
  t.false(targets.some(({ status }) => status === 'failed'));
});

test('at a shutdown the batch that runs comes to its end, and no other begins', async (t) => {
  const { run, shutDown, calls } = world({
    failing: new Set([keyOf('b.service', MACHINES[1] ?? '')]),
    curable: true,
    onCall: (count) => {
      if (count === 5) shutDown(20_000);
    },
  });
  const { end, targets, leftStopped } = await run('4', { maxFailures: 1 });
  t.is(end, 'shutdown');
  t.deepEqual(
    targets.map(({ status }) => status),
    'done done done done done failed done done not_tried not_tried not_tried not_tried'.split(' '),
  );
  t.deepEqual(leftStopped, []);
  t.is(calls.filter(({ action }) => action === 'start_unit').length, 1);
});

test('a shutdown in the last batch does not make less of a rollout that is complete', async (t) => {
  const { run, shutDown } = world({ onCall: (count) => count === 9 && shutDown(20_000) });
  t.is((await run('4')).end, 'completed');
});

test('a shutdown ends a pause, and a rollout that has begun nothing begins nothing', async (t) => {
  const pausing = world();
  const { clock } = pausing;
  const sleep = clock.sleep.bind(clock);
  clock.sleep = async (ms, options) => {
    if (ms === 60_000) pausing.shutDown(20_000);
    return sleep(ms, options);
  };
  const { end, targets } = await pausing.run('6', { pauseMs: 60_000 });
  t.is(end, 'shutdown');
  t.is(targets.filter(({ status }) => status === 'done').length, 6);
  const none = world();
  none.shutDown(20_000);
  const untouched = await none.run('6');
  t.is(untouched.end, 'shutdown');
  t.true(untouched.targets.every(({ status }) => status === 'not_tried'));
  t.is(none.calls.length, 0);
});

test('what has not said what came of it when the time to answer is over is unknown, and named', async (t) => {
  for (const [why, end] of [
    ['shutdown', 'shutdown'],
    ['timeout', 'deadline'],
    ['cancelled', 'cancelled'],
  ] as const) {
    const { run, clock, abort, shutDown, calls } = world({ isLasting: true, isSilent: true });
    const running = run('2', { maxFailures: 12 });
    while (calls.length < 2) await clock.sleep(0);
    if (why === 'shutdown') shutDown(10_000);
    else abort.abort(new ActionError(why, 'The rollout is stopped'));
    const begun = clock.now();
    const ended: unknown[] = [];
    void running.then((result) => ended.push(result));
    while (ended.length === 0) await clock.sleep(500);
    // A shutdown gives ten seconds, a deadline thirty, and the answer needs some of them.
    t.true(clock.now() - begun <= (why === 'shutdown' ? 10_000 : 30_000), `${clock.now() - begun} ms`);
    const { targets, leftStopped, ...result } = await running;
    t.is(result.end, end);
    t.deepEqual(
      targets.slice(0, 3).map(({ status, error }) => error?.code ?? status),
      ['outcome_unknown', 'outcome_unknown', 'not_tried'],
    );
    t.deepEqual(leftStopped, [`a.service on ${MACHINES[0]}`, `b.service on ${MACHINES[0]}`]);
  }
});

test('no batch begins in less time than the longest one took', async (t) => {
  const slow = world({ tookMs: 20_000 });
  const { end, targets } = await slow.run('1', { limitMs: 50_000 });
  t.is(end, 'deadline');
  t.deepEqual(
    targets.map(({ status }) => status).filter((status) => status !== 'not_tried'),
    ['done', 'done'],
  );
});

test('a pause that would last longer than the request is not begun', async (t) => {
  const { run, clock } = world();
  const begun = clock.now();
  const { end, targets } = await run('6', { pauseMs: 600_000, limitMs: 300_000 });
  t.is(end, 'deadline');
  t.is(targets.filter(({ status }) => status === 'done').length, 6);
  t.is(clock.now(), begun);
});
