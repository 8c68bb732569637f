import { readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Mutant } from './mutant.js';
import type { PrivateCopy } from './private-copy.js';
import { PROBE_MODULE, REACHED, withProbes } from './reach.js';
import { editedText, type Sources } from './sources.js';

/** A test file, as a run without any mistake showed it. */
interface TestFile {
  file: string;
  seconds: number;
  /** The mutants, by their index, whose place it reached. */
  reached: ReadonlySet<number>;
}

export interface Verdict {
  mutant: Mutant;
  noticed: boolean;
  /** Which test noticed it, or why none could. */
  by: string;
}

const PROBE_FILE = 'reach.mjs';
/** How long a test may take without a mistake. */
const LONGEST_TEST_MS = 10 * 60_000;
/** How much slower than without a mistake a test may be, as the machine may be busier, and what every test may take. */
const SLOWER = 3;
const LEAST_MS = 60_000;

/**
 * Runs the tests against each mutant, until one fails: only the test files that reach its place.
 * @param report gets each verdict when it is known
 * @throws Error when a test fails without any mistake
 */
export async function judge(
  mutants: readonly Mutant[],
  tests: readonly string[],
  copy: PrivateCopy,
  sources: Sources,
  signal: AbortSignal,
  report: (verdict: Verdict) => void,
): Promise<Verdict[]> {
  const files = await measure(mutants, tests, copy, sources, signal);
  const verdicts: Verdict[] = [];
  for (const [index, mutant] of mutants.entries()) {
    const reaching = inOrder(
      files.filter(({ reached }) => reached.has(index)),
      mutant,
    );
    const verdict = await verdictOf(mutant, reaching, copy, sources, signal);
    report(verdict);
    verdicts.push(verdict);
  }
  return verdicts;
}

/** The test file that has the name of the source file first, then the fastest ones. */
function inOrder(files: readonly TestFile[], mutant: Mutant): TestFile[] {
  const own = basename(mutant.file).replace(/\.ts$/, '.test.ts');
  const rank = ({ file, seconds }: TestFile) => (basename(file) === own ? 0 : seconds);
  return files.toSorted((a, b) => rank(a) - rank(b));
}

/** Runs each test file alone, on sources with probes. */
async function measure(
  mutants: readonly Mutant[],
  tests: readonly string[],
  copy: PrivateCopy,
  sources: Sources,
  signal: AbortSignal,
): Promise<TestFile[]> {
  const edited = new Set(mutants.map(({ file }) => file));
  const probe = join(copy.folder, PROBE_FILE);
  await copy.write(PROBE_FILE, PROBE_MODULE);
  for (const file of edited) {
    const places = [...mutants.entries()].filter(([, mutant]) => mutant.file === file);
    const positions = places.map(([index, { start }]) => ({ position: start, number: index }));
    await copy.write(file, withProbes(sources.get(file), positions, pathToFileURL(probe).href));
  }
  await copy.compile();
  const measured: TestFile[] = [];
  for (const file of await copy.testFiles(tests)) {
    const run = await copy.test(file, LONGEST_TEST_MS, signal);
    if (run.outcome !== 'passed')
      throw new Error(`${file} ${run.outcome} without any mistake:\n${run.output}`);
    process.stderr.write(`${file} takes ${run.seconds.toFixed(1)} s\n`);
    measured.push({ file, seconds: run.seconds, reached: await takeReached(copy) });
  }
  for (const file of edited) await copy.restore(file);
  return measured;
}

async function takeReached(copy: PrivateCopy): Promise<Set<number>> {
  const path = join(copy.folder, REACHED);
  try {
    return new Set((await readFile(path, 'utf8')).trim().split('\n').map(Number));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return new Set();
    throw error;
  } finally {
    await rm(path, { force: true });
  }
}

/** Runs one test file after the other, each with a time limit of its own, until one fails. */
async function verdictOf(
  mutant: Mutant,
  files: readonly TestFile[],
  copy: PrivateCopy,
  sources: Sources,
  signal: AbortSignal,
): Promise<Verdict> {
  if (files.length === 0) return { mutant, noticed: false, by: 'no test reaches it' };
  await copy.write(mutant.file, editedText(sources.get(mutant.file).text, mutant));
  try {
    await copy.compile();
    for (const { file, seconds } of files) {
      const { outcome, failure = outcome } = await copy.test(
        file,
        LEAST_MS + SLOWER * seconds * 1000,
        signal,
      );
      if (outcome === 'passed') continue;
      const name = basename(file, '.test.ts');
      return { mutant, noticed: true, by: `${name} › ${outcome === 'hung' ? 'hung' : failure}` };
    }
  } finally {
    await copy.restore(mutant.file);
  }
  return { mutant, noticed: false, by: `${files.length} test files pass` };
}
