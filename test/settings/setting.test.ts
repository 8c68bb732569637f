import test from 'ava';
import { number, string, ValidationError } from 'yup';
import {
  fileSetting,
  listSetting,
  optional,
  type ReadingContext,
  required,
  setting,
  settingsIn,
} from '../../src/settings/setting.js';

const CONTEXT: ReadingContext = { environment: 'test', contentOf: () => Buffer.from('content') };

test('a setting has the value that is set, else its default, else undefined', (t) => {
  const port = setting('PORT', number(), { default: 80, about: '' });
  t.deepEqual(port.read('8080', CONTEXT), { given: 8080, value: 8080 });
  t.deepEqual(port.read(undefined, CONTEXT), { given: 80, value: 80 });
  const name = setting('NAME', string(), { about: '' });
  t.deepEqual(name.read(undefined, CONTEXT), { given: undefined, value: undefined });
  const place = setting('PLACE', string(), { defaultIn: (environment) => `in ${environment}`, about: '' });
  t.deepEqual(place.read(undefined, CONTEXT), { given: 'in test', value: 'in test' });
  t.is(place.default, undefined);
});

test('a setting and its default are converted to the value in the configuration', (t) => {
  const limit = setting('LIMIT', number(), { default: 2, as: (seconds) => seconds * 1_000, about: '' });
  t.deepEqual(limit.read(undefined, CONTEXT), { given: 2, value: 2_000 });
  t.deepEqual(limit.read('3', CONTEXT), { given: 3, value: 3_000 });
});

test('a problem with the form names the setting', (t) => {
  const port = setting('PORT', number().typeError('${path} must be a number'), { about: '' });
  const error = t.throws(() => port.read('x', CONTEXT), { instanceOf: ValidationError });
  t.deepEqual(error?.errors, ['PORT must be a number']);
});

test('a list is the items between its separators', (t) => {
  const paths = listSetting('PATHS', string(), { separator: ':', about: '' });
  t.deepEqual(paths.read('/a: /b::', CONTEXT).value, ['/a', '/b']);
  t.is(paths.read(undefined, CONTEXT).value, undefined);
});

test('the value of a setting that names a file is the content of the file', (t) => {
  const file = fileSetting('KEY', string(), { as: (content) => content.toString(), about: '' });
  t.deepEqual(file.read('/key', CONTEXT), { given: '/key', value: 'content' });
  t.is(file.read(undefined, CONTEXT).value, undefined);
  t.is(file.read('/key', { ...CONTEXT, contentOf: () => undefined }).value, undefined);
});

test('the settings of a table are found in all of its sections', (t) => {
  const at = (name: string) => setting(name, string(), { about: '' });
  const table = {
    a: at('A'),
    inner: { b: at('B') },
    maybe: optional({ c: required(at('C')), in: { d: at('D') } }),
  };
  t.deepEqual(
    settingsIn(table).map(({ name }) => name),
    ['A', 'B', 'C', 'D'],
  );
});
