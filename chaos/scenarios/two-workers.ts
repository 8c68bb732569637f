import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProxy } from '../../test/support/proxy.js';
import type { Run, Scenario } from '../scenario.js';
import { Caller, type Sending } from '../support/caller.js';
import { takeRequestsAgain } from '../support/connection-losses.js';
import { Crew } from '../support/crew.js';
import {
  type Allowed,
  type Audit,
  CHANGE,
  type Entry,
  Ledger,
  RESTART,
  UNIT_CHANGE,
} from '../support/ledger.js';
import { Restarts } from '../support/restarts.js';
import { stopWorkers } from '../support/stop-workers.js';
import { Worker } from '../support/worker.js';

const IN_FLIGHT = 40;
/** How long a link lets nothing through, in milliseconds: the broker delivers its requests to the other worker. */
const AWAY_MS = 300;
const KILLS = 10;
/** What a change may become without claims: the worker that had it before may go on with it. */
const WITHOUT = ['outcome_unknown'];
/** With claims: the store is slow. */
const WITH = ['service_unavailable'];
/** Of a unit, as too many changes of it wait. */
const WITH_UNIT = [...WITH, 'cluster_busy'];
/** Fewer than there are requests in flight, so that some changes wait for the others of their unit. */
const UNITS = 10;
/** So few that two workers would often change one at the same time. */
const FEW_UNITS = 2;
/** As many changes of one unit as two workers together let wait. */
const TURNS = 6;
/** Much longer than the claim of a lost worker lives. */
const TIMEOUT_MS = 5 * 60_000;
/** Only ends what hangs, in milliseconds. */
const HANGS_MS = 4 * 60_000;

/** The settings of workers that agree on changes in a store. */
type Claims = Record<'CLAIMS_ETCD_URL', string>;

interface Part {
  audit: Audit;
  misses: string[];
  figures?: Record<string, number>;
}

export const twoWorkers: Scenario = {
  name: 'two-workers',
  goal: 'two workers do not make one change twice; with claims both know what became of it, or find it out when its worker is lost',
  async run(run) {
    const etcd = process.env.ETCD_URL;
    if (etcd === undefined) throw new Error('ETCD_URL is not set: run it with scripts/with-services');
    const claims: Claims = { CLAIMS_ETCD_URL: etcd };
    // At the same time: they wait for most of it. The simulated cluster is in this process, which the load keeps busy.
    const links = Promise.all([closeLinks(run), closeLinks(run, claims)]);
    if (run.long) await links;
    const restarting = Promise.all([restartUnits(run), restartUnits(run, claims)]);
    const [[without, claimed], [restarts, claimedRestarts]] = await Promise.all([links, restarting]);
    // Not in CI: the claims of each worker that is killed live on for 45 s.
    const killed = run.long ? await killWorkers(run, claims) : undefined;
    const killedRestarts = run.long ? await killRestarts(run, claims) : undefined;
    const parts = {
      'without claims': without,
      'with claims': claimed,
      'restarts without claims': restarts,
      'restarts with claims': claimedRestarts,
      ...(killed && { 'workers killed': killed }),
      ...(killedRestarts && { 'workers killed during restarts': killedRestarts }),
    };
    const shown = ({ audit, figures }: Part) =>
      Object.entries({ ...figures, ...audit })
        .filter(([, count]) => count > 0)
        .map(([what, count]) => `${count} ${what}`)
        .join(' + ');
    return {
      figures: Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, shown(part)])),
      misses: Object.entries(parts).flatMap(([name, { misses }]) => misses.map((miss) => `${name}: ${miss}`)),
    };
  },
};

/** Two workers, each with a link of its own. */
interface Pair {
  caller: Caller;
  workers: Worker[];
  /** Takes its connection from one of them; resolves when it takes requests again. @returns misses */
  interrupt(): Promise<string[]>;
}

