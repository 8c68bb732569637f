import { type Schema, ValidationError } from 'yup';

const MAX_PROBLEMS = 10;
const MAX_MESSAGE = 300;

/**
 * Makes the check of one action's results: what is wrong with one, beginning with the field that it is about; nothing
 * when it is what the action declares. For development: it costs as much as the result is large.
 * @param schema a schema that `closed` has made
 */
export function resultCheck(schema: Schema): (result: unknown) => string[] {
  return (result) => {
    try {
      schema.validateSync(result, { strict: true, abortEarly: false, disableStackTrace: true });
      return [];
    } catch (error) {
      const messages = ValidationError.isError(error) ? error.errors : [String(error)];
      return messages
        .slice(0, MAX_PROBLEMS)
        .map((each) => each.replace(/^this/, 'the result').slice(0, MAX_MESSAGE));
    }
  };
}
