import { createRequire } from 'node:module';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type * as yup from 'yup';
import {
  type AnyObject,
  array,
  boolean,
  lazy,
  mixed,
  number,
  object,
  type ObjectSchema,
  ref,
  string,
  tuple,
} from 'yup';
import { ActionError } from '../../src/api/action-error.js';
import { mapOf, stringMap, unitName } from '../../src/plugin.js';
import type { FieldProblem } from '../../src/core/call.js';
import { parameterCheck, sizeProblemOf, strictSchema } from '../../src/core/parameters.js';
import { objectSchemaOf, type Shape, shapeAndValue } from './any-schema.js';

function checkOf(schema: ObjectSchema<AnyObject>): (sent: unknown) => unknown {
  return parameterCheck(strictSchema(schema), 'action_parameters');
}

/** The problems that a check finds. */
function problems(t: ExecutionContext, check: (sent: unknown) => unknown, sent: unknown): FieldProblem[] {
  const error = t.throws(() => check(sent), { instanceOf: ActionError });
  t.is(error?.code, 'invalid_parameters');
  const { fields } = { fields: [], ...(error?.details as { fields: FieldProblem[] } | undefined) };
  return fields;
}

function fieldsOf(t: ExecutionContext, check: (sent: unknown) => unknown, sent: unknown): string[] {
  return problems(t, check, sent).map(({ field }) => field);
}

/** What a handler must get: the value as sent, with defaults for missing fields. */
function filled(shape: Shape, value: unknown): unknown {
  if (value === undefined) return standardOf(shape);
  if (value === null) return null;
  if (shape.kind === 'record') {
    const sent: Record<string, unknown> = { ...Object(value) };
    const entries = Object.entries(shape.fields).map(([name, each]) => [name, filled(each, sent[name])]);
    return Object.fromEntries(entries.filter(([, each]) => each !== undefined));
  }
  if (!Array.isArray(value)) return value;
  if (shape.kind === 'list') return value.map((each) => filled(shape.items, each));
  return shape.kind === 'pair'
    ? value.map((each, index) => filled(shape.items[index] ?? shape, each))
    : value;
}

function standardOf(shape: Shape): unknown {
  if (shape.kind === 'record') return Object.keys(shape.fields).length === 0 ? undefined : filled(shape, {});
  return 'standard' in shape ? shape.standard : undefined;
}

test('valid parameters are passed on as sent, with defaults for missing fields', (t) => {
  let passed = 0;
  const property = fc.property(shapeAndValue, ([shape, value]) => {
    const before = JSON.stringify(value);
    let result: unknown;
    try {
      result = checkOf(objectSchemaOf(shape))(value);
    } catch (error) {
      if (error instanceof ActionError) return;
      throw error;
    }
    passed++;
    t.deepEqual(result, filled(shape, value ?? {}));
    t.is(JSON.stringify(value), before);
  });
  fc.assert(property, { numRuns: 1_000 });
  t.true(passed > 100, `only ${passed} passed`);
});

test('any input either passes or is refused as invalid_parameters with a short message', (t) => {
  const check = checkOf(
    object({
      name: string().max(5).matches(/^a*$/),
      mode: string().oneOf(['slow', 'fast']),
      numbers: array(number().required()).max(3),
      inner: object({ flag: boolean().required() }),
      pair: tuple([string(), number()]),
      map: stringMap(),
    }),
  );
  const property = fc.property(
    fc.jsonValue({ depthSize: 'large', maxDepth: 8 }),
    fc.jsonValue(),
    (any, other) => {
      for (const sent of [
        any,
        { name: any, mode: other },
        { numbers: any, inner: other },
        { pair: [any, other], map: any },
      ]) {
        try {
          check(sent);
        } catch (error) {
          if (!(error instanceof ActionError) || error.code !== 'invalid_parameters') throw error;
          const { fields } = error.details as { fields: FieldProblem[] };
          if (fields.length === 0 || fields.length > 20 || error.message.length > 10_000) throw error;
        }
      }
    },
  );
  t.notThrows(() => fc.assert(property, { numRuns: 500 }));
});