async function openPair(run: Run, ledger: Ledger, settings: Record<string, string>): Promise<Pair> {
  const { random, broker } = run;
  const queue = `chaos_two_workers_${randomUUID()}`;
  const caller = await Caller.open(run, broker.url, queue, ledger);
  const links = [await startProxy(run, broker), await startProxy(run, broker)];
  const workers = links.map(({ port }) =>
    Worker.start(run, {
      queue,
      url: `amqp://guest:guest@127.0.0.1:${port}`,
      env: { ...ledger.env, ...settings },
    }),
  );
  await Promise.all(workers.map(async ({ ready }) => ready));
  const interrupt = async () => {
    await sleep(random.between(200, 600));
    const link = random.pick(links);
    link.refuse();
    await sleep(AWAY_MS);
    link.accept();
    const again = await takeRequestsAgain(workers);
    return again === undefined ? ['a worker did not take requests again'] : [];
  };
  return { caller, workers, interrupt };
}

/** Changes under load, while now one and now the other worker loses its connection, and works on. */
async function closeLinks(run: Run, claims?: Claims): Promise<Part> {
  const allows: Allowed = claims ? { [CHANGE]: WITH, [UNIT_CHANGE]: WITH_UNIT } : { [CHANGE]: WITHOUT };
  const ledger = new Ledger(run, { allows, claims: claims !== undefined });
  // Some requests wait, so that a worker also loses some that it has not begun.
  const pair = await openPair(run, ledger, { ...claims, CONCURRENCY: '10' });
  const misses: string[] = [];
  let over = false;
  if (claims !== undefined) {
    // At the same time for both: the broker delivers to both alternately.
    const parameters = { unit: 'own.service', hold_ms: 500 };
    for (let left = TURNS; left > 0; left--) await pair.caller.send({ action: UNIT_CHANGE, parameters });
    await ledger.settled(HANGS_MS);
  }
  const changeOfUnits = () => anyChange(run, { units: FEW_UNITS, holdMs: run.random.between(500, 1_500) });
  // Without claims, workers agree on neither units nor keys.
  const next = claims === undefined ? () => change(run) : withKeys(run, changeOfUnits);
  const load = pair.caller.load(IN_FLIGHT, next, () => over);
  for (let left = run.long ? 40 : 5; left > 0; left--) misses.push(...(await pair.interrupt()));
  over = true;
  await load;
  await ledger.settled();
  misses.push(...(await stopWorkers(pair.workers)));
  const audit = ledger.audit();
  return { audit, misses: [...ledger.misses(audit), ...misses] };
}

/** A change of a unit, or one of nothing in particular. */
function anyChange(run: Run, { units, holdMs }: { units: number; holdMs: number }): Sending {
  if (run.random.pick([true, false])) return change(run);
  const unit = `unit${run.random.between(1, units)}.service`;
  return { action: UNIT_CHANGE, parameters: { unit, hold_ms: holdMs } };
}

/** Half of the changes have a key, and are asked for three times, at once or later. */
function withKeys({ random }: Run, next: () => Sending): () => Sending {
  const again: Sending[] = [];
  return () => {
    const [repeated] = random.pick([true, false]) ? again.splice(random.between(0, again.length - 1), 1) : [];
    if (repeated !== undefined) return repeated;
    const sending = next();
    if (random.pick([true, false])) return sending;
    const named = { ...sending, key: randomUUID() };
    again.push(named, named);
    return named;
  };
}

function change({ random }: Run): Sending {
  return { action: CHANGE, parameters: { hold_ms: random.between(0, 200) } };
}

/** Restarts of units, each of several seconds, while now one and now the other worker loses its connection, and works on. */
async function restartUnits(run: Run, claims?: Claims): Promise<Part> {
  const ledger = new Ledger(run, {
    allows: { [RESTART]: claims ? WITH : WITHOUT },
    claims: claims !== undefined,
  });
  const restarts = await Restarts.open(run, ledger, run.long ? 40 : 10);
  const pair = await openPair(run, ledger, { ...claims, ...restarts.env });
  await restarts.sendAll(pair.caller);
  const misses: string[] = [];
  for (let left = run.long ? 20 : 3; left > 0; left--) misses.push(...(await pair.interrupt()));
  await ledger.settled(HANGS_MS);
  misses.push(...(await stopWorkers(pair.workers)));
  return restarted(restarts, ledger, misses);
}

