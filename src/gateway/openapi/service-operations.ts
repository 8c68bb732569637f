import type { JsonSchema } from '../../core/json-schema.js';
import { ANY_REFUSAL, refusals } from './error-responses.js';
import {
  json,
  METRICS_SCHEME,
  type Part,
  PLAIN_TEXT,
  reference,
  RESPONSE_HEADERS,
  type Tokens,
} from './parts.js';

/** The catalogue. */
export function catalogueOperation({ ofCallers }: Tokens): Part {
  return {
    operationId: 'getActions',
    tags: ['service'],
    summary: 'Lists the actions that are served, with JSON Schemas of their parameters and results.',
    responses: {
      200: {
        description: 'The catalogue.',
        headers: RESPONSE_HEADERS,
        content: json({
          type: 'object',
          properties: {
            actions: { type: 'array', items: reference('schemas', 'ActionDescription') },
            sandbox_cluster: {
              type: 'string',
              description: 'The etcd token of the simulated cluster, when there is one.',
            },
          },
          required: ['actions'],
        }),
      },
      ...refusals(ANY_REFUSAL, ofCallers),
    },
  };
}

/** The document itself. */
export function documentOperation({ ofCallers }: Tokens): Part {
  return {
    operationId: 'getOpenApi',
    tags: ['service'],
    summary: 'This document.',
    responses: {
      200: {
        description: 'An OpenAPI document.',
        headers: {
          ...RESPONSE_HEADERS,
          etag: { description: 'Changes with the document.', required: true, schema: PLAIN_TEXT },
        },
        content: json({ type: 'object' }),
      },
      304: { description: 'The same document as the one that `if-none-match` names.' },
      ...refusals(ANY_REFUSAL, ofCallers),
    },
  };
}

const READINESS_SCHEMA: JsonSchema = {
  type: 'object',
  properties: {
    ready: { type: 'boolean' },
    reasons: { type: 'array', items: { type: 'string' }, description: 'Why it is not, for people.' },
  },
  required: ['ready', 'reasons'],
};

/** The health, which orchestrators ask for without a token. */
export const HEALTH_PATHS: Part = {
  '/livez': {
    get: {
      operationId: 'getLiveness',
      tags: ['service'],
      summary: 'Whether the event loop of the service turns.',
      security: [],
      responses: {
        200: {
          description: 'It does.',
          headers: RESPONSE_HEADERS,
          content: json({ type: 'object', properties: { alive: { const: true } }, required: ['alive'] }),
        },
      },
    },
  },
  '/readyz': {
    get: {
      operationId: 'getReadiness',
      tags: ['service'],
      summary: 'Whether requests are taken, and this API can send them.',
      security: [],
      responses: {
        200: { description: 'Ready.', headers: RESPONSE_HEADERS, content: json(READINESS_SCHEMA) },
        503: { description: 'Not ready.', headers: RESPONSE_HEADERS, content: json(READINESS_SCHEMA) },
      },
    },
  },
};

/** The metrics, where they are on the port of the gateway. */
export function metricsOperation({ ofCallers, ofMetrics }: Tokens): Part {
  return {
    operationId: 'getMetrics',
    tags: ['service'],
    summary: 'Metrics for Prometheus.',
    ...(ofMetrics && { security: [{ [METRICS_SCHEME]: [] }] }),
    responses: {
      200: {
        description: "Prometheus' text format.",
        headers: RESPONSE_HEADERS,
        content: { 'text/plain': { schema: PLAIN_TEXT } },
      },
      ...refusals([403, 408, 431, 500], ofCallers || ofMetrics),
    },
  };
}

/** The schema of an entry of the catalogue. */
export const DESCRIPTION_SCHEMA: JsonSchema = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    summary: { type: 'string' },
    target: {
      enum: ['cluster', 'optional', 'none'],
      description: 'Whether it needs an etcd_token, accepts one, or refuses one.',
    },
    effect: { enum: ['read', 'change'] },
    redelivery: {
      enum: ['run-again', 'refuse'],
      description: 'What happens to it when the worker that ran it is lost.',
    },
    timeout_ms: { type: 'number', description: 'How long one run may take, in milliseconds.' },
    parameters: { type: 'object', description: 'A JSON Schema.' },
    result: { type: 'object', description: 'A JSON Schema.' },
  },
  required: ['name', 'summary', 'target', 'effect', 'redelivery', 'timeout_ms', 'parameters', 'result'],
};
