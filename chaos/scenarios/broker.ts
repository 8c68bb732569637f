import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Proxy, startProxy } from '../../test/support/proxy.js';
import type { Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { loseConnections, takeRequestsAgain } from '../support/connection-losses.js';
import { CHANGE, Ledger } from '../support/ledger.js';
import { mixedRequests } from '../support/mixed-requests.js';
import { stopWorkers } from '../support/stop-workers.js';
import { Worker } from '../support/worker.js';

const IN_FLIGHT = 30;
const RETURN_MS = 5_000;

export const broker: Scenario = {
  name: 'broker',
  goal: 'a broker that stops, cuts, stalls or falls silent loses no request, and makes no change happen twice',
  async run(run) {
    const { random, long } = run;
    const sizes = long
      ? { restarts: 10, closes: 50, stalls: 3, stallMs: 20_000, halfOpen: 3, heartbeat: 10 }
      : { restarts: 1, closes: 2, stalls: 1, stallMs: 4_000, halfOpen: 1, heartbeat: 2 };
    const queue = `chaos_broker_${randomUUID()}`;
    // Of a change that goes on in the worker that had it, when the other one gets it.
    const ledger = new Ledger(run, { allows: { [CHANGE]: ['outcome_unknown'] } });
    const caller = await Caller.open(run, run.broker.url, queue, ledger);
    const links = [await startProxy(run, run.broker), await startProxy(run, run.broker)];
    const workers = links.map(({ port }) =>
      Worker.start(run, {
        queue,
        url: `amqp://guest:guest@127.0.0.1:${port}?heartbeat=${sizes.heartbeat}`,
        env: ledger.env,
      }),
    );
    await Promise.all(workers.map(async ({ ready }) => ready));
    const misses: string[] = [];
    const returns: number[] = [];
    const noticed: number[] = [];

    const lose = async (losing: readonly Worker[], fault: () => Promise<void> | void): Promise<number> => {
      const ms = await loseConnections(losing, fault);
      if (ms === undefined) misses.push('a worker did not notice that its connection was lost');
      return ms ?? Infinity;
    };
    const restored = async (): Promise<number> => {
      const ms = await takeRequestsAgain(workers);
      if (ms === undefined) misses.push('a worker did not take requests again');
      return ms ?? Infinity;
    };

    let over = false;
    const load = caller.load(IN_FLIGHT, mixedRequests(random), () => over);
    for (let left = sizes.restarts; left > 0; left--) {
      await sleep(random.between(200, 800));
      await lose(workers, async () => run.broker.stop());
      await run.broker.start();
      returns.push(await restored());
    }
    for (let left = sizes.closes; left > 0; left--) {
      await sleep(random.between(200, 800));
      await lose(workers, async () => void (await run.broker.ctl('close_all_connections', 'by force')));
      await restored();
    }
    for (let left = sizes.stalls; left > 0; left--) {
      await sleep(random.between(200, 800));
      for (const link of links) link.freeze();
      await sleep(sizes.stallMs);
      for (const link of links) link.thaw();
      await restored();
    }
    for (let left = sizes.halfOpen; left > 0; left--) {
      await sleep(random.between(200, 800));
      const place = random.between(0, 1);
      const [link, worker] = [links[place], workers[place]] as [Proxy, Worker];
      noticed.push(await lose([worker], () => link.freeze()));
      await restored();
    }
    over = true;
    await load;
    await ledger.settled();
    const exits = await stopWorkers(workers);
    const audit = ledger.audit();
    const heartbeatsMs = 2_000 * sizes.heartbeat;
    return {
      figures: {
        requests: ledger.entries.size,
        ...audit,
        errors: ledger.errors(),
        'ms until it consumes again, at most': Math.round(Math.max(...returns)),
        'ms until half-open is seen, at most': Math.round(Math.max(...noticed)),
      },
      misses: [...ledger.misses(audit), ...exits, ...misses],
      late: [
        ...returns
          .filter((ms) => ms > RETURN_MS)
          .map((ms) => `consumed again only ${Math.round(ms)} ms after the broker was back`),
        ...noticed
          .filter((ms) => ms > heartbeatsMs)
          .map((ms) => `a half-open link was seen after ${Math.round(ms)} ms`),
      ],
    };
  },
};
