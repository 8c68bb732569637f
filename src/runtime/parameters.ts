import { ActionError } from '../action-error.js';
import { type AnyObject, type ObjectSchema, type Schema, ValidationError } from 'yup';

/** What is wrong with one field of a request. */
export interface FieldProblem {
  field: string;
  message: string;
}

const MAX_PROBLEMS = 20;
const MAX_MESSAGE = 300;

/**
 * The same schema with every object in it closed and every number finite: yup alone lets unknown keys pass (or strips
 * them) at each level that does not refuse them, and takes Infinity for a number, which `1e999` in JSON decodes to.
 */
export function closed(schema: ObjectSchema<AnyObject>): ObjectSchema<AnyObject> {
  return close(schema) as ObjectSchema<AnyObject>;
}

function close(schema: Schema): Schema {
  // Told by `type`, not by class: a plugin may bring its own copy of yup.
  switch (schema.type) {
    case 'object': {
      const object = schema as ObjectSchema<AnyObject>;
      const fields: Record<string, Schema> = {};
      for (const [name, field] of Object.entries(object.fields)) {
        if (!isSchema(field))
          throw new Error(`the field '${name}' is a reference or lazy, which cannot be described`);
        fields[name] = close(field);
      }
      return object.shape(fields).noUnknown();
    }
    case 'array': {
      const array = schema as Schema & { innerType?: Schema; of(inner: Schema): Schema };
      return isSchema(array.innerType) ? array.of(close(array.innerType)) : array;
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

function isSchema(value: unknown): value is Schema {
  return (
    typeof value === 'object' &&
    value !== null &&
    'describe' in value &&
    'validateSync' in value &&
    !isLazy(value)
  );
}

function isLazy(value: object): boolean {
  return 'type' in value && value.type === 'lazy';
}

/**
 * Makes the check of one action's `action_parameters`.
 * @param schema a schema that `closed` has made
 * @returns a function that gives the parameters with defaults filled in, or throws `invalid_parameters` with the
 *   problems by field in `details.fields`
 */
export function parameterCheck(schema: ObjectSchema<AnyObject>): (sent: unknown) => unknown {
  return (sent) => {
    const value = sent ?? {};
    try {
      schema.validateSync(value, { strict: true, abortEarly: false, disableStackTrace: true });
    } catch (error) {
      if (!isValidationError(error)) throw error;
      const fields = problemsOf(error);
      throw new ActionError('invalid_parameters', fields.map(({ message }) => message).join('; '), {
        details: { fields },
      });
    }
    // The value is known to fit, so a cast only fills in defaults.
    return schema.cast(value, { assert: false });
  };
}

function isValidationError(error: unknown): error is ValidationError {
  return ValidationError.isError(error);
}

function problemsOf(error: ValidationError): FieldProblem[] {
  const inner = error.inner.length > 0 ? error.inner : [error];
  return inner.slice(0, MAX_PROBLEMS).flatMap(fieldProblems);
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
      field: at(path === 'this' ? '' : path),
      message: cut(message.replace(/^this/, 'action_parameters'), MAX_MESSAGE),
    },
  ];
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}...`;
}
