/**
 * Measures all rows of `bench/rows/`, or the named ones, one after the other. Prints for each its table and its goals, and
 * keeps the figures, with the machine and the versions, in `bench/results/`. A goal that is not met is no error.
 *
 * Usage: npm run bench [-- ROW... --rounds N --seconds S]
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { surroundings } from './machine.js';
import { goalLines, resultsFile, table } from './report.js';
import type { Measurement, Row } from './row.js';
import { brokerUrl } from './support.js';

const ROWS = new URL('rows/', import.meta.url);
const RESULTS = new URL('results/', import.meta.url);
const USAGE_ERROR = 64;

// So that the children of a row, which end with this process, also end when it is interrupted.
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

const { values, positionals: names } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '3' } },
});
const options = { brokerUrl: brokerUrl(), rounds: Number(values.rounds), seconds: Number(values.seconds) };
const existing = readdirSync(ROWS)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -'.ts'.length))
  .toSorted();
const unknown = names.filter((name) => !existing.includes(name));
if (unknown.length > 0 || !(options.rounds >= 1) || !(options.seconds > 0)) {
  process.stderr.write(
    `usage: npm run bench [-- ROW... --rounds N --seconds S]\nrows: ${existing.join(', ')}\n`,
  );
  process.exit(USAGE_ERROR);
}

const { machine, versions, commit } = await surroundings(options.brokerUrl);
print(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}`);
print(
  Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(', '),
);
print(`commit ${commit}; medians of ${options.rounds} rounds of ${options.seconds} s`);

const date = new Date();
const rows: ({ name: string; title: string } & (Measurement | { error: string }))[] = [];
for (const name of names.length > 0 ? names : existing) {
  const { row } = (await import(new URL(`${name}.ts`, ROWS).href)) as { row: Row };
  print(`\n${row.name}: ${row.title}\n`);
  try {
    const measurement = await row.measure(options);
    rows.push({ name, title: row.title, ...measurement });
    print(`${table(measurement)}\n\n${goalLines(measurement.goals)}`);
  } catch (error) {
    rows.push({ name, title: row.title, error: String(error) });
    print(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
}

const { rounds, seconds } = options;
mkdirSync(RESULTS, { recursive: true });
const file = new URL(resultsFile(date, names), RESULTS);
const results = { date, commit, machine, versions, rounds, seconds, rows };
writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
print(`\n${file.pathname}`);
const failed = rows.filter((row) => 'error' in row).map(({ name }) => name);
if (failed.length > 0) print(`failed: ${failed.join(', ')}`);
// A row may leave connections and timers behind.
process.exit(failed.length > 0 ? 1 : 0);

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
