import type { UnreachableHost, Warn } from '../api/warn.js';
import { fieldsOf } from '../lib/fields-of.js';
import type { Ended, Failed } from './call.js';

const MAX_WARNINGS = 20;
/** How many hosts are told: more than a cluster has. */
const MAX_HOSTS = 1_000;
const MAX_CHARACTERS = 1_000;

/** The warnings of one call, for its caller. */
export class Warnings {
  #texts: Set<string> | undefined;
  #unreachable: Map<string, UnreachableHost> | undefined;

  /**
   * Ignores repetitions, and what exceeds the limits: a handler may warn in a loop. Of a host only the first facts count.
   * @param text a plugin in JavaScript may pass any value, also as facts
   * @returns the warning as it was added, with the facts that are new; undefined: nothing of it is new
   */
  add(text: unknown, facts?: unknown): Parameters<Warn> | undefined {
    const cut = String(text).slice(0, MAX_CHARACTERS);
    const isNew = this.#addText(cut);
    const unreachable = facts === undefined ? [] : unreachableIn(facts).filter((each) => this.#addHost(each));
    if (unreachable.length > 0) return [cut, { unreachable }];
    return isNew ? [cut] : undefined;
  }

  /** Adds the warnings to a reply: beside a result, and in the details of an error, whose own facts stay. */
  addedTo(settled: Failed): Failed;
  addedTo(settled: Ended): Ended;
  addedTo(settled: Ended): Ended {
    if (this.#texts === undefined) return settled;
    const warnings = [...this.#texts];
    const facts = this.#unreachable === undefined ? {} : { unreachable: [...this.#unreachable.values()] };
    if (settled.status === 'completed') return { ...settled, details: { warnings, ...facts } };
    const details = { ...facts, ...fieldsOf(settled.body.details), warnings };
    return { ...settled, body: { ...settled.body, details } };
  }

  #addText(text: string): boolean {
    this.#texts ??= new Set();
    if (this.#texts.size >= MAX_WARNINGS || this.#texts.has(text)) return false;
    this.#texts.add(text);
    return true;
  }

  #addHost(each: UnreachableHost): boolean {
    this.#unreachable ??= new Map();
    if (this.#unreachable.size >= MAX_HOSTS || this.#unreachable.has(each.host)) return false;
    this.#unreachable.set(each.host, each);
    return true;
  }
}

/** The hosts among the facts of a warning, or in the details of a reply. */
export function unreachableIn(facts: unknown): UnreachableHost[] {
  const { unreachable } = fieldsOf(facts);
  if (!Array.isArray(unreachable)) return [];
  return unreachable.map((each: unknown) => {
    const { host, code, reason } = fieldsOf(each);
    const cut = (value: unknown) => String(value).slice(0, MAX_CHARACTERS);
    return { host: cut(host), code: cut(code), reason: cut(reason) };
  });
}
