import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import type { Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { CHANGE, type Entry, Ledger } from '../support/ledger.js';
import { mixedRequests } from '../support/mixed-requests.js';
import { stopWorkers } from '../support/stop-workers.js';
import { within } from '../support/within.js';
import { Worker } from '../support/worker.js';

const HOUR = 3_600;
const DAY = 24 * HOUR;
const LIBRARIES = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu'].map(
  (folder) => `${folder}/faketime/libfaketimeMT.so.1`,
);
const IN_FLIGHT = 20;
/** A read of a cluster that is not reached at first. */
const READ = 'list_machines';
/** Longer than a step takes. */
const HELD_MS = 800;
/** Far less than a step. */
const TIMEOUT_MS = 10 * 60_000;
/** How often a cluster is not reached before its requests are refused for a time. */
const THRESHOLD = 3;
/** The longest that they are refused, in milliseconds. */
const MAX_PAUSE_MS = 30_000;
const POLL_MS = 100;
/** Only ends what hangs, in milliseconds. */
const HANGS_MS = 120_000;

export const clock: Scenario = {
  name: 'clock',
  goal: 'a wall clock that is put forward or back by an hour or a day has no effect on requests',
  async run(run) {
    const library = LIBRARIES.find(existsSync);
    if (library === undefined)
      throw new Error('libfaketime is not installed: scripts/install-services does it');
    const folder = mkdtempSync(join(tmpdir(), 'chaos-clock-'));
    run.teardown(() => rmSync(folder, { recursive: true }));
    const offset = join(folder, 'offset');
    const set = (seconds: number) => writeFileSync(offset, `${seconds < 0 ? '' : '+'}${seconds}`);
    set(0);
    const queue = `chaos_clock_${randomUUID()}`;
    const ledger = new Ledger(run, { allows: { [READ]: ['cluster_unreachable'] } });
    const caller = await Caller.open(run, run.broker.url, queue, ledger);
    const cluster = await startSandbox();
    run.teardown(async () => cluster.stop());
    const clustersFile = join(folder, 'clusters.json');
    writeFileSync(clustersFile, JSON.stringify({ away: [`http://127.0.0.1:${cluster.fleetPort}`] }));
    const worker = Worker.start(run, {
      queue,
      url: `${run.broker.url}?heartbeat=2`,
      env: {
        ...ledger.env,
        CLUSTERS_FILE: clustersFile,
        ALLOWED_HOSTS: '127.0.0.0/8',
        LD_PRELOAD: library,
        FAKETIME_TIMESTAMP_FILE: offset,
        FAKETIME_NO_CACHE: '1',
        DONT_FAKE_MONOTONIC: '1',
      },
    });
    // libfaketime leaves them when its process runs another program, as setpriv does.
    run.teardown(() => {
      for (const name of ['faketime_shm', 'sem.faketime_sem'])
        rmSync(`/dev/shm/${name}_${worker.pid}`, { force: true });
    });
    await worker.ready;
    const read = async () => caller.ask({ action: READ, cluster: 'away' });
    const accept = cluster.cluster.fail({ kind: 'refuse' });
    for (let left = THRESHOLD; left > 0; left--) await read();
    set(-HOUR);
    await accept();
    const ended = untilCompleted(read);
    let over = false;
    const load = caller.load(IN_FLIGHT, mixedRequests(run.random), () => over);
    const steps = [HOUR, 0, -HOUR, 0, DAY, 0, -DAY, 0];
    for (const seconds of run.long ? [...steps, ...steps, ...steps] : steps) {
      const held = caller.ask({
        action: CHANGE,
        parameters: { hold_ms: HELD_MS },
        timeoutMs: TIMEOUT_MS,
      });
      await sleep(run.random.between(100, 400));
      set(seconds);
      await held;
    }
    over = true;
    await load;
    const pause = await within(HANGS_MS, ended, undefined);
    await ledger.settled();
    const exits = await stopWorkers([worker]);
    const audit = ledger.audit();
    const misses = [...ledger.misses(audit), ...exits];
    if (pause === undefined) misses.push('a cluster that could be reached again was not tried again');
    else misses.push(...pauseMisses(pause));
    if (worker.count('broker connection lost') > 0) misses.push('the connection to the broker was lost');
    const seen = new Set(ledger.effects().map(({ at }) => Math.round((at - Date.now()) / (HOUR * 1_000))));
    for (const hours of [1, -1, 24, -24])
      if (!seen.has(hours)) misses.push(`the clock of the worker was never put by ${hours} h`);
    return { figures: { requests: ledger.entries.size, ...audit, errors: ledger.errors() }, misses };
  },
};

interface Pause {
  /** Those of which the callers were told to wait. */
  refused: readonly Entry[];
  /** From the first of them until one was completed. */
  ms: number;
}

async function untilCompleted(ask: () => Promise<Entry>): Promise<Pause> {
  const begin = performance.now();
  for (const refused: Entry[] = []; ; await sleep(POLL_MS)) {
    const entry = await ask();
    if (entry.replies[0]?.outcome === 'completed') return { refused, ms: performance.now() - begin };
    refused.push(entry);
  }
}

function pauseMisses({ refused, ms }: Pause): string[] {
  const told = refused.map(({ replies: [reply] }) =>
    reply === undefined ? Number.NaN : Number(JSON.parse(reply.body).details?.retry_after_ms),
  );
  const [first = Number.NaN] = told;
  const misses: string[] = [];
  if (!told.every((each) => each > 0 && each <= MAX_PAUSE_MS))
    misses.push(`requests of a cluster that was not reached were to wait for ${Math.max(...told)} ms`);
  if (!(ms >= first))
    misses.push(`a cluster was tried again after ${Math.round(ms)} ms instead of ${first} ms`);
  return misses;
}
