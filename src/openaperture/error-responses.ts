import type { HttpResponse } from '../network/http-client.js';
import { parseBounded } from '../lib/bounded-json.js';
import { fieldsOf } from '../lib/fields-of.js';

/**
 * The error text of a response, to show to people: the Manager's `{"errors":[{"message"}]}`, or OAuth's `error` and
 * `error_description` (RFC 6749, 5.2). Empty when the response has none.
 */
export function errorTextOf({ text }: Pick<HttpResponse, 'text'>): string {
  const body = parsedFields(text);
  return [...messagesOf(body), body.error, body.error_description]
    .filter((each) => typeof each === 'string')
    .join('; ')
    .slice(0, 300);
}

/** Whether the body of a response is an error of the Manager, not the page of a proxy in front of it. */
export function isManagersError({ text }: Pick<HttpResponse, 'text'>): boolean {
  return messagesOf(parsedFields(text)).length > 0;
}

/**
 * The wait that the header `Retry-After` asks for (RFC 9110, 10.2.3), in milliseconds; undefined without a valid one.
 * @param now the wall time: the header may have a date
 */
export function retryAfterMs(headers: Headers, now: number): number | undefined {
  const value = headers.get('retry-after')?.trim();
  if (value === undefined || value === '') return undefined;
  const at = /^\d+$/.test(value) ? now + Number(value) * 1_000 : Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}

function messagesOf({ errors }: Record<string, unknown>): string[] {
  if (!Array.isArray(errors)) return [];
  return errors.map((each) => fieldsOf(each).message).filter((each) => typeof each === 'string');
}

function parsedFields(text: string): Record<string, unknown> {
  try {
    return fieldsOf(parseBounded(Buffer.from(text), { maxElements: 1_000 }));
  } catch {
    return {};
  }
}
