import type { ActionRequest } from './action.js';
import type { Cluster } from './cluster.js';
import type { Token } from './token.js';

/** The verbs of systemd (systemctl(1)); of fleet: `load` and `unload`. */
export const UNIT_VERBS = [
  'start',
  'stop',
  'restart',
  'reload',
  'reset-failed',
  'enable',
  'disable',
  'load',
  'unload',
] as const;
export type UnitVerb = (typeof UNIT_VERBS)[number];

/** What systemd says of a unit at one time; null: it does not say, or the unit is not loaded. */
export interface UnitCondition {
  /** `loaded`, `not-found`, `masked`, `bad-setting`, `error`. */
  load: string | null;
  /** `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`. */
  active: string | null;
  /** Such as `running`, `dead`, `exited`, `auto-restart`. */
  sub: string | null;
  /** How it ended last: `success`, `exit-code`, `timeout`, `start-limit-hit` and others. */
  result: string | null;
  /** Another one for each start: 32 hexadecimal digits. */
  invocation_id: string | null;
  main_pid: number | null;
  /** How often systemd has restarted it by itself since somebody did. */
  restarts: number | null;
  /** Of systemd hosts: `enabled`, `disabled`, `static`, `generated` and others. */
  enabled: string | null;
  /** Of fleet: `inactive`, `loaded`, `launched`. */
  desired: string | null;
}

/** What came of a change on one machine. */
export interface UnitChange {
  /** Null: fleet has the unit on no machine. */
  machine_id: string | null;
  /** The machine's address; null: not known. */
  host: string | null;
  /** What was done: `started`, `stopped`, `restarted`, ...; `nothing`: it was so before, or it failed before that; `unknown`: see `error`. */
  did: string;
  before: UnitCondition | null;
  after: UnitCondition | null;
  /** In milliseconds. */
  took_ms: number;
  /** Why it is not as asked. */
  error: { code: string; message: string } | null;
}

/** A change of one unit. */
export interface UnitOrder {
  /** Not a template. */
  unit: string;
  verb: UnitVerb;
  /** The ids of the machines; by default all that have the unit. */
  machines?: readonly string[] | undefined;
  /** How long a unit that was started must stay as it is, in milliseconds; 2,000 by default. */
  settleMs?: number | undefined;
  /** How long each machine may take, in milliseconds; by default as long as the request has. */
  timeoutMs?: number | undefined;
}

/** What the port needs to know of a request. Pass the first argument of `handle` as it is. */
export type ChangeRequest = Pick<
  ActionRequest<unknown, Cluster>,
  'cluster' | 'signal' | 'deadline' | 'key' | 'repeated' | 'warn' | 'log'
>;

/** The text of a unit's file. */
export interface UnitText {
  unit: string;
  text: string;
}

/** New files of units, all of which are there before systemd reads them, once. */
export interface PutOrder {
  files: readonly UnitText[];
  /** The ids of the machines (systemd); by default those that have one of the units. */
  machines?: readonly string[] | undefined;
  /**
   * What happens to the units then: `restart`: those that are active are restarted; `start`: the others are started too; `none`.
   * On fleet, whose machines take a new file only with a new start, `restart` and `none` keep the desired state.
   */
  activate: 'none' | 'restart' | 'start';
  /** Checks all, and changes nothing. */
  dryRun?: boolean | undefined;
  /** How long a unit must stay active, in milliseconds; 2,000 by default. */
  settleMs?: number | undefined;
  /** How long each machine may take, in milliseconds; by default as long as the request has. */
  timeoutMs?: number | undefined;
}

/** What came of a new file on one machine; `did`: `created`, `replaced`, `nothing` (it had this text), `returned` (see `put`). */
export interface UnitPut extends UnitChange {
  unit: string;
  /** The text that was there; null: there was no file. */
  replaced: string | null;
  /** From that to the new text, in the unified format, at most 16 KiB; null: they are the same. */
  diff: string | null;
  /** What systemd says of the new file, and yet accepts. */
  warnings: string[];
}

/**
 * Changes units, on clusters of either kind, and proves it: with what the machines say before and after.
 *
 * A change is made at most once for a request, also when the request is delivered again, to any worker: machines keep what they did for
 * 24 hours, and answer a repeated request with that; fleet, which keeps nothing, is not asked twice, and the error is `outcome_unknown`
 * where it cannot be seen that the first time was enough. So one request can make the same change of a unit once only.
 *
 * @throws ActionError when it is not as asked on each machine. `details.changes` then has the `UnitChange` of each. The code is that of
 * all of them when they have one; `outcome_unknown` when it is not known of one; else `partly_changed`.
 */
export interface UnitControl {
  kindOf(cluster: Cluster): 'fleet' | 'systemd';
  /**
   * @returns what came of it on each machine
   * @throws ActionError `unsupported_by_cluster`, `unit_not_found`, `machine_not_found`
   */
  change(request: ChangeRequest, order: UnitOrder): Promise<UnitChange[]>;
  /**
   * Writes files of units. All are checked on each machine before the first is written. Where a unit is not active then as it should be,
   * all files of that machine are as before again (`returned`).
   * @throws ActionError `unit_file_invalid`, `unit_masked`, `unit_changed_meanwhile`, `machine_not_found`, and as `change`; of a dry run
   * and of a refusal nothing was changed
   */
  put(request: ChangeRequest, order: PutOrder): Promise<UnitPut[]>;
  /**
   * Stops a unit, and removes its file.
   * @throws ActionError as `change`
   */
  destroy(
    request: ChangeRequest,
    order: Pick<UnitOrder, 'unit' | 'machines' | 'timeoutMs'>,
  ): Promise<UnitChange[]>;
}

export const UnitControl: Token<UnitControl> = Symbol.for('fleet-manager:UnitControl');
