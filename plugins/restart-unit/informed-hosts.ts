/**
 * The hosts whose answers are evidence. fleet reads without a quorum, so a host may show what was before an order. One that
 * has confirmed the order reads its own write. Another one is known to have it when it shows the ordered state, and had the
 * order before, which set another one: what a host shows only goes forward.
 */
export class InformedHosts {
  readonly #states: (string | null)[];
  /** How many of the orders each host has. */
  readonly #has = new Map<string, number>();
  /** How many orders are known to have been carried out. */
  #done = 0;

  /** @param before the desired state before the first order */
  constructor(before: string | null) {
    this.#states = [before];
  }

  /** This state is ordered; the same one once more is no new order. */
  ordered(state: string): void {
    if (this.#orders === 0 || this.#states.at(-1) !== state) this.#states.push(state);
  }

  /** The host has confirmed the latest order. */
  confirmedBy(host: string): void {
    this.#knows(host, this.#orders);
  }

  /**
   * @param state the desired state that the host shows
   * @returns whether it has every order that is known to have been carried out
   */
  shows(host: string, state: string | null): boolean {
    const has = this.#has.get(host) ?? 0;
    const isNext = this.#states[has + 1] === state && this.#states[has] !== state;
    if (isNext) this.#knows(host, has + 1);
    return this.include(host);
  }

  /** Whether the host has every order that is known to have been carried out. */
  include(host: string): boolean {
    return (this.#has.get(host) ?? 0) >= this.#done;
  }

  get #orders(): number {
    return this.#states.length - 1;
  }

  #knows(host: string, orders: number): void {
    this.#has.set(host, orders);
    this.#done = Math.max(this.#done, orders);
  }
}
