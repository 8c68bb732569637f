import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProxy } from '../../test/support/proxy.js';
import type { Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { CHANGE, Ledger } from '../support/ledger.js';
import { mixedRequests } from '../support/mixed-requests.js';
import { stopWorkers } from '../support/stop-workers.js';
import { within } from '../support/within.js';
import { Worker } from '../support/worker.js';

const IN_FLIGHT = 30;
const GRACE_SECONDS = 2;
const EXIT_MS = (GRACE_SECONDS + 5) * 1_000;
/** Only ends what hangs, in milliseconds. */
const HANGS_MS = 90_000;
/** Much longer than the grace time. */
const LONG_MS = 60_000;

/** What goes on while the worker is asked to stop. */
const SITUATIONS = ['load', 'long changes', 'memory alarm', 'broker away'] as const;

export const sigterm: Scenario = {
  name: 'sigterm',
  goal: 'a worker that is asked to stop ends in time with 0, says what it leaves, and the rest is answered or goes to another',
  async run(run) {
    const { random, broker } = run;
    const rounds = run.long ? 20 : SITUATIONS.length;
    const queue = `chaos_sigterm_${randomUUID()}`;
    // Of a change that has begun. What has not begun is not `cancelled`: another worker can take it.
    const ledger = new Ledger(run, { allows: { [CHANGE]: ['outcome_unknown'] } });
    const caller = await Caller.open(run, broker.url, queue, ledger);
    const link = await startProxy(run, broker);
    const start = async () => {
      const worker = Worker.start(run, {
        queue,
        url: `amqp://guest:guest@127.0.0.1:${link.port}`,
        // Some requests wait, so that there are some to requeue.
        env: { ...ledger.env, SHUTDOWN_GRACE_SECONDS: String(GRACE_SECONDS), CONCURRENCY: '8' },
      });
      await worker.ready;
      return worker;
    };
    const setAlarm = async (on: boolean) => {
      await broker.ctl('set_vm_memory_high_watermark', ...(on ? ['absolute', '1'] : ['0.4']));
    };

    const misses: string[] = [];
    const late: string[] = [];
    const took: number[] = [];
    const left: number[] = [];
    let over = false;
    const load = caller.load(IN_FLIGHT, mixedRequests(random), () => over);
    for (let round = 0; round < rounds; round++) {
      const situation = SITUATIONS[round % SITUATIONS.length];
      const worker = await start();
      await sleep(random.between(200, 1_000));
      if (situation === 'long changes')
        for (const stubborn of [true, false])
          await caller.send({ action: CHANGE, parameters: { hold_ms: LONG_MS, stubborn } });
      if (situation === 'memory alarm') await setAlarm(true);
      await sleep(random.between(50, 300));
      if (situation === 'broker away') link.refuse();
      const begin = performance.now();
      worker.kill('SIGTERM');
      const exit = await within(HANGS_MS, worker.ended, 'no end');
      const ms = performance.now() - begin;
      took.push(ms);
      if (exit !== 0) misses.push(`${situation}: a worker ended with ${exit}`);
      if (ms > EXIT_MS) late.push(`${situation}: a worker ended after ${Math.round(ms)} ms`);
      const { clean, unanswered } = lastWords(worker);
      if (clean === undefined) misses.push(`${situation}: a worker did not say how it ended`);
      if (clean === true && unanswered.size > 0)
        misses.push(`${situation}: a worker ended clean and left ${unanswered.size} requests unanswered`);
      // On a busy machine the replies may come too late.
      if (clean === false && (situation === 'load' || situation === 'long changes'))
        late.push(`${situation}: a worker did not end clean`);
      left.push(unanswered.size);
      if (situation === 'memory alarm') await setAlarm(false);
      if (situation === 'broker away') link.accept();
      // No other worker runs now.
      const silent = await ledger.unanswered(
        ledger.begunBy([worker]).filter(({ id }) => !unanswered.has(id)),
        HANGS_MS,
      );
      if (silent.length > 0)
        misses.push(
          `${situation}: a worker said nothing of ${silent.length} changes that it left unanswered`,
        );
    }
    const last = await start();
    over = true;
    await load;
    await ledger.settled();
    const exits = await stopWorkers([last]);
    const audit = ledger.audit();
    return {
      figures: {
        stops: rounds,
        requests: ledger.entries.size,
        ...audit,
        errors: ledger.errors(),
        'left unanswered, each said': left.reduce((sum, each) => sum + each, 0),
        'ms until the end, at most': Math.round(Math.max(...took)),
      },
      misses: [...ledger.misses(audit), ...misses, ...exits],
      late,
    };
  },
};

/** What a worker logged at its end. */
function lastWords({ lines }: Worker): { clean: unknown; unanswered: Set<unknown> } {
  const unanswered = lines.filter(({ message }) => message === 'request unanswered');
  return {
    clean: lines.find(({ message }) => message === 'shut down')?.clean,
    unanswered: new Set(unanswered.map(({ request }) => request)),
  };
}
