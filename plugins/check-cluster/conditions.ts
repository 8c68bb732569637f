import type { UnitState } from '../../src/plugin.js';
import type { MachineReport, MachineToAsk } from './ask-machines.js';
import { addTo } from './finding.js';
import { type Properties, restartsOf } from './machine-units.js';

/** What is known of a unit on one machine: what systemd says there, or else what fleet lists. */
export interface Condition {
  machine_id: string | null;
  /** Null: not known. */
  host: string | null;
  active: string;
  sub: string;
  load: string;
  /** How often systemd had restarted it at the first look and some seconds later; undefined: it was not looked at again. */
  restarts: { before: number; later: number } | undefined;
  /** More of a unit of the operator's, which systemd says. */
  properties: Properties | undefined;
}

/** By the name of the unit. */
export type Conditions = ReadonlyMap<string, readonly Condition[]>;

/** @param addresses of the machines by their ids */
export function conditionsOf(
  reports: readonly MachineReport[],
  states: readonly UnitState[],
  addresses: ReadonlyMap<string, string>,
): Conditions {
  const conditions = new Map<string, Condition[]>();
  const add = (name: string, condition: Condition) => addTo(conditions, name, condition);
  const saidBy = new Map<string, MachineReport>();
  for (const report of reports) {
    const { loaded, shown, host } = report;
    if (loaded === undefined) continue;
    const machine_id = idOf(report);
    if (machine_id !== null) saidBy.set(machine_id, report);
    const shownUnits = new Map(shown.map((unit) => [unit.properties.get('Id'), unit]));
    for (const { name, load, active, sub } of loaded.values()) {
      const unit = shownUnits.get(name);
      const before = unit && restartsOf(unit.properties);
      const later = unit?.restartsLater;
      add(name, {
        machine_id,
        host,
        load,
        active,
        sub,
        restarts: before === undefined || later === undefined ? undefined : { before, later },
        properties: unit?.properties,
      });
    }
  }
  for (const { name, machineID, systemdLoadState, systemdActiveState, systemdSubState } of states) {
    // What the machine says itself is newer.
    if (machineID !== null && saidBy.get(machineID)?.loaded?.has(name) === true) continue;
    add(name, {
      machine_id: machineID,
      host: addresses.get(machineID ?? '') ?? null,
      load: systemdLoadState ?? '',
      active: systemdActiveState ?? '',
      sub: systemdSubState ?? '',
      restarts: undefined,
      properties: undefined,
    });
  }
  return conditions;
}

/** As fleet lists the machine, or else as it says itself; null: neither. */
export function idOf({ id, ownID }: MachineToAsk & Pick<MachineReport, 'ownID'>): string | null {
  return id ?? ownID ?? null;
}

/** Whether it has failed to run: systemd does not try again. */
export function hasFailed({ active }: Condition): boolean {
  return active === 'failed';
}

/** Whether systemd starts it again and again. */
export function isFlapping({ sub, restarts }: Condition): boolean {
  return sub.startsWith('auto-restart') || (restarts !== undefined && restarts.later > restarts.before);
}

/** Whether it runs, or what it waits for is set up. */
export function isActive({ active }: Condition): boolean {
  return ['active', 'reloading', 'refreshing'].includes(active);
}

/** Whether it was not started because a condition of its file does not hold, which is as its author wants it. */
export function isSkipped({ properties }: Condition): boolean {
  const checkedAt = properties?.get('ConditionTimestampMonotonic') ?? '0';
  return properties?.get('ConditionResult') === 'no' && checkedAt !== '0' && checkedAt !== '';
}
