/**
 * What waits for a turn: first in, first out. Those with a priority go before those with a lower one or none. An item is in it once.
 * Costs no more than a `Set` while none has a priority.
 */
export class WaitingLine<T> {
  readonly #ordinary = new Set<T>();
  /** The highest priority first; undefined: none was ever there. */
  #urgent: { item: T; priority: number }[] | undefined;

  get size(): number {
    return this.#ordinary.size + (this.#urgent?.length ?? 0);
  }

  /** @param priority undefined counts as 0 */
  add(item: T, priority = 0): void {
    if (priority <= 0) return void this.#ordinary.add(item);
    this.#urgent ??= [];
    const place = this.#urgent.findLastIndex((each) => each.priority >= priority) + 1;
    this.#urgent.splice(place, 0, { item, priority });
  }

  /** @returns whether it was in it */
  delete(item: T): boolean {
    if (this.#ordinary.delete(item)) return true;
    const place = this.#urgent?.findIndex((each) => each.item === item) ?? -1;
    if (place >= 0) this.#urgent?.splice(place, 1);
    return place >= 0;
  }

  /** Takes out the one whose turn it is. */
  takeFirst(): T | undefined {
    const urgent = this.#urgent?.shift();
    if (urgent !== undefined) return urgent.item;
    const [item] = this.#ordinary;
    if (item !== undefined) this.#ordinary.delete(item);
    return item;
  }
}
