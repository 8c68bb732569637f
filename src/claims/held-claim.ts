import type { ActionError } from '../api/action-error.js';
import type { Cluster } from '../api/cluster.js';
import type { Reply } from '../core/call.js';
import type { Claim } from '../core/change-claims.js';
import { backoffMs } from '../lib/backoff.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { reasonOf } from '../lib/errors.js';
import { settledWithin } from '../lib/settled-within.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { ClaimLeases } from './claim-leases.js';
import {
  type ClaimRecord,
  decodeRecord,
  encodeRecord,
  type StoredReply,
  storedReply,
} from './claim-record.js';
import { leaseLost, unavailable } from './claim-errors.js';
import type { Comparison, EtcdClient, Operation } from './etcd-client.js';
import { EtcdError, LEASE_NOT_FOUND } from './etcd-error.js';
import { unitKey, workerKey } from './keys.js';
import type { LiveLease } from './worker-lease.js';

export interface HeldClaimParts {
  etcd: Pick<EtcdClient, 'transaction'>;
  leases: Pick<ClaimLeases, 'current' | 'forget'>;
  /** The lease under which it was claimed: with its end all ends. */
  lease: LiveLease;
  clock: Clock;
  log: Logger;
  /** Gets the work that goes on after a claim has ended for its caller. */
  onPending: (work: Promise<unknown>) => void;
}

/** The claim as it is in the store. */
export interface WrittenClaim {
  key: string;
  record: ClaimRecord;
  /** The revision of its latest write; undefined: it is not known whether it was written. */
  revision: string | undefined;
  /** What to write when the claim is given up before it begins; undefined: nothing, it is deleted. */
  before: ClaimRecord | undefined;
}

/** How long a caller waits for the outcome to be written, in milliseconds. */
const SETTLE_MS = 5_000;
/** The same, of a change that was not begun: if that is not written, another worker may make it. */
const REFUSAL_MS = 15_000;
/** How long a release waits for the claim to be given up: it may be part of a shutdown. */
const RELEASE_MS = 1_000;
/** How long to wait between two attempts to write it. */
const RETRY_MS = 500;
/** How long to wait before another look at a unit that another worker changes. */
const POLL = { firstMs: 100, maxMs: 1_000 };

/** Another worker has written the claim, or the lease of this one has ended. */
class ClaimLost extends Error {
  override readonly name = 'ClaimLost';
}

export class HeldClaim implements Claim {
  readonly wasBegun: boolean;
  readonly #parts: HeldClaimParts;
  readonly #run: string;
  readonly #action: string;
  readonly #written: WrittenClaim;
  readonly #isKept: boolean;
  /** What may be in the store of it: the outcome of a write may stay unknown. */
  readonly #values = new Set<string>();
  readonly #units = new Set<string>();

  /** @param run `isKept`: the claim is kept with the outcome, for another delivery of the request */
  constructor(
    run: { run: string; action: string; written: WrittenClaim; isKept: boolean },
    parts: HeldClaimParts,
  ) {
    this.#parts = parts;
    this.#run = run.run;
    this.#action = run.action;
    this.#written = run.written;
    this.#isKept = run.isKept;
    this.#values.add(encodeRecord(run.written.record));
    this.wasBegun = run.written.record.state === 'begun';
  }

