import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { unitFileHash, unitFileText } from '../../src/api/unit-file.js';
import { unitFileOptions } from '../../src/api/unit-file-options.js';

/** The unit files that this system ships. */
const shipped = async (): Promise<string[]> => {
  const folders = ['/usr/lib/systemd/system', '/usr/lib/systemd/user', '/etc/systemd/system'];
  const names = await Promise.all(
    folders.map(async (folder) =>
      (await readdir(folder, { withFileTypes: true }).catch(() => []))
        .filter((entry) => entry.isFile())
        .map(({ name }) => join(folder, name)),
    ),
  );
  return names.flat();
};

test('the options of every unit file that the system ships are the same after they were written and read again', async (t) => {
  const files = await shipped();
  t.true(files.length > 50, `only ${files.length} files`);
  for (const file of files) {
    const options = unitFileOptions(await readFile(file, 'utf8'));
    t.true(options.length > 0, file);
    // Sections that come twice are one in what is written.
    const sorted = (list: typeof options) =>
      [...new Set(list.map(({ section }) => section))].flatMap((name) =>
        list.filter(({ section }) => section === name),
      );
    t.deepEqual(unitFileOptions(unitFileText(options)), sorted(options), file);
    t.is(unitFileHash(unitFileOptions(unitFileText(options))), unitFileHash(options), file);
  }
});

const word = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,12}$/);
const value = fc.stringMatching(/^(?:[!-[\]-~](?:[ -[\]-~]{0,40}[!-[\]-~])?)?$/);

test('options that are written are read as they were', (t) => {
  const options = fc.array(fc.record({ section: word, name: word, value }), { maxLength: 20 });
  fc.assert(
    fc.property(options, (given) => {
      const sections = [...new Set(given.map(({ section }) => section))];
      const sorted = sections.flatMap((name) => given.filter(({ section }) => section === name));
      t.deepEqual(unitFileOptions(unitFileText(given)), sorted);
    }),
  );
});

test('any text is read, in a time that grows with its length only', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => unitFileOptions(text).length >= 0),
  );
  for (const hostile of [
    '\\'.repeat(300_000),
    `[${'['.repeat(300_000)}`,
    'a=\\\n'.repeat(100_000),
    '=\n'.repeat(200_000),
  ])
    t.true(unitFileOptions(hostile).length <= 1);
});
