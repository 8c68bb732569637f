import { hash, randomUUID } from 'node:crypto';
import type { Caller } from '../api/caller.js';
import { canonicalText } from '../lib/canonical-text.js';
import type { Call } from './call.js';

/**
 * The header, over HTTP and of a message, by which a caller names a change, so that it is made once however often it is asked for
 * (IETF, "The Idempotency-Key HTTP Header Field", draft-ietf-httpapi-idempotency-key-header).
 */
export const IDEMPOTENCY_KEY = 'idempotency-key';

/** The header of a reply that is that of an earlier request with the same key. */
export const IDEMPOTENCY_REPLAYED = 'idempotency-replayed';

/** The two headers, for people. */
export const IDEMPOTENCY_TEXT =
  'A key of the caller for this change: sent again with the same key, it is not made again, and its reply is sent. The service needs a claim store for it.';
export const REPLAYED_TEXT = 'The reply is that of an earlier request with the same key.';

/** What a caller has sent in the header: a key, or why it is none. */
export type SentKey = { readonly key: string } | { readonly problem: string };

const KEY = /^[\x20-\x7e]{1,128}$/;
/** Visible characters but those that separate the values of a header, or that are a part of a quoted text. */
const BARE = /^[!#-+\--:<-[\]-~]{1,128}$/;
/** A string of RFC 8941, 3.3.3. */
const QUOTED = /^"((?:[\x20!#-[\]-~]|\\["\\])*)"$/;

/** What the header looks like, as a pattern of JSON Schema. */
export const IDEMPOTENCY_KEY_PATTERN =
  '^(?:[!#-+\\--:<-\\[\\]-~]{1,128}|"(?:[ !#-\\[\\]-~]|\\\\["\\\\]){1,128}")$';

/** What a key is, for the caller of whom it is expected. */
export const KEY_FORM = '1 to 128 printable ASCII characters';

const PROBLEM = `${IDEMPOTENCY_KEY} must be one key of ${KEY_FORM}, in quotes: "KEY"; without quotes it has no spaces, commas, semicolons, quotes or backslashes`;

export function isIdempotencyKey(value: unknown): value is string {
  return typeof value === 'string' && KEY.test(value);
}

/** Reads the header: a string in quotes, as the draft has it, or the bare key, as most callers send it. */
export function readIdempotencyKey(sent: unknown): SentKey {
  if (typeof sent !== 'string') return { problem: PROBLEM };
  if (BARE.test(sent)) return { key: sent };
  const key = QUOTED.exec(sent)?.[1]?.replace(/\\(["\\])/g, '$1');
  return isIdempotencyKey(key) ? { key } : { problem: PROBLEM };
}

/** The header for a key. */
export function idempotencyKeyHeader(key: string): string {
  return `"${key.replace(/["\\]/g, '\\$&')}"`;
}

/**
 * Tells a named change from those of other callers and other queues. A caller is its name, whoever has verified it; all whom nobody
 * has verified are one caller, and so are all with a record of the Manager.
 * @returns a hash
 */
export function namedChange(queue: string, { name, verifiedBy }: Caller, key: string): string {
  const named = verifiedBy === undefined || verifiedBy === 'manager' ? [verifiedBy ?? ''] : ['name', name];
  return hash('sha256', JSON.stringify([IDEMPOTENCY_KEY, queue, ...named, key]), 'base64url');
}

/**
 * A hash of what a call asks for: equal for the same action, cluster and parameters, however they are encoded. With the name of the
 * change in it, so that whoever reads it cannot try out what the parameters may have been.
 * @param target the etcd token of the cluster; a secret
 */
export function askedFor({ action, parameters, idempotencyKey }: Call, target: unknown): string {
  const asked = [idempotencyKey, action, target ?? null, parameters ?? {}];
  // What is no plain data is equal to nothing.
  return hash('sha256', canonicalText(asked, Infinity) ?? randomUUID(), 'base64url');
}