test('missing parameters are the same as an empty object', (t) => {
  const check = checkOf(object({ lines: number().default(10) }));
  t.deepEqual(check(undefined), { lines: 10 });
  t.deepEqual(check(null), { lines: 10 });
  t.deepEqual(check({}), { lines: 10 });
});

test('the values of a map are strict like everything else', (t) => {
  const check = checkOf(object({ sizes: mapOf(object({ n: number().required() })) }));
  t.deepEqual(check({ sizes: { a: { n: 1 } } }), { sizes: { a: { n: 1 } } });
  for (const [sent, field] of [
    [{ n: 1, m: 2 }, 'action_parameters.sizes.a.m'],
    [{ n: Number.POSITIVE_INFINITY }, 'action_parameters.sizes.a.n'],
    [{}, 'action_parameters.sizes.a.n'],
  ] as const) {
    const error = t.throws(() => check({ sizes: { a: sent } }), { instanceOf: ActionError });
    t.like(error, { code: 'invalid_parameters', details: { fields: [{ field }] } });
  }
});

test('a problem in a map is reported by its key, in plain words', (t) => {
  const check = checkOf(object({ metadata: stringMap() }));
  t.deepEqual(problems(t, check, { metadata: { region: 'eu', a: 1 } }), [
    { field: 'action_parameters.metadata.a', message: 'metadata.a must be a string' },
  ]);
  t.deepEqual(problems(t, check, { metadata: 'region=eu' }), [
    { field: 'action_parameters.metadata', message: 'metadata must be a map from strings to strings' },
  ]);
  const [long] = problems(t, check, { metadata: { ['k'.repeat(10_000)]: null } });
  t.true(String(long?.field).length < 250);
  t.true(String(long?.message).length < 350);
});

test('values are not cast', (t) => {
  const check = checkOf(object({ n: number(), s: string(), b: boolean(), list: array(number()) }));
  for (const sent of [
    { n: '3' },
    { s: 3 },
    { b: 'true' },
    { b: 1 },
    { list: '[1]' },
    { list: ['1'] },
    'x',
    [],
    3,
  ])
    t.is(problems(t, check, sent).length, 1, JSON.stringify(sent));
});

test('parameters that are no object are reported as such, by the name that callers know', (t) => {
  for (const sent of ['x', [], 3, true]) {
    const [problem] = problems(t, checkOf(object({ a: string() })), sent);
    t.is(problem?.field, 'action_parameters');
    t.regex(problem?.message ?? '', /^action_parameters must be a `object` type/);
  }
});

test('the message of a problem with one field is told as it is, whatever the name of the field', (t) => {
  const check = checkOf(object({ thistles: number() }));
  t.regex(problems(t, check, { thistles: 'x' })[0]?.message ?? '', /^thistles must be a `number`/);
  const whole = checkOf(object().test('own', 'not like this', () => false));
  t.deepEqual(problems(t, whole, {}), [{ field: 'action_parameters', message: 'not like this' }]);
});

test('a value of another type is not quoted, as it may be a secret', (t) => {
  const check = checkOf(
    object({
      text: string(),
      inner: object({ a: string() }),
      list: array().of(string()),
      pair: tuple([string().defined(), string().defined()]),
      map: mapOf(object({ a: string() })),
    }),
  );
  for (const sent of [
    { text: ['hidden'] },
    { text: { a: 'hidden`\n\n' } },
    { inner: 'hidden' },
    { list: [['hidden']] },
    { list: 'hidden' },
    { pair: ['hidden'] },
    { pair: ['hidden', 'hidden', 'hidden'] },
    { pair: 'hidden' },
    { map: { a: { a: ['hidden'] } } },
    { map: ['hidden'] },
    ['hidden'],
    'hidden',
  ]) {
    const found = problems(t, check, sent);
    t.not(found.length, 0);
    t.notRegex(JSON.stringify(found), /hidden/);
  }
  t.is(problems(t, check, { text: 1 })[0]?.message, 'text must be a `string` type');
});

test('a field that is missing is told to be required', (t) => {
  const check = checkOf(object({ name: string().required(), lines: number().required() }));
  t.deepEqual(problems(t, check, {}), [
    { field: 'action_parameters.name', message: 'name is a required field' },
    { field: 'action_parameters.lines', message: 'lines is a required field' },
  ]);
});

