import test from 'ava';
import fc from 'fast-check';
import { number, object, string, ValidationError } from 'yup';
import { isHostAddress, isUnitName } from '../../src/api/grammar.js';
import {
  canonicalHost,
  glob,
  globMatcher,
  hostAddress,
  machineId,
  mapOf,
  stringMap,
  unitName,
} from '../../src/plugin.js';

const UNIT_TYPES =
  'automount busname device mount path scope service slice snapshot socket swap target timer'.split(' ');

test('a unit name is accepted exactly when fleet accepts it', (t) => {
  for (const name of [
    'web.service',
    'web@1.service',
    'web@.service',
    '-.mount',
    'srv-media\\x2darchive.mount',
    'tunnel@db:5432.service',
    'a.b.c.timer',
    'a_b-c.socket',
    `${'a'.repeat(248)}.service`,
    ...UNIT_TYPES.map((type) => `x.${type}`),
  ])
    t.true(isUnitName(name), name);
  for (const name of [
    '',
    'web',
    'web.',
    '.service',
    'web.Service',
    'web.unit',
    '@1.service',
    'web@1.mount',
    'a b.service',
    'a/b.service',
    '../x.service',
    'a\n.service',
    'a.service\n',
    'ä.service',
    'a;b.service',
    '$(x).service',
    `${'a'.repeat(249)}.service`,
  ])
    t.false(isUnitName(name), JSON.stringify(name));
});

test('a unit name contains no character that a shell or a URL path interprets', (t) => {
  const signs = fc.string({ unit: fc.constantFrom(...'ab1@.-_:\\ /;$\'"`&|<>()*?#%\n'.split('')) });
  const property = fc.property(signs, fc.constantFrom(...UNIT_TYPES), (prefix, type) => {
    const name = `${prefix}.${type}`;
    return !isUnitName(name) || /^[0-9A-Za-z:\-_.\\@]+$/.test(name);
  });
  t.notThrows(() => fc.assert(property));
});

test('host addresses are IP addresses and host names', (t) => {
  for (const host of [
    '10.0.0.1',
    '::1',
    'fe80::1',
    '::ffff:10.0.0.1',
    'localhost',
    'node-1.example.org',
    'a',
    '1a.b',
    'node_1.lan',
    'srv.a_b',
    'db.example.org.',
    `${'a.'.repeat(126)}a.`,
  ])
    t.true(isHostAddress(host), host);
  for (const host of [
    '',
    '127.1',
    '1.2.3',
    '0177.0.0.1',
    '0x7f.0.0.1',
    '0x7f000001',
    '2130706433',
    'a.0x1',
    '256.1.1.1',
    'fe80::1%eth0',
    '[::1]',
    '10.0.0.1:80',
    '-a.org',
    'a-.org',
    'a..b',
    '_a',
    'a.b..',
    '.',
    '127.1.',
    '0x7f.',
    'a.0x1.',
    'a b',
    'http://a',
    'a/b',
    'a@b',
    '-oProxyCommand=x',
    'ä.org',
    `${'a'.repeat(64)}.org`,
    `${'a.'.repeat(127)}aa`,
  ])
    t.false(isHostAddress(host), JSON.stringify(host));
});

test('a host has one canonical form, however it is written', (t) => {
  for (const spellings of [
    ['node1.example.com', 'Node1.Example.COM', 'node1.example.com.'],
    [
      '10.0.0.1',
      '::ffff:10.0.0.1',
      '::FFFF:0a00:1',
      '0:0:0:0:0:ffff:10.0.0.1',
      '::10.0.0.1',
      '64:ff9b::a00:1',
    ],
    ['10.0.0.1', '::ffff:0:10.0.0.1'],
    ['2001:db8::1', '2001:DB8::1', '2001:db8:0:0:0:0:0:1', '2001:0db8::0001', '2001:db8:0::0:1'],
    ['2001:db8::1:0:0:1', '2001:db8:0:0:1:0:0:1', '2001:db8:0:0:1::1'],
    ['::1', '0:0:0:0:0:0:0:1'],
    ['::', '0::0'],
  ]) {
    t.deepEqual([...new Set(spellings.map(canonicalHost))], spellings.slice(0, 1));
  }
});

