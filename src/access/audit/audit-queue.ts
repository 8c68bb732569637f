import { type Backoff, backoffMs } from '../../lib/backoff.js';
import type { Clock } from '../../lib/clock.js';
import type { Logger } from '../../lib/logger.js';
import { OutageLog } from '../../lib/outage-log.js';
import { settledWithin } from '../../lib/settled-within.js';
import type { AuditSink, SinkLine } from './audit-sink.js';

export interface AuditQueueOptions {
  sink: AuditSink;
  /** Makes the line that says how many lines were dropped. */
  gapLine: (lines: number) => SinkLine;
  clock: Clock;
  log: Logger;
}

/** A line that somebody waits for. */
export interface AwaitedLine {
  /** Resolves when it is kept, or with the reason why it could not be kept so far; it is then written later. */
  readonly outcome: Promise<string | undefined>;
  /** Takes it back. @returns false: it may be kept already */
  readonly withdraw: () => boolean;
}

interface Entry {
  readonly line: SinkLine;
  readonly bytes: number;
  /** Undefined: nobody waits for it. */
  tell: ((problem: string | undefined) => void) | undefined;
}

/** What may wait, while nothing can be written. */
const MAX_LINES = 10_000;
const MAX_BYTES = 8 * 1024 * 1024;
/** The share that denials and reads may take: a caller can cause any number of them, and changes must have room. */
const SHARE_OF_OTHERS = 0.5;
/** What is written at once. */
const BATCH_LINES = 500;
const BATCH_BYTES = 512 * 1024;
/** How long a line for which nobody waits may wait for others, in milliseconds: a write costs more than many lines. */
const LINGER_MS = 5;
/** After this long nobody waits for a write any more, in milliseconds: the sink hangs. */
const SLOW_MS = 2_000;
const BACKOFF: Backoff = { firstMs: 100, maxMs: 5_000 };
/** While it is closed there is little time. */
const CLOSING_BACKOFF: Backoff = { firstMs: 50, maxMs: 100 };

/** Lines on their way to the sink, in order. While it fails they wait, within limits; what is beyond them is counted. */
export class AuditQueue {
  readonly #options: AuditQueueOptions;
  readonly #outage: OutageLog;
  readonly #entries: Entry[] = [];
  #bytes = 0;
  /** How many of the first entries are being written. */
  #taken = 0;
  #dropped = 0;
  /** Whether the current write takes so long that nobody waits for it. */
  #hangs = false;
  /** Why the last write failed, or hangs; undefined: neither. */
  #problem: string | undefined;
  #work: Promise<void> | undefined;
  /** Cancels the beginning of the next write; undefined: none is planned. */
  #cancelLinger: (() => void) | undefined;
  /** Ends the pause before the next attempt. */
  #pause = new AbortController();
  #state: 'open' | 'closing' | 'closed' = 'open';

