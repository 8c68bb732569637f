import type { Cluster } from '../api/cluster.js';
import type { UnitFileEntry, UnitFileOptions, UnitFiles, UnitFileText } from '../api/unit-files.js';
import { kindOf } from './cluster-kind.js';
import type { Inventory } from './inventory.js';

export interface UnitFilesOptions {
  inventory: Pick<Inventory, 'file'>;
  fleet: UnitFiles;
  systemd: UnitFiles;
}

/** The unit files of a cluster of either kind. Both methods throw `cluster_entry_invalid` too. */
export class UnitFilesOfClusters implements UnitFiles {
  readonly #options: UnitFilesOptions;

  constructor(options: UnitFilesOptions) {
    this.#options = options;
  }

  async read(cluster: Cluster, unit: string, options: UnitFileOptions): Promise<UnitFileText[]> {
    return this.#of(cluster).read(cluster, unit, options);
  }

  async list(cluster: Cluster, options: UnitFileOptions & { all?: boolean }): Promise<UnitFileEntry[]> {
    return this.#of(cluster).list(cluster, options);
  }

  #of(cluster: Cluster): UnitFiles {
    const { inventory, fleet, systemd } = this.#options;
    return kindOf(inventory, cluster) === 'systemd' ? systemd : fleet;
  }
}
