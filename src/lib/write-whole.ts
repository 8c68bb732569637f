import { writeSync } from 'node:fs';

/**
 * Writes all of the bytes to a file. Node's own streams ignore that a nearly full disk may take only the first of them.
 * @param onWritten gets the number of bytes that are written, after each step
 * @throws the system's error, such as ENOSPC
 */
export function writeWhole(
  descriptor: number,
  bytes: Uint8Array,
  onWritten: (count: number) => void = () => {},
): void {
  for (let written = 0; written < bytes.length; ) {
    written += writeSync(descriptor, bytes, written);
    onWritten(written);
  }
}
