import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProxy } from '../../test/support/proxy.js';
import type { Run, Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { takeRequestsAgain } from '../support/connection-losses.js';
import { type Audit, brokenPromises, CHANGE, Ledger } from '../support/ledger.js';
import { stopWorkers } from '../support/stop-workers.js';
import { Worker } from '../support/worker.js';

const IN_FLIGHT = 40;
/** How long a link lets nothing through, in milliseconds: the broker delivers its requests to the other worker. */
const AWAY_MS = 300;

export const twoWorkers: Scenario = {
  name: 'two-workers',
  goal: 'two workers do not make one change twice; with claims both know what became of it, while its worker lives',
  async run(run) {
    const etcd = process.env.ETCD_URL;
    if (etcd === undefined) throw new Error('ETCD_URL is not set: run it with scripts/with-services');
    const without = await closeLinks(run, {});
    const claimed = await closeLinks(run, { CLAIMS_ETCD_URL: etcd });
    const misses = [
      ...without.misses,
      ...claimed.misses.map((miss) => `with claims: ${miss}`),
      ...(claimed.audit.unknown > 0
        ? [`with claims: ${claimed.audit.unknown} outcomes were unknown, and all workers lived`]
        : []),
    ];
    return {
      figures: {
        ...without.audit,
        ...Object.fromEntries(
          Object.entries(claimed.audit).map(([what, count]) => [`${what} with claims`, count]),
        ),
      },
      misses,
    };
  },
};

/** Changes under load, while now one and now the other worker loses its connection, and works on. */
async function closeLinks(
  run: Run,
  settings: Record<string, string>,
): Promise<{ audit: Audit; misses: string[] }> {
  const { random, broker } = run;
  const queue = `chaos_two_workers_${randomUUID()}`;
  const ledger = new Ledger(run);
  const caller = await Caller.open(run, broker.url, queue, ledger);
  const links = [await startProxy(run, broker), await startProxy(run, broker)];
  const workers = links.map(({ port }) =>
    Worker.start(run, {
      queue,
      url: `amqp://guest:guest@127.0.0.1:${port}`,
      // Some requests wait, so that a worker also loses some that it has not begun.
      env: { ...ledger.env, ...settings, CONCURRENCY: '10' },
    }),
  );
  await Promise.all(workers.map(async ({ ready }) => ready));
  const misses: string[] = [];
  let over = false;
  const next = () => ({ action: CHANGE, parameters: { hold_ms: random.between(0, 200) } });
  const load = caller.load(IN_FLIGHT, next, () => over);
  for (let left = run.long ? 40 : 5; left > 0; left--) {
    await sleep(random.between(200, 600));
    const link = random.pick(links);
    link.refuse();
    await sleep(AWAY_MS);
    link.accept();
    if ((await takeRequestsAgain(workers)) === undefined) misses.push('a worker did not take requests again');
  }
  over = true;
  await load;
  await ledger.settled();
  const exits = await stopWorkers(workers);
  const audit = ledger.audit();
  return { audit, misses: [...brokenPromises(audit), ...exits, ...misses] };
}
