import type { JsonSchema } from '../../core/json-schema.js';
import { REQUEST_ID } from '../../core/request-id.js';

/** A part of an OpenAPI document, as plain data. */
export type Part = Readonly<Record<string, unknown>>;

/** Which tokens the gateway asks for. */
export interface Tokens {
  /** Whether callers must send one. */
  ofCallers: boolean;
  /** Whether those who read the metrics must send one of their own. */
  ofMetrics: boolean;
}

/** The names of the security schemes. */
export const [CALLER_SCHEME, METRICS_SCHEME] = ['bearer', 'metrics'];

/** The headers that every response has. */
export const RESPONSE_HEADERS: Part = { [REQUEST_ID]: reference('headers', REQUEST_ID) };

export const PLAIN_TEXT: JsonSchema = { type: 'string' };

/** The content of a body in JSON. */
export function json(schema: JsonSchema): Part {
  return { 'application/json': { schema } };
}

/** A reference to a component. */
export function reference(
  kind: 'schemas' | 'headers' | 'parameters' | 'responses',
  name: string,
): JsonSchema {
  return { $ref: `#/components/${kind}/${name}` };
}
