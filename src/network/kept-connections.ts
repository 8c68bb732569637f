import { subscribe } from 'node:diagnostics_channel';
import { fieldsOf } from '../lib/fields-of.js';

const LOST: ReadonlySet<unknown> = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);

/** The connections on which a request was sent. */
const used = new WeakSet<object>();
/** The requests without a response that were sent on a connection that was used before. */
const onKept = new WeakSet<object>();
/** The errors of these requests. */
const errorsOnKept = new WeakSet<object>();

// Only these events of undici tell the connection of a request.
subscribe('undici:client:sendHeaders', (event) => {
  const { request, socket } = fieldsOf(event);
  if (!isObject(request) || !isObject(socket)) return;
  if (used.has(socket)) onKept.add(request);
  used.add(socket);
});
subscribe('undici:request:headers', (event) => {
  const { request } = fieldsOf(event);
  if (isObject(request)) onKept.delete(request);
});
subscribe('undici:request:error', (event) => {
  const { request, error } = fieldsOf(event);
  if (isObject(request) && isObject(error) && onKept.has(request)) errorsOnKept.add(error);
});

/**
 * Whether a call failed because a connection that an earlier call had left open was lost before a response. That is no
 * failure of the server: it may close an idle connection at the moment when it is used again.
 * @param error of undici
 */
export function keptConnectionLost(error: object): boolean {
  return errorsOnKept.has(error) && LOST.has(fieldsOf(error).code);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
