/**
 * Puts small mistakes into the sources, one at a time, and tells which of them no test notices.
 *
 * Usage: npm run mutants [-- OPTION...]
 *   --room ROOM          only the mutants of this room (scripts/mutants/rooms.ts); may be repeated
 *   --count N            how many mutants of each room; 40 by default
 *   --seed TEXT          takes another sample
 *   --only FILE[:LINE]   all mutants of this file, or of this line of it, instead of a sample
 *   --tests PATH         the test files whose path begins so, instead of those of the room; may be repeated
 *
 * The exit code is 1 when in some room less than 90 % are noticed.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isEquivalent, readEquivalents } from './mutants/equivalents.js';
import { inOrderOf, type Mutant, mutantOf } from './mutants/mutant.js';
import { editsOf } from './mutants/mutators.js';
import { PrivateCopy } from './mutants/private-copy.js';
import { judge, type Verdict } from './mutants/room-run.js';
import { ROOMS } from './mutants/rooms.js';
import { Sources } from './mutants/sources.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const NEEDED_RATE = 0.9;

/** What a room's mutants came to. */
interface Result {
  room: string;
  verdicts: readonly Verdict[];
  /** How many mutants of the sample are known to be equivalent, and were left out. */
  equivalent: number;
  seconds: number;
}

const { values: options } = parseArgs({
  options: {
    room: { type: 'string', multiple: true, default: Object.keys(ROOMS) },
    count: { type: 'string', default: '40' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    tests: { type: 'string', multiple: true },
  },
});

/** The mutants to judge, and how many equivalent ones were passed over. */
function sampleOf(folder: string, sources: Sources): { mutants: Mutant[]; equivalent: number } {
  const all = sources.below(folder).flatMap((file) => {
    const source = sources.get(file);
    return editsOf(source).map((edit) => mutantOf(file, source.text, edit));
  });
  const wanted = all.filter(
    ({ file, line }) => options.only === undefined || [file, `${file}:${line}`].includes(options.only),
  );
  const count = options.only === undefined ? Number(options.count) : Infinity;
  const equivalents = readEquivalents();
  const mutants: Mutant[] = [];
  let equivalent = 0;
  for (const mutant of inOrderOf(options.seed, wanted)) {
    if (mutants.length >= count) break;
    if (!sources.compiles(mutant.file, mutant)) continue;
    if (isEquivalent(mutant, equivalents)) equivalent++;
    else mutants.push(mutant);
  }
  return { mutants, equivalent };
}

async function resultOf(
  name: string,
  copy: PrivateCopy,
  sources: Sources,
  signal: AbortSignal,
): Promise<Result> {
  const room = ROOMS[name];
  if (room === undefined) throw new Error(`no room is called ${name}: ${Object.keys(ROOMS).join(', ')}`);
  const from = performance.now();
  const { mutants, equivalent } = sampleOf(room.sources, sources);
  const verdicts = await judge(mutants, options.tests ?? room.tests, copy, sources, signal, (verdict) =>
    process.stderr.write(`${name}: ${verdict.noticed ? 'noticed' : 'SURVIVED'} ${described(verdict)}\n`),
  );
  return { room: name, verdicts, equivalent, seconds: (performance.now() - from) / 1000 };
}

function described({ mutant: { file, line, mutator, original, mutated }, by }: Verdict): string {
  return `${file}:${line} (${mutator}; ${by})\n    ${original}\n -> ${mutated}`;
}

function rateOf({ verdicts }: Result): number {
  return verdicts.length === 0 ? 1 : verdicts.filter(({ noticed }) => noticed).length / verdicts.length;
}

function tableOf(results: readonly Result[]): string {
  const rows = results.map((result) => [
    result.room,
    String(result.verdicts.length),
    String(result.verdicts.filter(({ noticed }) => noticed).length),
    `${Math.floor(rateOf(result) * 100)} %`,
    String(result.equivalent),
    String(Math.round(result.seconds)),
  ]);
  const lines = [['room', 'mutants', 'noticed', 'rate', 'equivalent', 'seconds'], ...rows];
  return lines
    .map((cells) =>
      cells
        .map((cell) => cell.padEnd(10))
        .join(' ')
        .trimEnd(),
    )
    .join('\n');
}

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => stop.abort(`stopped by ${signal}`));

const sources = new Sources(ROOT);
const copy = await PrivateCopy.make(ROOT);
try {
  const results: Result[] = [];
  for (const name of options.room) results.push(await resultOf(name, copy, sources, stop.signal));
  const survivors = results.flatMap(({ verdicts }) => verdicts).filter(({ noticed }) => !noticed);
  for (const survivor of survivors) process.stdout.write(`${described(survivor)}\n`);
  process.stdout.write(`seed ${options.seed}\n${tableOf(results)}\n`);
  if (results.some((result) => rateOf(result) < NEEDED_RATE)) process.exitCode = 1;
} catch (error) {
  if (error !== stop.signal.reason) throw error;
  process.stderr.write(`${stop.signal.reason}\n`);
  process.exitCode = 130;
} finally {
  await copy.remove();
  sources.close();
}
