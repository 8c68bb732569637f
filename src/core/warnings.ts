import { fieldsOf } from '../lib/fields-of.js';
import type { Ended, Failed } from './call.js';

const MAX_WARNINGS = 20;
const MAX_CHARACTERS = 1_000;

/** The warnings of one call, for its caller. */
export class Warnings {
  #texts: Set<string> | undefined;

  /**
   * Ignores repetitions, and what exceeds the limits: a handler may warn in a loop.
   * @param text a plugin in JavaScript may pass any value
   * @returns the warning as it was added; undefined: it was ignored
   */
  add(text: unknown): string | undefined {
    this.#texts ??= new Set();
    if (this.#texts.size >= MAX_WARNINGS) return undefined;
    const added = String(text).slice(0, MAX_CHARACTERS);
    if (this.#texts.has(added)) return undefined;
    this.#texts.add(added);
    return added;
  }

  /** Adds the warnings to a reply: beside a result, and in the details of an error. */
  addedTo(settled: Failed): Failed;
  addedTo(settled: Ended): Ended;
  addedTo(settled: Ended): Ended {
    if (this.#texts === undefined) return settled;
    const warnings = [...this.#texts];
    if (settled.status === 'completed') return { ...settled, details: { warnings } };
    const details = { ...fieldsOf(settled.body.details), warnings };
    return { ...settled, body: { ...settled.body, details } };
  }
}
