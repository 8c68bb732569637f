import type { Cluster } from '../api/cluster.js';
import type {
  ChangeRequest,
  PutOrder,
  UnitChange,
  UnitControl,
  UnitOrder,
  UnitPut,
} from '../api/unit-control.js';
import { kindOf } from './cluster-kind.js';
import type { Inventory } from './inventory.js';

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
