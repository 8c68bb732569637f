import { readFile } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import { BROKEN } from '../chaos/broken.js';
import { runScenario } from '../chaos/run-scenario.js';
import { SCENARIOS } from '../chaos/scenarios.js';
import { buildService, replaced } from '../chaos/support/built-service.js';
import {
  CHANGE,
  type Effect,
  type Entry,
  type Expected,
  Ledger,
  UNIT_CHANGE,
} from '../chaos/support/ledger.js';
import { noteSkipped } from './support/note-skipped.js';
import { startOwnBroker } from './support/own-broker.js';
import { inRepository } from './support/repository.js';

const SEED = 1;

const rabbitmq = process.env.RABBITMQ_URL ?? noteSkipped('the guarantees under faults', 'RABBITMQ_URL');
if (rabbitmq !== undefined) {
  const started = Promise.all([buildService(), startOwnBroker()]);
  test.after.always(async () => {
    const [service, { remove }] = await started;
    await Promise.all([service.remove(), remove()]);
  });
  for (const scenario of SCENARIOS)
    test.serial(`${scenario.name}: ${scenario.goal}`, async (t) => {
      const [service, { broker }] = await started;
      const { misses } = await runScenario(scenario, { service, broker, long: false, seed: SEED });
      t.deepEqual(misses, []);
    });
}

test('each scenario can run on a build in which its guarantee is broken', async (t) => {
  for (const { scenario, replacements } of BROKEN) {
    t.true(
      SCENARIOS.some(({ name }) => name === scenario),
      scenario,
    );
    for (const { file, ...change } of replacements) {
      const text = await readFile(inRepository(file), 'utf8');
      t.not(replaced(text, file, change), text);
    }
  }
  const without = SCENARIOS.map(({ name }) => name).filter(
    (name) => !BROKEN.some(({ scenario }) => scenario === name),
  );
  t.deepEqual(without, []);
});

test('with claims, any two replies to a change that differ contradict each other', (t) => {
  for (const outcome of ['outcome_unknown', 'worker_lost', 'answer_too_large']) {
    const ledger = ledgerOf(t, { claims: true });
    reply(ledger, 'done', 'completed');
    reply(ledger, 'done', outcome);
    t.is(ledger.audit().contradictory, 1, outcome);
  }
  const ledger = ledgerOf(t, { claims: true });
  reply(ledger, 'done', 'completed');
  reply(ledger, 'done', 'completed');
  t.is(ledger.audit().contradictory, 0);
  reply(ledger, 'unknown', 'outcome_unknown', 'one');
  reply(ledger, 'unknown', 'outcome_unknown', 'another');
  t.is(ledger.audit().contradictory, 1);
});

test('without claims, only an unknown outcome may stand beside another reply to a change', (t) => {
  const ledger = ledgerOf(t);
  reply(ledger, 'done', 'completed');
  reply(ledger, 'done', 'outcome_unknown');
  t.is(ledger.audit().contradictory, 0);
  reply(ledger, 'done', 'worker_lost');
  t.is(ledger.audit().contradictory, 1);
});

test('requests with one key are one change: it is made once, and only its final replies are compared', (t) => {
  const ledger = ledgerOf(t, { claims: true });
  const made = (id: string) =>
    ledger.note((['begin', 'end'] as const).map((phase) => ({ id, phase, pid: 1, parent: 0, at: 0 })));
  for (const id of ['first', 'second', 'third']) entryOf(ledger, id, CHANGE, 'k');
  made('first');
  reply(ledger, 'first', 'completed', 'one');
  reply(ledger, 'second', 'completed', 'one');
  reply(ledger, 'third', 'service_unavailable');
  t.like(ledger.audit(), { doneTwice: 0, notDoneToldDone: 0, doneToldFailed: 0, contradictory: 0 });
  reply(ledger, 'third', 'completed', 'another');
  made('second');
  t.like(ledger.audit(), { doneTwice: 1, contradictory: 1 });
});

test('changes of one unit overlap when one begins before the other has ended', (t) => {
  const overlapping = (...effects: [id: string, phase: Effect['phase'], unit: string][]) => {
    const ledger = ledgerOf(t);
    ledger.note(effects.map(([id, phase, unit]) => ({ id, phase, unit, pid: 1, parent: 0, at: 0 })));
    return ledger.audit().overlapping;
  };
  t.is(overlapping(['a', 'begin', 'u'], ['a', 'end', 'u'], ['b', 'begin', 'u'], ['b', 'end', 'u']), 0);
  t.is(overlapping(['a', 'begin', 'u'], ['a', 'stop', 'u'], ['b', 'begin', 'u'], ['b', 'end', 'u']), 0);
  t.is(overlapping(['a', 'begin', 'u'], ['b', 'begin', 'v'], ['b', 'end', 'v'], ['a', 'end', 'u']), 0);
  t.is(overlapping(['a', 'begin', 'u'], ['b', 'begin', 'u'], ['b', 'end', 'u'], ['a', 'end', 'u']), 1);
  t.is(overlapping(['a', 'begin', 'u'], ['b', 'begin', 'u'], ['a', 'end', 'u']), 1);
  // The worker of the first one was killed.
  t.is(overlapping(['a', 'begin', 'u'], ['b', 'begin', 'u'], ['b', 'end', 'u']), 0);
});

test('an outcome that the requests of an action may not have is a miss', (t) => {
  const ledger = ledgerOf(t, { allows: { [CHANGE]: ['outcome_unknown'] } });
  reply(ledger, 'allowed', 'outcome_unknown');
  t.deepEqual(ledger.misses(ledger.audit()), []);
  reply(ledger, 'one', 'cancelled', 'the first');
  reply(ledger, 'two', 'cancelled', 'the second');
  reply(ledger, 'three', 'outcome_unknown', 'lost', UNIT_CHANGE);
  entryOf(ledger, 'four').deadLetters.push('no reason');
  t.deepEqual(ledger.misses(ledger.audit()), [
    `2 requests of ${CHANGE} became cancelled: the first`,
    `1 requests of ${UNIT_CHANGE} became outcome_unknown: lost`,
    `1 requests of ${CHANGE} became dead-lettered: no reason`,
  ]);
});

function ledgerOf(t: ExecutionContext, expected?: Expected): Ledger {
  return new Ledger({ teardown: (cleanUp) => t.teardown(cleanUp) }, expected);
}

/** The request with this id, which is sent if it was not yet. */
function entryOf(ledger: Ledger, id: string, action = CHANGE, key?: string): Entry {
  const entry: Entry = ledger.entries.get(id) ?? {
    id,
    action,
    key,
    sending: 'confirmed',
    replies: [],
    deadLetters: [],
  };
  ledger.entries.set(id, entry);
  return entry;
}

function reply(ledger: Ledger, id: string, outcome: string, body = '', action = CHANGE): void {
  entryOf(ledger, id, action).replies.push({ outcome, body });
}
