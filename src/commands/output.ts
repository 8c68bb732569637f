import { printableLines } from '../lib/printable.js';

/** Prints text for people or JSON to standard output. Nothing in it can control the terminal. */
export function print(text: string): void {
  process.stdout.write(printableLines(text));
}

/** Prints to standard error. Nothing in the text can control the terminal. */
export function printError(text: string): void {
  process.stderr.write(printableLines(text));
}
