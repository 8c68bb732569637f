import test from 'ava';
import { array, number, object, type ObjectShape, string, tuple } from 'yup';
import { strictSchema } from '../../src/core/parameters.js';
import { unitMarks, unitParameters } from '../../src/core/unit-parameters.js';
import { glob, mapOf, unitName } from '../../src/plugin.js';

test('the units that parameters name are found at every level, each once, in alphabetical order', (t) => {
  const schema = strictSchema(
    object({
      unit: unitName().required(),
      more: array(unitName()),
      nested: object({ unit: unitName(), text: string() }),
      each: mapOf(object({ unit: unitName() })),
      pair: tuple([number(), unitName()]),
      both: tuple([unitName(), unitName()]),
      text: string(),
    }),
  );
  t.deepEqual(
    unitParameters(schema)({
      unit: 'c.service',
      more: ['b.service', 'c.service'],
      nested: { unit: 'a.service', text: 'x.service' },
      each: { one: { unit: 'e.service' }, two: {} },
      pair: [1, 'd.service'],
      both: ['f.service', 'g.service'],
      text: 'y.service',
    }),
    ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => `${name}.service`),
  );
  t.deepEqual(unitParameters(schema)({ unit: 'c.service' }), ['c.service']);
});

test('parameters without units name none', (t) => {
  const schema = strictSchema(object({ text: string(), list: array(string()), pair: tuple([string()]) }));
  t.deepEqual(unitParameters(schema)({ text: 'a.service', list: ['b.service'] }), []);
});

test('a schema marks units when a field at any level names one, and patterns when one selects several', (t) => {
  const marksOf = (fields: ObjectShape) => unitMarks(strictSchema(object(fields)));
  t.is(marksOf({ text: string() }), 'none');
  t.is(marksOf({}), 'none');
  for (const [name, make] of [
    ['names', unitName],
    ['patterns', glob],
  ] as const)
    for (const fields of [
      { text: string(), unit: make() },
      { list: array(make()) },
      { nested: object({ inner: object({ unit: make() }) }) },
      { each: mapOf(object({ unit: make() })) },
      { pair: tuple([number(), make()]) },
    ] as ObjectShape[])
      t.is(marksOf(fields), name);
  t.is(marksOf({ one: unitName(), many: glob() }), 'patterns');
});
