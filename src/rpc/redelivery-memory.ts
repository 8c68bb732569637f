import type { Clock } from '../lib/clock.js';

/** What this process remembers of a request that is delivered again. */
export type Known<R> =
  | { state: 'settled'; reply: R }
  /** It still runs here; `reply` resolves with undefined when it is released. */
  | { state: 'running'; reply: Promise<R | undefined> }
  /** It did not begin here, or may run again. */
  | ({ state: 'released' } & Released)
  | { state: 'unknown' };

interface Released {
  /** Where its messages came from that were released. */
  places: ReadonlySet<string>;
  /** Whether another worker may have begun it before it came. */
  mayHaveBegun: boolean;
  /** Whether a process has ended that it shared here. */
  mustRunAlone: boolean;
}

interface Entry<R> {
  /** Undefined: released. */
  reply: R | undefined;
  released: Released;
  at: number;
}

/** The message of a request. */
export interface Source {
  /** Where it came from. */
  place: string;
  /** Whether another worker may have begun it before. */
  mayHaveBegun: boolean;
  /** Whether it must run alone, when it was released. */
  mustRunAlone: () => boolean;
}

const NOT_RELEASED: Released = { places: new Set(), mayHaveBegun: false, mustRunAlone: false };
/** The memory of an entry without its reply, in bytes: its key, and some objects. */
const ENTRY_BYTES = 512;

/**
 * Remembers requests by key. A request that RabbitMQ delivers again after a lost connection gets its first reply and
 * does not run twice. The memory is limited in bytes, entries and time; a new process starts with an empty one.
 *
 * Settled requests are kept in two generations. When the younger generation reaches half of a limit, it becomes the
 * older one, and the previous older one is dropped as a whole. Evicting single entries from the front of one Map would
 * be slow: finding the first entry skips the slots of all deleted ones.
 */
export class RedeliveryMemory<R> {
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #maxEntries: number;
  readonly #keepMs: number;
  readonly #running = new Map<string, Promise<R | undefined>>();
  #younger = new Map<string, Entry<R>>();
  #older = new Map<string, Entry<R>>();
  #youngerBytes = 0;
  #olderBytes = 0;

  constructor(clock: Clock, options: { maxBytes?: number; maxEntries?: number; keepMs?: number } = {}) {
    this.#clock = clock;
    this.#maxBytes = options.maxBytes ?? 64 * 1024 * 1024;
    this.#maxEntries = options.maxEntries ?? 20_000;
    this.#keepMs = options.keepMs ?? 10 * 60_000;
  }

  /** How much memory the settled requests take. */
  get bytes(): number {
    const entries = this.#younger.size + this.#older.size;
    return this.#youngerBytes + this.#olderBytes + entries * ENTRY_BYTES;
  }

  /** Forgets the older generation, and the younger one too when that is not enough to free this many bytes. */
  evict(bytes: number): void {
    const left = this.bytes - bytes;
    if (this.bytes > left) this.#dropOlder();
    if (this.bytes > left) this.#dropOlder();
  }

  /** Looks up a request that is delivered again. */
  recall(key: string): Known<R> {
    const running = this.#running.get(key);
    if (running !== undefined) return { state: 'running', reply: running };
    const entry = this.#younger.get(key) ?? this.#older.get(key);
    if (entry === undefined || entry.at + this.#keepMs < this.#clock.now()) return { state: 'unknown' };
    const { reply, released } = entry;
    return reply === undefined ? { state: 'released', ...released } : { state: 'settled', reply };
  }

  /**
   * Remembers a request; replaces an earlier entry with the same key.
   * @param settling resolves with its reply, or with undefined when it is released; must not reject
   * @param bytes returns the size of a reply in bytes
   */
  track(
    key: string,
    settling: Promise<R | undefined>,
    bytes: (reply: R) => number,
    { place, ...source }: Source,
  ): void {
    const known = this.#younger.get(key) ?? this.#older.get(key);
    const released = () => {
      const places = new Set(known?.released.places).add(place);
      return { places, mayHaveBegun: source.mayHaveBegun, mustRunAlone: source.mustRunAlone() };
    };
    if (known !== undefined) {
      this.#younger.delete(key);
      this.#older.delete(key);
    }
    this.#running.set(key, settling);
    void settling.then((reply) => {
      if (this.#running.get(key) === settling) this.#running.delete(key);
      return this.#keep(key, reply, reply === undefined ? 0 : bytes(reply), released);
    });
  }

  /** Forgets a request that was released, and that another worker may take now. */
  forget(key: string): void {
    for (const each of [this.#younger, this.#older]) if (each.get(key)?.reply === undefined) each.delete(key);
  }

  #keep(key: string, reply: R | undefined, size: number, released: () => Released): void {
    if (size > this.#maxBytes / 4) return;
    if (this.#youngerBytes + size > this.#maxBytes / 2 || this.#younger.size >= this.#maxEntries / 2) {
      this.#dropOlder();
    }
    const entry = { reply, released: reply === undefined ? released() : NOT_RELEASED, at: this.#clock.now() };
    this.#younger.set(key, entry);
    this.#youngerBytes += size;
  }

  /** Drops the older generation; the younger one takes its place. */
  #dropOlder(): void {
    this.#older = this.#younger;
    this.#olderBytes = this.#youngerBytes;
    this.#younger = new Map();
    this.#youngerBytes = 0;
  }
}
