import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { fleetUnitOptions } from '../../src/api/fleet-unit-text.js';
import { unitFileText } from '../../src/api/unit-file.js';

const service = (value: string) => [{ section: 'Service', name: 'A', value }];

test('a continued value keeps its backslashes and its lines, as fleet keeps them', (t) => {
  for (const [text, value] of [
    ['[Service]\nA = one \\\n  two\n', 'one \\\n  two'],
    ['[Service]\nA=one  "two  three" \n', 'one  "two  three"'],
    ['[Service]\nA=one \\\n\n', 'one \\\n'],
    ['[Service]\r\nA=one\r\n', 'one'],
    ['[Service]\nA=\n', ''],
    ['\uFEFF# first\n[Service]\n\n; second\nA=b=c', 'b=c'],
  ] as const)
    t.deepEqual(fleetUnitOptions(text), { options: service(value), problems: [] }, JSON.stringify(text));
});

test('what fleet refuses is named with its line', (t) => {
  for (const [text, line] of [
    ['[Service\nA=b\n', 1],
    ['[Service] more\n', 1],
    ['[Service]\nA=b\nC\n', 3],
    ['[Service]\nA=b\n\n[Install', 4],
    ['[Service]\nA=b\nlast', 3],
    // Written again it is another value, so another hash.
    ['[Service]\nA=b\\', 2],
  ] as const) {
    const refused = fleetUnitOptions(text).problems.filter(({ isRefused }) => isRefused);
    t.deepEqual(
      refused.map((each) => each.line),
      [line],
      JSON.stringify(text),
    );
  }
});

test('what fleet would keep as something else is told', (t) => {
  for (const [text, line] of [
    ['A=b\n[Service]\nA=c\n', 1],
    ['[Service]\n# comment \\\nA=b\n', 3],
    ['[Service]\nA=b \\\n# comment\n', 3],
    ['[Service]\n=b\n', 2],
    [`[Service]\nA=${'b'.repeat(2_046)}\n`, 2],
  ] as const)
    t.like(fleetUnitOptions(text).problems, [{ line, isRefused: false }], JSON.stringify(text));
  t.deepEqual(fleetUnitOptions(`[Service]\nA=${'b'.repeat(2_045)}\n`).problems, []);
});

test('every unit file that the system ships is kept by fleet, and is the same when it is written and read again', async (t) => {
  const folders = ['/usr/lib/systemd/system', '/usr/lib/systemd/user', '/etc/systemd/system'];
  const files = await Promise.all(
    folders.map(async (folder) =>
      (await readdir(folder, { withFileTypes: true }).catch(() => []))
        .filter((entry) => entry.isFile())
        .map(({ name }) => join(folder, name)),
    ),
  );
  t.true(files.flat().length >= 100, `only ${files.flat().length} files`);
  for (const file of files.flat()) {
    const { options, problems } = fleetUnitOptions(await readFile(file, 'utf8'));
    t.true(options.length > 0, file);
    t.deepEqual(problems, [], file);
    const written = unitFileText(options);
    t.is(unitFileText(fleetUnitOptions(written).options), written, file);
  }
});

test('what is taken is read as it was written, whatever the text is', (t) => {
  const text = fc
    .array(fc.constantFrom('[', ']', '=', '\\', '\n', '\r', ' ', '#', ';', 'A', 'é', '\u0085', '\n[S]\n'), {
      maxLength: 40,
    })
    .map((parts) => `[S]\n${parts.join('')}`);
  fc.assert(
    fc.property(text, (given) => {
      const { options, problems } = fleetUnitOptions(given);
      if (problems.some(({ isRefused }) => isRefused)) return;
      const written = unitFileText(options);
      t.is(unitFileText(fleetUnitOptions(written).options), written);
    }),
  );
});

test('hostile texts take a time that grows with their length only', (t) => {
  for (const hostile of [
    '\\'.repeat(300_000),
    '['.repeat(300_000),
    `[S]\n${'a=\\\n'.repeat(100_000)}`,
    `[S]\n${'#\\\n'.repeat(100_000)}`,
    `[S]\na=b${' '.repeat(300_000)}c`,
    `[S]\n${'a=b\n'.repeat(100_000)}`,
  ])
    t.true(fleetUnitOptions(hostile).options.length <= 100_000);
});
