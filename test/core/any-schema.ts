import fc from 'fast-check';
import {
  type AnyObject,
  array,
  boolean,
  number,
  object,
  type ObjectSchema,
  type Schema,
  string,
  tuple,
} from 'yup';
import { stringMap } from '../../src/plugin.js';

/** A schema as plain data, from which yup's object is made, and which a test can evaluate. */
export type Shape = Presence &
  (
    | { kind: 'text'; choices?: readonly string[]; pattern?: string; least?: number; standard?: string }
    | { kind: 'number'; whole: boolean; least?: number; most?: number; standard?: number }
    | { kind: 'flag'; standard?: boolean }
    | { kind: 'list'; items: Shape; most?: number }
    | { kind: 'pair'; items: [Shape, Shape] }
    | { kind: 'map' }
    | RecordShape
  );
export interface RecordShape extends Presence {
  kind: 'record';
  fields: Record<string, Shape>;
}

interface Presence {
  required: boolean;
  nullable: boolean;
}

const DEPTH = { depthSize: 'small', maxDepth: 3 } as const;

const { shape, record } = fc.letrec<{ shape: Shape; record: RecordShape }>((tie) => {
  const presence = { required: fc.boolean(), nullable: fc.boolean() };
  const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
  return {
    shape: fc.oneof(
      DEPTH,
      fc.record({ kind: fc.constant('text' as const), standard: maybe(fc.constant('abc')), ...presence }),
      fc.record({
        kind: fc.constant('text' as const),
        choices: fc.constant(['slow', 'fast']),
        standard: maybe(fc.constant('fast')),
        ...presence,
      }),
      fc.record({
        kind: fc.constant('text' as const),
        pattern: fc.constant('^[ab]+$'),
        least: maybe(fc.nat(2)),
        ...presence,
      }),
      fc.record({
        kind: fc.constant('number' as const),
        whole: fc.boolean(),
        least: maybe(fc.constant(-2)),
        most: maybe(fc.constant(5)),
        standard: maybe(fc.constant(3)),
        ...presence,
      }),
      fc.record({ kind: fc.constant('flag' as const), standard: maybe(fc.boolean()), ...presence }),
      fc.record({ kind: fc.constant('map' as const), ...presence }),
      fc.record({
        kind: fc.constant('list' as const),
        items: tie('shape'),
        most: maybe(fc.constant(2)),
        ...presence,
      }),
      fc.record({
        kind: fc.constant('pair' as const),
        items: fc.tuple(tie('shape'), tie('shape')),
        ...presence,
      }),
      tie('record'),
    ),
    record: fc.record({
      kind: fc.constant('record' as const),
      fields: fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('shape'), { noNullPrototype: true }),
      ...presence,
    }),
  };
});

/** Any object schema, with a value that may or may not match it. */
export const shapeAndValue: fc.Arbitrary<[RecordShape, unknown]> = record
  .map((each) => ({ ...each, nullable: false }))
  .chain((each) => fc.tuple(fc.constant(each), valueFor(each)));

export { shape };

/** Values as decoded from a message; most of them match the shape. */
function valueFor(of: Shape): fc.Arbitrary<unknown> {
  const fitting = fc.oneof(
    { weight: 10, arbitrary: fittingValue(of) },
    { weight: of.nullable ? 1 : 0, arbitrary: fc.constant(null) },
  );
  return fc.oneof({ weight: 30, arbitrary: fitting }, { weight: 1, arbitrary: anything });
}

const anything: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(
    '',
    '3',
    'true',
    0,
    -0.5,
    JSON.parse('1e999'),
    null,
    [],
    {},
    JSON.parse('{"__proto__":{"a":1}}'),
  ),
);

function fittingValue(of: Shape): fc.Arbitrary<unknown> {
  switch (of.kind) {
    case 'text':
      if (of.choices !== undefined) return fc.constantFrom(...of.choices);
      return of.pattern === undefined ? fc.string() : fc.string({ unit: fc.constantFrom('a', 'b') });
    case 'number':
      return fc.oneof(fc.integer({ min: -4, max: 8 }), fc.double({ noNaN: true, min: -4, max: 8 }));
    case 'flag':
      return fc.boolean();
    case 'map':
      return fc.dictionary(fc.string(), fc.string());
    case 'list':
      return fc.array(valueFor(of.items), { maxLength: 3 });
    case 'pair':
      return fc.tuple(...of.items.map(valueFor));
    default: {
      const fields = Object.entries(of.fields).map(([name, field]): [string, fc.Arbitrary<unknown>] => [
        name,
        valueFor(field),
      ]);
      const others = fc.oneof(
        { weight: 20, arbitrary: fc.constant({}) },
        { weight: 1, arbitrary: fc.dictionary(fc.string(), anything) },
        { weight: 1, arbitrary: fc.constant<unknown>(JSON.parse('{"__proto__":{"a":1}}')) },
      );
      return fc
        .tuple(fc.record(Object.fromEntries(fields), { requiredKeys: [] }), others)
        .map(([own, other]) => ({ ...Object(other), ...own }));
    }
  }
}

export function objectSchemaOf({ fields }: RecordShape): ObjectSchema<AnyObject> {
  return object(Object.fromEntries(Object.entries(fields).map(([name, each]) => [name, schemaOf(each)])));
}

export function schemaOf(of: Shape): Schema {
  let schema = bare(of).meta({ description: 'A field.', ...(of.kind === 'map' && { format: 'string-map' }) });
  if (of.required) schema = schema.required();
  if (of.nullable) schema = schema.nullable();
  if ('standard' in of && of.standard !== undefined) schema = schema.default(of.standard);
  return schema;
}

function bare(of: Shape): Schema {
  switch (of.kind) {
    case 'text': {
      const plain = of.pattern === undefined ? string() : string().matches(new RegExp(of.pattern));
      const text = of.least === undefined ? plain : plain.min(of.least);
      return of.choices === undefined ? text : text.oneOf(of.choices);
    }
    case 'number': {
      const whole = of.whole ? number().integer() : number();
      const bounded = of.least === undefined ? whole : whole.min(of.least);
      return of.most === undefined ? bounded : bounded.max(of.most);
    }
    case 'flag':
      return boolean();
    case 'map':
      return stringMap();
    case 'list': {
      const list = array(schemaOf(of.items));
      return of.most === undefined ? list : list.max(of.most);
    }
    case 'pair':
      return tuple([schemaOf(of.items[0]), schemaOf(of.items[1])]);
    default:
      return objectSchemaOf(of);
  }
}
