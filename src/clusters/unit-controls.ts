import type { Cluster } from '../api/cluster.js';
import type {
  ChangeRequest,
  PutOrder,
  UnitChange,
  UnitControl,
  UnitOrder,
  UnitPut,
} from '../api/unit-control.js';
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

export interface UnitControlsOptions {
  inventory: Pick<Inventory, 'file'>;
  fleet: Omit<UnitControl, 'kindOf'>;
  systemd: Omit<UnitControl, 'kindOf'>;
}

/** Changes of units on a cluster of either kind, as the inventory lists it. Both throw `cluster_entry_invalid` too. */
export class UnitControls implements UnitControl {
  readonly #options: UnitControlsOptions;

  constructor(options: UnitControlsOptions) {
    this.#options = options;
  }

  kindOf(cluster: Cluster): 'fleet' | 'systemd' {
    return kindOf(this.#options.inventory, cluster);
  }

  async change(request: ChangeRequest, order: UnitOrder): Promise<UnitChange[]> {
    return this.#options[this.kindOf(request.cluster)].change(request, order);
  }

  async put(request: ChangeRequest, order: PutOrder): Promise<UnitPut[]> {
    return this.#options[this.kindOf(request.cluster)].put(request, order);
  }

  async destroy(
    request: ChangeRequest,
    order: Pick<UnitOrder, 'unit' | 'machines' | 'timeoutMs'>,
  ): Promise<UnitChange[]> {
    return this.#options[this.kindOf(request.cluster)].destroy(request, order);
  }
}
