import { stringifyExactly } from '../lib/exact-json.js';
import { fieldsOf } from '../lib/fields-of.js';

/** The `response_body` of an error reply. */
export interface ReceivedError {
  errors: string[];
  /** Undefined when the reply has none: the original FleetManager sends none. */
  code: string | undefined;
  details: unknown;
  /** Undefined when the request is in no trace. */
  traceId: string | undefined;
}

/** Reads the `response_body` of an error reply; never throws. */
export function errorBodyOf(body: unknown): ReceivedError {
  const { errors, code, details, trace_id: traceId } = fieldsOf(body);
  return {
    errors: Array.isArray(errors) ? errors.map(textOf) : [],
    code: typeof code === 'string' ? code : undefined,
    details,
    traceId: typeof traceId === 'string' ? traceId : undefined,
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : stringifyExactly(value);
}