test('a transform in the schema does not change the sent value', (t) => {
  const schema = object({ s: string().transform((value) => `${value}!`), n: number().default(1) });
  t.deepEqual(checkOf(schema)({ s: 'as sent' }), { s: 'as sent', n: 1 });
});

test('unknown keys are refused at every level', (t) => {
  const check = checkOf(
    object({
      inner: object({ list: array(object({ pair: tuple([object({ a: string() })]) })) }),
      open: object({ a: string() }).noUnknown(false),
    }),
  );
  t.notThrows(() => check({ inner: { list: [{ pair: [{ a: 'x' }] }] } }));
  t.deepEqual(fieldsOf(t, check, { zz: 1 }), ['action_parameters.zz']);
  t.deepEqual(fieldsOf(t, check, { inner: { zz: 1 } }), ['action_parameters.inner.zz']);
  t.deepEqual(fieldsOf(t, check, { inner: { list: [{ zz: 1 }] } }), ['action_parameters.inner.list[0].zz']);
  t.deepEqual(fieldsOf(t, check, { inner: { list: [{ pair: [{ zz: 1 }] }] } }), [
    'action_parameters.inner.list[0].pair[0].zz',
  ]);
  t.deepEqual(fieldsOf(t, check, { open: { zz: 1 } }), ['action_parameters.open.zz']);
});

test('an unknown key is named once, also where the schema itself accepts no others', (t) => {
  const check = checkOf(object({ inner: object({ a: string() }).exact() }).exact());
  t.deepEqual(problems(t, check, { b: 1, inner: { c: 1 } }), [
    { field: 'action_parameters.inner.c', message: "unknown parameter 'inner.c'" },
    { field: 'action_parameters.b', message: "unknown parameter 'b'" },
  ]);
});

test('an action without parameters accepts none', (t) => {
  t.deepEqual(checkOf(object())({}), {});
  t.deepEqual(fieldsOf(t, checkOf(object()), { a: 1 }), ['action_parameters.a']);
  t.deepEqual(fieldsOf(t, checkOf(object({})), { a: 1 }), ['action_parameters.a']);
});

test('keys that every object inherits are unknown keys', (t) => {
  const check = checkOf(object({ a: string(), map: stringMap() }));
  for (const key of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    const sent: unknown = JSON.parse(`{"${key}": {"a": "x"}}`);
    t.deepEqual(fieldsOf(t, check, sent), [`action_parameters.${key}`]);
  }
  const map: unknown = JSON.parse('{"map": {"__proto__": "x"}}');
  t.deepEqual(check(map), map);
  t.is(({} as Record<string, unknown>).a, undefined);
});

test('a number that JSON decodes to Infinity is refused', (t) => {
  const check = checkOf(object({ n: number(), list: array(number()), pair: tuple([number()]) }));
  t.deepEqual(problems(t, check, JSON.parse('{"n": 1e999}')), [
    { field: 'action_parameters.n', message: 'n must be a finite number' },
  ]);
  t.deepEqual(fieldsOf(t, check, JSON.parse('{"list": [1, -1e999]}')), ['action_parameters.list[1]']);
  t.deepEqual(fieldsOf(t, check, JSON.parse('{"pair": [1e999]}')), ['action_parameters.pair[0]']);
});

test('null is accepted only where the schema allows it', (t) => {
  const check = checkOf(
    object({ may: string().nullable(), mayNot: string(), list: array(string().nullable()) }),
  );
  t.deepEqual(check({ may: null, list: [null, 'a'] }), { may: null, list: [null, 'a'] });
  t.deepEqual(fieldsOf(t, check, { mayNot: null }), ['action_parameters.mayNot']);
});

test('a field with a default may be left out, even if it is required', (t) => {
  const check = checkOf(
    object({ lines: number().required().default(10), name: string().defined().default('x') }),
  );
  t.deepEqual(check({}), { lines: 10, name: 'x' });
  t.deepEqual(fieldsOf(t, check, { lines: null }), ['action_parameters.lines']);
});

