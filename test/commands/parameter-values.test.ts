import test from 'ava';
import fc from 'fast-check';
import { array, boolean, number, object, string, tuple } from 'yup';
import { parametersOf } from '../../src/commands/parameter-values.js';
import { UsageError } from '../../src/commands/usage-error.js';
import { defineAction, stringMap } from '../../src/plugin.js';
import { prepareAction } from '../../src/core/prepare-action.js';

const described = { description: 'A field.' };

const { description: action } = prepareAction(
  defineAction({
    name: 'act',
    summary: 'Acts.',
    target: 'none',
    effect: 'read',
    parameters: object({
      text: string().meta(described),
      maybe: string().nullable().meta(described),
      mode: string().oneOf(['slow', 'fast']).meta(described),
      n: number().meta(described),
      whole: number().integer().nullable().meta(described),
      flag: boolean().meta(described),
      texts: array(string()).meta(described),
      numbers: array(number()).meta(described),
      pair: tuple([number(), number()]).meta(described),
      map: stringMap().meta(described),
      inner: object({ a: string().meta(described) }).meta(described),
    }),
    result: string(),
    handle: async () => '',
  }),
  () => undefined,
);

function read(...param: string[]): Record<string, unknown> {
  return parametersOf(action, { params: undefined, param });
}

test('a value is parsed by the type of its field', (t) => {
  t.deepEqual(read('text=3', 'maybe=null', 'mode=fast', 'n=-1.5', 'whole=3', 'flag=true'), {
    text: '3',
    maybe: 'null',
    mode: 'fast',
    n: -1.5,
    whole: 3,
    flag: true,
  });
  t.deepEqual(read('flag=false', 'map={"region": "eu"}', 'inner={"a": "x"}', 'pair=[1, 2]'), {
    flag: false,
    map: { region: 'eu' },
    inner: { a: 'x' },
    pair: [1, 2],
  });
});

test('any text is kept unchanged, also with an equals sign', (t) => {
  const property = fc.property(fc.string(), (value) => {
    t.deepEqual(read(`text=${value}`), { text: value });
  });
  fc.assert(property);
  t.deepEqual(read('text=a=b=c', 'maybe='), { text: 'a=b=c', maybe: '' });
});

test('a list is given with commas, in pieces, or as JSON', (t) => {
  t.deepEqual(read('texts=a'), { texts: ['a'] });
  t.deepEqual(read('texts=a,b'), { texts: ['a', 'b'] });
  t.deepEqual(read('texts=a', 'texts=b,c'), { texts: ['a', 'b', 'c'] });
  t.deepEqual(read('texts=["a,b", "c"]'), { texts: ['a,b', 'c'] });
  t.deepEqual(read('numbers=1,2.5'), { numbers: [1, 2.5] });
  t.deepEqual(read('numbers=[1]', 'numbers=2'), { numbers: [1, 2] });
});

test('for an unknown action, valid JSON is parsed and other values are texts', (t) => {
  const param = [
    'n=3',
    'text=web@*.service',
    'flag=true',
    'list=["a"]',
    'list=["b"]',
    'empty=',
    '__proto__=1',
  ];
  const parameters = parametersOf(undefined, { params: '{"map": {"a": "b"}, "n": 1}', param });
  t.deepEqual(Object.entries(parameters), [
    ['map', { a: 'b' }],
    ['n', 3],
    ['text', 'web@*.service'],
    ['flag', true],
    ['list', ['a', 'b']],
    ['empty', ''],
    ['__proto__', 1],
  ]);
  t.throws(() => parametersOf(undefined, { params: undefined, param: ['text'] }), { instanceOf: UsageError });
});

test('an integer keeps all its digits, as the service reads it', (t) => {
  const big = 12345678901234567890n;
  t.deepEqual(read(`n=${big}`, `whole=-${big}`, `numbers=1,${big}`), {
    n: big,
    whole: -big,
    numbers: [1, big],
  });
  t.deepEqual(parametersOf(undefined, { params: `{"a": ${big}}`, param: [`b=${big}`] }), { a: big, b: big });
});

test('an integer that no request may contain is refused', (t) => {
  for (const integer of [2n ** 512n, -(2n ** 512n)])
    t.throws(() => read(`n=${integer}`), {
      instanceOf: UsageError,
      message: '--param n: an integer has at most 64 bytes',
    });
});

test('for an unknown action, a number that the service would refuse is refused, not sent as text', (t) => {
  for (const value of ['1e999', '{"v":-1e999}', '9'.repeat(200)])
    t.throws(() => parametersOf(undefined, { params: undefined, param: [`v=${value}`] }), {
      instanceOf: UsageError,
      message: /^--param v cannot be read: a number /,
    });
});

test('when a value is given twice, the last one is used', (t) => {
  t.deepEqual(read('text=a', 'text=b', 'n=1', 'n=2'), { text: 'b', n: 2 });
});

test('--params gives all parameters as JSON, and --param overrides it', (t) => {
  t.deepEqual(parametersOf(action, { params: '{"text": "a", "n": 1}', param: ['n=2', 'flag=true'] }), {
    text: 'a',
    n: 2,
    flag: true,
  });
  t.deepEqual(parametersOf(action, { params: undefined, param: [] }), {});
});

const WRONG: [given: Parameters<typeof parametersOf>[1], reason: string | RegExp][] = [
  [{ params: undefined, param: ['n=ten'] }, "--param n: 'ten' is not a number"],
  [{ params: undefined, param: ['n='] }, "--param n: '' is not a number"],
  [{ params: undefined, param: ['n=Infinity'] }, "--param n: 'Infinity' is not a number"],
  [{ params: undefined, param: ['n=1e999'] }, "--param n: '1e999' is not a number"],
  [{ params: undefined, param: ['numbers=1,x'] }, "--param numbers: 'x' is not a number"],
  [{ params: undefined, param: ['flag=yes'] }, "--param flag: 'yes' is neither true nor false"],
  [{ params: undefined, param: ['map=region'] }, '--param map cannot be read: not valid JSON: region'],
  [{ params: undefined, param: ['texts=["a"'] }, '--param texts cannot be read: not valid JSON: ["a"'],
  [{ params: undefined, param: ['text'] }, '--param text: write it as NAME=VALUE'],
  [{ params: undefined, param: ['=x'] }, '--param =x: write it as NAME=VALUE'],
  [
    { params: undefined, param: ['nmae=x'] },
    /^act has no parameter 'nmae'; its parameters: text, maybe, mode, /,
  ],
  [{ params: undefined, param: ['toString=x'] }, /^act has no parameter 'toString'/],
  [{ params: undefined, param: ['__proto__={}'] }, /^act has no parameter '__proto__'/],
  [{ params: '{', param: [] }, '--params cannot be read: not valid JSON: {'],
  [{ params: '{"v":[1e999]}', param: [] }, /^--params cannot be read: a number is beyond the range/],
  [{ params: undefined, param: ['map={"v":1e999}'] }, /^--param map cannot be read: a number is beyond/],
  [{ params: undefined, param: ['pair=[1,-1e999]'] }, /^--param pair cannot be read: a number is beyond/],
  [{ params: '[]', param: [] }, /^--params must be a JSON object, such as/],
  [{ params: 'null', param: [] }, /^--params must be a JSON object/],
];

for (const [given, reason] of WRONG) {
  test(`a usage error: ${[given.params, ...given.param].join(' ')}`, (t) => {
    t.throws(() => parametersOf(action, given), { instanceOf: UsageError, message: reason });
  });
}
