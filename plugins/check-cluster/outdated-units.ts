import type { UnitState } from '../../src/plugin.js';
import type { Conditions } from './conditions.js';
import { addTo, type Finding, machinesAsEvidence } from './finding.js';
import type { KnownUnit } from './known-unit.js';
import { placesOf } from './unit-findings.js';

interface OldFile {
  machine_id: string | null;
  host: string | null;
  /** `other_file`: fleet has another one; `not_read`: systemd has not read the one that is there. */
  reason: 'other_file' | 'not_read';
  /** Of the file that runs; null: not known. */
  hash: string | null;
}

/** Units that run with a file that has been changed since. */
export function outdatedUnits(
  units: readonly KnownUnit[],
  states: readonly UnitState[],
  conditions: Conditions,
  addresses: ReadonlyMap<string, string>,
): Finding[] {
  const hashes = new Map(units.map(({ name, hash }) => [name, hash]));
  const old = new Map<string, OldFile[]>();
  const add = (name: string, file: OldFile) => addTo(old, name, file);
  for (const { name, machineID, hash } of states) {
    const present = hashes.get(name);
    if (present === undefined || hash === null || hash === present) continue;
    add(name, {
      machine_id: machineID,
      host: addresses.get(machineID ?? '') ?? null,
      reason: 'other_file',
      hash,
    });
  }
  for (const [name, all] of conditions)
    for (const { machine_id, host, properties } of all)
      if (properties?.get('NeedDaemonReload') === 'yes')
        add(name, { machine_id, host, reason: 'not_read', hash: null });
  return [...old]
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, files]) => outdated(name, files, hashes.get(name) ?? null));
}

function outdated(name: string, files: readonly OldFile[], hash: string | null): Finding {
  const isUnread = files.some(({ reason }) => reason === 'not_read');
  const how = isUnread
    ? 'its file was changed on disk, and systemd has not read it'
    : 'fleet has a newer one';
  return {
    severity: 'warning',
    kind: 'unit_outdated',
    subject: name,
    message: `${name} has an old file on ${placesOf(files)}: ${how}`,
    advice: isUnread
      ? 'Run systemctl daemon-reload on the machine, then restart the unit: a restart alone takes the old file again.'
      : 'Check again: a new file takes some seconds. If it stays so, restart the unit, and look at fleet.service on the machine.',
    evidence: { hash, ...machinesAsEvidence(files) },
  };
}
