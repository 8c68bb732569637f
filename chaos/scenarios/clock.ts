import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { brokenPromises, CHANGE, Ledger } from '../support/ledger.js';
import { mixedRequests } from '../support/mixed-requests.js';
import { stopWorkers } from '../support/stop-workers.js';
import { Worker } from '../support/worker.js';

const HOUR = 3_600;
const DAY = 24 * HOUR;
const LIBRARIES = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu'].map(
  (folder) => `${folder}/faketime/libfaketimeMT.so.1`,
);
const IN_FLIGHT = 20;
/** Longer than a step takes. */
const HELD_MS = 1_500;
/** Far less than a step. */
const TIMEOUT_MS = 10 * 60_000;

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
    const ledger = new Ledger(run);
    const caller = await Caller.open(run, run.broker.url, queue, ledger);
    const worker = Worker.start(run, {
      queue,
      url: `${run.broker.url}?heartbeat=2`,
      env: {
        ...ledger.env,
        LD_PRELOAD: library,
        FAKETIME_TIMESTAMP_FILE: offset,
        FAKETIME_NO_CACHE: '1',
        DONT_FAKE_MONOTONIC: '1',
      },
    });
    await worker.ready;
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
    await ledger.settled();
    const exits = await stopWorkers([worker]);
    const audit = ledger.audit();
    const misses = [...brokenPromises(audit), ...exits];
    const failed = ledger.entries.size - audit.completed;
    if (failed > 0) misses.push(`${failed} requests were not completed: ${ledger.errors()}`);
    if (worker.count('broker connection lost') > 0) misses.push('the connection to the broker was lost');
    const seen = new Set(ledger.effects().map(({ at }) => Math.round((at - Date.now()) / (HOUR * 1_000))));
    for (const hours of [1, -1, 24, -24])
      if (!seen.has(hours)) misses.push(`the clock of the worker was never put by ${hours} h`);
    return { figures: { requests: ledger.entries.size, ...audit, errors: ledger.errors() }, misses };
  },
};
