import { STATUS_CODES } from 'node:http';
import { ERROR_CODES, errorCodeInfo } from '../../api/error-codes.js';
import type { JsonSchema } from '../../core/json-schema.js';
import { codeSchema, ERROR_FIELDS } from '../../core/reply-schema.js';
import { HTTP_STATUSES } from '../http-status.js';
import { PROBLEM_TYPE, PROBLEM_URN } from '../problem.js';
import { ENVELOPE_FIELDS } from './envelope-fields.js';
import { json, type Part, PLAIN_TEXT, reference, RESPONSE_HEADERS } from './parts.js';

const UNAUTHORIZED = 401;
/** The codes with each status that the gateway gives itself, besides those of `HTTP_STATUSES`. */
const OWN_CODES: readonly [status: number, code: string][] = [
  [UNAUTHORIZED, 'forbidden'],
  [408, 'invalid_request'],
  [414, 'invalid_request'],
  [415, 'invalid_request'],
  [431, 'invalid_request'],
];
/** Which codes of a plugin's own have these statuses, as in `httpStatusOf`. */
const PLUGIN_CODES: Readonly<Record<number, JsonSchema>> = {
  400: { pattern: '^invalid_' },
  404: { pattern: '_not_found$' },
  500: {},
};
/** The statuses with which any request may be refused. */
export const ANY_REFUSAL: readonly number[] = [403, 408, 431, 500, 503];

const PROBLEM_FIELDS: Readonly<Record<string, JsonSchema>> = {
  type: {
    type: 'string',
    format: 'uri-reference',
    description: `\`${PROBLEM_URN}CODE\`; \`about:blank\` when there is no code.`,
  },
  title: { type: 'string', description: 'What the code means.' },
  status: { type: 'integer', description: 'The status of the response.' },
  detail: { type: 'string', description: 'What has happened, for people: `errors` as one text.' },
};

/** The schemas of both forms of an error. */
export const ERROR_SCHEMAS: Readonly<Record<string, JsonSchema>> = {
  ErrorReply: {
    type: 'object',
    properties: {
      status: { const: 'error' },
      response_body: {
        type: 'object',
        properties: { code: { type: 'string' }, ...ERROR_FIELDS },
        required: ['errors', 'code'],
      },
      ...ENVELOPE_FIELDS,
    },
    required: ['status', 'response_body'],
  },
  Problem: {
    type: 'object',
    description: 'Problem details (RFC 9457).',
    properties: { ...PROBLEM_FIELDS, code: { type: 'string' }, ...ERROR_FIELDS },
    required: ['type', 'title', 'status', 'detail', 'errors', 'code'],
  },
};

/** The responses with an error, by the names that `refusals` refers to. */
export function errorResponses(): Part {
  return Object.fromEntries(errorStatuses().map((status) => [`Error${status}`, errorResponse(status)]));
}

/** The statuses of errors, ascending. */
export function errorStatuses(): number[] {
  const statuses = [...Object.values(HTTP_STATUSES), ...OWN_CODES.map(([status]) => status)];
  return [...new Set(statuses)].toSorted((a, b) => a - b);
}

/** References to the errors with these statuses. @param needsToken whether a token is asked for */
export function refusals(statuses: readonly number[], needsToken: boolean): Part {
  const others = statuses.filter((status) => status !== UNAUTHORIZED);
  const all = needsToken ? [UNAUTHORIZED, ...others] : others;
  return Object.fromEntries(all.map((status) => [status, reference('responses', `Error${status}`)]));
}

/** The error with this status, in both of its forms. */
function errorResponse(status: number): Part {
  const codes = codesOf(status);
  const code = codeSchema(codes, PLUGIN_CODES[status]);
  const others = status in PLUGIN_CODES ? ['A plugin may have other codes.'] : [];
  return {
    description: [
      `${STATUS_CODES[status]}.`,
      ...codes.map((each) => `- \`${each}\`: ${errorCodeInfo(each).summary}`),
      ...others,
    ].join('\n'),
    headers: {
      ...RESPONSE_HEADERS,
      ...(status === UNAUTHORIZED && {
        'www-authenticate': { description: '`Bearer`.', schema: PLAIN_TEXT },
      }),
    },
    content: {
      ...json(narrowed('ErrorReply', { response_body: fieldsSchema({ code }) })),
      [PROBLEM_TYPE]: { schema: narrowed('Problem', { status: { const: status }, code }) },
    },
  };
}

/** The schema of this name, with more about some of its fields. */
function narrowed(name: string, fields: Readonly<Record<string, JsonSchema>>): JsonSchema {
  return { allOf: [reference('schemas', name), fieldsSchema(fields)] };
}

function fieldsSchema(properties: Readonly<Record<string, JsonSchema>>): JsonSchema {
  return { type: 'object', properties, required: Object.keys(properties) };
}

/** The codes of the service with this status. */
function codesOf(status: number): string[] {
  const own = OWN_CODES.filter(([each]) => each === status).map(([, code]) => code);
  const known = Object.keys(ERROR_CODES).filter((code) =>
    Object.entries(HTTP_STATUSES).some(([each, its]) => each === code && its === status),
  );
  return [...own, ...known];
}
