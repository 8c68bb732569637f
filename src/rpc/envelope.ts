import { exactInteger } from '../lib/exact-json.js';
import type { FieldProblem, Reply } from '../core/call.js';

/** The id of a request's record in the Manager; a bigint when a number cannot hold it exactly. */
export type RecordId = number | bigint;

/** A request as a message contains it. */
export interface Envelope {
  queueName: unknown;
  /** As sent: a whole number, or its digits as text, as OpenAperture's callers send it; null: none. */
  id: unknown;
  /** The record that `id` names. */
  recordId: RecordId | undefined;
  /** As sent; the reply carries it back to the caller. */
  requestBody: Record<string, unknown>;
  action: unknown;
  etcdToken: unknown;
  parameters: unknown;
  /** A key of `request_body` that no request has: a typing mistake in a key must not change what is done. */
  problem: FieldProblem | undefined;
}

const OPEN_STATUS: ReadonlySet<unknown> = new Set(['not_started', 'in_progress', null, undefined]);
const KNOWN_KEYS = new Set(['action', 'action_parameters', 'etcd_token', '__struct__']);

/** A whole number as text: no sign, no leading zeros, at most as many digits as `LARGEST_ID`. */
const DIGITS = /^(?:0|[1-9]\d{0,18})$/;
/** The largest value of PostgreSQL's widest integer type, in which the Manager numbers records. */
const LARGEST_ID = 2n ** 63n - 1n;

/** The envelope of a message that cannot be read. */
export const NO_ENVELOPE: Envelope = envelopeOf({}, undefined);

/** A message that is not a request; the error's message says why. */
export class InvalidMessage extends Error {
  override readonly name = 'InvalidMessage';
  /** What could be read of it, for the reply to its sender. */
  readonly envelope: Envelope;

  constructor(message: string, envelope: Envelope = NO_ENVELOPE) {
    super(message);
    this.envelope = envelope;
  }
}

/**
 * Reads the envelope that OpenAperture's RpcRequest puts around a request: `{queue_name, id, status, request_body,
 * response_body}`, where absent and null mean the same.
 * @throws InvalidMessage
 */
export function readEnvelope(message: unknown): Envelope {
  if (!isMap(message)) throw new InvalidMessage('the message is not a map');
  const id = message.id ?? null;
  const recordId = recordIdOf(id);
  const envelope = envelopeOf(message, recordId);
  // A reply that arrives here must not be written into a record.
  if (!OPEN_STATUS.has(message.status))
    throw new InvalidMessage('its status says that it is not a request', {
      ...envelope,
      recordId: undefined,
    });
  if (!isMap(message.request_body)) throw new InvalidMessage('the message has no request_body', envelope);
  if (id !== null && recordId === undefined)
    throw new InvalidMessage(
      `its id is not the id of a record: a whole number from 0 to ${LARGEST_ID}`,
      envelope,
    );
  return envelope;
}

function envelopeOf(message: Record<string, unknown>, recordId: RecordId | undefined): Envelope {
  const requestBody = isMap(message.request_body) ? message.request_body : {};
  return {
    queueName: message.queue_name,
    id: message.id ?? null,
    recordId,
    requestBody,
    action: requestBody.action,
    etcdToken: requestBody.etcd_token,
    parameters: requestBody.action_parameters,
    problem: problemOf(requestBody),
  };
}

/** The envelope of a reply. */
export function replyEnvelope(envelope: Envelope, reply: Reply): Record<string, unknown> {
  return {
    queue_name: envelope.queueName ?? '',
    id: envelope.id,
    status: reply.status,
    request_body: envelope.requestBody,
    response_body: reply.body ?? null,
  };
}

/** The envelope without the fields that the caller can make large. */
export function withoutRequest({ id, recordId }: Envelope): Envelope {
  return { ...NO_ENVELOPE, id: recordId === undefined ? null : id, recordId };
}

function problemOf(requestBody: Record<string, unknown>): FieldProblem | undefined {
  const unknown = Object.keys(requestBody).find((key) => !KNOWN_KEYS.has(key) && requestBody[key] !== null);
  if (unknown === undefined) return undefined;
  const field = `request_body.${unknown.slice(0, 100)}`;
  const message = `${field} is not part of a request: it has action, etcd_token and action_parameters`;
  return { field, message };
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The record that an id names; undefined: none. */
function recordIdOf(id: unknown): RecordId | undefined {
  const number = typeof id === 'string' && DIGITS.test(id) ? exactInteger(id) : id;
  return isRecordId(number) ? number : undefined;
}

function isRecordId(id: unknown): id is RecordId {
  const isWhole = typeof id === 'bigint' || (typeof id === 'number' && Number.isSafeInteger(id));
  return isWhole && id >= 0 && id <= LARGEST_ID && !Object.is(id, -0);
}
