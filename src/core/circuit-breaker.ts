import type { Clock } from '../lib/clock.js';
import { remember } from '../lib/remember.js';

interface Failures {
  consecutive: number;
  /** The end of the pause. */
  until: number;
  /** Whether a call tries the cluster after a pause. */
  probing: boolean;
}

const MAX_CLUSTERS = 1_000;
/** After this many failures in a row a cluster is paused. */
const THRESHOLD = 3;
/** The first pause, and the longest one, in milliseconds. */
const [PAUSE_MS, MAX_PAUSE_MS] = [5_000, 30_000];
/** How long calls are refused while another one tries the cluster, before they are told to try again. */
const PROBE_MS = 1_000;

/**
 * A circuit breaker for each cluster: after several consecutive failures to reach it, its requests fail immediately for
 * a few seconds, instead of waiting for the same timeouts. Then a single request tries it; each failure doubles the next
 * pause.
 */
export class CircuitBreaker {
  readonly #clock: Clock;
  readonly #failures = new Map<string, Failures>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Milliseconds until the cluster may be tried again; 0: now. */
  pauseLeft(cluster: string): number {
    const failed = this.#failures.get(cluster);
    if (failed === undefined || failed.consecutive < THRESHOLD) return 0;
    const left = Math.max(0, failed.until - this.#clock.now());
    return failed.probing ? Math.max(left, PROBE_MS) : left;
  }

  /**
   * Call this when a request for the cluster is admitted, after `pauseLeft` was 0.
   * @returns whether it is the one that tries the cluster after a pause; then call `probed` when it has ended
   */
  admitted(cluster: string): boolean {
    const failed = this.#failures.get(cluster);
    if (failed === undefined || failed.consecutive < THRESHOLD) return false;
    failed.probing = true;
    return true;
  }

  /** The request that tried the cluster has ended, whether or not it has shown something. */
  probed(cluster: string): void {
    const failed = this.#failures.get(cluster);
    if (failed !== undefined) failed.probing = false;
  }

  reached(cluster: string): void {
    this.#failures.delete(cluster);
  }

  /** @returns whether a pause has begun */
  unreachable(cluster: string): boolean {
    const { consecutive = 0, probing = false } = this.#failures.get(cluster) ?? {};
    // Requests that were sent before the pause show nothing new.
    if (!probing && this.pauseLeft(cluster) > 0) return true;
    const pauseMs = Math.min(PAUSE_MS * 2 ** (consecutive + 1 - THRESHOLD), MAX_PAUSE_MS);
    const failures = { consecutive: consecutive + 1, until: this.#clock.now() + pauseMs, probing };
    remember(this.#failures, cluster, failures, MAX_CLUSTERS);
    return consecutive + 1 >= THRESHOLD;
  }
}
