import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProxy } from '../../test/support/proxy.js';
import { GIVEN_BACK } from '../../src/isolation/handler-process.js';
import type { Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { Crew } from '../support/crew.js';
import { CHANGE, DEAD_LETTERED, type Entry, Ledger } from '../support/ledger.js';

const INNOCENTS = 200;
/** The worker that has it first, and two handler processes. */
const [WORKERS, PROCESSES] = [1, 2];
/** Far longer than a worker on a busy machine waits for its turn of the processor. */
const WATCHDOG_SECONDS = 8;
const CUTS = 5;
/** The longest time between cuts, in milliseconds, so that they fall into all runs of a request; an endless loop runs the longest. */
const LONGEST_GAP_MS = { exit: 2_000, memory: 3_000, loop: 1_000 * WATCHDOG_SECONDS, check: 2_000 };
const WAYS = ['exit', 'loop', 'memory', 'check'] as const;
/** The action of chaos/plugins/poison. */
const POISON = 'chaos_poison';
const MOVED = 'request moved to the queue of suspects';
/** Only ends what hangs, in milliseconds. */
const HANGS_MS = 150_000;

export const poison: Scenario = {
  name: 'poison',
  goal: 'a request that ends or blocks its process does so three times at most, and harms no other request',
  async run(run) {
    const ways = run.long ? [...WAYS, ...WAYS, ...WAYS] : WAYS;
    const queue = `chaos_poison_${randomUUID()}`;
    const ledger = new Ledger(run, {
      // Of a change that a worker may have begun which a poison ended.
      allows: { [POISON]: ['worker_lost', DEAD_LETTERED], [CHANGE]: ['outcome_unknown'] },
    });
    const caller = await Caller.open(run, run.broker.url, queue, ledger);
    const link = await startProxy(run, run.broker);
    const crew = await Crew.start(run, 2, {
      queue,
      url: `amqp://guest:guest@127.0.0.1:${link.port}`,
      env: { ...ledger.env, WATCHDOG_SECONDS: String(WATCHDOG_SECONDS) },
      nodeOptions: ['--max-old-space-size=96'],
    });
    const poisons: Entry[] = [];
    const marks: string[] = [];
    for (const way of ways) {
      for (let left = INNOCENTS; left > 0; left--)
        await caller.send({
          action: run.random.pick([CHANGE, 'chaos_read']),
          parameters: { hold_ms: run.random.between(0, 300) },
          cluster: `cluster${run.random.between(1, 20)}`,
        });
      const mark = randomUUID();
      marks.push(mark);
      poisons.push(await caller.send({ action: POISON, parameters: { way, mark }, cluster: 'poison' }));
      for (let left = CUTS; left > 0; left--) {
        await sleep(run.random.between(50, LONGEST_GAP_MS[way]));
        link.cut();
      }
      await ledger.settled(HANGS_MS);
    }
    await crew.ready();
    const exits = await crew.stop();

    const audit = ledger.audit();
    const effects = ledger.effects();
    const lines = crew.started.flatMap((each) => each.lines);
    // A worker ends the process of a request that was given back, and the request does not end it then.
    const stopped = new Set(
      lines
        .filter(({ message, reason }) => message === 'handler process ended' && reason === GIVEN_BACK)
        .map(({ pid }) => pid),
    );
    const runs = marks.map((mark) => effects.filter(({ id }) => id === mark));
    const deaths = runs.map((each) => each.filter(({ pid }) => !stopped.has(pid)).length);
    // A cut between the end of a process that it shared and the confirm of its move: who gets it then does not know that it must
    // run alone.
    const movesLost = poisons.map(({ id, deadLetters }) => {
      const moves = lines.filter(
        ({ request, message, alone }) => request === id && message === MOVED && alone,
      );
      return Math.min(CUTS, Math.max(0, moves.length - deadLetters.length));
    });
    // A cut between the end of its last process and the confirm of its dead letter: another worker gets it, and replies too.
    const endsLost = poisons.map(({ replies, deadLetters }) =>
      Math.min(CUTS, Math.max(0, replies.length - deadLetters.length)),
    );
    const misses = [...ledger.misses(audit), ...exits];
    for (const [place, way] of ways.entries()) {
      const [outcome] = poisons[place]?.replies.map((each) => each.outcome) ?? [];
      if (outcome !== 'worker_lost') misses.push(`${way}: its caller got ${outcome ?? 'nothing'}`);
      // A connection that is lost between the confirm of its copy and its acknowledgement leaves two of it.
      const copies = poisons[place]?.deadLetters.length ?? 0;
      if (copies === 0) misses.push(`${way}: it was not dead-lettered`);
      const lost = (movesLost[place] ?? 0) + (endsLost[place] ?? 0);
      if ((deaths[place] ?? 0) > WORKERS + PROCESSES * copies + lost)
        misses.push(`${way}: it ended ${deaths[place]} processes`);
    }
    return {
      figures: {
        poisons: ways.join(' '),
        'processes ended by each': deaths.join(' '),
        'copies of each': poisons.map(({ deadLetters }) => deadLetters.length).join(' '),
        'moves of each lost by a cut': movesLost.join(' '),
        'ends of each lost by a cut': endsLost.join(' '),
        'runs stopped by a cut': runs.flat().length - deaths.reduce((sum, each) => sum + each, 0),
        'workers lost': crew.deaths.length,
        innocents: ledger.entries.size - poisons.length,
        ...audit,
        errors: ledger.errors(),
      },
      misses,
    };
  },
};
