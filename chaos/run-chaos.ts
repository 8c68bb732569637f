import { cpus, totalmem } from 'node:os';
import { type OwnBroker, startOwnBroker } from '../test/support/own-broker.js';
import { BROKEN } from './broken.js';
import { runScenario } from './run-scenario.js';
import type { Outcome, Scenario } from './scenario.js';
import { type BuiltService, buildService } from './support/built-service.js';

export interface Options {
  long: boolean;
  /** Whether limits of time count. */
  times: boolean;
  broken: boolean;
  seed: number;
}

/** Runs scenarios one after the other and prints a row for each. @returns the exit code */
export async function runChaos(scenarios: readonly Scenario[], options: Options): Promise<number> {
  const { long, times, broken, seed } = options;
  process.stdout.write(
    `${long ? 'long' : 'short'}, seed ${seed}, Node ${process.version}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB\n\n`,
  );
  const { broker, remove } = await startOwnBroker();
  try {
    const work = broken ? runBroken : runWhole;
    const passed = await work(scenarios, { long, times, broker, seed });
    return passed ? 0 : 1;
  } finally {
    await remove();
  }
}

interface Setting {
  long: boolean;
  times: boolean;
  broker: OwnBroker;
  seed: number;
}

async function runWhole(scenarios: readonly Scenario[], setting: Setting): Promise<boolean> {
  const service = await buildService();
  try {
    let passed = true;
    for (const scenario of scenarios) {
      const missed = await missesOf(scenario, service, setting);
      if (missed.length > 0) passed = false;
    }
    return passed;
  } finally {
    await service.remove();
  }
}

/** @returns whether each scenario noticed each way in which its guarantee is broken */
async function runBroken(scenarios: readonly Scenario[], setting: Setting): Promise<boolean> {
  let passed = true;
  for (const scenario of scenarios) {
    for (const { scenario: name, what, misses, replacements } of BROKEN) {
      if (name !== scenario.name) continue;
      const service = await buildService(replacements);
      try {
        const missed = await missesOf(scenario, service, setting);
        const noticed =
          missed.length > 0 && (misses ?? []).every((text) => missed.some((miss) => miss.includes(text)));
        if (!noticed) passed = false;
        process.stdout.write(`  ${noticed ? 'noticed' : 'NOT NOTICED'}: ${what}\n`);
      } finally {
        await service.remove();
      }
    }
  }
  return passed;
}

/** Runs a scenario and prints its row. @returns the goals that it missed */
async function missesOf(scenario: Scenario, service: BuiltService, setting: Setting): Promise<string[]> {
  const begin = performance.now();
  let outcome: Outcome;
  try {
    outcome = await runScenario(scenario, { ...setting, service });
  } catch (error) {
    outcome = {
      figures: {},
      misses: [error instanceof Error ? (error.stack ?? error.message) : String(error)],
    };
  }
  const { figures, misses, late = [] } = outcome;
  const missed = setting.times ? [...misses, ...late] : [...misses];
  const seconds = Math.round((performance.now() - begin) / 1_000);
  const columns = [
    scenario.name.padEnd(14),
    missed.length === 0 ? 'held  ' : 'MISSED',
    `${seconds} s`.padStart(6),
  ];
  const shown = Object.entries(figures).map(([name, value]) => `${value} ${name}`);
  process.stdout.write(`${columns.join('  ')}  ${shown.join(', ')}\n`);
  for (const miss of misses) process.stdout.write(`  missed: ${miss}\n`);
  for (const each of late) process.stdout.write(`  late: ${each}\n`);
  return missed;
}
