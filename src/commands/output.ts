import { Socket } from 'node:net';
import { printableLines } from '../lib/printable.js';
import { writeWhole } from '../lib/write-whole.js';

const STDOUT = 1;

/**
 * Prints text to standard output unchanged.
 * @throws the system's error when that is a file on a full disk
 */
export function printUnchanged(text: string): void {
  const { stdout } = process;
  if (stdout instanceof Socket) stdout.write(text);
  else writeWhole(STDOUT, Buffer.from(text));
}

/** Prints text for people or JSON to standard output. Nothing in it can control the terminal. */
export function print(text: string): void {
  printUnchanged(printableLines(text));
}

/** Prints to standard error. Nothing in the text can control the terminal. */
export function printError(text: string): void {
  process.stderr.write(printableLines(text));
}

/** A text as one line, so that what a cluster or a plugin says cannot look like a line of this program. */
export function onOneLine(text: string): string {
  return text.trim().replaceAll(/\s*[\n\r\u2028\u2029]\s*/g, ' ');
}
