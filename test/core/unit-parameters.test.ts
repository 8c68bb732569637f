import test from 'ava';
import { array, number, object, string, tuple } from 'yup';
import { strictSchema } from '../../src/core/parameters.js';
import { unitParameters } from '../../src/core/unit-parameters.js';
import { mapOf, unitName } from '../../src/plugin.js';

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
