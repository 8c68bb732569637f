/**
 * The width of the Manager's columns for a module: varchar(255). The Manager deletes the old row of a module before it
 * inserts the new one. If a heartbeat does not fit, the module disappears from the Manager's list. Event columns of the
 * same width only get constants of this service.
 */
export const COLUMN_CHARACTERS = 255;

/**
 * Whether the Manager can store this text of a module. The Overseer forwards heartbeats with an HTTP client that corrupts
 * characters beyond ASCII, or fails on them.
 */
export function isModuleText(text: string): boolean {
  return text.length <= COLUMN_CHARACTERS && /^[\x20-\x7e]+$/.test(text);
}
