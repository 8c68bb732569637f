/** The place of a value in a `LinkedList`. */
export interface Place {
  /** Takes the value out of the list. @returns whether it was still in it */
  leave(): boolean;
}

/** All places have one class, whatever their values are: V8 is much slower where it meets objects of more than four classes. */
class Link<T> implements Place {
  readonly value: T;
  list: LinkedList<T> | undefined;
  previous: Link<T> | undefined;
  next: Link<T> | undefined = undefined;

  constructor(value: T, list: LinkedList<T>, previous: Link<T> | undefined) {
    this.value = value;
    this.list = list;
    this.previous = previous;
  }

  leave(): boolean {
    const { list } = this;
    if (list === undefined) return false;
    list.remove(this);
    // What is in the list no longer must not keep others in memory.
    this.list = undefined;
    this.previous = undefined;
    this.next = undefined;
    return true;
  }
}

/**
 * Values in the order in which they were added, for what comes and goes with each request. A `Set` gets a new table after
 * some deletions, and a table that the garbage collector has moved to the old generation keeps its last members, and all
 * that they refer to, until the next major collection, although it is not used any more.
 */
export class LinkedList<T> {
  #first: Link<T> | undefined;
  #last: Link<T> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): T | undefined {
    return this.#first?.value;
  }

  add(value: T): Place {
    const link = new Link(value, this, this.#last);
    if (this.#last === undefined) this.#first = link;
    else this.#last.next = link;
    this.#last = link;
    this.#size++;
    return link;
  }

  /** Only for the links of this list. */
  remove({ previous, next }: Link<T>): void {
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    this.#size--;
  }

  /** The list may be changed meanwhile: those are left out that leave before their turn, and those that are added. */
  *[Symbol.iterator](): Generator<T> {
    const links: Link<T>[] = [];
    for (let link = this.#first; link !== undefined; link = link.next) links.push(link);
    for (const link of links) if (link.list === this) yield link.value;
  }
}
