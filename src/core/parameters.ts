import { ActionError } from '../api/action-error.js';
import { copyPlain } from '../lib/copy-plain.js';
import { fastCheck } from './fast-check.js';
import type { FieldProblem } from './call.js';
import { type AnyObject, type ObjectSchema, type Schema, ValidationError } from 'yup';

const MAX_PROBLEMS = 20;
const MAX_MESSAGE = 300;
/**
 * yup needs some microseconds for each value and several stack frames for each level; a 1 MB message can contain too
 * many.
 */
const MAX_VALUES = 10_000;
const MAX_LEVELS = 32;

/**
 * Makes a strict copy of a schema: values are not cast, every object refuses unknown keys, and every number must be
 * finite. By default yup accepts or strips unknown keys, and accepts Infinity, which `1e999` in JSON decodes to. A
 * field with a default may be left out, as in yup's casts.
 * @throws Error that names a field that cannot be checked strictly, or that does not accept its own default
 */
export function strictSchema<S extends Schema>(schema: S): S {
  return strictAt(schema, '') as S;
}

function strictAt(given: Schema, path: string): Schema {
  const conditions: unknown = Reflect.get(given, 'conditions');
  if (Array.isArray(conditions) && conditions.length > 0)
    throw new Error(`${named(path)} depends on others by when(), which cannot be described: use a test()`);
  const schema = given.clone();
  // Without transforms, a cast only fills in defaults.
  schema.transforms = [];
  // By `type`, not by class, because a plugin may have its own copy of yup.
  switch (schema.type) {
    case 'object': {
      const object = schema as ObjectSchema<AnyObject>;
      const fields: Record<string, Schema> = {};
      for (const [name, field] of Object.entries(object.fields))
        fields[name] = strictField(field, path === '' ? name : `${path}.${name}`);
      return object.shape(fields).noUnknown();
    }
    case 'array': {
      const array = schema as Schema & { innerType?: unknown; of(inner: Schema): Schema };
      return array.innerType === undefined
        ? array
        : array.of(strictAt(schemaOf(array.innerType, path), path));
    }
    case 'tuple': {
      const { types } = schema.spec as unknown as { types: unknown[] };
      const spec: object = { types: types.map((each) => strictAt(schemaOf(each, path), path)) };
      return schema.clone(spec);
    }
    case 'mixed': {
      const meta: Record<string, unknown> = schema.meta() ?? {};
      if (meta.format !== 'map') return schema;
      return schema.meta({ values: strictAt(schemaOf(meta.values, `${path}.*`), `${path}.*`) });
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

function strictField(field: unknown, path: string): Schema {
  const schema = strictAt(schemaOf(field, path), path);
  const defaultValue: unknown = schema.getDefault();
  if (defaultValue === undefined) return schema;
  if (schema.isValidSync(defaultValue, { strict: true })) return schema.optional();
  if ('default' in schema.spec) throw new Error(`${named(path)} does not accept its own default`);
  // This default was made by yup from the defaults of the object's fields, and a required field has none.
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
 * Makes a function that checks the parameters of one action.
 * @param schema made by `strictSchema`
 * @param name the name that callers use for the parameters; the field of each problem begins with it
 * @returns a function that returns a copy of the parameters with defaults filled in, or throws `invalid_parameters`
 *   with the problems in `details.fields`. A copy, because a handler may change it, and the reply contains the request
 *   as it was sent.
 */
export function parameterCheck(schema: ObjectSchema<AnyObject>, name: string): (sent: unknown) => unknown {
  const fillsDefaults = hasDefaults(schema.describe() as Description);
  const isValid = fastCheck(schema);
  const requireValid = (value: unknown) => {
    try {
      schema.validateSync(value, { strict: true, abortEarly: false, disableStackTrace: true });
    } catch (error) {
      if (isValidationError(error)) throw invalid(problemsOf(error, name));
      // yup cannot print a bigint in the message of a problem.
      const large = largeIntegers(value, name);
      throw large.length === 0 ? error : invalid(large);
    }
  };
  return (sent) => {
    const value = sent ?? {};
    const sizeProblem = sizeProblemOf(value, name);
    if (sizeProblem !== undefined) throw invalid([{ field: name, message: sizeProblem }]);
    // yup decides on the rest, and writes the texts of the problems.
    if (!isValid(value)) requireValid(value);
    const copy = copyPlain(value);
    // The value is valid, so a cast only fills in defaults.
    return fillsDefaults ? schema.cast(copy) : copy;
  };
}

function invalid(fields: FieldProblem[]): ActionError {
  return new ActionError('invalid_parameters', fields.map(({ message }) => message).join('; '), {
    details: { fields },
  });
}

/**
 * Why the parameters are too large to be checked; undefined when they are not.
 * @param name the name that callers use for the parameters
 */
export function sizeProblemOf(parameters: unknown, name: string): string | undefined {
  if (isSmall(parameters)) return undefined;
  let level = [parameters];
  for (let depth = 0, values = 0; level.length > 0; depth++) {
    if (depth > MAX_LEVELS) return `${name} is nested more than ${MAX_LEVELS} levels deep`;
    values += level.length;
    if (values > MAX_VALUES) return `${name} has more than ${MAX_VALUES} values`;
    level = level.flatMap(valuesIn);
  }
  return undefined;
}

/** Whether it is a map or a list of a few plain values, as most parameters are. */
function isSmall(parameters: unknown): boolean {
  if (typeof parameters !== 'object' || parameters === null) return true;
  const values = Object.values(parameters);
  if (values.length >= MAX_VALUES) return false;
  for (const each of values) if (typeof each === 'object' && each !== null) return false;
  return true;
}

/** A problem for each whole number that is too large for a JavaScript number. */
function largeIntegers(value: unknown, field: string): FieldProblem[] {
  if (typeof value === 'bigint')
    return [{ field, message: `${field} must not be beyond ±${Number.MAX_SAFE_INTEGER}` }];
  if (typeof value !== 'object' || value === null) return [];
  const path = (key: string) => (Array.isArray(value) ? `${field}[${key}]` : `${field}.${cut(key, 100)}`);
  return Object.entries(value)
    .flatMap(([key, each]) => largeIntegers(each, path(key)))
    .slice(0, MAX_PROBLEMS);
}

function valuesIn(value: unknown): unknown[] {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)
    ? Object.values(value)
    : [];
}

/** The part of yup's `describe()` that is used here. */
interface Description {
  default?: unknown;
  fields?: Record<string, Description>;
  innerType?: Description | Description[];
}

/** Whether a field at any level has a default. */
function hasDefaults({ fields = {}, innerType = [] }: Description): boolean {
  const inFields = Object.values(fields).some((each) => each.default !== undefined || hasDefaults(each));
  return inFields || [innerType].flat().some(hasDefaults);
}

function isValidationError(error: unknown): error is ValidationError {
  return ValidationError.isError(error);
}

function problemsOf(error: ValidationError, name: string): FieldProblem[] {
  return (
    error.inner
      // What yup's exact() finds, the strict schema finds too.
      .filter(({ type }) => type !== 'exact')
      .flatMap((each) => fieldProblems(each, name))
      .slice(0, MAX_PROBLEMS)
  );
}

function fieldProblems(
  { path = '', type, params, message }: ValidationError,
  parameters: string,
): FieldProblem[] {
  const at = (name: string) => (name === '' ? parameters : `${parameters}.${name}`);
  if (type === 'noUnknown' && typeof params?.unknown === 'string') {
    return params.unknown.split(', ', MAX_PROBLEMS).map((key) => {
      const name = cut(path === '' ? key : `${path}.${key}`, 100);
      return { field: at(name), message: `unknown parameter '${name}'` };
    });
  }
  return [
    {
      // Cut, because the caller chooses the keys of a map.
      field: at(cut(path, 200)),
      // yup calls the whole value `this`.
      message: cut(
        withoutValue(path === '' ? message.replace(/^this/, () => parameters) : message),
        MAX_MESSAGE,
      ),
    },
  ];
}

/** What yup quotes of a value that is not of the type of its schema, at the end of a message. */
const QUOTED = /(?:, but the final value was| for value|\. The validated value was): `[^]*$/;

/** A value may be a secret, and messages are logged. */
export function withoutValue(message: string): string {
  return message.replace(QUOTED, '');
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}...`;
}
