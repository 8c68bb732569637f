import { randomUUID } from 'node:crypto';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { EtcdClient } from './etcd-client.js';
import { EtcdError } from './etcd-error.js';
import { workerKey } from './keys.js';

/** A lease that shows other workers that this one is alive. Its keys are gone when it ends. */
export interface LiveLease {
  /** Names the worker as long as it has this lease. */
  readonly worker: string;
  readonly id: string;
  /** The revision in which the worker's key was created: other keys are written only while it exists. */
  readonly createdIn: string;
  /** Aborted when the lease has ended, or may have. */
  readonly ended: AbortSignal;
  /** Whether it certainly has not ended. */
  isAlive(): boolean;
  /** Calls back when it could not be kept alive for a third of its time to live: at once when that is so. @returns cancels that */
  onStale(callback: () => void): () => void;
  /** Call this when the store says that it has ended. */
  end(): void;
}

export interface WorkerLeaseOptions {
  etcd: Pick<EtcdClient, 'grantLease' | 'keepAlive' | 'revokeLease' | 'transaction'>;
  clock: Clock;
  log: Logger;
  /** How long the lease lives without being kept alive, in milliseconds; a whole number of seconds. */
  ttlMs?: number;
}

/** Stale after 15 s: its changes are stopped then, and have 30 s to end before another worker can take their units. */
const TTL_MS = 45_000;
/** The share of its time to live after which a lease is kept alive, and after which it is stale. */
const KEEP_ALIVE_SHARE = 1 / 9;
const STALE_SHARE = 1 / 3;
/** How long to wait after a failed attempt, in milliseconds. */
const RETRY_MS = 1_000;
/** The time limit for ending the lease when the worker stops, in milliseconds. */
const REVOKE_MS = 500;

/** One lease. It ends by this worker's clock before it does in etcd: the time counts from before the request. */
class KeptLease implements LiveLease {
  readonly worker: string;
  readonly id: string;
  readonly createdIn: string;
  readonly #ended = new AbortController();
  readonly #onStale = new Set<() => void>();
  readonly #clock: Clock;
  #staleAt: number;
  #until: number;
  #cancels: (() => void)[] = [];

  constructor(
    given: { worker: string; id: string; createdIn: string; sentAt: number; ttlMs: number },
    clock: Clock,
  ) {
    ({ worker: this.worker, id: this.id, createdIn: this.createdIn } = given);
    this.#clock = clock;
    this.#until = given.sentAt;
    this.#staleAt = given.sentAt;
    this.keptAlive(given.sentAt, given.ttlMs);
  }

  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  isAlive(): boolean {
    // The timer of its end is late when the process was stopped for a while.
    if (this.#clock.now() >= this.#until) this.end();
    return !this.#ended.signal.aborted;
  }

  onStale(callback: () => void): () => void {
    // As for its end, the timer may be late.
    if (!this.isAlive() || this.#clock.now() >= this.#staleAt) {
      callback();
      return () => {};
    }
    this.#onStale.add(callback);
    return () => this.#onStale.delete(callback);
  }

  /** @param sentAt when the request was sent */
  keptAlive(sentAt: number, ttlMs: number): void {
    this.#staleAt = sentAt + ttlMs * STALE_SHARE;
    this.#until = sentAt + ttlMs;
    const now = this.#clock.now();
    this.#cancelTimers();
    this.#cancels = [
      this.#clock.after(this.#staleAt - now, () => this.#becomeStale()),
      this.#clock.after(this.#until - now, () => this.end()),
    ];
  }

  end(): void {
    this.#cancelTimers();
    this.#becomeStale();
    this.#ended.abort(new Error('the lease of this worker has ended'));
  }

  #becomeStale(): void {
    for (const callback of this.#onStale) callback();
    this.#onStale.clear();
  }

  #cancelTimers(): void {
    for (const cancel of this.#cancels) cancel();
  }
}

/** Keeps a lease of this worker alive, and makes a new one when it has ended. */
export class WorkerLease {
  readonly #options: WorkerLeaseOptions;
  readonly #ttlMs: number;
  readonly #stopped = new AbortController();
  #lease: KeptLease | undefined;
  #making: Promise<KeptLease> | undefined;
  #keeping: Promise<void> = Promise.resolve();

  constructor(options: WorkerLeaseOptions) {
    this.#options = options;
    this.#ttlMs = options.ttlMs ?? TTL_MS;
  }

  /** Makes a lease, and keeps it alive until `stop`. */
  start(): void {
    this.#keeping = this.#keep(this.#stopped.signal).catch((error: unknown) => {
      if (!this.#stopped.signal.aborted) throw error;
    });
  }

  /** The lease that lives, or a new one. @throws EtcdError, or the signal's reason */
  async live(signal: AbortSignal): Promise<LiveLease> {
    signal.throwIfAborted();
    return this.#lease?.isAlive() === true ? this.#lease : untilAborted(this.#made(), signal);
  }

  /** Ends the lease: other workers then know that this one runs nothing. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the worker stops'));
    await this.#keeping;
    const lease = this.#lease;
    if (lease?.isAlive() !== true) return;
    lease.end();
    await this.#options.etcd.revokeLease(lease.id, AbortSignal.timeout(REVOKE_MS)).catch((error: unknown) => {
      // It ends by itself.
      if (!(error instanceof EtcdError) && !isTimeout(error)) throw error;
    });
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      const pauseMs = this.#ttlMs * KEEP_ALIVE_SHARE;
      const isKept = await this.#attempt(signal);
      await clock.sleep(isKept ? pauseMs : Math.min(RETRY_MS, pauseMs), { signal });
    }
  }

  /** @returns whether the worker has a lease that was just made or kept alive */
  async #attempt(signal: AbortSignal): Promise<boolean> {
    const { clock, etcd, log } = this.#options;
    const lease = this.#lease;
    try {
      if (lease?.isAlive() === true) {
        const sentAt = clock.now();
        const ttlMs = await etcd.keepAlive(lease.id, signal);
        if (ttlMs !== undefined && lease.isAlive()) {
          lease.keptAlive(sentAt, ttlMs);
          return true;
        }
        lease.end();
      }
      // A request may have made another one meanwhile.
      if (this.#lease === lease) await this.#made();
      return true;
    } catch (error) {
      if (signal.aborted) throw error;
      if (!(error instanceof EtcdError)) log.error('claim store failed unexpectedly', { error });
      return false;
    }
  }

  /** A new lease; those who need one at the same time share it. */
  async #made(): Promise<KeptLease> {
    this.#making ??= this.#make().finally(() => (this.#making = undefined));
    return this.#making;
  }

  async #make(): Promise<KeptLease> {
    const { clock, etcd } = this.#options;
    const { signal } = this.#stopped;
    const sentAt = clock.now();
    const { id, ttlMs } = await etcd.grantLease(this.#ttlMs, signal);
    const worker = randomUUID();
    const key = workerKey(worker);
    const { parts } = await etcd.transaction(
      {
        compare: [{ key, is: 'absent' }],
        success: [{ put: key, value: '', lease: id }, { get: key }],
        failure: [{ get: key }],
      },
      signal,
    );
    const written = parts.at(-1)?.[0];
    if (written === undefined) throw new EtcdError('the key of this worker was not written');
    this.#lease = new KeptLease({ worker, id, createdIn: written.createRevision, sentAt, ttlMs }, clock);
    return this.#lease;
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError';
}
