import { randomUUID } from 'node:crypto';
import { type ChangeClaims, type ChangeToClaim, type Claimed, MadeElsewhere } from '../core/change-claims.js';
import { backoffMs } from '../lib/backoff.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { reasonOf } from '../lib/errors.js';
import { settledWithin } from '../lib/settled-within.js';
import type { WatchUpstream } from '../lib/upstream.js';
import { HttpClient } from '../network/http-client.js';
import { keyReused, unavailable } from './claim-errors.js';
import { ClaimLeases } from './claim-leases.js';
import { type ClaimRecord, decodeRecord, encodeRecord, type RecordedName } from './claim-record.js';
import { decide } from './decide.js';
import { type Comparison, EtcdClient } from './etcd-client.js';
import { EtcdError, LEASE_NOT_FOUND } from './etcd-error.js';
import type { KeyValue } from './etcd-responses.js';
import { HeldClaim, type WrittenClaim } from './held-claim.js';
import { claimKey, workerKey } from './keys.js';
import { type LiveLease, WorkerLease } from './worker-lease.js';

export interface ClaimStoreSettings {
  /** The URLs of the members of one etcd. */
  urls: readonly string[];
  user?: string | undefined;
  password?: string | undefined;
  /** The certificate authorities to trust for https (PEM); undefined: those of Node. */
  ca?: Buffer | undefined;
}

export interface ClaimStoreOptions extends ClaimStoreSettings {
  clock: Clock;
  log: Logger;
  /** How long this worker counts as alive without a sign of life, in milliseconds; 45 s by default. */
  ttlMs?: number;
  /** Is told of each call of the store; undefined: nobody is. */
  watch?: WatchUpstream | undefined;
}

/** How long to wait before another look at a change that another worker makes, or at a store that does not respond. */
const POLL = { firstMs: 100, maxMs: 1_000 };
/** How long a stop waits for what is still being written, in milliseconds. */
const PENDING_MS = 500;

/** By how much the clocks of workers may differ, in milliseconds. */
const CLOCKS_DIFFER_MS = 5_000;
/** For how long a lost connection goes unnoticed, which may deliver a message so late: two heartbeats. */
const UNNOTICED_MS = 20_000;

/**
 * Whether a run of a message that was delivered again began, or was refused, after this wall time: then it is of the message that
 * this worker has had since, and whose connection is lost without its noticing yet.
 */
function isSince({ repeated, begunAt, settledAt }: ClaimRecord, time: number): boolean {
  const at = begunAt ?? settledAt;
  return repeated && at !== undefined && Date.parse(at) > time - CLOCKS_DIFFER_MS - UNNOTICED_MS;
}

function nameOf({ id, key, named }: ChangeToClaim): RecordedName | undefined {
  return named && { id, askedFor: named.askedFor, ...(key !== undefined && { message: key }) };
}

function isIdentified({ key, named }: ChangeToClaim): boolean {
  return key !== undefined || named !== undefined;
}

/** The record of a change that a lost worker has begun. */
function begunBefore(record: ClaimRecord, { begunAt = '', named: earlier }: ClaimRecord): ClaimRecord {
  const begun: ClaimRecord = { ...record, state: 'begun', begunAt };
  const { named } = record;
  if (named === undefined || earlier === undefined) return begun;
  return { ...begun, named: { ...named, begunFor: earlier.begunFor ?? earlier.id } };
}

/** One attempt to claim a change, until it is claimed or given up. */
interface Attempt {
  change: ChangeToClaim;
  key: string;
  run: string;
  /** What may have been written for it: the outcome of a write may be unknown. */
  readonly tried: { claim: WrittenClaim; lease: LiveLease }[];
  /** The run for which it waited, if that one was of a repeated delivery: then both are the same message. */
  waitedFor: string | undefined;
  /** Whether another worker that is alive has it, as far as is known; `other`: for another message. */
  elsewhere: 'same' | 'other' | undefined;
}

