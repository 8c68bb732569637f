import { stringifyExactly } from '../lib/exact-json.js';

/** The `response_body` of an error reply. */
export interface ReceivedError {
  errors: string[];
  /** Undefined when the reply has none: the original FleetManager sends none. */
  code: string | undefined;
  details: unknown;
}

/** Reads the `response_body` of an error reply; never throws. */
export function errorBodyOf(body: unknown): ReceivedError {
  const map: Record<string, unknown> = typeof body === 'object' && body !== null ? { ...body } : {};
  const errors = Array.isArray(map.errors) ? map.errors.map(textOf) : [];
  return { errors, code: typeof map.code === 'string' ? map.code : undefined, details: map.details };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : stringifyExactly(value);
}
