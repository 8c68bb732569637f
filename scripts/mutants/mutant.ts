import { createHash } from 'node:crypto';
import type { Edit } from './mutators.js';

/** A source file with one small mistake. */
export interface Mutant extends Edit {
  /** The path of the source file, from the root of the repository. */
  file: string;
  /** Counted from 1. */
  line: number;
  /** The lines of the place without and with the mistake, each as one line. */
  original: string;
  mutated: string;
}

/** @param text the text of the whole file */
export function mutantOf(file: string, text: string, edit: Edit): Mutant {
  const from = text.lastIndexOf('\n', edit.start - 1) + 1;
  const newline = text.indexOf('\n', edit.end);
  const to = newline < 0 ? text.length : newline;
  return {
    ...edit,
    file,
    line: text.slice(0, edit.start).split('\n').length,
    original: oneLine(text.slice(from, to)),
    mutated: oneLine(text.slice(from, edit.start) + edit.text + text.slice(edit.end, to)),
  };
}

/**
 * All mutants in the order in which a sample takes them. The order of two mutants depends on the seed and their own
 * texts only: a change of the sources replaces only the mutants of the changed lines.
 */
export function inOrderOf(seed: string, mutants: readonly Mutant[]): Mutant[] {
  const rankOf = ({ file, original, mutated }: Mutant) =>
    createHash('sha256')
      .update(JSON.stringify([seed, file, original, mutated]))
      .digest('hex');
  const ranked = new Map(mutants.map((mutant) => [rankOf(mutant), mutant]));
  return [...ranked].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, mutant]) => mutant);
}

function oneLine(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ');
}
