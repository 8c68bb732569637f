import type { Cluster } from '../../api/cluster.js';
import type { Machine } from '../../api/fleet-transport.js';
import type { Clock } from '../../lib/clock.js';
import { remember } from '../../lib/remember.js';

const RECENT_MS = 2_000;
const MAX_REMEMBERED = 1_000;

/** The machines of clusters that were read a moment ago, so that one call need not read them twice. */
export class RecentMachines {
  readonly #clock: Clock;
  readonly #read = new Map<string, { machines: readonly Machine[]; at: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(cluster: Cluster, machines: readonly Machine[]): void {
    remember(this.#read, cluster.hash, { machines, at: this.#clock.now() }, MAX_REMEMBERED);
  }

  /** undefined when they were not read recently. */
  of(cluster: Cluster): readonly Machine[] | undefined {
    const read = this.#read.get(cluster.hash);
    return read !== undefined && this.#clock.now() - read.at < RECENT_MS ? read.machines : undefined;
  }
}
