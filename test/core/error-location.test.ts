import { mkdir, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import { errorLocation } from '../../src/core/error-location.js';
import { folder } from '../support/settings.js';

test('a syntax error is where Node finds it, also beside files without one and in a folder below', async (t) => {
  const place = await realpath(await folder(t));
  for (const [name, text] of [
    ['good.js', 'export const a = 1;\n'],
    ['node_modules/other/index.js', 'export const c = ;\n'],
    ['lib/bad.js', 'export const a = 1;\nexport const b = ;\n'],
  ] as const) {
    await mkdir(dirname(join(place, name)), { recursive: true });
    await writeFile(join(place, name), text);
  }
  t.is(await errorLocation(place, new SyntaxError('unexpected')), `${join(place, 'lib/bad.js')}:2`);
});

test('an error that is no syntax error is not looked for in files that it does not name', async (t) => {
  const place = await realpath(await folder(t, { 'bad.js': 'export const b = ;\n' }));
  const error = new TypeError('elsewhere');
  error.stack = `TypeError: elsewhere\n    at file:///elsewhere/index.js:3:4`;
  t.is(await errorLocation(place, error), undefined);
  error.stack += `\n    at run (file://${place}/lib/a.js:7:1)\n    at file://${place}/index.js:1:1`;
  t.is(await errorLocation(place, error), `${place}/lib/a.js:7`);
  t.is(await errorLocation(place, 'no error'), undefined);
  error.stack = `TypeError: here\n    at file://${place}/version:2/index.js:7:1`;
  t.is(await errorLocation(place, error), `${place}/version:2/index.js:7`);
});

test('a syntax error is found whatever options Node takes from the environment', async (t) => {
  const place = await realpath(await folder(t, { 'bad.js': 'export const b = ;\n' }));
  const { NODE_OPTIONS: before } = process.env;
  t.teardown(() => {
    if (before === undefined) delete process.env.NODE_OPTIONS;
    else process.env.NODE_OPTIONS = before;
  });
  process.env.NODE_OPTIONS = '--require=/no/such/file.js';
  t.is(await errorLocation(place, new SyntaxError('unexpected')), `${place}/bad.js:1`);
});
