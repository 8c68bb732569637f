import { ActionError } from '../../api/action-error.js';
import type { Cluster } from '../../api/cluster.js';
import type { FleetTransport } from '../../api/fleet-transport.js';
import { unitFileHash, unitFileText } from '../../api/unit-file.js';
import type { UnitFileEntry, UnitFileOptions, UnitFiles, UnitFileText } from '../../api/unit-files.js';

/** The unit files that fleet keeps: only their sections and options. Machines have copies of them. */
export class FleetUnitFiles implements UnitFiles {
  readonly #fleet: Pick<FleetTransport, 'unit' | 'units'>;

  constructor(fleet: Pick<FleetTransport, 'unit' | 'units'>) {
    this.#fleet = fleet;
  }

  async read(cluster: Cluster, name: string, { signal, machines }: UnitFileOptions): Promise<UnitFileText[]> {
    requireAllMachines(machines);
    const unit = await this.#fleet.unit(cluster, name, { signal });
    if (unit === undefined) return [];
    const { options } = unit;
    return [
      {
        machine_id: null,
        host: null,
        path: null,
        text: unitFileText(options),
        source: null,
        drop_ins: [],
        hash: unitFileHash(options),
        is_current: null,
      },
    ];
  }

  async list(cluster: Cluster, { signal, warn, machines }: UnitFileOptions): Promise<UnitFileEntry[]> {
    requireAllMachines(machines);
    const units = await this.#fleet.units(cluster, { signal, warn });
    return units.map(({ name, desiredState }) => ({
      unit: name,
      machine_id: null,
      host: null,
      path: null,
      state: desiredState ?? 'unknown',
    }));
  }
}

/** @throws ActionError */
function requireAllMachines(machines: readonly string[] | undefined): void {
  if (machines !== undefined)
    throw new ActionError(
      'unsupported_by_cluster',
      'fleet keeps one file of a unit for all machines: leave out machine_ids',
    );
}
