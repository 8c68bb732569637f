/** What can be in one `LinkedList` at a time. */
export abstract class Listed<T> {
  list: unknown = undefined;
  previous: T | undefined = undefined;
  next: T | undefined = undefined;
}

/**
 * A set, in the order in which its members were added, of what comes and goes with each request. A `Set` gets a new table after
 * some deletions, and a table that the garbage collector has moved to the old generation keeps its last members, and all
 * that they refer to, until the next major collection, although it is not used any more.
 */
export class LinkedList<T extends Listed<T>> {
  #first: T | undefined;
  #last: T | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): T | undefined {
    return this.#first;
  }

  /** @param member is in no list */
  add(member: T): void {
    member.list = this;
    member.previous = this.#last;
    if (this.#last === undefined) this.#first = member;
    else this.#last.next = member;
    this.#last = member;
    this.#size++;
  }

  /** @returns whether it was in this list */
  delete(member: T): boolean {
    if (member.list !== this) return false;
    const { previous, next } = member;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    // One that is in the list no longer must not keep others in memory.
    member.list = undefined;
    member.previous = undefined;
    member.next = undefined;
    this.#size--;
    return true;
  }

  /** The list may be changed meanwhile: those are left out that are deleted before their turn, and those that are added. */
  *[Symbol.iterator](): Generator<T> {
    const members: T[] = [];
    for (let member = this.#first; member !== undefined; member = member.next) members.push(member);
    for (const member of members) if (member.list === this) yield member;
  }
}
