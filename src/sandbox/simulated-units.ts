import type { UnitOption } from '../api/fleet-transport.js';
import { systemdBoolean } from '../api/unit-booleans.js';
import { CHECKED_PROPERTIES, type CheckedProperty } from '../api/unit-check-script.js';
import type { ClusterState } from './cluster.js';
import type { CommandResult } from './simulated-machine.js';
import type { SystemdState } from './unit-behaviour.js';

/** Where the units of machines are known from. */
export type MachineUnits = Pick<ClusterState, 'unitsOn'>;
type Units = ReturnType<MachineUnits['unitsOn']>;

interface ListedUnit {
  name: string;
  load: string;
  systemd: SystemdState;
  description: string;
}

/** What every machine has besides the units of fleet. */
const SYSTEM_UNITS: readonly ListedUnit[] = [
  { name: 'docker.service', description: 'Docker Application Container Engine' },
  { name: 'etcd2.service', description: 'etcd2' },
  { name: 'fleet.service', description: 'fleet daemon' },
  { name: 'sshd.socket', description: 'OpenSSH Server Socket' },
  { name: 'multi-user.target', description: 'Multi-User System' },
].map((unit) => ({ ...unit, load: 'loaded', systemd: upState(unit.name) }));

function upState(name: string): SystemdState {
  const sub = name.endsWith('.target') ? 'active' : name.endsWith('.socket') ? 'listening' : 'running';
  return ['active', sub];
}

/** What `systemctl list-units --all --full --plain --no-legend` prints. */
export function listUnits(units: Units): CommandResult {
  const own = units.map(({ name, options, systemd }) => {
    return { name, load: 'loaded', systemd, description: valueOf(options, 'Unit', 'Description') ?? name };
  });
  const names = new Set(own.map(({ name }) => name));
  return { status: 0, stdout: unitLines([...own, ...SYSTEM_UNITS.filter(({ name }) => !names.has(name))]) };
}

/** A line for each unit, as `systemctl list-units` writes it: with columns as wide as their longest text. */
export function unitLines(units: readonly ListedUnit[]): string {
  const rows = units.map(({ name, load, systemd, description }) => ({
    columns: [name, load, ...systemd],
    description,
  }));
  const widths = [0, 1, 2, 3].map((at) => Math.max(...rows.map(({ columns }) => columns[at]?.length ?? 0)));
  return rows
    .map(({ columns, description }) =>
      [...columns.map((text, at) => text.padEnd(widths[at] ?? 0)), `${description}\n`].join(' '),
    )
    .join('');
}

/** What `ls -A /run/fleet/units` prints. */
export function fleetFiles(units: Units): CommandResult {
  return { status: 0, stdout: units.map(({ name }) => `${name}\n`).join('') };
}

/** What `UNIT_CHECK_SCRIPT` prints, with systemd 229, which does not count restarts: so it looks at no unit again. */
export function unitCheck(units: Units): CommandResult {
  const blocks = units.map((unit) => {
    const properties = propertiesOf(unit);
    return CHECKED_PROPERTIES.filter((name) => properties[name] !== undefined)
      .map((name) => `${name}=${properties[name]}\n`)
      .join('');
  });
  return { status: 0, stdout: blocks.map((block) => `${block}\n`).join('') };
}

function propertiesOf({
  name,
  options,
  systemd: [active, sub],
}: Units[number]): Partial<Record<CheckedProperty, string>> {
  return {
    Id: name,
    LoadState: 'loaded',
    ActiveState: active,
    SubState: sub,
    ...(name.endsWith('.service') && {
      Type: valueOf(options, 'Service', 'Type') ?? 'simple',
      RemainAfterExit: systemdBoolean(options, 'Service', 'RemainAfterExit') ? 'yes' : 'no',
    }),
    NeedDaemonReload: 'no',
    WantedBy: '',
    RequiredBy: '',
    ConditionResult: 'yes',
    ConditionTimestampMonotonic: '61000000',
  };
}

function valueOf(options: readonly UnitOption[], section: string, name: string): string | undefined {
  return options.findLast((option) => option.section === section && option.name === name)?.value;
}