test('defaults are filled in at every level', (t) => {
  const entry = object({ name: string().required(), state: string().default('launched') });
  const check = checkOf(
    object({
      entries: array(entry),
      pair: tuple([entry, number()]),
      inner: object({ deep: object({ n: number().default(1) }) }),
    }),
  );
  t.deepEqual(check({ entries: [{ name: 'a' }], pair: [{ name: 'b' }, 1] }), {
    entries: [{ name: 'a', state: 'launched' }],
    pair: [{ name: 'b', state: 'launched' }, 1],
    inner: { deep: { n: 1 } },
  });
  t.deepEqual(checkOf(object({ entries: array(entry) }))({ entries: [{ name: 'a' }] }), {
    entries: [{ name: 'a', state: 'launched' }],
  });
});

test('an object may be left out when all its fields may be, or when its default is undefined', (t) => {
  const must = object({ name: string().required() });
  t.deepEqual(fieldsOf(t, checkOf(object({ must })), {}), ['action_parameters.must']);
  t.deepEqual(checkOf(object({ may: must.default(undefined) }))({}), {});
  t.deepEqual(checkOf(object({ may: object({ name: string() }), n: number() }))({}), { may: {} });
});

test('a default of the schema is not shared between requests', (t) => {
  const check = checkOf(object({ hosts: array(string()).default(() => ['a']) }));
  const first = check({}) as { hosts: string[] };
  first.hosts.push('b');
  t.deepEqual(check({}), { hosts: ['a'] });
});

test('all problems are reported together, each by its field', (t) => {
  const check = checkOf(
    object({ name: unitName().required(), lines: number().integer().max(100), list: array(string()) }),
  );
  const found = problems(t, check, { lines: 1000.5, list: ['a', 3], zz: true });
  t.deepEqual(found.map(({ field }) => field).toSorted(), [
    'action_parameters.lines',
    'action_parameters.lines',
    'action_parameters.list[1]',
    'action_parameters.name',
    'action_parameters.zz',
  ]);
  t.true(found.every(({ message }) => message !== ''));
});

test('the report of a problem is short, however long the value', (t) => {
  const check = checkOf(object({ name: string().max(5), mode: string().oneOf(['a']), n: number() }));
  const long = 'x'.repeat(1_000_000);
  const found = problems(t, check, { name: long, mode: long, n: long, [long]: 1 });
  t.is(found.length, 4);
  t.true(found.every(({ field, message }) => field.length < 200 && message.length < 400));
});

test('at most twenty problems are reported', (t) => {
  const check = checkOf(object({ list: array(object({ a: string() })) }));
  const keys = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`k${index}`, 1]));
  t.is(problems(t, check, keys).length, 20);
  t.is(problems(t, check, { list: Array.from({ length: 50 }, () => 1) }).length, 20);
  t.is(problems(t, check, { list: Array.from({ length: 50 }, () => keys) }).length, 20);
  const large = Array.from({ length: 21 }, () => 10n ** 20n);
  t.deepEqual(
    fieldsOf(t, checkOf(object({ list: array(number()) })), { list: large }),
    large.slice(0, 20).map((_, index) => `action_parameters.list[${index}]`),
  );
});

test('twenty problems are all reported, and of more the first twenty', (t) => {
  const names = Array.from({ length: 21 }, (_, index) => `k${index}`);
  const check = checkOf(object());
  const sent = (count: number) => Object.fromEntries(names.slice(0, count).map((name) => [name, 1]));
  const fields = names.slice(0, 20).map((name) => `action_parameters.${name}`);
  t.deepEqual(fieldsOf(t, check, sent(20)), fields);
  t.deepEqual(fieldsOf(t, check, sent(21)), fields);
  const list = checkOf(object({ list: array(number()) }));
  t.is(problems(t, list, { list: Array(20).fill('x') }).length, 20);
  t.is(problems(t, list, { list: Array(21).fill('x') }).length, 20);
});

test('a message and a name are cut only where they are longer than the limit', (t) => {
  const name = checkOf(object());
  t.deepEqual(fieldsOf(t, name, { ['k'.repeat(100)]: 1 }), [`action_parameters.${'k'.repeat(100)}`]);
  t.deepEqual(fieldsOf(t, name, { ['k'.repeat(101)]: 1 }), [`action_parameters.${'k'.repeat(100)}...`]);
  const messageOf = (length: number) => {
    const check = checkOf(object({ a: string().test('own', 'm'.repeat(length), () => false) }));
    return problems(t, check, { a: 'x' })[0]?.message;
  };
  t.is(messageOf(300), 'm'.repeat(300));
  t.is(messageOf(301), `${'m'.repeat(300)}...`);
});

