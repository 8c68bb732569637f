/**
 * How many characters the Manager's columns of a module hold (varchar(255)). It deletes the record of a module before it
 * inserts the next one, so a module whose heartbeat does not fit is gone from its list. The columns of events that are as
 * narrow take only constants of ours.
 */
export const COLUMN_CHARACTERS = 255;

/**
 * Whether the Manager can keep this text of a module. The Overseer passes heartbeats on with an HTTP client that sends
 * characters beyond ASCII wrongly, or fails on them.
 */
export function isModuleText(text: string): boolean {
  return text.length <= COLUMN_CHARACTERS && /^[\x20-\x7e]+$/.test(text);
}
