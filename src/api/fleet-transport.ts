import type { Cancellable } from './cancellable.js';
import type { Cluster } from './cluster.js';
import type { RowList } from './row-list.js';
import type { Token } from './token.js';
import type { Warn } from './warn.js';

/**
 * A machine of a cluster, as fleet's `GET /machines` lists it. Names, ids, addresses, hashes and states of machines and units have
 * at most 256 characters, all printable, so they can be quoted in texts for people. Metadata and options can be any text.
 */
export interface Machine {
  id: string;
  primaryIP: string | null;
  metadata: Record<string, string>;
}

/** Where a machine of a cluster is reached. */
export interface MachineAddress {
  /** Null: not known before the machine is asked. */
  id: string | null;
  /** An IP address or a host name; null: the cluster knows none. */
  host: string | null;
}

export interface UnitOption {
  section: string;
  name: string;
  /** The empty string where fleet omits the value. */
  value: string;
}

/**
 * The valid desired states of a unit. fleet stores any other text too, but then can neither read nor remove the unit.
 */
export const DESIRED_STATES = ['inactive', 'loaded', 'launched'] as const;
export type DesiredState = (typeof DESIRED_STATES)[number];

/** A unit, as fleet's `GET /units` lists it; `null` where fleet omits a key. */
export interface Unit {
  name: string;
  options: UnitOption[];
  desiredState: string | null;
  /** Has no meaning for a global unit. `launched` does not mean healthy: see the unit's states. */
  currentState: string | null;
  machineID: string | null;
}

/** The systemd state of a unit on one machine, as fleet's `GET /state` lists it. */
export interface UnitState {
  name: string;
  /** sha1 of the unit file that this state belongs to. */
  hash: string | null;
  machineID: string | null;
  systemdLoadState: string | null;
  systemdActiveState: string | null;
  systemdSubState: string | null;
}

/**
 * Options for reading one unit. fleet reads without a quorum: a host whose etcd member lags behind shows an old state, for
 * seconds, or for as long as it is cut off.
 */
export interface UnitReadOptions extends Cancellable {
  /**
   * Called with what a host answers, undefined when it knows no such unit. With false another host is asked; when no
   * answer is accepted, the error is `cluster_answer_invalid`.
   */
  accepts?: (unit: Unit | undefined, host: string) => boolean;
}

/** Options of a change of one unit. */
export interface ChangeOptions extends Cancellable {
  /** Called with the host that has made the change. From then on that host shows it. */
  confirmedBy?: (host: string) => void;
}

/** Options of a list. */
export interface ListOptions extends Cancellable {
  /** Reads from this host only. */
  from?: string;
  /**
   * Called when the list may lack something. Without it, a list with a row that cannot be read is an error,
   * `cluster_answer_invalid`, and one without the rows of a machine that did not answer `cluster_incomplete`; with it, these rows
   * are left out.
   */
  warn?: Warn;
}

/** Options of a list of units. */
export interface UnitListOptions extends ListOptions {
  /**
   * Whether to list, of a cluster of plain systemd hosts, the units of the distribution too that its machines have loaded. fleet's
   * own lists have all units in any case.
   */
  all?: boolean;
}

/** Options of a list of states. The filters match exactly; a state must match all of them. */
export interface StateListOptions extends UnitListOptions {
  unitName?: string;
  machineID?: string;
}

/** What can be said about the hosts of a cluster. */
export interface ClusterHostsReport {
  /** Every host, and why its fleet API does not answer as it should; `failure` is undefined when it does. */
  hosts: { host: string; failure: string | undefined }[];
  /** The hosts of discovery that fleet does not list as machines. */
  unlisted: string[];
  /** Members of discovery that are not used, because they have no valid host or exceed a limit; at most 50. */
  ignored: string[];
  /** How many more are not used. */
  moreIgnored: number;
}

/**
 * The fleet API of a cluster. Every method finds the cluster's hosts and tries another host when one does not respond, or
 * not as fleet does.
 * Every method may throw an `ActionError` with `cluster_not_found`, `cluster_empty`, `discovery_unreachable`,
 * `cluster_unreachable`, `cluster_unhealthy`, `cluster_refused`, `cluster_answer_invalid` or `forbidden`.
 *
 * A list has every row that exists during the whole call. What is created or removed meanwhile may be in it or not.
 *
 * A change may also throw `outcome_unknown`; `pendingHosts(error)` then names the hosts that may make it at any later time, as
 * one that is frozen does. With any other code, and with the signal's reason, nothing was changed.
 */
export interface FleetTransport {
  /** The machines that fleet lists. */
  machines(cluster: Cluster, options: ListOptions): Promise<Machine[]>;
  /**
   * Where all machines are reached: those that fleet lists; on a cluster of plain systemd hosts those of the inventory, which are not
   * asked for it, so that one that does not answer is there too.
   */
  addresses(cluster: Cluster, options: ListOptions): Promise<MachineAddress[]>;
  /**
   * Says what is missing when the cluster is known to list fewer machines than it has; undefined when nothing is known to
   * be missing, also because the machines cannot be read. Cheap: it uses a list of machines that was read a moment ago.
   * @param options `warn`: is told the same, and which machines are missing
   */
  incompleteness(cluster: Cluster, options: Cancellable & { warn?: Warn }): Promise<string | undefined>;
  /**
   * Asks each host for itself.
   * @param options `timeoutMs`: how long each host has to answer, in milliseconds; by default and at most 3000
   */
  hosts(cluster: Cluster, options: Cancellable & { timeoutMs?: number }): Promise<ClusterHostsReport>;
  /** The units, each with its file and the states that fleet has of it. */
  units(cluster: Cluster, options: UnitListOptions): Promise<Unit[]>;
  /** One unit, or undefined when the cluster has no unit with this name. */
  unit(cluster: Cluster, name: string, options: UnitReadOptions): Promise<Unit | undefined>;
  /** The systemd states of the units, one for each unit and machine. */
  unitStates(cluster: Cluster, options: StateListOptions): Promise<UnitState[]>;
  /** Like `units`, to be returned as the result: rows that the action does not look at, which are encoded one after the other. */
  unitRows(cluster: Cluster, options: UnitListOptions): Promise<RowList<Unit>>;
  /** Like `unitStates`, to be returned as the result, as with `unitRows`. */
  unitStateRows(cluster: Cluster, options: StateListOptions): Promise<RowList<UnitState>>;
  /** Changes what fleet makes of a unit, which takes a while: read its states to see it. Throws `unit_not_found`. */
  setDesiredState(cluster: Cluster, name: string, state: DesiredState, options: ChangeOptions): Promise<void>;
  /** Creates the unit, or replaces it when its options differ. */
  putUnit(
    cluster: Cluster,
    unit: { name: string; desiredState: DesiredState; options: UnitOption[] },
    options: Cancellable,
  ): Promise<void>;
  /** Stops and removes the unit. Resolves with false when there was no such unit. */
  destroyUnit(cluster: Cluster, name: string, options: Cancellable): Promise<boolean>;
}

// `Symbol.for`: the same token even when a plugin has its own copy of this package.
export const FleetTransport: Token<FleetTransport> = Symbol.for('fleet-manager:FleetTransport');
