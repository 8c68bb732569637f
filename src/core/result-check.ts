import { type Schema, ValidationError } from 'yup';

const MAX_PROBLEMS = 10;
const MAX_MESSAGE = 300;

/**
 * Makes the check of one action's results. It gives a message for each problem, which begins with the field; none when
 * the result is what the action declares. For development: its cost grows with the size of the result.
 * @param schema made by `strictSchema`
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
