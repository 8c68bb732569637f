import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Equivalent, isEquivalent, readEquivalents } from '../scripts/mutants/equivalents.js';
import { inOrderOf, type Mutant, mutantOf } from '../scripts/mutants/mutant.js';
import { editsOf, MUTATOR_NAMES } from '../scripts/mutants/mutators.js';
import { withProbes } from '../scripts/mutants/reach.js';
import { ROOMS } from '../scripts/mutants/rooms.js';
import { Sources } from '../scripts/mutants/sources.js';
import { REPOSITORY } from './support/repository.js';

/** A project whose only file has this text. */
async function openText(t: ExecutionContext, text: string) {
  const folder = await mkdtemp(join(tmpdir(), 'mutants-test-'));
  await writeFile(join(folder, 'tsconfig.json'), '{"compilerOptions": {"strict": true, "lib": ["ES2023"]}}');
  await writeFile(join(folder, 'it.ts'), text);
  const sources = new Sources(folder);
  t.teardown(async () => {
    sources.close();
    await rm(folder, { recursive: true });
  });
  return { sources, source: sources.get('it.ts') };
}

async function mutantsOf(t: ExecutionContext, text: string): Promise<Mutant[]> {
  const { source } = await openText(t, text);
  return editsOf(source).map((edit) => mutantOf('it.ts', text, edit));
}

/** For each mutator a line, and all that it makes of it. */
const EXAMPLES: Readonly<Record<string, readonly [string, ...string[]]>> = {
  'condition forced': ['if (a) b();', 'if (true) b();', 'if (false) b();'],
  'loop not entered': ['while (a) b();', 'while (false) b();'],
  'operator swapped': ['a < b;', 'a <= b;'],
  'step reversed': ['a++;', 'a--;'],
  'default always used': ['a ?? b;', 'b;'],
  'negation dropped': ['!a;', 'a;'],
  'boolean flipped': ['a = true;', 'a = false;'],
  'number changed': ['a = 10 * 60_000 + 2;', 'a = 0 + 2;', 'a = 10 * 60_000 + 3;'],
  'text emptied': ["a = 'one';", "a = '';"],
  'array emptied': ['a = [b, c];', 'a = [];'],
  'anchor dropped': ['a = /^b$/;', 'a = /b$/;', 'a = /^b/;'],
  'property left out': ['a = { b, c: 1 };', 'a = { c: 1 };', 'a = { b, };'],
  'argument left out': ['a(b, c);', 'a(b);'],
  'arguments swapped': ['a(b, c);', 'a(c, b);'],
  'method swapped': ['a.some(b);', 'a.every(b);'],
  'method call left out': ['a = b.filter(c);', 'a = b;'],
  'await dropped': ['await a;', 'void a;'],
  'statement removed': ['a();', ';'],
  'catch emptied': ['try { a(); } catch { b(); }', 'try { a(); } catch {}'],
  'finally emptied': ['try { a(); } finally { b(); }', 'try { a(); } finally {}'],
};

test('each mutator makes the mistakes that it is named for', async (t) => {
  t.deepEqual(Object.keys(EXAMPLES), MUTATOR_NAMES);
  for (const [mutator, [line, ...mistakes]] of Object.entries(EXAMPLES)) {
    const made = (await mutantsOf(t, line)).filter((mutant) => mutant.mutator === mutator);
    t.deepEqual(
      made.map(({ mutated }) => mutated),
      mistakes,
      mutator,
    );
  }
});

test('texts for people, types and log lines are left as they are, codes of errors are not', async (t) => {
  const mutants = await mutantsOf(
    t,
    `import { x } from 'x';
type T = 'a' | 1;
log.warn('it failed', { n: 1 });
throw new ActionError('its_code', 'A message', { details });
`,
  );
  t.deepEqual(
    mutants.filter(({ mutator }) => /text|number/.test(mutator)).map(({ mutated }) => mutated),
    ["throw new ActionError('', 'A message', { details });"],
  );
});

test('a mutant that does not compile is told from one that does', async (t) => {
  const { sources, source } = await openText(
    t,
    "export const a: 'x' = 'x';\nexport const b: string = 'y';\n",
  );
  const emptied = editsOf(source).filter(({ mutator }) => mutator === 'text emptied');
  t.deepEqual(
    emptied.map((edit) => sources.compiles('it.ts', edit)),
    [false, true],
  );
});

test('a sample depends on the seed, and on the mutants themselves only', async (t) => {
  const text = Array.from({ length: 20 }, (_, n) => `a(b${n}, c${n});`).join('\n');
  const mutants = await mutantsOf(t, text);
  const sample = (seed: string, all = mutants) => inOrderOf(seed, all).map(({ mutated }) => mutated);
  t.deepEqual(sample('1'), sample('1', mutants.toReversed()));
  t.notDeepEqual(sample('1'), sample('2'));
  const moved = await mutantsOf(t, `d();\n${text}`);
  const others = moved.filter(({ original }) => original !== 'd();');
  t.deepEqual(sample('1', others), sample('1'));
  t.is(others[0]?.line, 2);
});

test('a probe tells that the code around a place runs, in a block and in an arrow function', async (t) => {
  const { source } = await openText(t, 'f(() => a);\nif (b) {\n  c();\n}\nd();\n');
  const at = (text: string) => source.text.indexOf(text);
  const places = [at('a)'), at('c()'), at('d()')].map((position, number) => ({ position, number }));
  const text = withProbes(source, places, 'file:///reach.mjs');
  t.is(
    text,
    'import { reach as reach$ } from "file:///reach.mjs";reach$(2);' +
      'f(() => (reach$(0), a));\nif (b) {reach$(1);\n  c();\n}\nd();\n',
  );
});

test('each equivalent mutant is one that can be made, and has a reason', (t) => {
  const sources = new Sources(REPOSITORY);
  t.teardown(() => sources.close());
  const canBeMade = (equivalent: Equivalent) => {
    const source = sources.get(equivalent.file);
    const mutants = editsOf(source).map((edit) => mutantOf(equivalent.file, source.text, edit));
    return mutants.some((mutant) => isEquivalent(mutant, [equivalent]));
  };
  t.deepEqual(
    readEquivalents().filter((each) => !canBeMade(each) || !/\w+ \w+/.test(each.reason)),
    [],
  );
});

test('each room has sources with mutants', (t) => {
  const sources = new Sources(REPOSITORY);
  t.teardown(() => sources.close());
  for (const { sources: folder } of Object.values(ROOMS)) {
    const [first] = sources.below(folder);
    t.true(first !== undefined && sources.get(first).text.length > 0, folder);
  }
});