test('input above the size limit is refused unchecked', (t) => {
  const check = checkOf(object({ list: array(number().required()), deep: array() }));
  t.notThrows(() => check({ list: Array.from({ length: 9_000 }, () => 1) }));
  for (const item of [1, 'x', null, {}])
    t.deepEqual(problems(t, check, { list: Array.from({ length: 300_000 }, () => item) }), [
      { field: 'action_parameters', message: 'action_parameters has more than 10000 values' },
    ]);
  t.deepEqual(problems(t, check, { deep: JSON.parse(`${'['.repeat(90_000)}${']'.repeat(90_000)}`) }), [
    { field: 'action_parameters', message: 'action_parameters is nested more than 32 levels deep' },
  ]);
});

test("ten thousand values can be checked, counting each object, list and key's value, and not one more", (t) => {
  const check = checkOf(object({ list: array(number().required()).required() }));
  // The parameters themselves and the list are values too.
  const listOf = (values: number) => ({ list: Array.from({ length: values - 2 }, () => 1) });
  t.notThrows(() => check(listOf(10_000)));
  t.deepEqual(problems(t, check, listOf(10_001)), [
    { field: 'action_parameters', message: 'action_parameters has more than 10000 values' },
  ]);
  const pairs = (values: number) => Object.fromEntries(Array.from({ length: values - 1 }, (_, n) => [n, n]));
  t.is(sizeProblemOf(pairs(10_000), 'action_parameters'), undefined);
  t.is(sizeProblemOf(pairs(10_001), 'action_parameters'), 'action_parameters has more than 10000 values');
  const nested = (values: number) => Array.from({ length: (values - 1) / 2 }, () => [1]);
  t.is(sizeProblemOf(nested(9_999), 'action_parameters'), undefined);
  t.not(sizeProblemOf(nested(10_001), 'action_parameters'), undefined);
});

test('values may be nested 32 levels deep, in objects and in lists, and not one more', (t) => {
  const lists = (levels: number): unknown => JSON.parse(`${'['.repeat(levels)}${']'.repeat(levels)}`);
  const objects = (levels: number): unknown =>
    JSON.parse(`${'{"a":'.repeat(levels - 1)}{}${'}'.repeat(levels - 1)}`);
  for (const nested of [lists, objects]) {
    t.is(sizeProblemOf(nested(33), 'action_parameters'), undefined);
    t.is(
      sizeProblemOf(nested(34), 'action_parameters'),
      'action_parameters is nested more than 32 levels deep',
    );
  }
  const check = checkOf(object({ deep: array() }));
  t.notThrows(() => check({ deep: lists(32) }));
  t.deepEqual(fieldsOf(t, check, { deep: lists(33) }), ['action_parameters']);
});

test('problems have the name that callers use for the parameters', (t) => {
  const check = parameterCheck(strictSchema(object({ n: number() })), 'params$&');
  t.deepEqual(
    problems(t, check, { n: 'x', zz: 1 })
      .map(({ field }) => field)
      .toSorted(),
    ['params$&.n', 'params$&.zz'],
  );
  const [wrongType] = problems(t, check, 3);
  t.is(wrongType?.field, 'params$&');
  t.true(wrongType?.message.startsWith('params$& '), wrongType?.message);
  const [large] = problems(
    t,
    check,
    Array.from({ length: 20_000 }, () => 1),
  );
  t.deepEqual(large, { field: 'params$&', message: 'params$& has more than 10000 values' });
});

test('input that is large but flat can be checked', (t) => {
  t.is(
    sizeProblemOf({ text: 'x'.repeat(1_000_000), bytes: Buffer.alloc(1_000_000) }, 'parameters'),
    undefined,
  );
  t.is(sizeProblemOf(JSON.parse(`${'['.repeat(32)}1${']'.repeat(32)}`), 'parameters'), undefined);
  t.not(sizeProblemOf(JSON.parse(`${'['.repeat(33)}1${']'.repeat(33)}`), 'parameters'), undefined);
});

