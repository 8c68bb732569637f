/**
 * Tests the guarantees of the service by faults: runs scenarios against real workers on a real RabbitMQ, and prints a table.
 * Ends with 1 when a goal was missed.
 *
 * Usage: npm run chaos -- [--scenario NAME]... [--long] [--times] [--seed N] [--broken]
 *   --long    the full size, instead of that of CI
 *   --times   limits of time count too; on a machine that does nothing else
 *   --broken  runs each scenario on a build in which its guarantee is broken on purpose, and expects it to notice
 */
import { parseArgs } from 'node:util';
import { runChaos } from './run-chaos.js';
import { SCENARIOS } from './scenarios.js';

const { values } = parseArgs({
  options: {
    scenario: { type: 'string', multiple: true, default: [] },
    long: { type: 'boolean', default: false },
    times: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    broken: { type: 'boolean', default: false },
  },
});
const unknown = values.scenario.filter((name) => !SCENARIOS.some((each) => each.name === name));
if (unknown.length > 0)
  throw new Error(
    `no scenario ${unknown.join(', ')}; there are ${SCENARIOS.map(({ name }) => name).join(', ')}`,
  );
const chosen = SCENARIOS.filter(({ name }) => values.scenario.length === 0 || values.scenario.includes(name));
const { long, times, broken } = values;
const exitCode = await runChaos(chosen, { long, times, broken, seed: Number(values.seed) });
// A scenario that did not end in time may still go on.
process.exit(exitCode);
