import { stringifyExactly } from '../lib/exact-json.js';
import { fieldsOf } from '../lib/fields-of.js';

/** The `response_body` of an error reply. */
export interface ReceivedError {
  errors: string[];
  /** Undefined when the reply has none: the original FleetManager sends none. */
  code: string | undefined;
  details: unknown;
}

/** Reads the `response_body` of an error reply; never throws. */
export function errorBodyOf(body: unknown): ReceivedError {
  const { errors, code, details } = fieldsOf(body);
  return {
    errors: Array.isArray(errors) ? errors.map(textOf) : [],
    code: typeof code === 'string' ? code : undefined,
    details,
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : stringifyExactly(value);
}
