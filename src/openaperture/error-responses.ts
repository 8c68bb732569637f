import type { HttpResponse } from '../network/http-client.js';
import { parseBounded } from '../lib/bounded-json.js';
import { fieldsOf } from '../lib/fields-of.js';

/**
 * The error text of a response, to show to people: the Manager's `{"errors":[{"message"}]}`, or OAuth's `error` and
 * `error_description` (RFC 6749, 5.2). Empty when the response has none.
 */
export function errorTextOf({ text }: Pick<HttpResponse, 'text'>): string {
  const body = parsedFields(text);
  const errors: unknown[] = Array.isArray(body.errors) ? body.errors : [];
  const messages = errors.map((each) =>
    typeof each === 'object' && each !== null && 'message' in each ? each.message : undefined,
  );
  return [...messages, body.error, body.error_description]
    .filter((each) => typeof each === 'string')
    .join('; ')
    .slice(0, 300);
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

function parsedFields(text: string): Record<string, unknown> {
  try {
    return fieldsOf(parseBounded(Buffer.from(text), { maxElements: 1_000 }));
  } catch {
    return {};
  }
}
