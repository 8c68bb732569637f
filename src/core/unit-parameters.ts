import type { AnyObject, ObjectSchema, Schema } from 'yup';
import { fieldsOf } from '../lib/fields-of.js';

/**
 * Makes a function that finds the units that parameters name: the values of the fields that `unitName()` has made, at any
 * level. Each unit once, in alphabetical order.
 * @param schema made by `strictSchema`
 */
export function unitParameters(schema: Schema): (parameters: unknown) => readonly string[] {
  const find = finderIn(schema);
  if (find === undefined) return () => NONE;
  return (parameters) => [...new Set(find(parameters))].toSorted();
}

/** Whether parameters can name units (`names`), also by a pattern (`patterns`), at any level. */
export type UnitMarks = 'none' | 'names' | 'patterns';

/** What the fields say that `unitName()` and `glob()` have made. */
export function unitMarks(schema: Schema): UnitMarks {
  const { format, values } = fieldsOf(schema.meta());
  if (format === 'unit-name') return 'names';
  if (format === 'unit-pattern') return 'patterns';
  const inner = format === 'map' ? [values as Schema] : innerSchemas(schema);
  const marks = inner.map(unitMarks);
  return (['patterns', 'names'] as const).find((mark) => marks.includes(mark)) ?? 'none';
}

function innerSchemas(schema: Schema): Schema[] {
  switch (schema.type) {
    case 'object':
      return Object.values((schema as ObjectSchema<AnyObject>).fields) as Schema[];
    case 'array': {
      const { innerType } = schema as Schema & { innerType?: Schema };
      return innerType === undefined ? [] : [innerType];
    }
    case 'tuple':
      return (schema.spec as unknown as { types: Schema[] }).types;
    default:
      return [];
  }
}

const NONE: readonly string[] = Object.freeze([]);

type Find = (value: unknown) => string[];

/** Undefined: the schema has no such field. */
function finderIn(schema: Schema): Find | undefined {
  const { format, values } = fieldsOf(schema.meta());
  if (format === 'unit-name') return (value) => (typeof value === 'string' ? [value] : []);
  if (format === 'map') return each(finderIn(values as Schema));
  switch (schema.type) {
    case 'object': {
      const { fields } = schema as ObjectSchema<AnyObject>;
      const finders = Object.entries(fields).flatMap(([name, field]) => {
        const find = finderIn(field as Schema);
        return find === undefined ? [] : [(value: Record<string, unknown>) => find(value[name])];
      });
      return finders.length === 0 ? undefined : (value) => finders.flatMap((find) => find(fieldsOf(value)));
    }
    case 'array': {
      const { innerType } = schema as Schema & { innerType?: Schema };
      return innerType === undefined ? undefined : each(finderIn(innerType));
    }
    case 'tuple': {
      const { types } = schema.spec as unknown as { types: Schema[] };
      const finders = types.map(finderIn);
      return (value) => finders.flatMap((find, index) => find?.(fieldsOf(value)[index]) ?? []);
    }
    default:
      return undefined;
  }
}

/** For lists and maps. */
function each(find: Find | undefined): Find | undefined {
  return find && ((value) => Object.values(fieldsOf(value)).flatMap(find));
}