test('a schema that depends on the value is refused', (t) => {
  const inner = {
    a: string(),
    b: string().when('a', ([a], schema) => (a === 'x' ? schema.required() : schema)),
  };
  t.throws(() => strictSchema(object(inner)), { message: /'b' depends on others by when\(\)/ });
  t.throws(() => strictSchema(object({ list: array(object(inner)) })), {
    message: /'list.b' depends on others/,
  });
  t.throws(() => strictSchema(object(inner).when('$x', (_, schema) => schema)), {
    message: 'the schema depends on others by when(), which cannot be described: use a test()',
  });
  t.throws(() => strictSchema(object({ a: lazy(() => string()) })), {
    message: /'a' is a reference or lazy/,
  });
  t.throws(() => strictSchema(object({ a: array(lazy(() => string())) })), {
    message: /'a' is a reference or lazy/,
  });
  t.throws(() => strictSchema(object({ a: string(), b: ref('a') })), {
    message: /'b' is a reference or lazy/,
  });
});

test('a default that its own field does not accept is refused', (t) => {
  t.throws(() => strictSchema(object({ lines: number().max(3).default(10) })), {
    message: "the field 'lines' does not accept its own default",
  });
  t.throws(() => strictSchema(object({ inner: object({ a: string().max(1).default('yy') }) })), {
    message: /'inner.a' does not accept its own default/,
  });
  const withUnknownKey = object({ a: string() }).default({ a: 'x', zz: 1 } as { a: string });
  t.throws(() => strictSchema(object({ inner: withUnknownKey })), {
    message: "the field 'inner' does not accept its own default",
  });
});

test('a schema from another copy of yup is checked too', (t) => {
  const require = createRequire(import.meta.url);
  const path = require.resolve('yup');
  const { [path]: own } = require.cache;
  Reflect.deleteProperty(require.cache, path);
  const other: typeof yup = require('yup');
  if (own !== undefined) require.cache[path] = own;
  t.not(other.string, string);
  const check = checkOf(
    other.object({
      n: other.number().default(1),
      list: other.array(other.object({ a: other.string().required() })),
    }),
  );
  t.deepEqual(check({ list: [{ a: 'x' }] }), { n: 1, list: [{ a: 'x' }] });
  t.deepEqual(fieldsOf(t, check, { n: '1', list: [{ zz: 1 }] }).toSorted(), [
    'action_parameters.list[0].a',
    'action_parameters.list[0].zz',
    'action_parameters.n',
  ]);
});

test('a handler can change its parameters without changing what was sent', (t) => {
  const anything = mixed().meta({ format: 'anything', description: 'Any value.' });
  for (const schema of [object({ a: anything }), object({ a: anything, n: number().default(1) })]) {
    const sent = JSON.parse('{"a": [{"b": 1, "__proto__": {"c": [2]}}]}');
    const before = JSON.stringify(sent);
    const given = checkOf(schema)(sent) as { a: [Record<string, unknown>] };
    t.like(given, { a: [{ b: 1 }] });
    t.deepEqual(Object.getOwnPropertyDescriptor(given.a[0], '__proto__')?.value, { c: [2] });
    given.a[0].b = given;
    Object.getOwnPropertyDescriptor(given.a[0], '__proto__')?.value.c.push(given);
    t.is(JSON.stringify(sent), before);
  }
});

test('a whole number beyond the numbers of JavaScript is a problem of its field', (t) => {
  const check = checkOf(object({ name: string(), list: array(object({ n: number() })), any: mixed() }));
  const large = 10n ** 20n;
  t.deepEqual(problems(t, check, { name: large }), [
    {
      field: 'action_parameters.name',
      message: 'action_parameters.name must not be beyond ±9007199254740991',
    },
  ]);
  t.deepEqual(fieldsOf(t, check, { list: [{ n: 1 }, { n: large }] }), ['action_parameters.list[1].n']);
  t.deepEqual(fieldsOf(t, check, large), ['action_parameters']);
  t.deepEqual(check({ any: large }), { any: large });
});
