import { type Condition, type Conditions, hasFailed, isFlapping } from './conditions.js';
import { type Finding, machinesAsEvidence, named } from './finding.js';

/** Units that have failed, or that systemd starts again and again: of the cluster, and of the systems of its machines. */
export function unitFindings(conditions: Conditions): Finding[] {
  return byName(conditions).flatMap(([name, all]) => {
    const failed = all.filter(hasFailed);
    const flapping = all.filter((each) => !hasFailed(each) && isFlapping(each));
    return [
      ...(failed.length > 0 ? [failedUnit(name, failed)] : []),
      ...(flapping.length > 0 ? [flappingUnit(name, flapping)] : []),
    ];
  });
}

export function byName(conditions: Conditions): [string, readonly Condition[]][] {
  return [...conditions].toSorted(([one], [other]) => (one < other ? -1 : 1));
}

/** Where a unit is, for a text. */
export function placesOf(conditions: readonly Pick<Condition, 'host' | 'machine_id'>[]): string {
  return named(conditions.map(({ host, machine_id }) => host ?? machine_id ?? 'an unknown machine'));
}

export function asEvidence(conditions: readonly Condition[]) {
  return machinesAsEvidence(
    conditions.map(({ machine_id, host, load, active, sub }) => ({ machine_id, host, load, active, sub })),
  );
}

function failedUnit(name: string, failed: readonly Condition[]): Finding {
  return {
    severity: 'error',
    kind: 'unit_failed',
    subject: name,
    message: `${name} has failed on ${placesOf(failed)}`,
    advice: `Read why: fleet-manager call unit_logs, or systemctl status ${name} on the machine. Once the cause is gone, restart the unit; when it is not needed, systemctl reset-failed forgets it.`,
    evidence: asEvidence(failed),
  };
}

function flappingUnit(name: string, flapping: readonly Condition[]): Finding {
  return {
    severity: 'error',
    kind: 'unit_flaps',
    subject: name,
    message: `${name} does not keep running on ${placesOf(flapping)}: systemd starts it again and again`,
    advice:
      'Read why it ends: fleet-manager call unit_logs. Correct its file or what it needs, or stop it: each start costs its machine.',
    evidence: machinesAsEvidence(
      flapping.map(({ machine_id, host, active, sub, restarts }) => ({
        machine_id,
        host,
        active,
        sub,
        restarts: restarts?.before ?? null,
        restarts_later: restarts?.later ?? null,
      })),
    ),
  };
}
