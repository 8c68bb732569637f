import { type Schema, ValidationError } from 'yup';
import { fastCheck } from './fast-check.js';

const MAX_PROBLEMS = 10;
const MAX_MESSAGE = 300;

/**
 * Makes a function that checks the results of one action against its schema. For development only: it takes long for large
 * results.
 * @param schema made by `strictSchema`
 * @returns a function that returns a message for each problem, beginning with the field; empty when the result is valid
 */
export function resultCheck(schema: Schema): (result: unknown) => string[] {
  const isValid = fastCheck(schema);
  return (result) => {
    if (isValid(result)) return [];
    try {
      schema.validateSync(result, { strict: true, abortEarly: false, disableStackTrace: true });
      return [];
    } catch (error) {
      const messages = ValidationError.isError(error) ? error.errors : [String(error)];
      return messages
        .slice(0, MAX_PROBLEMS)
        .map((each) => each.replace(/^this\b/, 'the result').slice(0, MAX_MESSAGE));
    }
  };
}
