import { randomUUID } from 'node:crypto';
import type { Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { type Holdings, ProbedWorker } from '../support/holdings.js';
import { Ledger } from '../support/ledger.js';
import { stopWorkers } from '../support/stop-workers.js';

const IN_FLIGHT = 60;
/**
 * Replies of this size fill the memory of replies soon: half of it is 500 of them, and whenever it is full the older half is
 * dropped. So what the worker holds is the least of some samples that are less than 500 requests apart.
 */
const REPLY_BYTES = 8 * 1_024;
const SETTINGS = { MAX_MESSAGE_BYTES: '65536', MEMORY_BUDGET_BYTES: String(32 * 1024 * 1024) };
const SAMPLES = 8;
const BETWEEN_SAMPLES = 100;
const GROWTH = 0.05;
/** How many sockets, timers or listeners more may be there at the moment: a leak leaves one for each of thousands of requests. */
const TOLERANCE = 10;

export const million: Scenario = {
  name: 'million',
  goal: 'a worker holds no more after a million requests (in CI 20,000) than after the first few thousand',
  async run(run) {
    const [warmUp, total] = run.long ? [50_000, 1_000_000] : [6_000, 20_000];
    const queue = `chaos_million_${randomUUID()}`;
    const ledger = new Ledger(run);
    const caller = await Caller.open(run, run.broker.url, queue, ledger);
    const probed = new ProbedWorker(run, { queue, url: run.broker.url, env: SETTINGS });
    await probed.worker.ready;
    let sent = 0;
    const ask = async (count: number) => {
      const loop = async () => {
        while (sent < count) {
          sent++;
          const cluster = `cluster${run.random.between(1, 50)}`;
          const entry = await caller.ask({
            action: 'chaos_read',
            parameters: { bytes: REPLY_BYTES },
            cluster,
          });
          // The ledger would be large. What remains is a miss.
          if (entry.replies[0]?.outcome === 'completed') ledger.entries.delete(entry.id);
        }
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, loop));
    };
    const holdingsAfter = async (count: number): Promise<Holdings> => {
      const samples: Holdings[] = [];
      for (let left = SAMPLES - 1; left >= 0; left--) {
        await ask(count - left * BETWEEN_SAMPLES);
        samples.push(await probed.holdings());
      }
      const least = (of: (each: Holdings) => number) => Math.min(...samples.map(of));
      return {
        bytes: least(({ bytes }) => bytes),
        sockets: least(({ sockets }) => sockets),
        timers: least(({ timers }) => timers),
        listeners: least(({ listeners }) => listeners),
      };
    };
    const before = await holdingsAfter(warmUp);
    const after = await holdingsAfter(total);
    const exits = await stopWorkers([probed.worker]);
    const growth = after.bytes / before.bytes - 1;
    const warnings = probed.worker.count('Node.js warning');
    const misses = [...ledger.misses(ledger.audit()), ...exits];
    if (growth > GROWTH) misses.push(`its memory has grown by ${(growth * 100).toFixed(1)} %`);
    for (const what of ['sockets', 'timers', 'listeners'] as const)
      if (after[what] > before[what] + TOLERANCE)
        misses.push(`it has ${after[what]} ${what}, and had ${before[what]}`);
    if (warnings > 0) misses.push(`it logged ${warnings} warnings of Node.js`);
    const megabytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
    return {
      figures: {
        requests: sent,
        MiB: `${megabytes(before.bytes)} -> ${megabytes(after.bytes)}`,
        sockets: `${before.sockets} -> ${after.sockets}`,
        timers: `${before.timers} -> ${after.timers}`,
        listeners: `${before.listeners} -> ${after.listeners}`,
      },
      misses,
    };
  },
};
