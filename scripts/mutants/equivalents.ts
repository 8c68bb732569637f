import { readFileSync } from 'node:fs';
import { inRepository } from '../../test/support/repository.js';
import type { Mutant } from './mutant.js';

/** A mutant that behaves as the original, so that no test can notice it. */
export interface Equivalent {
  file: string;
  /** The lines of the place without and with the change, as a run shows them. */
  original: string;
  mutated: string;
  /** Why no test can notice it. */
  reason: string;
}

/** What scripts/mutants/equivalents.json lists. */
export function readEquivalents(): Equivalent[] {
  return JSON.parse(readFileSync(inRepository('scripts/mutants/equivalents.json'), 'utf8'));
}

export function isEquivalent(
  { file, original, mutated }: Mutant,
  equivalents: readonly Equivalent[],
): boolean {
  return equivalents.some(
    (each) => each.file === file && each.original === original && each.mutated === mutated,
  );
}
