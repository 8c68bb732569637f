import { ERROR_CODES } from '../../api/error-codes.js';
import type { ActionDescription } from '../../core/action-description.js';
import {
  IDEMPOTENCY_KEY,
  IDEMPOTENCY_KEY_PATTERN,
  IDEMPOTENCY_REPLAYED,
  IDEMPOTENCY_TEXT,
  REPLAYED_TEXT,
} from '../../core/idempotency-key.js';
import type { JsonSchema } from '../../core/json-schema.js';
import { codeSchema, ERROR_FIELDS, TIMEOUT_TEXT, TOKEN_SCHEMA } from '../../core/reply-schema.js';
import { REQUEST_ID, REQUEST_ID_PATTERN } from '../../core/request-id.js';
import { ErlangCodec } from '../codec/erlang.js';
import { jsonCodec } from '../codec/json.js';
import { APP_ID, REPLY_TYPE } from '../reply-to-channel.js';
import { DEAD_LETTERED_AT, ENDS_AT, MAY_HAVE_BEGUN, REASON } from '../suspect.js';

/** A part of an AsyncAPI document, as plain data. */
export type Part = Readonly<Record<string, unknown>>;

const BINDING = { bindingVersion: '0.3.0' };
/** A message comes in one of these encodings, and its reply in the same. */
const ENCODINGS: readonly string[] = [jsonCodec.contentType, new ErlangCodec().contentType];
const TEXT: JsonSchema = { type: 'string' };
const MILLISECONDS = 'in milliseconds since 1970.';

/** The names of the messages of an action: its request, and the reply with its result. */
export function messageNames({ name }: Pick<ActionDescription, 'name'>): { request: string; reply: string } {
  return { request: `${name}_request`, reply: `${name}_reply` };
}

/** The headers of every request. */
const HEADERS: Readonly<Record<string, JsonSchema>> = {
  'timeout-ms': {
    anyOf: [
      { type: 'number', minimum: 1 },
      { type: 'string', pattern: '^\\d{1,15}$' },
    ],
    description: `${TIMEOUT_TEXT} It counts from when a worker takes the request.`,
  },
  [REQUEST_ID]: {
    type: 'string',
    pattern: REQUEST_ID_PATTERN,
    description: 'The name of the request in the log of the service; by default its `message_id`.',
  },
  traceparent: { type: 'string', description: 'The trace of the caller (W3C Trace Context).' },
  tracestate: { type: 'string', description: 'Goes with `traceparent`.' },
};
/** Further headers of requests that change something. */
const CHANGE_HEADERS: Readonly<Record<string, JsonSchema>> = {
  [IDEMPOTENCY_KEY]: { type: 'string', pattern: IDEMPOTENCY_KEY_PATTERN, description: IDEMPOTENCY_TEXT },
};

/** AMQP has properties besides headers, which AsyncAPI does not describe. */
const REQUEST_PROPERTIES: JsonSchema = {
  type: 'object',
  properties: {
    content_type: { ...TEXT, description: `${ENCODINGS.join(' or ')}; by default it is recognised.` },
    reply_to: { ...TEXT, description: 'The queue that the reply goes to.' },
    correlation_id: { ...TEXT, description: 'The reply has the same one.' },
    message_id: {
      ...TEXT,
      description:
        'Another one for each request: by it the service knows a request that is delivered again, and does no change twice.',
    },
    expiration: {
      type: 'string',
      pattern: '^\\d+$',
      description:
        'For the broker: no worker takes the request later, in milliseconds. The same as `timeout-ms`.',
    },
    priority: { type: 'integer', minimum: 0, maximum: 255, default: 0 },
    delivery_mode: {
      enum: [1, 2],
      description: '2: it survives a restart of the broker, and so does its reply.',
    },
    user_id: { ...TEXT, description: 'The user of the connection, which the broker verifies: the caller.' },
    timestamp: {
      type: 'integer',
      description:
        'When it was sent, in seconds since 1970. A request that is delivered again has only the rest of its time, counted from then.',
    },
  },
};

const REPLY_PROPERTIES: JsonSchema = {
  type: 'object',
  properties: {
    content_type: { enum: ENCODINGS, description: 'That of the request.' },
    correlation_id: { ...TEXT, description: 'That of the request.' },
    type: { const: REPLY_TYPE },
    app_id: { const: APP_ID },
    timestamp: { type: 'integer', description: 'When it was sent, in seconds since 1970.' },
    delivery_mode: { enum: [1, 2], description: 'That of the request.' },
  },
  required: ['content_type', 'type', 'app_id', 'timestamp'],
};

/** What messages of one kind have in common. */
export const MESSAGE_TRAITS: Part = {
  request: {
    contentType: jsonCodec.contentType,
    correlationId: {
      description: 'The AMQP property `correlation_id`.',
      location: '$message.header#/correlation_id',
    },
    bindings: { amqp: BINDING },
    'x-content-types': ENCODINGS,
    'x-amqp-properties': REQUEST_PROPERTIES,
  },
  reply: {
    headers: reference('components/schemas', 'ReplyHeaders'),
    contentType: jsonCodec.contentType,
    correlationId: {
      description: 'The AMQP property `correlation_id`.',
      location: '$message.header#/correlation_id',
    },
    bindings: { amqp: { messageType: REPLY_TYPE, ...BINDING } },
    'x-content-types': ENCODINGS,
    'x-amqp-properties': REPLY_PROPERTIES,
  },
};

