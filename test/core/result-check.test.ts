import test from 'ava';
import { array, number, object, type Schema, string } from 'yup';
import { strictSchema } from '../../src/core/parameters.js';
import { resultCheck } from '../../src/core/result-check.js';

const problemsOf = (schema: Schema, result: unknown) => resultCheck(strictSchema(schema))(result);

test('a problem of a result is told with its field, and one of the whole as that of the result', (t) => {
  t.deepEqual(problemsOf(object({ thistles: number() }), { thistles: 1 }), []);
  t.regex(
    problemsOf(object({ thistles: number() }), { thistles: 'x' }).join(),
    /^thistles must be a `number`/,
  );
  t.regex(problemsOf(object(), 3).join(), /^the result must be a `object`/);
  const own = string().test('own', 'not like this', () => false);
  t.deepEqual(problemsOf(own, 'x'), ['not like this']);
});

test('at most ten problems of a result are told', (t) => {
  const list = (length: number) => Array.from({ length }, () => 'x');
  t.is(problemsOf(array(number()), list(10)).length, 10);
  t.is(problemsOf(array(number()), list(11)).length, 10);
});

test('a test of a schema that throws is told like a problem', (t) => {
  const throwing = string().test('own', 'own', () => {
    throw new TypeError('no such field');
  });
  t.deepEqual(problemsOf(throwing, 'x'), ['TypeError: no such field']);
});
