import type { Clock } from '../lib/clock.js';

const MAX_CLUSTERS = 1000;

/**
 * A circuit breaker for each cluster: after several consecutive failures to reach it, its requests fail immediately for
 * a few seconds, instead of waiting for the same timeouts.
 */
export class CircuitBreaker {
  readonly #clock: Clock;
  readonly #threshold: number;
  readonly #pauseMs: number;
  readonly #failures = new Map<string, { consecutive: number; until: number }>();

  constructor(clock: Clock, options: { threshold?: number; pauseMs?: number } = {}) {
    this.#clock = clock;
    this.#threshold = options.threshold ?? 3;
    this.#pauseMs = options.pauseMs ?? 5_000;
  }

  /** Milliseconds until the cluster may be tried again; 0: now. */
  pauseLeft(cluster: string): number {
    const failed = this.#failures.get(cluster);
    if (failed === undefined || failed.consecutive < this.#threshold) return 0;
    return Math.max(0, failed.until - this.#clock.now());
  }

  reached(cluster: string): void {
    this.#failures.delete(cluster);
  }

  unreachable(cluster: string): void {
    const consecutive = (this.#failures.get(cluster)?.consecutive ?? 0) + 1;
    this.#failures.delete(cluster);
    this.#failures.set(cluster, { consecutive, until: this.#clock.now() + this.#pauseMs });
    if (this.#failures.size > MAX_CLUSTERS) {
      const [oldest] = this.#failures.keys();
      if (oldest !== undefined) this.#failures.delete(oldest);
    }
  }
}
