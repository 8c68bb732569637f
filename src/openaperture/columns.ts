/**
 * How many characters the Manager's columns of modules and of events hold (varchar(255)). It deletes the record of a
 * module before it inserts the next one, so a module whose heartbeat does not fit is gone from its list.
 */
export const COLUMN_CHARACTERS = 255;

/**
 * Whether a text about a module fits into its column. The Overseer passes heartbeats on with an HTTP client that sends
 * characters beyond ASCII wrongly, or fails on them.
 */
export function fitsColumn(text: string): boolean {
  return text.length <= COLUMN_CHARACTERS && /^[\x20-\x7e]+$/.test(text);
}
