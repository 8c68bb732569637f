import {
  isGlobalUnit,
  isTemplateName,
  machinesMeeting,
  type Machine,
  requirementsOf,
} from '../../src/plugin.js';
import { type Condition, type Conditions, hasFailed, isActive, isFlapping, isSkipped } from './conditions.js';
import { type Finding } from './finding.js';
import type { KnownUnit } from './known-unit.js';
import { asEvidence, byName, placesOf } from './unit-findings.js';

const ADVICE =
  'Check again: it may just be starting. If it stays so, read its log (fleet-manager call unit_logs)';

/** Units that fleet should run, and that are active nowhere; those that have failed or flap are found as such. */
export function launchedNowhere(
  units: readonly KnownUnit[],
  conditions: Conditions,
  machines: readonly Machine[] | undefined,
): Finding[] {
  return units.flatMap((unit) => {
    const { name, machineID, desiredState } = unit;
    if (desiredState !== 'launched' || isTemplateName(name)) return [];
    const known = conditions.get(name) ?? [];
    if (known.length === 0) {
      const isPlaced = isGlobalUnit(unit) || machineID !== null;
      // Without a state on its machine it is found as that, and without a machine that may run it as that.
      if (isPlaced || machines === undefined || machinesMeeting(unit, machines).length === 0) return [];
      return [notScheduled(unit, machinesMeeting(unit, machines).length)];
    }
    const down = known.filter((each) => !isActive(each));
    // Each machine should run a global unit; of any other one an active one is enough.
    if (!isGlobalUnit(unit) && down.length < known.length) return [];
    const unexplained = down.filter((each) => !isExplained(each) && !(unit.endsByItself && isAtWork(each)));
    return unexplained.length === 0 ? [] : [notActive(name, 'fleet should run', 'unload_unit', unexplained)];
  });
}

/** Units that something active on their machine wants, such as multi-user.target, and that are not active there. */
export function wantedAndNotActive(conditions: Conditions, fleetUnits: ReadonlySet<string>): Finding[] {
  const active = new Set<string>();
  for (const [name, all] of conditions)
    for (const each of all) if (isActive(each)) active.add(`${each.host} ${name}`);
  return byName(conditions).flatMap(([name, all]) => {
    if (fleetUnits.has(name)) return [];
    const down = all.filter((each) => !isActive(each) && !isExplained(each) && isWanted(each, active));
    return down.length === 0 ? [] : [notActive(name, 'its machine should run', 'disable_unit', down)];
  });
}

/** Whether its state is no surprise, or is told by another finding. */
function isExplained(condition: Condition): boolean {
  return hasFailed(condition) || isFlapping(condition) || isSkipped(condition);
}

/** A oneshot that is about to do its work, or has done it. */
function isAtWork({ active }: Condition): boolean {
  return ['activating', 'inactive', 'deactivating'].includes(active);
}

/** @param active `HOST UNIT` of each active unit */
function isWanted({ properties, load, host }: Condition, active: ReadonlySet<string>): boolean {
  if (properties === undefined || load !== 'loaded') return false;
  const endsByItself = properties.get('Type') === 'oneshot' && properties.get('RemainAfterExit') !== 'yes';
  if (endsByItself) return false;
  const by = ['WantedBy', 'RequiredBy'].flatMap((name) => properties.get(name)?.split(' ') ?? []);
  return by.some((name) => active.has(`${host} ${name}`));
}

/** @param action that ends that it should run */
function notActive(name: string, who: string, action: string, conditions: readonly Condition[]): Finding {
  const states = new Set(conditions.map(({ active, sub }) => `${active} (${sub})`));
  return {
    severity: 'warning',
    kind: 'unit_not_active',
    subject: name,
    message: `${name}, which ${who}, is ${[...states].join(' or ')} on ${placesOf(conditions)}`,
    advice: `${ADVICE}. A program that ends by itself needs Type=oneshot; for one that is not to run call ${action}.`,
    evidence: asEvidence(conditions),
  };
}

function notScheduled({ name }: KnownUnit, able: number): Finding {
  return {
    severity: 'warning',
    kind: 'unit_not_active',
    subject: name,
    message: `${name} should run, but fleet has scheduled it to no machine, though ${able} meet its requirements`,
    advice:
      'Check again: it may just be scheduled. If it stays so, look at MachineOf and Conflicts in its file and in those of other units, and at fleet.service of the machine that leads the cluster.',
    evidence: { count: 0, machines: [], able },
  };
}

/** Units whose requirements no machine meets, so that fleet cannot run them. */
export function unsatisfiable(units: readonly KnownUnit[], machines: readonly Machine[]): Finding[] {
  return units.flatMap((unit): Finding[] => {
    const { name, machineID, desiredState } = unit;
    const isWantedUnit = desiredState === 'launched' || desiredState === 'loaded';
    // One that runs somewhere could be scheduled; its machine is not listed at the moment.
    if (!isWantedUnit || machineID !== null || isTemplateName(name)) return [];
    if (machinesMeeting(unit, machines).length > 0) return [];
    const { machineID: id = null, metadata } = requirementsOf(unit);
    const required = Object.fromEntries([...metadata].map(([key, values]) => [key, [...values]]));
    const needs = [
      ...(id === null ? [] : [`the machine ${id}`]),
      ...Object.entries(required).map(([key, values]) => `${key}=${values.join(' or ')}`),
    ];
    return [
      {
        severity: 'error',
        kind: 'unit_unsatisfiable',
        subject: name,
        message: `${name} can run nowhere: none of ${machines.length} machines meets its requirements: ${needs.join(', ')}`,
        advice:
          'Correct MachineID or MachineMetadata in its section [X-Fleet], or give a machine the metadata (in the configuration of fleet). Destroy the unit when it is not needed.',
        evidence: { machine_id: id, metadata: required, machines: machines.length },
      },
    ];
  });
}
