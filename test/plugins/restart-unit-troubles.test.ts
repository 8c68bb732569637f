import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import restartUnit from '../../plugins/restart-unit/index.js';
import { Cluster } from '../../src/api/cluster.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { ActionError, Clock, FleetTransport, UnitControl } from '../../src/plugin.js';
import { ClusterState } from '../../src/sandbox/cluster.js';
import { actionRequest } from '../support/action-request.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { MACHINE_A, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { isTrue, outcomeOf } from './restart-outcome.js';
import { UNIT, onlyFleet } from './restart-world.js';

/** A simulated cluster without HTTP, so that many restarts take little time. */
function transportOf(cluster: ClusterState) {
  const answer = <T>(value: () => T, code = 'cluster_unhealthy'): T => {
    if (cluster.etcdIsAway) throw new ActionError(code, 'HTTP 503');
    return value();
  };
  const readUnit = () => {
    const unit = cluster.unit(UNIT);
    return unit === 'poisoned' ? undefined : unit;
  };
  const fleet: Pick<
    FleetTransport,
    'machines' | 'incompleteness' | 'unit' | 'unitStates' | 'setDesiredState'
  > = {
    machines: async () => answer(() => cluster.machines),
    incompleteness: async () =>
      answer(() => (cluster.machines.length < TWO_MACHINES.length ? 'A machine is missing' : undefined)),
    unit: async () => answer(readUnit),
    unitStates: async () => answer(() => cluster.states()),
    setDesiredState: async (_cluster, name, desiredState) =>
      answer(() => cluster.setUnit(name, { desiredState }), 'outcome_unknown'),
  };
  return fleet;
}

/** A restart in which something happens, `from` milliseconds after its begin and for this long. */
async function troubledRestart(
  t: ExecutionContext,
  { from, length, fits, wait }: { from: number; length: number; fits: string; wait: number },
  trouble: (cluster: ClusterState) => () => void,
): Promise<string> {
  const clock = new LeapingClock();
  const cluster = new ClusterState({
    clock,
    delays: { change: 1_500, report: 500, linger: 4_000 },
    machines: TWO_MACHINES,
    units: [
      { name: UNIT, options: service('/bin/web', fits === 'one machine' ? { MachineID: MACHINE_A } : {}) },
    ],
  });
  const parts = new Map<symbol, unknown>([
    [FleetTransport, transportOf(cluster)],
    [Clock, clock],
    [UnitControl, onlyFleet],
  ]);
  const action = prepareAction(restartUnit, (token) => parts.get(token));
  // The rows are written again during the restart, or in the trouble.
  const lead = 12_000;
  clock.after(lead + from, () => {
    const end = trouble(cluster);
    clock.after(length, end);
  });
  while (clock.now() < 1_000_000 + lead || cluster.etcdIsAway) await clock.sleep(500);
  const parameters = action.check({ unit_name: UNIT, wait_seconds: wait });
  const running = action.run(actionRequest({ parameters, cluster: new Cluster(randomUUID()) }));
  const outcome = await outcomeOf(running, cluster, clock);
  isTrue(t, outcome, `${length} ms from ${from} ms, ${wait} s, fits ${fits}`);
  return outcome.code;
}

const TROUBLES: Record<string, (cluster: ClusterState) => () => void> = {
  'a silent agent': (cluster) => cluster.silenceAgent(MACHINE_A),
  'a lost etcd': (cluster) => cluster.loseEtcd(),
  'a silent agent and a lost etcd': (cluster) => {
    const ends = [cluster.silenceAgent(MACHINE_A), cluster.loseEtcd()];
    return () => ends.forEach((end) => end());
  },
};

for (const [what, trouble] of Object.entries(TROUBLES))
  test(`${what}, whenever and for however long, leads to no false claim`, async (t) => {
    const codes = new Set<string>();
    for (const fits of ['one machine', 'each machine'])
      for (const wait of [25, 60])
        for (const length of [4_000, 12_000, 20_000, 27_000, 40_000])
          for (const from of [-12_000, -8_000, -4_000, -500, 500, 1_600, 2_500, 4_000, 8_000])
            codes.add(await troubledRestart(t, { from, length, fits, wait }, trouble));
    t.true(codes.has('done'), [...codes].join());
    t.true(codes.size > 1, 'some cannot be decided');
  });
