import { isGlobalUnit, type Machine, machinesMeeting, type UnitState } from '../../src/plugin.js';
import type { MachineReport } from './ask-machines.js';
import { type Condition, type Conditions, idOf, isActive } from './conditions.js';
import { addTo, type Finding, machinesAsEvidence } from './finding.js';
import type { KnownUnit } from './known-unit.js';
import { byName, placesOf } from './unit-findings.js';

interface Ghost {
  machine_id: string | null;
  host: string | null;
  /** What is left: a `state` in fleet, or a `file` of fleet's on the machine. */
  left: 'state' | 'file';
  /** What systemd says of it; null: not known, or it is not loaded. */
  active: string | null;
}

/** What machines have of units that fleet no longer has, or has scheduled elsewhere: such a unit may run twice, and nobody sees it. */
export function fleetGhosts(
  units: readonly KnownUnit[],
  states: readonly UnitState[],
  reports: readonly MachineReport[],
  { machines, addresses }: { machines: readonly Machine[]; addresses: ReadonlyMap<string, string> },
): Finding[] {
  const known = new Map(units.map((unit) => [unit.name, unit]));
  const ghosts = new Map<string, Ghost[]>();
  const add = (name: string, ghost: Ghost) => addTo(ghosts, name, ghost);
  for (const report of reports) {
    const machine_id = idOf(report);
    for (const name of report.fleetFiles)
      if (!isScheduledTo(known.get(name), machine_id, machines))
        add(name, {
          machine_id,
          host: report.host,
          left: 'file',
          active: report.loaded?.get(name)?.active ?? null,
        });
  }
  for (const { name, machineID, systemdActiveState: active } of states) {
    const isFound = ghosts.get(name)?.some(({ machine_id }) => machine_id === machineID) === true;
    if (!known.has(name) && !isFound)
      add(name, {
        machine_id: machineID,
        host: addresses.get(machineID ?? '') ?? null,
        left: 'state',
        active,
      });
  }
  return [...ghosts]
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, left]) => leftBehind(name, left, known.has(name)));
}

function isScheduledTo(
  unit: KnownUnit | undefined,
  machineID: string | null,
  machines: readonly Machine[],
): boolean {
  if (unit === undefined) return false;
  // Where a machine does not say which one it is, nothing is claimed.
  if (machineID === null) return true;
  if (!isGlobalUnit(unit)) return unit.machineID === machineID;
  if (unit.desiredState === 'inactive') return false;
  const machine = machines.find(({ id }) => id === machineID);
  return machine === undefined || machinesMeeting(unit, [machine]).length > 0;
}

function leftBehind(name: string, ghosts: readonly Ghost[], isKnown: boolean): Finding {
  const why = isKnown ? 'fleet has not scheduled it there' : 'fleet has no such unit';
  return {
    severity: 'warning',
    kind: 'unit_left_behind',
    subject: name,
    message: `${name} is left on ${placesOf(ghosts)}, though ${why}`,
    advice: `Check again: what was just removed or moved is there for some seconds. If it stays so, look at fleet.service on the machine; when fleet works there, stop the unit by hand: systemctl stop ${name}.`,
    evidence: machinesAsEvidence(ghosts),
  };
}

/** Units that run though their file was removed: after a stop nothing can start them. */
export function runningWithoutFile(conditions: Conditions): Finding[] {
  return byName(conditions).flatMap(([name, all]): Finding[] => {
    const running = all.filter((each) => each.load === 'not-found' && isActive(each));
    if (running.length === 0) return [];
    return [
      {
        severity: 'warning',
        kind: 'unit_left_behind',
        subject: name,
        message: `${name} runs on ${placesOf(running)}, though its file was removed`,
        advice: `Stop it when it is not needed: systemctl stop ${name}. Else put its file back, since it cannot be started again without.`,
        evidence: machinesAsEvidence(running.map(ghostOf)),
      },
    ];
  });
}

function ghostOf({ machine_id, host, active }: Condition) {
  return { machine_id, host, left: 'process', active };
}
