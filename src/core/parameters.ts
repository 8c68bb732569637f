import { ActionError } from '../api/action-error.js';
import type { FieldProblem } from './call.js';
import { type AnyObject, type ObjectSchema, type Schema, ValidationError } from 'yup';

const MAX_PROBLEMS = 20;
const MAX_MESSAGE = 300;
/** yup takes some microseconds for each value and a few stack frames for each level; a message of 1 MB can hold both. */
const MAX_VALUES = 10_000;
const MAX_LEVELS = 32;

/**
 * The same schema with every object in it closed and every number finite: yup alone lets unknown keys pass (or strips
 * them) at each level that does not refuse them, and takes Infinity for a number, which `1e999` in JSON decodes to.
 * A field that has a default may be left out, as yup has it when it casts before it checks.
 * @throws Error naming the field that cannot be checked this way, or whose default it does not take itself
 */
export function closed<S extends Schema>(schema: S): S {
  return close(schema, '') as S;
}

function close(given: Schema, path: string): Schema {
  const conditions: unknown = Reflect.get(given, 'conditions');
  if (Array.isArray(conditions) && conditions.length > 0)
    throw new Error(`${named(path)} depends on others by when(), which cannot be described: use a test()`);
  const schema = given.clone();
  // Values are taken as sent; what is left of a cast then is to fill in defaults.
  schema.transforms = [];
  // Told by `type`, not by class: a plugin may bring its own copy of yup.
  switch (schema.type) {
    case 'object': {
      const object = schema as ObjectSchema<AnyObject>;
      const fields: Record<string, Schema> = {};
      for (const [name, field] of Object.entries(object.fields))
        fields[name] = closeField(field, path === '' ? name : `${path}.${name}`);
      return object.shape(fields).noUnknown();
    }
    case 'array': {
      const array = schema as Schema & { innerType?: unknown; of(inner: Schema): Schema };
      return array.innerType === undefined ? array : array.of(close(schemaOf(array.innerType, path), path));
    }
    case 'tuple': {
      const { types } = schema.spec as unknown as { types: unknown[] };
      const spec: object = { types: types.map((each) => close(schemaOf(each, path), path)) };
      return schema.clone(spec);
    }
    case 'mixed': {
      const meta: Record<string, unknown> = schema.meta() ?? {};
      if (meta.format !== 'map') return schema;
      return schema.meta({ values: close(schemaOf(meta.values, `${path}.*`), `${path}.*`) });
    }
    case 'number':
      return schema.test({
        name: 'finite',
        message: '${path} must be a finite number',
        test: (value: unknown) => typeof value !== 'number' || Number.isFinite(value),
      });
    default:
      return schema;
  }
}

function closeField(field: unknown, path: string): Schema {
  const schema = close(schemaOf(field, path), path);
  const standard: unknown = schema.getDefault();
  if (standard === undefined) return schema;
  if (schema.isValidSync(standard, { strict: true })) return schema.optional();
  if ('default' in schema.spec) throw new Error(`${named(path)} has a default that it does not take itself`);
  // yup makes up an object's default from its fields'; where one of them is required, so is the object.
  return schema.default(undefined).defined();
}

function schemaOf(value: unknown, path: string): Schema {
  if (isSchema(value)) return value;
  throw new Error(`${named(path)} is a reference or lazy, which cannot be described`);
}

function isSchema(value: unknown): value is Schema {
  return (
    typeof value === 'object' &&
    value !== null &&
    'validateSync' in value &&
    'getDefault' in value &&
    !isLazy(value)
  );
}

function isLazy(value: object): boolean {
  return 'type' in value && value.type === 'lazy';
}

function named(path: string): string {
  return path === '' ? 'the schema' : `the field '${path}'`;
}

/**
 * Makes the check of one action's `action_parameters`.
 * @param schema a schema that `closed` has made
 * @returns a function that gives the parameters with defaults filled in, or throws `invalid_parameters` with the
 *   problems by field in `details.fields`
 */
export function parameterCheck(schema: ObjectSchema<AnyObject>): (sent: unknown) => unknown {
  const hasDefaults = describesDefaults(schema.describe() as Defaults);
  return (sent) => {
    const value = sent ?? {};
    const excess = excessOf(value);
    if (excess !== undefined) throw invalid([{ field: 'action_parameters', message: excess }]);
    try {
      schema.validateSync(value, { strict: true, abortEarly: false, disableStackTrace: true });
    } catch (error) {
      if (!isValidationError(error)) throw error;
      throw invalid(problemsOf(error));
    }
    // The value is known to fit, so a cast only fills in defaults.
    return hasDefaults ? schema.cast(value, { assert: false }) : value;
  };
}

function invalid(fields: FieldProblem[]): ActionError {
  return new ActionError('invalid_parameters', fields.map(({ message }) => message).join('; '), {
    details: { fields },
  });
}

/** Why parameters are too much to be checked; undefined when they are not. */
export function excessOf(parameters: unknown): string | undefined {
  let level = [parameters];
  for (let depth = 0, values = 0; level.length > 0; depth++) {
    if (depth > MAX_LEVELS) return `action_parameters is nested more than ${MAX_LEVELS} levels deep`;
    values += level.length;
    if (values > MAX_VALUES) return `action_parameters has more than ${MAX_VALUES} values`;
    level = level.flatMap(valuesIn);
  }
  return undefined;
}

function valuesIn(value: unknown): unknown[] {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)
    ? Object.values(value)
    : [];
}

interface Defaults {
  default?: unknown;
  fields?: Record<string, Defaults>;
  innerType?: Defaults | Defaults[];
}

/** Whether a value that fits the schema may lack something that has a default, at any level. */
function describesDefaults({ fields = {}, innerType = [] }: Defaults): boolean {
  const inFields = Object.values(fields).some(
    (each) => each.default !== undefined || describesDefaults(each),
  );
  return inFields || [innerType].flat().some(describesDefaults);
}

function isValidationError(error: unknown): error is ValidationError {
  return ValidationError.isError(error);
}

function problemsOf(error: ValidationError): FieldProblem[] {
  const inner = error.inner.length > 0 ? error.inner : [error];
  return inner.slice(0, MAX_PROBLEMS).flatMap(fieldProblems).slice(0, MAX_PROBLEMS);
}

function fieldProblems({ path = '', type, params, message }: ValidationError): FieldProblem[] {
  const at = (name: string) => (name === '' ? 'action_parameters' : `action_parameters.${name}`);
  if ((type === 'noUnknown' || type === 'exact') && typeof params?.unknown === 'string') {
    return params.unknown
      .split(', ')
      .slice(0, MAX_PROBLEMS)
      .map((key) => {
        const name = cut(path === '' || path === 'this' ? key : `${path}.${key}`, 100);
        return { field: at(name), message: `there is no parameter '${name}'` };
      });
  }
  return [
    {
      // A map's keys are the caller's.
      field: at(path === 'this' ? '' : cut(path, 200)),
      message: cut(message.replace(/^this/, 'action_parameters'), MAX_MESSAGE),
    },
  ];
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}...`;
}