/** The workers' agreement on changes, in etcd: see decision 21. */
export class ClaimStore implements ChangeClaims {
  readonly #options: ClaimStoreOptions;
  readonly #http: HttpClient;
  readonly #etcd: EtcdClient;
  readonly #worker: WorkerLease;
  readonly #leases: ClaimLeases;
  readonly #pending = new Set<Promise<unknown>>();

  constructor(options: ClaimStoreOptions) {
    const { urls, user, password, ca, clock, log, ttlMs, watch } = options;
    this.#options = options;
    this.#http = new HttpClient({ ca, watch: watch && { kind: 'claims', begin: watch } });
    this.#etcd = new EtcdClient({
      http: this.#http,
      urls,
      login: user === undefined || password === undefined ? undefined : { user, password },
      outage: new OutageLog(log, clock, { began: 'claim store lost', ended: 'claim store restored' }),
    });
    this.#worker = new WorkerLease({ etcd: this.#etcd, clock, log, ttlMs });
    this.#leases = new ClaimLeases(this.#etcd, clock);
  }

  /** Shows other workers that this one is alive, until `stop`. */
  start(): void {
    this.#worker.start();
  }

  /** Call it when no change runs any more. */
  async stop(): Promise<void> {
    await settledWithin(PENDING_MS, this.#options.clock, Promise.allSettled(this.#pending));
    await this.#worker.stop();
    await this.#http.close();
  }

  /** @throws Error that says why the store cannot be used; it changes nothing */
  async check(signal: AbortSignal): Promise<void> {
    const key = workerKey('check');
    // The comparison never holds; etcd checks the permission for the write all the same.
    await this.#etcd.transaction(
      {
        compare: [
          { key, is: 'written', in: '0' },
          { key, is: 'created', in: '1' },
        ],
        success: [{ delete: key }],
        failure: [{ get: key }],
      },
      signal,
    );
  }

  async claim(change: ChangeToClaim, signal: AbortSignal): Promise<Claimed> {
    const attempt: Attempt = {
      change,
      // Without a key of its own nobody looks for it: it only shows whether the run goes on.
      key: claimKey(change.named?.key ?? change.key ?? randomUUID()),
      run: randomUUID(),
      tried: [],
      waitedFor: undefined,
      elsewhere: undefined,
    };
    try {
      return await this.#untilClaimed(attempt, signal);
    } catch (error) {
      // The next request with this key must not wait for it.
      for (const { claim, lease } of attempt.tried) void this.#held(attempt, lease, claim).release();
      const { elsewhere } = attempt;
      throw elsewhere === undefined ? error : new MadeElsewhere(error, elsewhere === 'other');
    }
  }

  async #untilClaimed(attempt: Attempt, signal: AbortSignal): Promise<Claimed> {
    const { clock, log } = this.#options;
    const { change } = attempt;
    let hasLostLease = false;
    for (let failed = 1; ; failed++) {
      try {
        const claimed = await this.#try(attempt, signal);
        if (claimed?.state === 'settled') log.info('recorded outcome reused', { request: change.id });
        if (claimed !== undefined) return claimed;
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        const isLeaseGone: boolean = error.code === LEASE_NOT_FOUND && !hasLostLease;
        if (isLeaseGone) this.#leases.forget();
        else if (!change.isRepeated) throw unavailable(reasonOf(error), error);
        hasLostLease = isLeaseGone;
      }
      await clock.sleep(backoffMs(failed, POLL), { signal });
    }
  }

  /** @returns undefined: not now */
  async #try(attempt: Attempt, signal: AbortSignal): Promise<Claimed | undefined> {
    const { change, key, run } = attempt;
    const named = nameOf(change);
    const lease = await this.#worker.live(signal);
    const record: ClaimRecord = {
      state: 'claimed',
      worker: lease.worker,
      run,
      action: change.action,
      repeated: change.isRepeated,
      ...(named && { named }),
    };
    const claim: WrittenClaim = { key, record, revision: undefined, before: undefined };
    const created = await this.#put(attempt, lease, claim, [{ key, is: 'absent' }], signal);
    if (created.held !== undefined) return created.held;
    const { found } = created;
    // The key of this worker does not exist.
    if (found === undefined) return this.#endOf(lease);
    const other = decodeRecord(found.value);
    if (other === undefined)
      throw new EtcdError('a claim cannot be read: all workers must be of one version');
    const [owner] = await this.#etcd.read([workerKey(other.worker)], signal);
    const isRepeated =
      change.isRepeated ||
      other.run === attempt.waitedFor ||
      isSince(other, this.#options.clock.wallTime() - change.heldMs);
    const decision = decide(other, owner !== undefined, { isRepeated, named });
    attempt.elsewhere = undefined;
    if (decision.do === 'answer') {
      const { reply, replyOf } = decision;
      return { state: 'settled', reply, ...(replyOf !== undefined && { replyOf }) };
    }
    if (decision.do === 'refuse') throw keyReused();
    if (decision.do === 'wait') {
      attempt.elsewhere = decision.isOther ? 'other' : 'same';
      if (decision.isOther && change.named?.mayWait === false)
        throw new Error('it must not wait for another message');
      if (other.repeated) attempt.waitedFor = other.run;
      return undefined;
    }
    const { wasBegun } = decision;
    const taken: WrittenClaim = {
      key,
      record: wasBegun ? begunBefore(record, other) : record,
      revision: undefined,
      before: other.state === 'claimed' ? undefined : other,
    };
    const conditions: Comparison[] = [
      { key, is: 'written', in: found.modRevision },
      ...(owner === undefined ? [{ key: workerKey(other.worker), is: 'absent' } as const] : []),
    ];
    const { held, found: after } = await this.#put(attempt, lease, taken, conditions, signal);
    if (held === undefined && after?.modRevision === found.modRevision) return this.#endOf(lease);
    return held;
  }

  /** Writes the claim while the conditions hold and this worker's lease exists. */
  async #put(
    attempt: Attempt,
    lease: LiveLease,
    claim: WrittenClaim,
    conditions: readonly Comparison[],
    signal: AbortSignal,
  ): Promise<{ held: Claimed | undefined; found: KeyValue | undefined }> {
    const { key, record } = claim;
    const value = encodeRecord(record);
    const sameAsNow = (each: Attempt['tried'][number]) =>
      each.lease === lease && encodeRecord(each.claim.record) === value;
    const tried = attempt.tried.find(sameAsNow);
    if (tried === undefined) attempt.tried.push({ claim, lease });
    else tried.claim.before = claim.before ?? tried.claim.before;
    const { succeeded, parts } = await this.#etcd.transaction(
      {
        compare: [...conditions, { key: workerKey(lease.worker), is: 'created', in: lease.createdIn }],
        success: [{ put: key, value, lease: await this.#leases.current(signal) }, { get: key }],
        failure: [{ get: key }],
      },
      signal,
    );
    const found = parts.at(-1)?.[0];
    const own = succeeded
      ? { claim, lease }
      : attempt.tried.find(
          (each) => each.lease === lease && encodeRecord(each.claim.record) === found?.value,
        );
    if (own === undefined || found === undefined) return { held: undefined, found };
    const written = { ...own.claim, revision: found.modRevision };
    return { held: { state: 'held', claim: this.#held(attempt, lease, written) }, found };
  }

  #endOf(lease: LiveLease): undefined {
    lease.end();
    return undefined;
  }

  #held({ change, run }: Attempt, lease: LiveLease, written: WrittenClaim): HeldClaim {
    const { clock, log } = this.#options;
    return new HeldClaim(
      { run, action: change.action, written, isKept: isIdentified(change) },
      {
        etcd: this.#etcd,
        leases: this.#leases,
        lease,
        clock,
        log,
        onPending: (work) => {
          this.#pending.add(work);
          void work.finally(() => this.#pending.delete(work));
        },
      },
    );
  }
}
