import { readFileSync } from 'node:fs';

/** A file larger than this is none that an operator wrote. */
const MAX_BYTES = 1024 * 1024;

/**
 * Reads a text file that an operator has written; a byte order mark is skipped.
 * @throws Error that does not quote the file, which may contain secrets
 */
export function readTextFile(path: string): string {
  const content = readFileSync(path);
  if (content.length > MAX_BYTES) throw new Error(`it has more than ${MAX_BYTES} bytes`);
  return new TextDecoder('utf-8', { fatal: true }).decode(content);
}
