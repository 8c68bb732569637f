import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Caller } from '../support/caller.js';
import { Crew } from '../support/crew.js';
import { CHANGE, Ledger } from '../support/ledger.js';
import { mixedRequests } from '../support/mixed-requests.js';
import type { Scenario } from '../scenario.js';

const IN_FLIGHT = 40;

export const kills: Scenario = {
  name: 'kills',
  goal: 'workers that are killed under load lose no request, and make no change twice',
  async run(run) {
    const [times, wait] = run.long ? [50, 500] : [6, 200];
    const queue = `chaos_kills_${randomUUID()}`;
    // Of a change that a killed worker may have begun.
    const ledger = new Ledger(run, { allows: { [CHANGE]: ['outcome_unknown'] } });
    const caller = await Caller.open(run, run.broker.url, queue, ledger);
    const crew = await Crew.start(run, 2, { queue, url: run.broker.url, env: ledger.env });
    let over = false;
    const load = caller.load(IN_FLIGHT, mixedRequests(run.random), () => over);
    for (let kill = 0; kill < times; kill++) {
      await sleep(wait + run.random.between(0, wait));
      await crew.kill(run.random.pick(crew.workers));
    }
    over = true;
    await load;
    await ledger.settled();
    const exits = await crew.stop();
    const audit = ledger.audit();
    return {
      figures: {
        kills: crew.deaths.length,
        requests: ledger.entries.size,
        ...audit,
        errors: ledger.errors(),
      },
      misses: [
        ...ledger.misses(audit),
        ...(crew.deaths.every((each) => each === 'SIGKILL')
          ? []
          : [`a worker ended by itself: ${crew.deaths.join(', ')}`]),
        ...exits,
      ],
    };
  },
};
