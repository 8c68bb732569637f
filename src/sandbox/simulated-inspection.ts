import { INSPECTED_PROPERTIES, type InspectedProperty } from '../api/unit-inspection-script.js';
import type { ClusterState } from './cluster.js';
import { type JournalSource, mainPid, runJournalctl, startedAt } from './simulated-journal.js';
import type { CommandResult, SimulatedMachine } from './simulated-machine.js';
import type { SystemdState } from './unit-behaviour.js';

/** The data from which a machine tells of its units. */
export type InspectionSource = JournalSource & Pick<ClusterState, 'unitOn'>;

type Properties = Partial<Record<InspectedProperty, string>>;

/** What systemd 229 says of what it does not count. */
const NOT_SET = '18446744073709551615';

/**
 * What `INSPECTION_SCRIPT` prints.
 * @param args its arguments: MARK UNIT LINES BYTES
 * @param show what `systemctl show` prints of the unit
 * @param journalctl what journalctl does with these arguments
 * @returns undefined for other arguments
 */
export function inspectionOutput(
  [mark, unit, lines, bytes, ...more]: readonly string[],
  show: (unit: string) => string,
  journalctl: (args: readonly string[]) => CommandResult | undefined,
): CommandResult | undefined {
  if (unit === undefined || bytes === undefined || more.length > 0) return undefined;
  const journal =
    lines === '0'
      ? undefined
      : journalctl([`--unit=${unit}`, `--lines=${lines}`, '--output=short', '--all', '--no-pager']);
  const log = Buffer.from(journal?.stdout ?? '').subarray(-Number(bytes));
  const said = journal === undefined ? '' : `${journal.stderr ?? ''}status=${journal.status}`;
  const stdout = [
    `\n${mark} unit\n${show(unit)}`,
    `\n${mark} log\n${log.toString()}`,
    `\n${mark} said\n${said}\n`,
    `\n${mark} end\n`,
  ].join('');
  return { status: 0, stdout };
}

/**
 * Simulates `sh -c INSPECTION_SCRIPT sh MARK UNIT LINES BYTES` on a machine of fleet, with systemd 229, which knows no invocations and
 * counts no restarts.
 */
export function runInspection(
  args: readonly string[],
  machine: SimulatedMachine,
  context: { source: InspectionSource; now: number },
): CommandResult | undefined {
  const show = (unit: string) => {
    const properties = propertiesOf(unit, machine, context);
    return INSPECTED_PROPERTIES.filter((name) => properties[name] !== undefined)
      .map((name) => `${name}=${properties[name]}\n`)
      .join('');
  };
  return inspectionOutput(args, show, (given) => runJournalctl(given, machine, context));
}

function propertiesOf(
  unit: string,
  machine: SimulatedMachine,
  { source, now }: { source: InspectionSource; now: number },
): Properties {
  const found = source.unitOn(unit, machine.id);
  const [active, sub] = found?.state ?? ['inactive', 'dead'];
  const isKnown = found !== undefined;
  const changedAt = found?.changedAgo === undefined ? startedAt(unit, machine) : now - found.changedAgo;
  // What has been stopped from the beginning was never started.
  const at = !isKnown || (active === 'inactive' && found.changedAgo === undefined) ? '' : timeText(changedAt);
  return {
    LoadState: isKnown ? 'loaded' : 'not-found',
    ActiveState: active,
    SubState: sub,
    ActiveEnterTimestamp: active === 'activating' ? '' : at,
    ActiveExitTimestamp: active === 'active' || active === 'activating' ? '' : at,
    InactiveEnterTimestamp: active === 'inactive' || active === 'failed' ? at : '',
    InactiveExitTimestamp: at,
    MemoryCurrent: NOT_SET,
    TasksCurrent: NOT_SET,
    UnitFileState: isKnown ? 'linked-runtime' : '',
    NeedDaemonReload: 'no',
    CanReload: 'no',
    FragmentPath: isKnown ? `/run/fleet/units/${unit}` : '',
    DropInPaths: '',
    ...(unit.endsWith('.service') && serviceProperties([active, sub], mainPid(unit, machine, found?.starts))),
  };
}

function serviceProperties([active, sub]: SystemdState, pid: number): Properties {
  const hasFailed = active === 'failed';
  return {
    MainPID: sub === 'running' ? String(pid) : '0',
    Result: hasFailed ? 'exit-code' : 'success',
    ExecMainCode: hasFailed ? '1' : '0',
    ExecMainStatus: hasFailed ? '1' : '0',
  };
}

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

/** A time as systemd writes it in UTC. */
function timeText(at: number): string {
  const date = new Date(at);
  const [day = '', time = ''] = date.toISOString().split('T');
  return `${DAYS[date.getUTCDay()]} ${day} ${time.slice(0, 8)} UTC`;
}
