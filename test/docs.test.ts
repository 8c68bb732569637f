import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import { ERROR_CODES } from '../src/api/error-codes.js';
import { httpStatusOf } from '../src/gateway/http-status.js';
import { describeSettings } from '../src/settings/describe-settings.js';
import { inRepository } from './support/repository.js';

const read = async (path: string) => readFile(inRepository(path), 'utf8');

/** The rows of the table after a marker, each a list of its cells. */
function tableAfter(page: string, marker: string): string[][] {
  const [table = ''] = (page.split(marker)[1] ?? '')
    .trimStart()
    .replace(/^.*-->\s*/, '')
    .split('\n\n');
  return table
    .trim()
    .split('\n')
    .slice(2)
    .map((row) =>
      row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

test('docs/settings.md lists the settings of the service', async (t) => {
  const settings = describeSettings({ env: {}, directory: '/nonexistent' });
  t.deepEqual(
    tableAfter(await read('docs/settings.md'), '<!-- settings'),
    settings.map(({ name, default: standard, about }) => [
      `\`${name}\``,
      standard === undefined ? '' : `\`${standard}\``,
      about,
    ]),
  );
});

test('the table of error codes matches the codes that the service sends', async (t) => {
  t.deepEqual(
    tableAfter(await read('docs/errors.md'), '<!-- codes'),
    Object.entries(ERROR_CODES).map(([code, { fault, retryable, summary }]) => [
      `\`${code}\``,
      String(httpStatusOf(code)),
      fault,
      retryable ? 'yes' : 'no',
      summary,
    ]),
  );
});

test('each promise in docs/guarantees.md names tests and chaos scenarios that exist', async (t) => {
  const rows = tableAfter(await read('docs/guarantees.md'), '<!-- guarantees');
  t.true(rows.length > 20);
  for (const [promise = '', heldBy = ''] of rows)
    for (const each of heldBy.split('; ')) {
      const [, scenario] = /^chaos: ([\w-]+)$/.exec(each) ?? [];
      const [, file, title] = /^`(test\/[\w/.-]+)`: (.+)$/.exec(each) ?? [];
      const text = await read(file ?? `chaos/scenarios/${scenario}.ts`);
      t.true(text.includes(file === undefined ? `name: '${scenario}'` : (title ?? '')), `${promise} ${each}`);
    }
});

test('docs/operating.md explains every log message', async (t) => {
  const operating = await read('docs/operating.md');
  const files = await Promise.all(
    ['src', 'plugins'].map(async (folder) => readdir(inRepository(folder), { recursive: true })),
  );
  const sources = ['src', 'plugins'].flatMap((folder, at) =>
    (files[at] ?? [])
      .filter((file) => file.endsWith('.ts') && file !== 'client/action-types.ts')
      .map((file) => `${folder}/${file}`),
  );
  const messages = new Set<string>();
  for (const source of sources) {
    const found = (await read(source)).matchAll(
      /(?:log\.(?:info|warn|error)\(\s*|(?:began|ended): )'([^']+)'/g,
    );
    for (const [, message] of found) if (message !== undefined) messages.add(message);
  }
  t.true(messages.size > 40, `${messages.size}`);
  t.deepEqual(
    [...messages].filter((message) => !operating.includes(`\`${message}\``)),
    [],
  );
});

test('every action of this repository has a README and a row in the table of actions', async (t) => {
  const readme = await read('README.md');
  const folders = (await readdir(inRepository('plugins'))).filter((name) => !name.startsWith('.'));
  for (const folder of folders) {
    const [heading = ''] = (await read(`plugins/${folder}/README.md`)).split('\n');
    t.regex(
      readme,
      new RegExp(`\\| \\[\`${heading.replace('# ', '')}\`\\]\\(plugins/${folder}/README.md\\) \\|`),
    );
  }
});

test('every link between the pages has a target', async (t) => {
  const folders = ['', 'docs/', 'docs/decisions/', 'docs/operations/'];
  const pages = (
    await Promise.all(
      folders.map(async (folder) => (await readdir(inRepository(folder))).map((name) => `${folder}${name}`)),
    )
  )
    .flat()
    .filter((name) => name.endsWith('.md'));
  t.true(pages.length > 5);
  for (const page of pages) {
    const links = [...(await read(page)).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link = '']) => link);
    for (const link of links) {
      const target = inRepository(join(dirname(page), link));
      await t.notThrowsAsync(link.endsWith('/') ? readdir(target) : readFile(target), `${page}: ${link}`);
    }
  }
});
