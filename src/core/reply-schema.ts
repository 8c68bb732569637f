import { CLUSTER_TOKEN } from '../api/cluster.js';
import { MAX_TIMEOUT_MS } from './caller-timeout.js';
import type { JsonSchema } from './json-schema.js';

// The JSON Schemas of what every request and every reply has, for the documents that describe the service to programs.

/** The etcd token of a cluster, in a request. */
export const TOKEN_SCHEMA: JsonSchema = {
  type: 'string',
  pattern: CLUSTER_TOKEN.source,
  description: 'The etcd token of the cluster, or its name in CLUSTERS_FILE.',
};

/** How long a caller waits, in milliseconds. */
export const TIMEOUT_SCHEMA: JsonSchema = { type: 'integer', minimum: 1 };
export const TIMEOUT_TEXT = `How long the caller waits, in milliseconds; more than ${MAX_TIMEOUT_MS} counts as that. The work is stopped then.`;

/** The `details` beside a result. */
export const REPLY_DETAILS_SCHEMA: JsonSchema = {
  type: 'object',
  description: 'Only with a result that may lack something.',
  properties: {
    warnings: { type: 'array', items: { type: 'string' }, description: 'What may be missing, for people.' },
    unreachable: {
      type: 'array',
      items: {
        type: 'object',
        properties: {
          host: { type: 'string', description: 'Its address or host name.' },
          code: { type: 'string', description: 'The error code, such as host_unreachable.' },
          reason: { type: 'string', description: 'For people.' },
        },
        required: ['host', 'code', 'reason'],
      },
      description:
        'The machines and hosts that did not answer: what they have is missing. Absent: none is known.',
    },
  },
  required: ['warnings'],
};

/** The fields of an error besides its code. */
export const ERROR_FIELDS: Readonly<Record<string, JsonSchema>> = {
  errors: { type: 'array', items: { type: 'string' }, description: 'What has happened, for people.' },
  details: { description: 'Facts for programs; which ones depends on the code.' },
  trace_id: {
    type: 'string',
    pattern: '^[0-9a-f]{32}$',
    description: 'The trace in which the service has recorded the request, if there is one.',
  },
};

/** The code of an error. @param codes those that are known; a plugin has others, with this schema */
export function codeSchema(codes: readonly string[], others?: JsonSchema): JsonSchema {
  const known: JsonSchema = { type: 'string', enum: codes };
  const either = others === undefined ? known : { anyOf: [known, { type: 'string', ...others }] };
  return { ...either, description: 'The error code, for programs.' };
}
