import test from 'ava';
import restartUnit from '../../plugins/restart-unit/index.js';
import { Cluster } from '../../src/api/cluster.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { Clock, FleetTransport, UnitControl } from '../../src/plugin.js';
import { ClusterState } from '../../src/sandbox/cluster.js';
import type { UnitEvent } from '../../src/sandbox/unit-history.js';
import { actionRequest } from '../support/action-request.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { ManyHosts, type OrderFault } from './many-hosts.js';
import { inWords, outcomeOf } from './restart-outcome.js';
import { UNIT, onlyFleet } from './restart-world.js';

/** Numbers from 0 up to 1, always the same for a seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const LEAD_MS = 40_000;

interface Told {
  code: string;
  /** Every way in which it is false. */
  lies: string[];
  /** What happened, for people. */
  story: string;
  /** The orders that were carried out after the end of the restart. */
  later: string[];
}

/** A restart in a cluster in which things happen at random. */
async function randomRestart(seed: number): Promise<Told> {
  const random = randomOf(seed);
  const pick = <T>(first: T, ...others: T[]): T =>
    [first, ...others][Math.floor(random() * (others.length + 1))] ?? first;
  const clock = new LeapingClock();
  const zero = clock.now() + LEAD_MS;
  const fits = pick<Record<string, string>>({}, {}, { MachineID: MACHINE_A });
  const desired = pick('launched' as const, 'launched' as const, 'loaded' as const, 'inactive' as const);
  const cluster = new ClusterState({
    clock,
    delays: { change: 1_500, report: 500, linger: 4_000 },
    machines: TWO_MACHINES,
    units: [{ name: UNIT, options: service('/bin/web', fits), desiredState: desired }],
  });
  const isFaulty = random() < 0.3;
  const orderFault = (): OrderFault =>
    isFaulty && random() < 0.5 ? pick('answer lost', 'order lost', 'redirected') : undefined;
  const hosts = new ManyHosts(cluster, clock, { unitName: UNIT, faultOf: orderFault });
  const story = [`desired ${desired}, ${JSON.stringify(fits)}, faulty ${isFaulty}`];
  let hasPower = true;
  const begins: Record<string, () => () => unknown> = {
    'agent A silent': () => {
      const end = cluster.silenceAgent(MACHINE_A);
      return () => hasPower && end();
    },
    'agent B silent': () => cluster.silenceAgent(MACHINE_B),
    'etcd away': () => cluster.loseEtcd(),
    'API 1 frozen': () => hosts.freeze(0),
    'API 2 frozen': () => hosts.freeze(1),
    'all APIs frozen': () => hosts.freeze('all'),
    'API 1 cut off': () => hosts.cutOff(0),
    'API 2 cut off': () => hosts.cutOff(1),
    'power of A lost': () => {
      hasPower = false;
      cluster.powerOff(MACHINE_A);
      return () => {};
    },
    'unit unloaded': () => {
      cluster.setUnit(UNIT, { desiredState: 'inactive' });
      return () => {};
    },
  };
  const names = Object.keys(begins);
  for (let count = 1 + Math.floor(random() * 4); count > 0; count--) {
    const name = names[Math.floor(random() * names.length)] ?? '';
    // Somebody else changes the unit only before the restart.
    const at = name === 'unit unloaded' ? -random() * 35_000 : -35_000 + random() * 60_000;
    const length = pick(2_000, 5_000, 12_000, 27_000, 60_000) * (0.5 + random());
    story.push(`${name} from ${Math.round(at)} for ${Math.round(length)}`);
    clock.after(LEAD_MS + at, () => clock.after(length, begins[name]?.() ?? (() => {})));
  }
  while (clock.now() < zero || cluster.etcdIsAway) await clock.sleep(500);
  const begin = clock.now();
  const ranOn = runningOn(cluster.history(UNIT), desired === 'launched' ? [MACHINE_A] : []);
  const parts = new Map<symbol, unknown>([
    [FleetTransport, hosts],
    [Clock, clock],
    [UnitControl, onlyFleet],
  ]);
  const action = prepareAction(restartUnit, (token) => parts.get(token));
  const parameters = action.check({ unit_name: UNIT, wait_seconds: pick(10, 25, 60) });
  const warnings: string[] = [];
  const request = { parameters, cluster: new Cluster('token'), warn: (text: string) => warnings.push(text) };
  const outcome = await outcomeOf(action.run(actionRequest(request)), cluster, clock, begin);
  const end = clock.now();
  const orderedAt = hosts.applied.find(({ at }) => at >= begin)?.at ?? end;
  const runsAtFirstOrder = runningOn(
    outcome.happened.filter(({ at }) => at <= orderedAt),
    ranOn,
  );
  const runsOn = runningOn(outcome.happened, ranOn);
  await clock.sleep(150_000);
  await clock.sleep(150_000);
  const { code, text, happened } = outcome;
  const truth = inWords(happened);
  const up = outcome.machine;
  const lies: string[] = [];
  const claim = (isTrue: boolean, what: string) => {
    if (!isTrue) lies.push(what);
  };
  const ofUp = happened.filter(({ machineID }) => machineID === up);
  if (code === 'done') {
    // fleet shows the loss of a machine after up to 26 s.
    claim((up !== null && runsOn.includes(up)) || !hasPower, 'it is up');
    claim(
      ofUp.some(({ what }) => what === 'started'),
      'it was started',
    );
    if (text.includes('was restarted')) claim(/stopped on .*started on/.test(truth), 'it was restarted');
    if (text.includes('not running before')) claim(runsAtFirstOrder.length === 0, 'it was not running');
  }
  if (text.includes('was stopped')) claim(truth.includes('stopped on'), 'it was stopped');
  if (code === 'unit_did_not_stop') {
    // A silent agent leaves what fleet shows as it was.
    const isOld = text.includes('as far as fleet shows') && (!hasPower || text.includes('deactivating'));
    claim(!truth.includes('stopped on') || isOld, 'it did not stop');
  }
  if (code === 'unit_stopped') claim(runsOn.length === 0, 'it is stopped');
  if (/was not changed/.test(text)) claim(hosts.orders === 0, 'it was not changed');
  claim(code !== 'unit_changed_meanwhile', 'somebody else changed it');
  claim(!['unit_failed', 'unit_not_found'].includes(code), code);
  if (code === 'unit_flaps') claim(/started on .*stopped on/.test(truth), 'it flaps');
  const later = hosts.applied.filter(({ at }) => at > end).map(({ state }) => state);
  for (const state of later)
    claim(text.includes(`has not answered the order to set it to ${state}`), `no later ${state}`);
  if (hosts.orders > 0 && !['launched', desired].includes(outcome.desiredState ?? ''))
    claim(/NOW (BE )?STOPPED|the order to set it to loaded/.test(text), `it is left ${outcome.desiredState}`);
  story.push(`${code}: ${text}`, `ran on ${ranOn.map((id) => id[0]).join()}; in truth ${truth}`);
  story.push(JSON.stringify(hosts.applied.map(({ state, at }) => `${state} ${at - begin}`)));
  return { code, lies, later, story: `seed ${seed}: ${lies.join('; ')}\n${story.join('\n')}` };
}

/** The machines on which a unit runs after these events. */
function runningOn(events: readonly UnitEvent[], before: readonly string[]): string[] {
  const running = new Set(before);
  for (const { what, machineID } of events)
    if (what === 'started') running.add(machineID);
    else running.delete(machineID);
  return [...running];
}

const HISTORIES = 500;

test('whatever happens to agents, etcd and hosts of the fleet API, what a restart says is true', async (t) => {
  const codes = new Map<string, number>();
  const untrue: string[] = [];
  let late = 0;
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const { code, lies, later, story } = await randomRestart(seed);
    codes.set(code, (codes.get(code) ?? 0) + 1);
    if (lies.length > 0) untrue.push(story);
    if (code === 'done' && later.includes('loaded')) late++;
  }
  t.deepEqual(untrue, []);
  for (const code of ['done', 'outcome_unknown', 'cluster_incomplete']) t.true(codes.has(code), code);
  t.true(late > 0, 'a late stop is among them');
});
