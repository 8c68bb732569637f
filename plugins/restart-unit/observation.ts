import { systemdBoolean, type Unit, type UnitState, unitFileHash } from '../../src/plugin.js';

/** What fleet shows of a unit at one time. */
export interface Observation {
  unit: Unit;
  /** The unit's state rows, of every machine, including old ones that remain for a few seconds. */
  rows: readonly UnitState[];
}

/** The row of the unit as it is now on one machine; not one of an earlier unit of this name, or of its earlier file. */
export function rowOn({ unit, rows }: Observation, machineID: string): UnitState | undefined {
  return rows.find((row) => row.machineID === machineID && isOfFile(row, unit));
}

/** The row of the machine that the unit is scheduled to. */
export function ownRow(seen: Observation): UnitState | undefined {
  return seen.unit.machineID === null ? undefined : rowOn(seen, seen.unit.machineID);
}

/** The ids of the machines on which the unit may run: its own, or without one those of its rows that do not say stopped. */
export function machinesOf(seen: Observation): string[] {
  const { unit, rows } = seen;
  if (unit.machineID !== null) return [unit.machineID];
  return rows
    .filter((row) => isOfFile(row, unit) && !saysStopped(row))
    .flatMap(({ machineID }) => machineID ?? []);
}

function isOfFile(row: UnitState, { options }: Unit): boolean {
  // Bytes that are no UTF-8 do not survive fleet's JSON, so the hash cannot be computed.
  const isExact = options.every(({ value }) => !value.includes('\uFFFD'));
  return isExact ? row.hash === unitFileHash(options) : row.hash !== null;
}

export function saysStopped({ systemdActiveState }: UnitState): boolean {
  return systemdActiveState === 'inactive' || systemdActiveState === 'failed';
}

export function saysRunning({ systemdActiveState }: UnitState): boolean {
  return ['active', 'activating', 'deactivating', 'reloading'].includes(systemdActiveState ?? '');
}

/** fleet's `launched` alone is not enough: it only says that fleet tried to start the unit. */
export function isUp(seen: Observation): boolean {
  return seen.unit.currentState === 'launched' && ownRow(seen)?.systemdActiveState === 'active';
}

export function hasFailed(seen: Observation): boolean {
  return seen.unit.currentState === 'launched' && ownRow(seen)?.systemdActiveState === 'failed';
}

/** Whether the unit does its work once and then is inactive: `Type=oneshot` without `RemainAfterExit`. */
export function endsByItself({ options }: Unit): boolean {
  const type = options
    .findLast(({ section, name }) => section === 'Service' && name === 'Type')
    ?.value.trim();
  return type === 'oneshot' && !systemdBoolean(options, 'Service', 'RemainAfterExit');
}

/** For people: `launched, active/running, hash 0a1b2c3d on machine 4f8b02ce`, and rows of other machines. */
export function describeState(seen: Observation): string {
  const { unit, rows } = seen;
  const own = ownRow(seen);
  const systemd = own === undefined ? 'no state' : systemdState(own);
  const hash = own === undefined ? '' : `, hash ${own.hash}`;
  const machine = unit.machineID === null ? ', on no machine' : ` on machine ${unit.machineID}`;
  const others = rows
    .filter((row) => row !== own)
    .map((row) => `; an old state: ${systemdState(row)} on machine ${row.machineID ?? 'unknown'}`);
  return `${unit.currentState ?? 'unknown'}, ${systemd}${hash}${machine}${others.join('')}`;
}

function systemdState({ systemdActiveState, systemdSubState }: UnitState): string {
  return `${systemdActiveState ?? 'unknown'}/${systemdSubState ?? 'unknown'}`;
}
