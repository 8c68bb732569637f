import type { Clock } from '../lib/clock.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { EtcdClient } from './etcd-client.js';

/** How long a claim is kept after its last write, in milliseconds. */
const KEEP_MS = 24 * 3_600_000;
/** How long one lease is used for new writes. */
const USE_MS = 3_600_000;

/** The leases that end claims: one for all that are written within an hour, so that no request costs a lease. */
export class ClaimLeases {
  readonly #etcd: EtcdClient;
  readonly #clock: Clock;
  #current: { id: Promise<string>; since: number } | undefined;

  constructor(etcd: EtcdClient, clock: Clock) {
    this.#etcd = etcd;
    this.#clock = clock;
  }

  /** @returns the ID of the lease for a write now @throws EtcdError, or the signal's reason */
  async current(signal: AbortSignal): Promise<string> {
    const now = this.#clock.now();
    if (this.#current === undefined || now - this.#current.since >= USE_MS) {
      // Not the caller's signal: others wait for the same lease.
      const granted = this.#etcd.grantLease(KEEP_MS + USE_MS, new AbortController().signal);
      const current = { id: granted.then(({ id }) => id), since: now };
      current.id.catch(() => this.#forget(current));
      this.#current = current;
    }
    return untilAborted(this.#current.id, signal);
  }

  /** Call this when the store says that the lease does not exist. */
  forget(): void {
    this.#current = undefined;
  }

  #forget(lease: { id: Promise<string> }): void {
    if (this.#current === lease) this.#current = undefined;
  }
}
