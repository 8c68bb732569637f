import { exactInteger } from '../lib/exact-json.js';
import type { FieldProblem, Reply } from '../core/call.js';

/** The id of a request's record; a bigint when a number cannot represent it exactly. */
export type RecordId = number | bigint;

/** A decoded request message. */
export interface Envelope {
  queueName: unknown;
  /** As sent: an integer, or its digits as a string, as OpenAperture's callers send it; null when there is none. */
  id: unknown;
  /** `id` as a number; undefined when there is none. */
  recordId: RecordId | undefined;
  /** As sent; the reply contains it too. */
  requestBody: Record<string, unknown>;
  action: unknown;
  etcdToken: unknown;
  parameters: unknown;
  /** An unknown key in `request_body`. Such a request is refused, because a mistyped key could change its meaning. */
  problem: FieldProblem | undefined;
}

const OPEN_STATUS: ReadonlySet<unknown> = new Set(['not_started', 'in_progress', null, undefined]);
const KNOWN_KEYS = new Set(['action', 'action_parameters', 'etcd_token', '__struct__']);

/** An integer as a string: no sign, no leading zeros, not more digits than `LARGEST_ID`. */
const DIGITS = /^(?:0|[1-9]\d{0,18})$/;
/** The maximum of PostgreSQL's bigint, its largest integer type: the Manager stores record ids in PostgreSQL. */
const LARGEST_ID = 2n ** 63n - 1n;

/** The envelope of a message that cannot be decoded. */
export const NO_ENVELOPE: Envelope = envelopeOf({}, undefined);

/** A message that is not a valid request; the error's message says why. */
export class InvalidMessage extends Error {
  override readonly name = 'InvalidMessage';
  /** The readable part of the envelope, for the error reply. */
  readonly envelope: Envelope;

  constructor(message: string, envelope: Envelope = NO_ENVELOPE) {
    super(message);
    this.envelope = envelope;
  }
}

/**
 * Reads the envelope of a request, as OpenAperture's RpcRequest defines it: `{queue_name, id, status, request_body,
 * response_body}`. A missing key means the same as null.
 * @throws InvalidMessage
 */
export function readEnvelope(message: unknown): Envelope {
  if (!isMap(message)) throw new InvalidMessage('the message is not a map');
  const id = message.id ?? null;
  const recordId = recordIdOf(id);
  const envelope = envelopeOf(message, recordId);
  // A reply that was sent to this queue by mistake must not change a record.
  if (!OPEN_STATUS.has(message.status))
    throw new InvalidMessage('its status is not that of a request: send the status not_started, or none', {
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
  const { queueName, id, requestBody } = envelope;
  const whole: Record<string, unknown> = {
    queue_name: queueName ?? '',
    id,
    status: reply.status,
    request_body: requestBody,
    response_body: reply.body ?? null,
  };
  // Beside the result: existing callers read only the other keys.
  if (reply.status === 'completed' && reply.details !== undefined) whole.details = reply.details;
  return whole;
}

/** The part of a reply's envelope that is a copy of its request's envelope. */
export function requestFields({ queueName, id, requestBody }: Envelope): {
  queue_name: unknown;
  id: unknown;
  request_body: Record<string, unknown>;
} {
  return { queue_name: queueName ?? '', id, request_body: requestBody };
}

/** The envelope without the parts that can be large. */
export function withoutRequest({ id, recordId }: Envelope): Envelope {
  return { ...NO_ENVELOPE, id: recordId === undefined ? null : id, recordId };
}

function problemOf(requestBody: Record<string, unknown>): FieldProblem | undefined {
  const unknown = Object.keys(requestBody).find((key) => !KNOWN_KEYS.has(key) && requestBody[key] !== null);
  if (unknown === undefined) return undefined;
  const field = `request_body.${unknown.slice(0, 100)}`;
  const message = `${field} is an unknown key: the keys are action, etcd_token and action_parameters`;
  return { field, message };
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An id from a message as a record id; undefined when it is not valid. */
function recordIdOf(id: unknown): RecordId | undefined {
  const number = typeof id === 'string' && DIGITS.test(id) ? exactInteger(id) : id;
  return isRecordId(number) ? number : undefined;
}

function isRecordId(id: unknown): id is RecordId {
  const isWhole = typeof id === 'bigint' || (typeof id === 'number' && Number.isSafeInteger(id));
  return isWhole && id >= 0 && id <= LARGEST_ID && !Object.is(id, -0);
}
