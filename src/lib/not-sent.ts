import { fieldsOf } from './fields-of.js';

/** Error codes that occur before a request is sent: the server has certainly done nothing. */
const NOT_SENT: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/**
 * Whether it is certain that a request was not sent.
 * @param error of a socket, or of the look-up of its host
 */
export function isNotSent(error: unknown): boolean {
  // Of the attempts for all addresses of a name.
  if (error instanceof AggregateError) return error.errors.every(isNotSent);
  if (!(error instanceof Error)) return false;
  const { code, syscall } = fieldsOf(error);
  // An open connection can fail with the codes of a failed connect too, such as EHOSTUNREACH.
  return NOT_SENT.has(code) && syscall !== 'read' && syscall !== 'write';
}
