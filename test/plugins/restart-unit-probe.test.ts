import test from 'ava';
import { inWords, RESTARTED } from './restart-outcome.js';
import restartUnit from '../../plugins/restart-unit/index.js';
import { Cluster } from '../../src/api/cluster.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { Clock, type DesiredState, FleetTransport, UnitControl } from '../../src/plugin.js';
import { ClusterState } from '../../src/sandbox/cluster.js';
import { actionRequest } from '../support/action-request.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { service, TWO_MACHINES } from '../support/open-sandbox.js';
import { ManyHosts, type OrderFault } from './many-hosts.js';
import { codeOf, UNIT, puts, world, onlyFleet } from './restart-world.js';

test('a unit that a lost worker has stopped and not launched is launched, and stopped no second time', async (t) => {
  const { sandbox, probe, clock, warnings } = await world(t);
  const begin = clock.now();
  sandbox.cluster.setUnit(UNIT, { desiredState: 'loaded' });
  await clock.sleep(5_000);
  const text = String(await probe());
  t.regex(text, /^web\.service was started; it was not running before\.$/m);
  t.regex(text, /another worker may have begun this request/);
  t.is(warnings.length, 1);
  t.like(sandbox.cluster.unit(UNIT), { desiredState: 'launched', currentState: 'launched' });
  t.is(inWords(sandbox.cluster.history(UNIT).filter(({ at }) => at >= begin)), RESTARTED);
});

test('a unit that is still stopping is launched when it has stopped', async (t) => {
  const { sandbox, probe, clock } = await world(t);
  const begin = clock.now();
  sandbox.cluster.setUnit(UNIT, { desiredState: 'loaded' });
  t.regex(String(await probe()), /^web\.service was restarted/m);
  t.is(inWords(sandbox.cluster.history(UNIT).filter(({ at }) => at >= begin)), RESTARTED);
});

test('a unit that is set to be up is left alone: it is not known whether it was restarted', async (t) => {
  const { sandbox, probe } = await world(t);
  t.is(await probe(), undefined);
  t.is(puts(sandbox), 0);
});

test('a unit that somebody has made inactive, which no restart does, is left alone', async (t) => {
  const { sandbox, probe } = await world(t);
  sandbox.cluster.setUnit(UNIT, { desiredState: 'inactive' });
  t.is(await probe(), undefined);
  t.is(puts(sandbox), 0);
});

test('a unit that is no longer there is not restarted', async (t) => {
  const { sandbox, probe } = await world(t);
  sandbox.cluster.removeUnit(UNIT);
  t.is(await probe(), undefined);
  t.is(puts(sandbox), 0);
});

test('a cluster that cannot be asked is an error, and not a statement about the unit', async (t) => {
  const { sandbox, probe } = await world(t);
  sandbox.cluster.fail({ kind: 'refuse' });
  t.is(codeOf(await t.throwsAsync(async () => probe())), 'cluster_unreachable');
});

/** Finds out what a lost worker has left in a cluster with three hosts, of which one lags behind. */
function lagging({
  shown,
  actual,
  faultOf = () => undefined,
}: {
  shown: DesiredState;
  actual: DesiredState;
  faultOf?: () => OrderFault;
}) {
  const clock = new LeapingClock();
  const cluster = new ClusterState({
    clock,
    delays: { change: 1_500, report: 500, linger: 1_000 },
    machines: TWO_MACHINES,
    units: [{ name: UNIT, options: service('/bin/web'), desiredState: shown }],
  });
  const hosts = new ManyHosts(cluster, clock, { unitName: UNIT, faultOf });
  hosts.cutOff(2);
  cluster.setUnit(UNIT, { desiredState: actual });
  const parts = new Map<symbol, unknown>([
    [FleetTransport, hosts],
    [Clock, clock],
    [UnitControl, onlyFleet],
  ]);
  const action = prepareAction(restartUnit, (token) => parts.get(token));
  const parameters = action.check({ unit_name: UNIT });
  const request = actionRequest({ parameters, cluster: new Cluster('token'), repeated: true });
  return { hosts, probe: async () => action.probe?.(request) };
}

for (const [what, { shown, actual }] of Object.entries({
  'one host shows the time before the stop': { shown: 'launched', actual: 'loaded' },
  'one host shows the time before the launch': { shown: 'loaded', actual: 'launched' },
} as const)) {
  test(`a unit of which the hosts disagree is launched and not stopped: ${what}`, async (t) => {
    const { hosts, probe } = lagging({ shown, actual });
    t.is(await probe(), undefined);
    t.deepEqual(
      hosts.applied.map(({ state }) => state),
      ['launched'],
    );
  });
}

test('a unit of which the hosts disagree, and that cannot be launched, is an error', async (t) => {
  const { probe } = lagging({ shown: 'launched', actual: 'loaded', faultOf: () => 'order lost' });
  t.is(codeOf(await t.throwsAsync(probe())), 'outcome_unknown');
});

test('a unit that a lost worker has left stopping is waited for as long as the request says', async (t) => {
  const { sandbox, probe, clock } = await world(t);
  sandbox.cluster.behave(UNIT, 'never-stops');
  sandbox.cluster.setUnit(UNIT, { desiredState: 'loaded' });
  const from = clock.now();
  t.is(codeOf(await t.throwsAsync(async () => probe())), 'unit_did_not_stop');
  t.true(clock.now() - from >= 25_000 && clock.now() - from < 27_000, `${clock.now() - from} ms`);
});
