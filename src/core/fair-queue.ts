/** An item that waits for its turn; `start` is called when it may run. */
export interface Waiting {
  start(): void;
}

interface Lane {
  waiting: Set<Waiting>;
  running: number;
}

/**
 * Limits how many items run at the same time, in total and per lane. Lanes take turns, so that a full lane delays only
 * itself; a lane is first in, first out. Every operation takes constant time.
 */
export class FairQueue {
  readonly #total: number;
  readonly #perLane: number;
  readonly #lanes = new Map<string, Lane>();
  /** The lanes with a waiting item and free capacity, in the order of their turns. */
  readonly #turns = new Set<string>();
  #running = 0;

  constructor(options: { total: number; perLane: number }) {
    this.#total = options.total;
    this.#perLane = options.perLane;
  }

  /** The number of items in a lane, waiting and running. */
  count(lane: string): number {
    const found = this.#lanes.get(lane);
    return found === undefined ? 0 : found.waiting.size + found.running;
  }

  /** Adds an item; starts it immediately or when its turn comes. */
  enter(lane: string, item: Waiting): void {
    const found = this.#lanes.get(lane) ?? { waiting: new Set(), running: 0 };
    this.#lanes.set(lane, found);
    found.waiting.add(item);
    if (found.running < this.#perLane) this.#turns.add(lane);
    this.#startNext();
  }

  /** Removes a waiting item. @returns false when it was not waiting */
  withdraw(lane: string, item: Waiting): boolean {
    const found = this.#lanes.get(lane);
    if (found === undefined || !found.waiting.delete(item)) return false;
    this.#tidy(lane, found);
    return true;
  }

  /** Call this once for each started item, when it has ended. */
  leave(lane: string): void {
    const found = this.#lanes.get(lane);
    if (found === undefined || found.running === 0) throw new Error('nothing runs in this lane');
    found.running--;
    this.#running--;
    if (found.waiting.size > 0) this.#turns.add(lane);
    this.#tidy(lane, found);
    this.#startNext();
  }

  #startNext(): void {
    while (this.#running < this.#total) {
      const [lane] = this.#turns;
      if (lane === undefined) return;
      this.#turns.delete(lane);
      const found = this.#lanes.get(lane);
      const [item] = found?.waiting ?? [];
      if (found === undefined || item === undefined) continue;
      found.waiting.delete(item);
      found.running++;
      this.#running++;
      // The lane goes to the end of the turns.
      if (found.waiting.size > 0 && found.running < this.#perLane) this.#turns.add(lane);
      item.start();
    }
  }

  #tidy(lane: string, found: Lane): void {
    if (found.waiting.size > 0) return;
    this.#turns.delete(lane);
    if (found.running === 0) this.#lanes.delete(lane);
  }
}
