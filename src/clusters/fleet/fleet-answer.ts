import type { HttpResponse } from '../../network/http-client.js';
import { reasonOf } from '../../lib/errors.js';
import { fieldsOf } from '../../lib/fields-of.js';
import { printable } from '../../lib/printable.js';

/** A response that cannot be used. The message says why. */
export class UnusableResponse extends Error {
  override readonly name = 'UnusableResponse';
  /** `failed`: fleet, or a proxy, reports an internal failure. `invalid`: fleet would not respond like this. */
  readonly kind: 'failed' | 'invalid';
  /** Whether fleet itself reports the failure. */
  readonly fromFleet: boolean;

  constructor(kind: 'failed' | 'invalid', reason: string, { fromFleet = false } = {}) {
    super(reason);
    this.kind = kind;
    this.fromFleet = fromFleet;
  }
}

/** The statuses of fleet's own failures. With another 5xx a proxy reports that fleet has not answered it. */
const FLEET_FAILURES: ReadonlySet<number> = new Set([500, 503]);

/** An error response of fleet, which is certain to come from it. */
export interface Refusal {
  status: number;
  /** One line of at most 200 characters, and more where some are escaped; may be empty. */
  message: string;
}

/**
 * How fleet responds to a call: with success, or with a refusal.
 * @param isSuccess whether this is how fleet responds when it has done what was asked
 * @throws UnusableResponse for a response of another program, such as a proxy, and for status 5xx
 */
export function refusalIn(
  response: HttpResponse,
  isSuccess: (response: HttpResponse) => boolean,
): Refusal | undefined {
  const { status } = response;
  if (isSuccess(response)) return undefined;
  const { code, message } = errorOf(response);
  const kind = status >= 500 ? 'failed' : 'invalid';
  if (code !== status) throw new UnusableResponse(kind, `${shown(response)}, which is not from fleet`);
  if (status >= 500)
    throw new UnusableResponse(kind, `HTTP ${status} ${message}`.trim(), {
      fromFleet: FLEET_FAILURES.has(status),
    });
  return { status, message };
}

/** The status and the type of a response, for people: its body may hold secrets of another program. */
export function shown({ status, headers }: HttpResponse): string {
  const type = /^[\w.+/-]{1,60}/.exec(headers.get('content-type') ?? '')?.[0];
  return `HTTP ${status} ${type ?? 'without a content type'}`;
}

/** The JSON of a response of fleet. @throws UnusableResponse */
export function jsonOf(response: HttpResponse): unknown {
  try {
    return response.json();
  } catch (error) {
    throw new UnusableResponse('invalid', `its body cannot be read: ${reasonOf(error)}`);
  }
}

/** fleet's error `{"error": {"code", "message"}}`; without a code when the response is another one. */
function errorOf(response: HttpResponse): { code: unknown; message: string } {
  const { code, message } = fieldsOf(fieldsOf(jsonIn(response)).error);
  return { code, message: typeof message === 'string' ? printable(message.slice(0, 200)) : '' };
}

function jsonIn(response: HttpResponse): unknown {
  try {
    return response.json();
  } catch {
    return undefined;
  }
}
