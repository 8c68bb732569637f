import type { Cluster } from '../../api/cluster.js';
import type { Clock } from '../../lib/clock.js';
import { remember } from '../../lib/remember.js';

/** How long a host that failed, or was slower than another, is asked only after the others. */
const AVOIDED_MS = 30_000;
/** How long a host that responded is taken to respond to the next call too. */
const JUST_RESPONDED_MS = 2_000;
const MAX_REMEMBERED = 1_000;

/** Which hosts of a cluster to ask first. */
export class HostHealth {
  readonly #clock: Clock;
  /** The host that responded last, by cluster. */
  readonly #preferred = new Map<string, { href: string; at: number }>();
  /** The time until which a host is avoided. */
  readonly #avoided = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The hosts in the order in which to ask them: the one that responded last, the others, those to avoid. */
  inOrder(cluster: Cluster, hosts: readonly URL[]): URL[] {
    const preferred = this.#preferred.get(cluster.key)?.href;
    const start = Math.max(
      0,
      hosts.findIndex(({ href }) => href === preferred),
    );
    const rotated = [...hosts.slice(start), ...hosts.slice(0, start)];
    // Stable: hosts that are not avoided keep their order, and of the others the one that failed first is tried first.
    return rotated.toSorted((a, b) => this.#avoidedUntil(a) - this.#avoidedUntil(b));
  }

  responded(cluster: Cluster, host: URL): void {
    remember(this.#preferred, cluster.key, { href: host.href, at: this.#clock.now() }, MAX_REMEMBERED);
    this.#avoided.delete(host.href);
  }

  /** Whether this host was the last one to respond, a moment ago, and has not failed since. */
  hasJustResponded(cluster: Cluster, host: URL): boolean {
    const preferred = this.#preferred.get(cluster.key);
    if (preferred?.href !== host.href || this.#avoidedUntil(host) !== 0) return false;
    return this.#clock.now() - preferred.at < JUST_RESPONDED_MS;
  }

  /** The host failed, did not respond, or was so slow that another one was faster. */
  failed(host: URL): void {
    remember(this.#avoided, host.href, this.#clock.now() + AVOIDED_MS, MAX_REMEMBERED);
  }

  /** Whether it has failed, or was slower than another one, since this time, as the last thing that is known of it. */
  hasFailedSince(host: URL, time: number): boolean {
    return this.#avoidedUntil(host) >= time + AVOIDED_MS;
  }

  /** 0 for a host that is not avoided. */
  #avoidedUntil({ href }: URL): number {
    const until = this.#avoided.get(href);
    return until !== undefined && until > this.#clock.now() ? until : 0;
  }
}
