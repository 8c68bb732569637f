import type { Answer } from '../runtime/dispatcher.js';

/** The id of a request's record in the Manager. */
export type RecordId = number | bigint;

/** A request as it stands in a message. */
export interface Envelope {
  queueName: unknown;
  id: RecordId | undefined;
  /** As sent; goes back to the caller in the answer. */
  requestBody: Record<string, unknown>;
  action: unknown;
  etcdToken: unknown;
  parameters: unknown;
  /** Keys of `request_body` that no request has; a typing mistake in one must not change what is done. */
  unknownKeys: string[];
}

/** A message that is no request at all; the message says why. */
export class NotARequest extends Error {
  override readonly name = 'NotARequest';
}

const OPEN_STATUS: ReadonlySet<unknown> = new Set(['not_started', 'in_progress', null, undefined]);
const KNOWN_KEYS = new Set(['action', 'action_parameters', 'etcd_token', '__struct__']);

/**
 * Reads the envelope that OpenAperture's RpcRequest puts around a request: `{queue_name, id, status, request_body,
 * response_body}`, where absent and null mean the same.
 * @throws NotARequest
 */
export function readEnvelope(message: unknown): Envelope {
  if (!isMap(message)) throw new NotARequest('the message is not a map');
  const { queue_name: queueName, id, status, request_body: requestBody } = message;
  if (!isMap(requestBody)) throw new NotARequest('the message has no request_body');
  if (!OPEN_STATUS.has(status)) throw new NotARequest('its status says that it is not a request');
  if (!isRecordId(id)) throw new NotARequest('its id is not the id of a record: a whole number, at least 0');
  return {
    queueName,
    id: id ?? undefined,
    requestBody,
    action: requestBody.action,
    etcdToken: requestBody.etcd_token,
    parameters: requestBody.action_parameters,
    unknownKeys: Object.keys(requestBody).filter((key) => !KNOWN_KEYS.has(key) && requestBody[key] !== null),
  };
}

/** The envelope that carries the answer back. */
export function answerEnvelope(envelope: Envelope, answer: Answer): Record<string, unknown> {
  return {
    queue_name: envelope.queueName ?? '',
    id: envelope.id ?? null,
    status: answer.status,
    request_body: envelope.requestBody,
    response_body: answer.body ?? null,
  };
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isRecordId(id: unknown): id is RecordId | null | undefined {
  if (id === null || id === undefined) return true;
  return typeof id === 'bigint' ? id >= 0n : Number.isSafeInteger(id) && Number(id) >= 0;
}
