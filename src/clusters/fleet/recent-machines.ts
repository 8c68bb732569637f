import type { Cluster } from '../../api/cluster.js';
import type { Machine } from '../../api/fleet-transport.js';
import type { Clock } from '../../lib/clock.js';
import { memoryOf } from '../../lib/decoded-memory.js';
import { SizedCache } from '../../lib/sized-cache.js';

const RECENT_MS = 2_000;
const MAX_CLUSTERS = 1_000;
/** A machine takes about 2 KB. */
const MAX_BYTES = 32 * 1024 * 1024;

/** The machines of clusters that were read a moment ago, so that one call need not read them twice. */
export class RecentMachines {
  readonly #clock: Clock;
  readonly #read = new SizedCache<{ machines: readonly Machine[]; at: number }>({
    entries: MAX_CLUSTERS,
    size: MAX_BYTES,
  });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(cluster: Cluster, machines: readonly Machine[]): void {
    this.#read.set(cluster.key, { machines, at: this.#clock.now() }, memoryOf(machines));
  }

  /** undefined when they were not read recently. */
  of(cluster: Cluster): readonly Machine[] | undefined {
    const read = this.#read.get(cluster.key);
    return read !== undefined && this.#clock.now() - read.at < RECENT_MS ? read.machines : undefined;
  }
}
