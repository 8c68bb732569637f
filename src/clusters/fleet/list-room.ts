import { WaitQueue } from '../../lib/wait-queue.js';

/** How much JSON the lists in progress may hold together before only one of them goes on, in characters. */
export const MAX_HELD = 16 * 1024 * 1024;

/** A page that waits for room. */
interface WaitingPage {
  readonly list: ListInProgress;
}

/**
 * Bounds the memory of the lists in progress, of all clusters together. When it is used up, only one list at a time reads
 * further pages, until its end, and the others wait. It is one that asks for a page: a list that waits for its server, such
 * as for a first page that never comes, keeps no other from reading. A list that fits on one page never waits.
 */
export class ListRoom {
  /** In the order in which they began. */
  readonly #lists = new Set<ListInProgress>();
  readonly #waiting = new WaitQueue<WaitingPage>();
  /** The list that reads on although the room is used up. */
  #finishing: ListInProgress | undefined;

  /** Whether every list may read further pages. */
  get hasRoom(): boolean {
    return this.#held < MAX_HELD;
  }

  begin(): ListInProgress {
    const list = new ListInProgress(this);
    this.#lists.add(list);
    return list;
  }

  end(list: ListInProgress): void {
    this.#lists.delete(list);
    if (this.#finishing === list) this.#finishing = undefined;
    this.wake();
  }

  /** Waits until the list may begin another page, and begins it. */
  async beginPage(list: ListInProgress, signal: AbortSignal): Promise<void> {
    if (this.#allows(list)) list.pages += 1;
    else await this.#waiting.wait({ list }, signal);
  }

  /** Lets pages go on for which there is room, those of the list that began first before others. */
  wake(): void {
    for (const list of this.#lists) {
      for (const page of this.#waiting.waiters) {
        if (page.list !== list || !this.#allows(list)) continue;
        list.pages += 1;
        this.#waiting.resume(page);
      }
    }
  }

  get #held(): number {
    let held = 0;
    for (const list of this.#lists) held += list.held;
    return held;
  }

  /** Whether the list may read a page now. Without room, the first that asks is chosen to be finished. */
  #allows(list: ListInProgress): boolean {
    if (list.read === 0 || this.hasRoom) return true;
    this.#finishing ??= list;
    return list === this.#finishing;
  }
}

/** What one list holds of the room. */
export class ListInProgress {
  readonly #room: ListRoom;
  #read = 0;
  #largestPage = 0;
  /** The number of pages that are being read. */
  pages = 0;

  constructor(room: ListRoom) {
    this.#room = room;
  }

  /** What was read, and what is being read, by the size of the largest page so far. */
  get held(): number {
    return this.#read + this.pages * this.#largestPage;
  }

  /** The characters of the pages that were read. */
  get read(): number {
    return this.#read;
  }

  /**
   * Reads a page when there is room; a list's first page at once.
   * @param read gives the page with its size, in characters of JSON
   */
  async page<T extends { characters: number }>(signal: AbortSignal, read: () => Promise<T>): Promise<T> {
    await this.#room.beginPage(this, signal);
    try {
      const page = await read();
      this.#read += page.characters;
      this.#largestPage = Math.max(this.#largestPage, page.characters);
      return page;
    } finally {
      this.pages -= 1;
      this.#room.wake();
    }
  }

  end(): void {
    this.#room.end(this);
  }
}