/** Workers are killed while they restart units: others launch what was left stopped. */
async function killRestarts(run: Run, claims: Claims): Promise<Part> {
  const { random, broker } = run;
  const queue = `chaos_killed_${randomUUID()}`;
  // Of a unit that is up its probe cannot know whether it was restarted, or was never stopped.
  const ledger = new Ledger(run, { allows: { [RESTART]: [...WITH, 'outcome_unknown'] }, claims: true });
  const restarts = await Restarts.open(run, ledger, 20);
  const caller = await Caller.open(run, broker.url, queue, ledger);
  const env = { ...ledger.env, ...claims, ...restarts.env, CONCURRENCY: '5' };
  const crew = await Crew.start(run, 2, { queue, url: broker.url, env });
  await restarts.sendAll(caller);
  for (let left = 3; left > 0; left--) {
    await sleep(random.between(1_000, 2_000));
    await crew.kill(random.pick(crew.workers));
  }
  await ledger.settled(HANGS_MS);
  return restarted(restarts, ledger, await crew.stop());
}

function restarted(restarts: Restarts, ledger: Ledger, misses: readonly string[]): Part {
  const stopped = restarts.note();
  const audit = ledger.audit();
  return {
    audit,
    misses: [
      ...ledger.misses(audit),
      ...misses,
      ...(stopped.length > 0 ? [`${stopped.length} units were left stopped`] : []),
    ],
  };
}

/**
 * Workers are killed while some changes run, and others wait. Those that had not begun run, a probe finds out what came of
 * those that had, and without a probe nobody knows it.
 */
async function killWorkers(run: Run, claims: Claims): Promise<Part> {
  const { random, broker } = run;
  const queue = `chaos_killed_${randomUUID()}`;
  const allows = { [CHANGE]: [...WITH, 'outcome_unknown'], [UNIT_CHANGE]: WITH_UNIT };
  const ledger = new Ledger(run, { allows, claims: true });
  const caller = await Caller.open(run, broker.url, queue, ledger);
  const crew = await Crew.start(run, 2, {
    queue,
    url: broker.url,
    env: { ...ledger.env, ...claims, CONCURRENCY: '10' },
  });
  let over = false;
  const next = withKeys(run, () => ({
    ...anyChange(run, { units: UNITS, holdMs: random.between(0, 300) }),
    timeoutMs: TIMEOUT_MS,
  }));
  const load = caller.load(IN_FLIGHT, next, () => over);
  for (let left = KILLS; left > 0; left--) {
    await sleep(random.between(500, 2_000));
    await crew.kill(random.pick(crew.workers));
  }
  over = true;
  await load;
  await ledger.settled(HANGS_MS);
  const exits = await crew.stop();
  const audit = ledger.audit();
  const misses = [...ledger.misses(audit), ...exits];
  const all = [...ledger.entries.values()];
  const outcomesOf = ({ replies }: Entry) => replies.map(({ outcome }) => outcome);
  const lived = new Set(ledger.begunBy(crew.workers));
  const foundOut = ledger.finishedByAnother();
  const unknown = all.filter((each) => outcomesOf(each).includes('outcome_unknown'));
  if (unknown.length === 0 || foundOut.length === 0)
    misses.push('no worker was killed in the middle of changes of both kinds');
  const ofTheLiving = unknown.filter((each) => lived.has(each)).length;
  if (ofTheLiving > 0)
    misses.push(`${ofTheLiving} outcomes were unknown, and the workers of these changes lived`);
  return { audit, misses, figures: { kills: KILLS, 'found out': foundOut.length } };
}
