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
}

/** A request that runs here. */
export class RunningRequest<R> {
  readonly key: string;
  readonly source: Source;
  #reply: Promise<R | undefined> | undefined;
  #resolve: ((reply: R | undefined) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;

  constructor(key: string, source: Source) {
    this.key = key;
    this.source = source;
  }

  /** Resolves with its reply, or with undefined when it is released. Made only when it is read, which is rare. */
  get reply(): Promise<R | undefined> {
    this.#reply ??= new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    return this.#reply;
  }

  end(reply: R | undefined): void {
    this.#resolve?.(reply);
  }

  fail(error: unknown): void {
    this.#reject?.(error);
  }
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
  readonly #running = new Map<string, RunningRequest<R>>();
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
    if (running !== undefined) return { state: 'running', reply: running.reply };
    const entry = this.#entryOf(key);
    if (entry === undefined || entry.at + this.#keepMs < this.#clock.now()) return { state: 'unknown' };
    const { reply, released } = entry;
    return reply === undefined ? { state: 'released', ...released } : { state: 'settled', reply };
  }

  /** Remembers that a request runs from now on; its end replaces an earlier entry with the same key. */
  begin(key: string, source: Source): RunningRequest<R> {
    const running = new RunningRequest<R>(key, source);
    this.#running.set(key, running);
    return running;
  }

  /** @param bytes the size of the reply */
  settled(running: RunningRequest<R>, reply: R, bytes: number): void {
    this.#end(running, reply, NOT_RELEASED, bytes);
  }

  /** @param mustRunAlone whether a process has ended that it shared here */
  released(running: RunningRequest<R>, mustRunAlone: boolean): void {
    const { place, mayHaveBegun } = running.source;
    const places = new Set(this.#entryOf(running.key)?.released.places).add(place);
    this.#end(running, undefined, { places, mayHaveBegun, mustRunAlone }, 0);
  }

  /** Forgets a request that has no reply because of a defect. Who waits for its reply gets the error. */
  failed(running: RunningRequest<R>, error: unknown): void {
    this.#leave(running);
    this.#younger.delete(running.key);
    this.#older.delete(running.key);
    running.fail(error);
  }

  /**
   * What is known of a request that was released now, to be forgotten when another worker may take it. By then this process may have
   * released it again, and what it knows of that stays.
   * @returns a function that forgets it
   */
  forgetting(key: string): () => void {
    const entry = this.#entryOf(key);
    return () => {
      if (this.#entryOf(key) !== entry || entry?.reply !== undefined) return;
      this.#younger.delete(key);
      // Also an earlier reply: whoever made the request again has it.
      this.#older.delete(key);
    };
  }

  #entryOf(key: string): Entry<R> | undefined {
    return this.#younger.get(key) ?? this.#older.get(key);
  }

  #leave(running: RunningRequest<R>): void {
    if (this.#running.get(running.key) === running) this.#running.delete(running.key);
  }

  #end(running: RunningRequest<R>, reply: R | undefined, released: Released, bytes: number): void {
    const { key } = running;
    this.#leave(running);
    running.end(reply);
    if (bytes > this.#maxBytes / 4) {
      this.#younger.delete(key);
      this.#older.delete(key);
      return;
    }
    if (this.#youngerBytes + bytes > this.#maxBytes / 2 || this.#younger.size >= this.#maxEntries / 2)
      this.#dropOlder();
    this.#younger.set(key, { reply, released, at: this.#clock.now() });
    this.#youngerBytes += bytes;
  }

  /** Drops the older generation; the younger one takes its place. */
  #dropOlder(): void {
    this.#older = this.#younger;
    this.#olderBytes = this.#youngerBytes;
    this.#younger = new Map();
    this.#youngerBytes = 0;
  }
}
