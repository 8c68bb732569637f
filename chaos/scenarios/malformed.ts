import { randomUUID } from 'node:crypto';
import type { Scenario } from '../scenario.js';
import { Caller } from '../support/caller.js';
import { ProbedWorker } from '../support/holdings.js';
import { DEAD_LETTERED, type Entry, Ledger } from '../support/ledger.js';
import { MALFORMED, MAX_MESSAGE_BYTES } from '../support/malformed-messages.js';
import { mixedRequests } from '../support/mixed-requests.js';
import { stopWorkers } from '../support/stop-workers.js';

const IN_FLIGHT = 40;
/** The action of what is no request. */
const NONE = 'none';
/** A quarter of it is for the replies that are remembered, so that these are as many after the first quarter as at the end. */
const MEMORY_BUDGET_BYTES = 32 * 2 ** 20;
/** What the worker may hold more at the end than after the first quarter. */
const GROWTH_BYTES = 8 * 2 ** 20;

export const malformed: Scenario = {
  name: 'malformed',
  goal: 'messages that are no requests are dead-lettered with a reason, and the requests among them are answered',
  async run(run) {
    const each = run.long ? 10_000 : 1_000;
    const queue = `chaos_malformed_${randomUUID()}`;
    const ledger = new Ledger(run, { allows: { [NONE]: [DEAD_LETTERED, 'invalid_request', 'not read'] } });
    const caller = await Caller.open(run, run.broker.url, queue, ledger);
    const env = {
      ...ledger.env,
      MAX_MESSAGE_BYTES: String(MAX_MESSAGE_BYTES),
      MEMORY_BUDGET_BYTES: String(MEMORY_BUDGET_BYTES),
    };
    const probed = new ProbedWorker(run, { queue, url: run.broker.url, env });
    await probed.worker.ready;
    const next = mixedRequests(run.random);
    const bad: { kind: string; entry: Entry }[] = [];
    const good: Entry[] = [];
    let pairs = 0;
    const ask = async (count: number) => {
      const loop = async () => {
        while (pairs < count) {
          const kind = MALFORMED[pairs++ % MALFORMED.length];
          if (kind === undefined) return;
          const { content, properties } = kind.make(queue);
          bad.push({ kind: kind.name, entry: await caller.sendRaw(content, { action: NONE }, properties) });
          good.push(await caller.ask(next()));
        }
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, loop));
      await ledger.settled();
      return probed.holdings();
    };
    const before = await ask(each / 4);
    const after = await ask(each);
    const exits = await stopWorkers([probed.worker]);

    const audit = ledger.audit();
    const misses = [...ledger.misses(audit), ...exits];
    const kinds = new Set(
      bad
        .filter(
          ({
            entry: {
              deadLetters: [reason, ...more],
            },
          }) => reason === undefined || reason === 'none' || more.length > 0,
        )
        .map(({ kind }) => kind),
    );
    if (kinds.size > 0) misses.push(`not dead-lettered once with a reason: ${[...kinds].join(', ')}`);
    const growth = after.bytes - before.bytes;
    if (growth > GROWTH_BYTES) misses.push(`the worker holds ${growth} bytes more`);
    return {
      figures: {
        malformed: bad.length,
        kinds: MALFORMED.length,
        good: good.length,
        ...audit,
        'KiB more held': Math.round(growth / 1_024),
      },
      misses,
    };
  },
};
