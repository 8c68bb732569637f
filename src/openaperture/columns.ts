/**
 * The length of the Manager's columns of a module (varchar(255)). The Manager deletes the record of a module before it
 * inserts the next one, so a module whose heartbeat does not fit disappears from its list. The narrow columns of events
 * contain only constants.
 */
export const COLUMN_CHARACTERS = 255;

/**
 * Whether the Manager can store this text of a module. The Overseer passes heartbeats on with an HTTP client that sends
 * characters beyond ASCII wrongly, or fails on them.
 */
export function isModuleText(text: string): boolean {
  return text.length <= COLUMN_CHARACTERS && /^[\x20-\x7e]+$/.test(text);
}
