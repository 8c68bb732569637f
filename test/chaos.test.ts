import { readFile } from 'node:fs/promises';
import test from 'ava';
import { BROKEN } from '../chaos/broken.js';
import { runScenario } from '../chaos/run-scenario.js';
import { SCENARIOS } from '../chaos/scenarios.js';
import { buildService, replaced } from '../chaos/support/built-service.js';
import { noteSkipped } from './support/note-skipped.js';
import { startOwnBroker } from './support/own-broker.js';

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
      const text = await readFile(new URL(`../${file}`, import.meta.url), 'utf8');
      t.not(replaced(text, file, change), text);
    }
  }
  const without = SCENARIOS.map(({ name }) => name).filter(
    (name) => !BROKEN.some(({ scenario }) => scenario === name),
  );
  t.deepEqual(without, []);
});