test('the schema pieces for plugin authors accept and refuse by the same grammar', (t) => {
  const takes = (
    schema: { isValidSync(value: unknown, options: { strict: true }): boolean },
    value: unknown,
  ) => schema.isValidSync(value, { strict: true });
  t.true(takes(unitName(), 'web@1.service'));
  t.false(takes(unitName(), 'web'));
  t.true(takes(hostAddress(), '10.0.0.1'));
  t.false(takes(hostAddress(), '10.0.0.1 -oX'));
  t.true(takes(machineId(), 'a'.repeat(32)));
  t.false(takes(machineId(), 'A'.repeat(32)));
  t.false(takes(machineId(), `${'a'.repeat(32)}\n`));
  t.true(takes(glob(), 'web@*.serv?ce'));
  t.false(takes(glob(), 'web@[12].service'));
  t.false(takes(glob(), '*'.repeat(257)));
  t.true(takes(stringMap(), { region: 'eu', '': '' }));
  t.true(takes(stringMap(), {}));
  for (const wrong of [{ a: 1 }, { a: null }, { a: {} }, ['a'], 'a', 3, null, true])
    t.false(takes(stringMap(), wrong), JSON.stringify(wrong));
});

test('the schema pieces can be made optional, required or nullable', (t) => {
  for (const piece of [unitName, hostAddress, machineId, glob]) {
    t.true(piece().isValidSync(undefined, { strict: true }));
    t.false(piece().required().isValidSync(undefined, { strict: true }));
    t.true(piece().nullable().isValidSync(null, { strict: true }));
    t.false(piece().isValidSync(null, { strict: true }));
    t.false(piece().isValidSync(3, { strict: true }));
  }
  t.true(stringMap().isValidSync(undefined, { strict: true }));
  t.false(stringMap().required().isValidSync(undefined, { strict: true }));
  t.true(stringMap().nullable().isValidSync(null, { strict: true }));
});

test('a problem with a value is reported with the name of its field', (t) => {
  t.throws(() => unitName().label('unit_name').validateSync('web', { strict: true }), {
    message: 'unit_name is not a valid unit name: NAME.TYPE, such as web@1.service',
  });
});

test('a map to values of a schema accepts only such values, and each wrong one is named', (t) => {
  const sizes = mapOf(object({ size: number().required(), of: mapOf(string()).optional() }));
  const problemsOf = (value: unknown): string[] => {
    try {
      sizes.label('sizes').validateSync(value, { strict: true, abortEarly: false });
      return [];
    } catch (error) {
      return error instanceof ValidationError ? error.errors : [String(error)];
    }
  };
  for (const right of [undefined, {}, { a: { size: 1 }, '(null)': { size: 2, of: { b: 'c' } } }])
    t.deepEqual(problemsOf(right), []);
  for (const wrong of [['a'], 'a', 3, true]) t.is(problemsOf(wrong).length, 1);
  t.deepEqual(problemsOf({ a: { size: 'x' }, '10.0.0.1': {}, c: { size: 1, of: { d: 3 } } }), [
    'a.size must be a `number` type, but the final value was: `"x"`.',
    '["10.0.0.1"].size is a required field',
    'c.of.d must be a `string` type, but the final value was: `3`.',
  ]);
  t.false(sizes.required().isValidSync(undefined, { strict: true }));
  t.true(sizes.nullable().isValidSync(null, { strict: true }));
});

test('a pattern without special characters matches only itself', (t) => {
  t.true(globMatcher('web.service')('web.service'));
  t.false(globMatcher('web.service')('webxservice'));
  t.false(globMatcher('')('a'));
});

test('a pattern matches the same texts as the equivalent regular expression', (t) => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 });
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '.', '*', '?'), maxLength: 8 });
  const property = fc.property(pattern, text, (each, name) => {
    const expected = new RegExp(
      `^${each.replaceAll('.', '\\.').replaceAll('*', '.*').replaceAll('?', '.')}$`,
    );
    return globMatcher(each)(name) === expected.test(name);
  });
  t.notThrows(() => fc.assert(property, { numRuns: 2_000 }));
});

test('a pattern matches no text that is longer than any name', (t) => {
  t.true(globMatcher('*')('x'.repeat(1_024)));
  t.false(globMatcher('*')('x'.repeat(1_025)));
  t.false(globMatcher(`*${'?'.repeat(250)}b`)('x'.repeat(3_900_000)));
});

test('a pattern that is built to be slow is matched quickly', (t) => {
  const matches = globMatcher(`${'*a'.repeat(120)}*b`);
  const text = 'a'.repeat(256);
  const begun = process.cpuUsage();
  for (let i = 0; i < 100; i++) t.false(matches(text));
  t.true(process.cpuUsage(begun).user < 1_000_000);
});
