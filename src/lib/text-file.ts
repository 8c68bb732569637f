import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';

/** A file larger than this is none that an operator wrote. */
const MAX_BYTES = 1024 * 1024;

/**
 * Reads a text file that an operator has written; a byte order mark is skipped.
 * @throws Error that does not quote the file, which may contain secrets
 */
export function readTextFile(path: string): string {
  // To open a pipe would wait for who writes to it, and nothing else would be done.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new Error('it is not a file');
    if (stat.size > MAX_BYTES) throw new Error(`it has more than ${MAX_BYTES} bytes`);
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } finally {
    closeSync(file);
  }
}