  constructor(options: AuditQueueOptions) {
    this.#options = options;
    this.#outage = new OutageLog(options.log, options.clock, {
      began: 'audit lines wait',
      ended: 'audit lines written again',
    });
  }

  add(line: SinkLine, { isOfChange = true } = {}): void {
    this.#push(line, isOfChange ? 1 : SHARE_OF_OTHERS);
    this.#linger();
  }

  /** Adds a line that somebody waits for. */
  addAwaited(line: SinkLine): AwaitedLine {
    const entry = this.#push(line, 1);
    if (entry === undefined)
      return { outcome: Promise.resolve('too many lines wait to be written'), withdraw: () => true };
    // Not before the caller has the entry.
    this.#begin();
    const withdraw = () => this.#withdraw(entry);
    if (this.#hangs) return { outcome: Promise.resolve(this.#problem), withdraw };
    const outcome = new Promise<string | undefined>((resolve) => (entry.tell = resolve));
    // After a failure the next write may succeed.
    this.#pause.abort();
    return { outcome, withdraw };
  }

  /** Resolves when what waits now is written, or after this long in milliseconds. */
  async flush(withinMs: number): Promise<void> {
    this.#begin();
    if (this.#work !== undefined) await settledWithin(withinMs, this.#options.clock, this.#work);
  }

  /** Writes what waits, for at most this long in milliseconds; then closes the sink. Logs how many lines are unsent. */
  async close(withinMs: number): Promise<void> {
    const { clock, log, sink } = this.#options;
    // What is being stopped right now adds its line in this turn.
    await new Promise(setImmediate);
    this.#state = 'closing';
    this.#pause.abort();
    this.#begin();
    if (this.#work !== undefined) await settledWithin(withinMs, clock, this.#work);
    this.#state = 'closed';
    this.#pause.abort();
    const lines = this.#entries.length + this.#dropped;
    if (lines > 0) log.error('audit lines unsent', { lines, reason: this.#problem });
    await sink.close();
  }

  #push(line: SinkLine, share: number): Entry | undefined {
    const bytes = Buffer.byteLength(line.text);
    const isFull = this.#entries.length >= MAX_LINES * share || this.#bytes + bytes > MAX_BYTES * share;
    if (isFull || this.#state === 'closed') {
      this.#dropped++;
      return undefined;
    }
    const entry: Entry = { line, bytes, tell: undefined };
    this.#entries.push(entry);
    this.#bytes += bytes;
    return entry;
  }

  #linger(): void {
    if (this.#work !== undefined || this.#entries.length === 0 || this.#state !== 'open') return;
    this.#cancelLinger ??= this.#options.clock.after(LINGER_MS, () => this.#begin());
  }

  #begin(): void {
    this.#cancelLinger?.();
    this.#cancelLinger = undefined;
    if (this.#entries.length > 0) this.#work ??= Promise.resolve().then(async () => this.#write());
  }

  #withdraw(entry: Entry): boolean {
    const at = this.#entries.indexOf(entry);
    if (at < this.#taken) return false;
    this.#entries.splice(at, 1);
    this.#bytes -= entry.bytes;
    return true;
  }

  /** Writes until nobody waits for a line any more. Never rejects. */
  async #write(): Promise<void> {
    for (let failed = 0; this.#entries.length > 0 && this.#state !== 'closed'; ) {
      if (await this.#attempt()) {
        failed = 0;
        if (this.#state === 'open' && this.#entries.every(({ tell }) => tell === undefined)) break;
        continue;
      }
      failed++;
      await this.#wait(backoffMs(failed, this.#state === 'open' ? BACKOFF : CLOSING_BACKOFF));
    }
    this.#work = undefined;
    this.#linger();
  }

  /** @returns whether the batch is kept */
  async #attempt(): Promise<boolean> {
    const { sink, clock } = this.#options;
    const lines = this.#batch();
    this.#taken = lines.length;
    const cancel = clock.after(SLOW_MS, () => {
      this.#hangs = true;
      this.#failed(`a write has taken more than ${SLOW_MS} ms`);
    });
    const { kept, problem } = await sink.write(lines);
    cancel();
    this.#hangs = false;
    this.#taken = 0;
    for (const { bytes, tell } of this.#entries.splice(0, kept)) {
      this.#bytes -= bytes;
      tell?.(undefined);
    }
    if (problem !== undefined) {
      // Before anybody learns of it, who may have another line.
      this.#pause = new AbortController();
      this.#failed(problem);
      return false;
    }
    this.#problem = undefined;
    this.#outage.succeeded();
    this.#noteGap();
    return true;
  }

  #batch(): SinkLine[] {
    let bytes = 0;
    const end = this.#entries.findIndex((entry, index) => {
      bytes += entry.bytes;
      return index >= BATCH_LINES || (index > 0 && bytes > BATCH_BYTES);
    });
    return this.#entries.slice(0, end === -1 ? undefined : end).map(({ line }) => line);
  }

  #failed(problem: string): void {
    this.#problem = problem;
    this.#outage.failed({ reason: problem });
    for (const entry of this.#entries) {
      entry.tell?.(problem);
      entry.tell = undefined;
    }
  }

  /** The audit itself says what it lacks. */
  #noteGap(): void {
    const lines = this.#dropped;
    if (lines === 0 || this.#entries.length * 2 > MAX_LINES) return;
    this.#dropped = 0;
    this.#options.log.error('audit lines dropped', { lines });
    this.#push(this.#options.gapLine(lines), 1);
  }

  async #wait(ms: number): Promise<void> {
    await this.#options.clock.sleep(ms, { signal: this.#pause.signal }).catch(() => {});
  }
}
