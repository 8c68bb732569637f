import { DEFAULT_TIMEOUT_MS } from '../../client/route.js';
import type { ActionDescription } from '../../core/action-description.js';
import {
  IDEMPOTENCY_KEY,
  IDEMPOTENCY_REPLAYED,
  IDEMPOTENCY_TEXT,
  REPLAYED_TEXT,
} from '../../core/idempotency-key.js';
import type { JsonSchema } from '../../core/json-schema.js';
import { TIMEOUT_SCHEMA, TIMEOUT_TEXT, TOKEN_SCHEMA } from '../../core/reply-schema.js';
import { REQUEST_ID, REQUEST_ID_PATTERN } from '../../core/request-id.js';
import { ENVELOPE_FIELDS } from './envelope-fields.js';
import { errorStatuses, refusals } from './error-responses.js';
import { json, type Part, PLAIN_TEXT, reference, RESPONSE_HEADERS, type Tokens } from './parts.js';

const REQUEST_ID_TEXT =
  'The id of the request in the log of the service. A name for logs only: two calls with the same one are two requests.';
const REQUEST_ID_SCHEMA: JsonSchema = { type: 'string', pattern: REQUEST_ID_PATTERN };
/** The headers of responses, by their names. */
export const HEADERS: Part = {
  [REQUEST_ID]: { description: REQUEST_ID_TEXT, required: true, schema: REQUEST_ID_SCHEMA },
  [IDEMPOTENCY_REPLAYED]: { description: REPLAYED_TEXT, schema: { const: 'true' } },
};

/** The headers of calls, by their names. */
export const PARAMETERS: Part = {
  'timeout-ms': header('timeout-ms', TIMEOUT_TEXT, { ...TIMEOUT_SCHEMA, default: DEFAULT_TIMEOUT_MS }),
  [REQUEST_ID]: header(
    REQUEST_ID,
    `${REQUEST_ID_TEXT} Another one than the pattern allows is replaced.`,
    REQUEST_ID_SCHEMA,
  ),
  traceparent: header('traceparent', 'The trace of the caller (W3C Trace Context).', PLAIN_TEXT),
  tracestate: header('tracestate', 'Goes with `traceparent`.', PLAIN_TEXT),
  [IDEMPOTENCY_KEY]: header(
    IDEMPOTENCY_KEY,
    `${IDEMPOTENCY_TEXT} In quotes, or bare when it has no spaces, commas, semicolons, quotes or backslashes.`,
    PLAIN_TEXT,
  ),
};

function header(name: string, description: string, schema: JsonSchema): Part {
  return { name, in: 'header', description, schema };
}

/** The headers of each call of an action. */
const CALL_HEADERS: readonly Part[] = ['timeout-ms', REQUEST_ID, 'traceparent', 'tracestate'].map((name) =>
  reference('parameters', name),
);
/** Further headers of calls that change something. */
const CHANGE_HEADERS: readonly Part[] = [reference('parameters', IDEMPOTENCY_KEY)];

/** The call of an action. */
export function actionOperation(
  { name, summary, effect, target, redelivery, timeout_ms, parameters, result }: ActionDescription,
  { ofCallers }: Pick<Tokens, 'ofCallers'>,
): Part {
  const { required } = parameters;
  const needed = [
    ...(target === 'cluster' ? ['etcd_token'] : []),
    ...(Array.isArray(required) && required.length > 0 ? ['action_parameters'] : []),
  ];
  return {
    operationId: name,
    tags: [effect],
    summary,
    description: descriptionOf({ effect, redelivery, timeout_ms }),
    parameters: [...CALL_HEADERS, ...(effect === 'change' ? CHANGE_HEADERS : [])],
    requestBody: {
      required: true,
      content: json({
        type: 'object',
        properties: {
          ...(target === 'cluster' && { etcd_token: TOKEN_SCHEMA }),
          ...(target === 'optional' && { etcd_token: { ...TOKEN_SCHEMA, type: ['string', 'null'] } }),
          action_parameters: reference('schemas', `${name}_parameters`),
        },
        ...(needed.length > 0 && { required: needed }),
        additionalProperties: false,
      }),
    },
    responses: {
      200: {
        description: typeof result.description === 'string' ? result.description : 'The result.',
        headers:
          effect === 'read'
            ? RESPONSE_HEADERS
            : { ...RESPONSE_HEADERS, [IDEMPOTENCY_REPLAYED]: reference('headers', IDEMPOTENCY_REPLAYED) },
        content: json({
          type: 'object',
          properties: {
            status: { const: 'completed' },
            response_body: reference('schemas', `${name}_result`),
            details: reference('schemas', 'ReplyDetails'),
            ...ENVELOPE_FIELDS,
          },
          required: ['status', 'response_body'],
        }),
      },
      ...refusals(errorStatuses(), ofCallers),
    },
  };
}

function descriptionOf({
  effect,
  redelivery,
  timeout_ms,
}: Pick<ActionDescription, 'effect' | 'redelivery' | 'timeout_ms'>): string {
  const again =
    redelivery === 'run-again'
      ? 'It runs again when the worker that ran it is lost.'
      : 'It is not run again when the worker that ran it is lost: its outcome is unknown then (`outcome_unknown`).';
  return `${effect === 'read' ? 'Changes nothing.' : 'Changes the cluster.'} One run may take ${timeout_ms / 1_000} s. ${again}`;
}