  async lockUnit(cluster: Cluster | undefined, unit: string, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const key = unitKey(cluster?.key ?? 'none', unit);
    // Before the first attempt, as its outcome may stay unknown.
    this.#units.add(key);
    for (let attempt = 1; ; attempt++) {
      if (await this.#lock(key, signal)) return;
      await clock.sleep(backoffMs(attempt, POLL), { signal });
    }
  }

  async tryLockUnit(
    cluster: Cluster | undefined,
    unit: string,
    signal: AbortSignal,
  ): Promise<(() => Promise<void>) | undefined> {
    const key = unitKey(cluster?.key ?? 'none', unit);
    this.#units.add(key);
    if (await this.#lock(key, signal)) return async () => this.#unlockEarly(key);
    this.#units.delete(key);
    return undefined;
  }

  /** @returns false: another worker has it */
  async #lock(key: string, signal: AbortSignal): Promise<boolean> {
    const { etcd, lease } = this.#parts;
    const value = this.#lockValue();
    return this.#orUnavailable(async () => {
      const { key: claim, revision = '0' } = this.#written;
      const { succeeded, parts } = await etcd.transaction(
        {
          // The claim changes before the units are freed: a request that arrives after that must lock nothing.
          compare: [
            { key, is: 'absent' },
            { key: claim, is: 'written', in: revision },
          ],
          success: [{ put: key, value, lease: lease.id }],
          failure: [{ get: key }, { get: claim }],
        },
        signal,
      );
      const [[lock], [own]] = [parts[0] ?? [], parts[1] ?? []];
      if (succeeded || lock?.value === value) return true;
      if (own?.modRevision !== revision) throw new ClaimLost('another worker has taken the change');
      return false;
    });
  }

  /** Frees a unit before the claim ends; one that cannot be freed is freed then. */
  async #unlockEarly(key: string): Promise<void> {
    if (!this.#units.has(key)) return;
    const { etcd, clock, log } = this.#parts;
    const value = this.#lockValue();
    const { signal } = new AbortController();
    const work = etcd
      .transaction({ compare: [{ key, is: 'equal', to: value }], success: [{ delete: key }] }, signal)
      .then(
        () => void this.#units.delete(key),
        (error: unknown) => log.debug('unit not freed yet', { reason: reasonOf(error) }),
      );
    await settledWithin(RELEASE_MS, clock, work);
  }

  async begin(signal: AbortSignal): Promise<void> {
    const { lease, clock } = this.#parts;
    const begunAt = new Date(clock.wallTime()).toISOString();
    await this.#orUnavailable(async () => {
      await this.#write({ begunAt, ...this.#written.record, state: 'begun' }, signal, [
        { key: workerKey(lease.worker), is: 'created', in: lease.createdIn },
      ]);
      if (!lease.isAlive()) throw new ClaimLost('the lease of this worker has ended');
    });
  }

  onLost(callback: (reason: ActionError) => void): () => void {
    return this.#parts.lease.onStale(() => callback(leaseLost()));
  }

  async settle(reply: Reply, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#parts;
    const isBegun = this.#written.record.state === 'begun';
    const waitMs = isBegun ? SETTLE_MS : REFUSAL_MS;
    let isLost = false;
    const work = this.#note(storedReply(reply)).then((isWritten) => (isLost = !isWritten));
    await settledWithin(waitMs, clock, untilAborted(work, signal));
    return !isLost;
  }

  async release(): Promise<void> {
    const { clock } = this.#parts;
    const work = this.#inBackground(async (background) => this.#restore(background));
    await settledWithin(RELEASE_MS, clock, work);
  }

  /**
   * Writes the claim, if it is still this worker's. May be repeated after an unknown outcome.
   * @throws ClaimLost, EtcdError
   */
  async #write(record: ClaimRecord, signal: AbortSignal, more: readonly Comparison[]): Promise<void> {
    const { etcd, leases } = this.#parts;
    const written = this.#written;
    const { key } = written;
    const value = encodeRecord(record);
    this.#values.add(value);
    for (;;) {
      const lease = await leases.current(signal);
      const { revision = '0' } = written;
      const { succeeded, parts } = await etcd.transaction(
        {
          compare: [{ key, is: 'written', in: revision }, ...more],
          success: [{ put: key, value, lease }, { get: key }],
          failure: [{ get: key }],
        },
        signal,
      );
      const now = parts.at(-1)?.[0];
      if (now === undefined || decodeRecord(now.value)?.run !== this.#run)
        throw new ClaimLost('another worker has taken the change');
      written.revision = now.modRevision;
      if (succeeded || now.value === value) {
        written.record = record;
        return;
      }
      if (now.modRevision === revision) throw new ClaimLost('the lease of this worker has ended');
    }
  }

  /** @returns whether it was written; false: another worker may have taken the change */
  async #note(settled: StoredReply): Promise<boolean> {
    const settledAt = new Date(this.#parts.clock.wallTime()).toISOString();
    const isWritten = await this.#inBackground(async (signal) =>
      this.#isKept
        ? this.#write({ ...this.#written.record, state: 'settled', settled, settledAt }, signal, [])
        : this.#restore(signal),
    );
    if (!isWritten) this.#parts.log.warn('change outcome not recorded', { action: this.#action });
    return isWritten;
  }

  /** Writes what was there before the claim. */
  async #restore(signal: AbortSignal): Promise<void> {
    const { etcd, leases } = this.#parts;
    const { key, record, before } = this.#written;
    let own: Comparison = { key, is: 'equal', to: encodeRecord(record) };
    for (;;) {
      const back: Operation =
        before === undefined
          ? { delete: key }
          : { put: key, value: encodeRecord(before), lease: await leases.current(signal) };
      const { succeeded, parts } = await etcd.transaction(
        { compare: [own], success: [back], failure: [{ get: key }] },
        signal,
      );
      const now = parts.at(-1)?.[0];
      if (succeeded) return;
      if (now === undefined) return this.#fence(signal);
      if (!this.#values.has(now.value)) return;
      own = { key, is: 'written', in: now.modRevision };
    }
  }

  /** A write whose outcome is unknown may arrive still: it is made to fail, as nobody would end the claim that it makes. */
  async #fence(signal: AbortSignal): Promise<void> {
    const { etcd, leases } = this.#parts;
    const { key, record, revision } = this.#written;
    if (revision !== undefined) return;
    // For other workers it is that of a lost one, which never began.
    const value = encodeRecord({ ...record, worker: 'none' });
    const lease = await leases.current(signal);
    await etcd.transaction(
      { compare: [{ key, is: 'absent' }], success: [{ put: key, value, lease }] },
      signal,
    );
  }

  async #unlock(signal: AbortSignal): Promise<void> {
    for (const key of this.#units) {
      await this.#parts.etcd.transaction(
        { compare: [{ key, is: 'equal', to: this.#lockValue() }], success: [{ delete: key }] },
        signal,
      );
      this.#units.delete(key);
    }
  }

  /**
   * Does the work, then frees the units. Tries it again while the lease lives: with the lease the units are free anyway, and the
   * change counts as that of a lost worker.
   * @returns whether the work was done
   */
  async #inBackground(work: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
    const done = (async () => {
      const isDone = await this.#untilDone(work);
      await this.#untilDone(async (signal) => this.#unlock(signal));
      return isDone;
    })();
    this.#parts.onPending(done);
    return done;
  }

  async #untilDone(work: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
    const { clock, lease, leases, log } = this.#parts;
    // Each request has a time limit of its own.
    const { signal } = new AbortController();
    do {
      try {
        await work(signal);
        return true;
      } catch (error) {
        if (error instanceof ClaimLost) return false;
        if (!(error instanceof EtcdError)) {
          log.error('claim store failed unexpectedly', { error });
          return false;
        }
        if (error.code === LEASE_NOT_FOUND) leases.forget();
      }
      // The end of the lease ends the wait too.
      await clock.sleep(RETRY_MS, { signal: lease.ended }).catch(() => {});
    } while (lease.isAlive());
    return false;
  }

  /** A failure of the store means that the change must not begin. */
  async #orUnavailable<T>(work: () => Promise<T>): Promise<T> {
    const { lease, leases } = this.#parts;
    try {
      return await work();
    } catch (error) {
      if (error instanceof EtcdError && error.code === LEASE_NOT_FOUND) {
        leases.forget();
        lease.end();
      }
      if (error instanceof EtcdError || error instanceof ClaimLost) throw unavailable(reasonOf(error), error);
      throw error;
    }
  }

  #lockValue(): string {
    return JSON.stringify({ worker: this.#parts.lease.worker, run: this.#run, action: this.#action });
  }
}
