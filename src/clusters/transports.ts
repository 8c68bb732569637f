import { ActionError } from '../api/action-error.js';
import type { Cancellable } from '../api/cancellable.js';
import type { Cluster } from '../api/cluster.js';
import type { EtcdResolver } from '../api/etcd-resolver.js';
import type { FleetTransport } from '../api/fleet-transport.js';
import { kindOf } from './cluster-kind.js';
import type { Inventory } from './inventory.js';

export interface TransportsOptions {
  inventory: Pick<Inventory, 'file'>;
  fleet: FleetTransport;
  systemd: FleetTransport;
}

/** What a method of the port gets besides the cluster. */
type Rest<Method extends keyof FleetTransport> =
  Parameters<FleetTransport[Method]> extends [Cluster, ...infer Others] ? Others : never;

/**
 * The transport of a cluster of either kind, as the inventory lists it: what is in no list is a fleet cluster that discovery knows.
 * Every method throws `cluster_entry_invalid` for an entry of the inventory that cannot be used.
 */
export class Transports implements FleetTransport {
  readonly #options: TransportsOptions;

  constructor(options: TransportsOptions) {
    this.#options = options;
  }

  async machines(cluster: Cluster, ...rest: Rest<'machines'>): ReturnType<FleetTransport['machines']> {
    return this.#of(cluster).machines(cluster, ...rest);
  }

  async addresses(cluster: Cluster, ...rest: Rest<'addresses'>): ReturnType<FleetTransport['addresses']> {
    return this.#of(cluster).addresses(cluster, ...rest);
  }

  async incompleteness(
    cluster: Cluster,
    ...rest: Rest<'incompleteness'>
  ): ReturnType<FleetTransport['incompleteness']> {
    return this.#of(cluster).incompleteness(cluster, ...rest);
  }

  async hosts(cluster: Cluster, ...rest: Rest<'hosts'>): ReturnType<FleetTransport['hosts']> {
    return this.#of(cluster).hosts(cluster, ...rest);
  }

  async units(cluster: Cluster, ...rest: Rest<'units'>): ReturnType<FleetTransport['units']> {
    return this.#of(cluster).units(cluster, ...rest);
  }

  async unit(cluster: Cluster, ...rest: Rest<'unit'>): ReturnType<FleetTransport['unit']> {
    return this.#of(cluster).unit(cluster, ...rest);
  }

  async unitStates(cluster: Cluster, ...rest: Rest<'unitStates'>): ReturnType<FleetTransport['unitStates']> {
    return this.#of(cluster).unitStates(cluster, ...rest);
  }

  async unitRows(cluster: Cluster, ...rest: Rest<'unitRows'>): ReturnType<FleetTransport['unitRows']> {
    return this.#of(cluster).unitRows(cluster, ...rest);
  }

  async unitStateRows(
    cluster: Cluster,
    ...rest: Rest<'unitStateRows'>
  ): ReturnType<FleetTransport['unitStateRows']> {
    return this.#of(cluster).unitStateRows(cluster, ...rest);
  }

  async setDesiredState(
    cluster: Cluster,
    ...rest: Rest<'setDesiredState'>
  ): ReturnType<FleetTransport['setDesiredState']> {
    return this.#of(cluster).setDesiredState(cluster, ...rest);
  }

  async putUnit(cluster: Cluster, ...rest: Rest<'putUnit'>): ReturnType<FleetTransport['putUnit']> {
    return this.#of(cluster).putUnit(cluster, ...rest);
  }

  async destroyUnit(
    cluster: Cluster,
    ...rest: Rest<'destroyUnit'>
  ): ReturnType<FleetTransport['destroyUnit']> {
    return this.#of(cluster).destroyUnit(cluster, ...rest);
  }

  #of(cluster: Cluster): FleetTransport {
    const { inventory, fleet, systemd } = this.#options;
    return kindOf(inventory, cluster) === 'systemd' ? systemd : fleet;
  }
}

/** Finds the fleet APIs of fleet clusters; a cluster of another kind has none. */
export class FleetOnlyResolver implements EtcdResolver {
  readonly #inventory: Pick<Inventory, 'file'>;
  readonly #resolver: EtcdResolver;

  constructor(inventory: Pick<Inventory, 'file'>, resolver: EtcdResolver) {
    this.#inventory = inventory;
    this.#resolver = resolver;
  }

  async endpoints(cluster: Cluster, options: Cancellable): Promise<URL[]> {
    if (kindOf(this.#inventory, cluster) === 'systemd')
      throw new ActionError(
        'unsupported_by_cluster',
        'This cluster is one of plain systemd hosts: it has no fleet API',
      );
    return this.#resolver.endpoints(cluster, options);
  }
}
