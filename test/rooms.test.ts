import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import test from 'ava';
import { REPOSITORY } from './support/repository.js';

/** An import of one room by another. */
interface Import {
  file: string;
  from: string;
  to: string;
}

/** The room of a file: its folder in src, or the file itself if it is directly in src. */
function roomOf(path: string): string {
  const [first = '', second] = relative(join(REPOSITORY, 'src'), path).split('/');
  return second === undefined ? first.replace(/\.[jt]s$/, '') : first;
}

async function importsOfSource(): Promise<Import[]> {
  const names = await readdir(join(REPOSITORY, 'src'), { recursive: true });
  const files = names.filter((name) => name.endsWith('.ts')).map((name) => join(REPOSITORY, 'src', name));
  const imports = await Promise.all(files.map(async (file) => importsOf(file, await readFile(file, 'utf8'))));
  return imports.flat();
}

function importsOf(file: string, text: string): Import[] {
  return [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']+)'/g)]
    .map(([, path = '']) => ({ file, from: roomOf(file), to: roomOf(join(dirname(file), path)) }))
    .filter(({ from, to }) => from !== to);
}

/** What each room may import, as the table "Who may import what" of docs/architecture.md says. */
async function allowed(): Promise<Map<string, Set<string>>> {
  const page = await readFile(join(REPOSITORY, 'docs/architecture.md'), 'utf8');
  const [, section = ''] = page.split('### Who may import what');
  const rows = [...(section.split('\n## ')[0]?.matchAll(/^\| `([\w-]+)` \| (.+) \|$/gm) ?? [])];
  return new Map(
    rows.map(([, room = '', rooms = '']) => [
      room,
      new Set([...rooms.matchAll(/`([\w-]+)`/g)].map(([, each = '']) => each)),
    ]),
  );
}

function forbidden(imports: readonly Import[], rules: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  return imports
    .filter(({ from, to }) => rules.get(from)?.has(to) !== true)
    .map(({ file, from, to }) => `${relative(REPOSITORY, file)}: ${from} must not import ${to}`);
}

test('each room imports only what docs/architecture.md allows', async (t) => {
  t.deepEqual(forbidden(await importsOfSource(), await allowed()), []);
});

test('docs/architecture.md names every room once, and allows only imports that are used', async (t) => {
  const rules = await allowed();
  const imports = await importsOfSource();
  const rooms = new Set(imports.flatMap(({ from, to }) => [from, to]));
  t.deepEqual([...rules.keys()].toSorted(), [...rooms].toSorted());
  for (const [room, others] of rules) {
    const used = new Set(imports.filter(({ from }) => from === room).map(({ to }) => to));
    t.deepEqual([...others].toSorted(), [...used].toSorted(), room);
  }
});

test('a forbidden import is found in every form', async (t) => {
  const file = join(REPOSITORY, 'src/core/runner.ts');
  for (const text of [
    "import { x } from '../rpc/envelope.js';",
    "import type { X } from '../rpc/envelope.js';",
    "export { x } from '../rpc/envelope.js';",
    "const { x } = await import('../rpc/envelope.js');",
    "import '../rpc/envelope.js';",
    "import { \n, \n  x } from '../rpc/envelope.js';",
  ])
    t.deepEqual(forbidden(importsOf(file, text), await allowed()), [
      'src/core/runner.ts: core must not import rpc',
    ]);
});

test('plugins import nothing of the service but src/plugin.ts, and no other plugin', async (t) => {
  const names = await readdir(join(REPOSITORY, 'plugins'), { recursive: true });
  for (const name of names.filter((each) => each.endsWith('.ts'))) {
    const file = join(REPOSITORY, 'plugins', name);
    const text = await readFile(file, 'utf8');
    for (const [, path = ''] of text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']+)'/g)) {
      const target = relative(REPOSITORY, join(dirname(file), path));
      const own = target.startsWith(`plugins/${name.split('/')[0]}/`);
      t.true(own || target === 'src/plugin.js', `${name} imports ${target}`);
    }
  }
});
