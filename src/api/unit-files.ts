import type { Cancellable } from './cancellable.js';
import type { Cluster } from './cluster.js';
import type { Token } from './token.js';
import type { Warn } from './warn.js';

/** The file of a unit on one machine, or as fleet keeps it. */
export interface UnitFileText {
  /** Null: fleet's own. */
  machine_id: string | null;
  /** The address of the machine; null: fleet's own. */
  host: string | null;
  /** Null: fleet's own. */
  path: string | null;
  /** As it is there, byte for byte; null: it is not UTF-8, is too long, or may not be read, of which a warning tells. */
  text: string | null;
  /** The file that a generator has made it from, such as a quadlet of Podman's; null: none is known. Its text is null when it is not there. */
  source: { path: string; text: string | null } | null;
  drop_ins: { path: string; text: string | null }[];
  /** The hash that fleet has of a unit with these options; null: the text is not known. */
  hash: string | null;
  /** Whether systemd has read these texts, so that a start uses them; null: not known. */
  is_current: boolean | null;
}

/** A unit file in a list. */
export interface UnitFileEntry {
  unit: string;
  /** Null: fleet's own. */
  machine_id: string | null;
  host: string | null;
  path: string | null;
  /**
   * On systemd hosts `enabled`, `disabled`, `static`, `masked`, `alias`, `linked`, `generated` or `transient`; of fleet the desired
   * state.
   */
  state: string;
}

export interface UnitFileOptions extends Cancellable {
  /** The ids of the machines; by default all. */
  machines?: readonly string[] | undefined;
  /** Told when machines did not answer. Without it that is an error. */
  warn?: Warn | undefined;
}

/**
 * The files of units, on clusters of either kind. They may contain secrets, such as in `Environment=`.
 * Every method may throw as those of `FleetTransport` do.
 */
export interface UnitFiles {
  /** The files of one unit; none when no machine that answers has it. */
  read(cluster: Cluster, unit: string, options: UnitFileOptions): Promise<UnitFileText[]>;
  /**
   * All unit files, by unit and machine.
   * @param options `all`: those of the distribution too (systemd)
   */
  list(cluster: Cluster, options: UnitFileOptions & { all?: boolean }): Promise<UnitFileEntry[]>;
}

export const UnitFiles: Token<UnitFiles> = Symbol.for('fleet-manager:UnitFiles');
