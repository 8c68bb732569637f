/**
 * The header, over HTTP and of a message, in which a caller gives a request the id that it has in the log, such as one that is in
 * the caller's own log too. It is a name for people and their programs only: two requests may have the same one.
 */
export const REQUEST_ID = 'x-request-id';

const WELL_FORMED = /^[\w.:/+=@-]{1,128}$/;

/** A pattern that matches exactly what can be such an id. */
export const REQUEST_ID_PATTERN = WELL_FORMED.source;

/** Whether it can be the id of a request in the log: 1 to 128 of the characters A-Z a-z 0-9 _ . : / + = @ - */
export function isRequestId(value: unknown): value is string {
  return typeof value === 'string' && WELL_FORMED.test(value);
}
