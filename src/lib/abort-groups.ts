/**
 * Calls back for each member of a group when the group's signal is aborted. A group has one listener on its signal, not
 * one for each member.
 */
export class AbortGroups<T> {
  readonly #aborted: (member: T, reason: unknown) => void;
  readonly #groups = new WeakMap<AbortSignal, Set<T>>();

  constructor(aborted: (member: T, reason: unknown) => void) {
    this.#aborted = aborted;
  }

  /** @param signal one that is not aborted yet */
  add(signal: AbortSignal, member: T): void {
    this.#groupOf(signal).add(member);
  }

  delete(signal: AbortSignal, member: T): void {
    this.#groups.get(signal)?.delete(member);
  }

  #groupOf(signal: AbortSignal): Set<T> {
    const known = this.#groups.get(signal);
    if (known !== undefined) return known;
    const group = new Set<T>();
    this.#groups.set(signal, group);
    signal.addEventListener(
      'abort',
      () => {
        for (const member of group) this.#aborted(member, signal.reason);
      },
      { once: true },
    );
    return group;
  }
}
