/** A cache that drops the entries that were set first when all together are too many or too large. */
export class SizedCache<V> {
  readonly #limits: { entries: number; size: number };
  readonly #entries = new Map<string, { value: V; size: number }>();
  #size = 0;

  /** @param limits.size in the unit of the sizes that are given to `set` */
  constructor(limits: { entries: number; size: number }) {
    this.#limits = limits;
  }

  get(key: string): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Sets the newest entry. One that is larger than the limit alone is not kept. */
  set(key: string, value: V, size: number): void {
    this.delete(key);
    this.#entries.set(key, { value, size });
    this.#size += size;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limits.entries && this.#size <= this.#limits.size) return;
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#size -= this.#entries.get(key)?.size ?? 0;
    this.#entries.delete(key);
  }
}