/** The schemas of the headers of messages. */
export const HEADER_SCHEMAS: Readonly<Record<string, JsonSchema>> = {
  ReadHeaders: { type: 'object', properties: HEADERS },
  ChangeHeaders: { type: 'object', properties: { ...HEADERS, ...CHANGE_HEADERS } },
  ReplyHeaders: {
    type: 'object',
    properties: { [IDEMPOTENCY_REPLAYED]: { const: true, description: REPLAYED_TEXT } },
  },
};

/** The envelope of OpenAperture, which is around requests and replies. */
const ENVELOPE_FIELDS: Readonly<Record<string, JsonSchema>> = {
  queue_name: {
    type: ['string', 'null'],
    description: "A field of OpenAperture's envelope; the reply has it too.",
  },
  id: {
    anyOf: [{ type: 'integer', minimum: 0 }, { type: 'string', pattern: '^\\d{1,19}$' }, { type: 'null' }],
    description: "The record of the request in OpenAperture's Manager.",
  },
};

/** The request of an action. */
export function requestMessage({ name, summary, effect, target, parameters }: ActionDescription): Part {
  const { required } = parameters;
  return {
    name: messageNames({ name }).request,
    summary,
    tags: [{ name: effect }],
    traits: [reference('components/messageTraits', 'request')],
    headers: reference('components/schemas', effect === 'change' ? 'ChangeHeaders' : 'ReadHeaders'),
    payload: {
      type: 'object',
      properties: {
        status: { enum: ['not_started', 'in_progress', null] },
        request_body: {
          type: 'object',
          properties: {
            action: { const: name },
            ...(target === 'cluster' && { etcd_token: TOKEN_SCHEMA }),
            ...(target === 'optional' && { etcd_token: { ...TOKEN_SCHEMA, type: ['string', 'null'] } }),
            action_parameters: reference('components/schemas', `${name}_parameters`),
          },
          required: [
            'action',
            ...(target === 'cluster' ? ['etcd_token'] : []),
            ...(Array.isArray(required) && required.length > 0 ? ['action_parameters'] : []),
          ],
          additionalProperties: false,
        },
        response_body: { description: 'Ignored.' },
        ...ENVELOPE_FIELDS,
      },
      required: ['request_body'],
    },
  };
}

/** The reply with the result of an action. */
export function replyMessage({ name }: Pick<ActionDescription, 'name'>): Part {
  return {
    name: messageNames({ name }).reply,
    summary: `The result of ${name}.`,
    traits: [reference('components/messageTraits', 'reply')],
    payload: replySchema('completed', {
      response_body: reference('components/schemas', `${name}_result`),
      details: reference('components/schemas', 'ReplyDetails'),
    }),
  };
}

/** The reply with an error, to a request of any action, and to messages that are no requests. */
export const ERROR_MESSAGE: Part = {
  name: 'ErrorReply',
  summary: 'An error.',
  traits: [reference('components/messageTraits', 'reply')],
  payload: replySchema('error', {
    response_body: {
      type: 'object',
      properties: { code: codeSchema(Object.keys(ERROR_CODES), {}), ...ERROR_FIELDS },
      required: ['errors', 'code'],
    },
  }),
};

/** A message that was given up. */
export const DEAD_MESSAGE: Part = {
  name: 'DeadLetter',
  summary: 'A message that cannot be read, or that was given up: its body as it was sent, and why.',
  headers: {
    type: 'object',
    properties: {
      [REASON]: { type: 'string', description: 'Why it is here, for people.' },
      [DEAD_LETTERED_AT]: { type: 'integer', description: `When it came here, ${MILLISECONDS}` },
      [ENDS_AT]: { type: 'integer', description: `When its caller stops waiting, ${MILLISECONDS}` },
      [MAY_HAVE_BEGUN]: { type: 'boolean', description: 'A worker may have begun it.' },
    },
    required: [REASON, DEAD_LETTERED_AT, ENDS_AT],
  },
  payload: {},
  bindings: { amqp: BINDING },
};

/** A reference to an entry of this part of the document. */
export function reference(part: string, name: string): JsonSchema {
  return { $ref: `#/${part}/${name}` };
}

function replySchema(status: string, fields: Readonly<Record<string, JsonSchema>>): JsonSchema {
  return {
    type: 'object',
    properties: {
      status: { const: status },
      ...fields,
      request_body: {
        type: 'object',
        description: 'The request as it was sent; empty when the reply would be too large with it.',
      },
      ...ENVELOPE_FIELDS,
    },
    required: ['status', 'response_body', 'request_body', 'queue_name', 'id'],
  };
}
