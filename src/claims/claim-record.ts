import { hash } from 'node:crypto';
import type { Reply } from '../core/call.js';
import { parseExactly, stringifyExactly } from '../lib/exact-json.js';
import { fieldsOf } from '../lib/fields-of.js';

/** What the store has of a change. It contains no parameters and no tokens; a reply contains what the caller gets. */
export interface ClaimRecord {
  /** `claimed`: it has not begun. `settled`: it has ended. */
  state: 'claimed' | 'begun' | 'settled';
  /** The worker, by the name that it has for the time of one lease. */
  worker: string;
  /** Tells this run apart from others of the same request. */
  run: string;
  action: string;
  /** Whether another worker may have got the same message before. */
  repeated: boolean;
  /** Of one that its caller has named with an idempotency key. */
  named?: RecordedName;
  /** The wall time at which it began. */
  begunAt?: string;
  settled?: StoredReply;
  /** The wall time at which its outcome was known. */
  settledAt?: string;
}

/** What is known of the request that has a claim by its idempotency key. */
export interface RecordedName {
  /** The id of the request. */
  id: string;
  /** A hash of what it asks for. */
  askedFor: string;
  /** A hash of its message; undefined: nothing identifies that. */
  message?: string;
  /** The id of the request for which a lost worker began it; undefined: of this one. */
  begunFor?: string;
}

/** A reply that is too large is not kept, only what kind of reply it was. */
export type StoredReply = Reply | { status: Reply['status']; code?: string; bytes: number; hash: string };

/** The largest reply that is kept, in bytes of JSON. */
const MAX_REPLY_BYTES = 64 * 1024;

export function storedReply(reply: Reply): StoredReply {
  const kept = keptPartOf(reply);
  const json = stringifyExactly(kept);
  const bytes = Buffer.byteLength(json);
  if (bytes <= MAX_REPLY_BYTES) return kept;
  const large = { bytes, hash: hash('sha256', json) };
  return kept.status === 'error'
    ? { status: 'error', code: kept.body.code, ...large }
    : { status: 'completed', ...large };
}

/** Without what is only for the log. JSON leaves out a body that is undefined, or becomes so. */
function keptPartOf(reply: Reply): Reply {
  if (reply.status === 'error') return { status: 'error', body: reply.body };
  const { body = null, details } = reply;
  return { status: 'completed', body, ...(details && { details }) };
}

/** What a caller gets for a stored reply: the reply itself, or else an error that says what is known of it. */
export function replyOf(stored: StoredReply): Reply {
  if (!('bytes' in stored)) return keptPartOf(stored);
  const { code, bytes } = stored;
  const size = `The reply was sent once; it is too large to be kept for another delivery of the request`;
  if (code !== undefined)
    return { status: 'error', body: { errors: [`The change has failed. ${size}`], code } };
  return {
    status: 'error',
    body: {
      errors: [`The change was made. ${size}`],
      code: 'answer_too_large',
      details: { bytes, limit: MAX_REPLY_BYTES },
    },
  };
}

/** The code of a stored error; undefined: it is none. */
export function codeOf(stored: StoredReply): string | undefined {
  if ('bytes' in stored) return stored.code;
  return stored.status === 'error' ? stored.body.code : undefined;
}

export function encodeRecord(record: ClaimRecord): string {
  return stringifyExactly(record);
}

/** @returns undefined when it is no claim that this version can read */
export function decodeRecord(value: string): ClaimRecord | undefined {
  let given: unknown;
  try {
    given = parseExactly(value);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  const { state, worker, run, action, repeated, named, begunAt, settled, settledAt } = fieldsOf(given);
  if (state !== 'claimed' && state !== 'begun' && state !== 'settled') return undefined;
  if (!isText(worker) || !isText(run) || !isText(action) || typeof repeated !== 'boolean') return undefined;
  if (state === 'settled' && !isStoredReply(settled)) return undefined;
  return {
    state,
    worker,
    run,
    action,
    repeated,
    ...(named !== undefined && { named: recordedName(named) }),
    ...(isText(begunAt) && { begunAt }),
    ...(isStoredReply(settled) && { settled }),
    ...(isText(settledAt) && { settledAt }),
  };
}

function recordedName(value: unknown): RecordedName {
  const { id, askedFor, message, begunFor } = fieldsOf(value);
  return {
    id: textOf(id),
    askedFor: textOf(askedFor),
    ...(isText(message) && { message }),
    ...(isText(begunFor) && { begunFor }),
  };
}

function textOf(value: unknown): string {
  return isText(value) ? value : '';
}

function isStoredReply(value: unknown): value is StoredReply {
  const { status, body, code, bytes } = fieldsOf(value);
  if (status !== 'completed' && status !== 'error') return false;
  if (typeof bytes === 'number') return status === 'completed' || isText(code);
  return status === 'completed' || isErrorBody(body);
}

function isErrorBody(value: unknown): boolean {
  const { errors, code } = fieldsOf(value);
  return Array.isArray(errors) && errors.every(isText) && isText(code);
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
