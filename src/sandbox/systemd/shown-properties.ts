import { isUp, type LoadedUnit } from './loaded-unit.js';
import type { SimulatedSystemd } from './simulated-systemd.js';
import { OPERATOR_FOLDER } from './unit-folders.js';

/** How times of the machine are shown. */
export interface MachineTimes {
  /** A time of the clock in milliseconds, in microseconds since the boot. */
  monotonic(at: number): number;
  /** The same as milliseconds since the epoch. */
  wall(at: number): number;
}

/** The properties that `systemctl show` prints of a unit, in systemd's order; those of services only for services. */
export function shownProperties(
  unit: LoadedUnit,
  systemd: SimulatedSystemd,
  times: MachineTimes,
): Map<string, string> {
  const { name, settings, path = '', active, sub } = unit;
  const isService = name.endsWith('.service');
  const yes = (value: boolean) => (value ? 'yes' : 'no');
  const monotonic = (at: number | undefined) => String(at === undefined ? 0 : times.monotonic(at));
  const date = (at: number | undefined) => (at === undefined ? '' : dateText(times.wall(at)));
  const wanting = (kind: 'wants' | 'requires') => systemd.folders.wanting(name, kind);
  const isRunning = unit.mainPID !== 0;
  const service: [string, string][] = [
    ['Type', settings.type],
    ['Restart', settings.type === '' ? '' : settings.restart],
    ['RemainAfterExit', yes(settings.remainsAfterExit)],
    ['MainPID', String(unit.mainPID)],
  ];
  const processes: [string, string][] = [
    ['NRestarts', String(unit.restarts)],
    ['ExecMainStartTimestampMonotonic', monotonic(unit.startedAt)],
    ['ExecMainPID', String(unit.lastPID)],
    ['ExecMainCode', isRunning || unit.lastPID === 0 ? '0' : unit.exitStatus === 15 ? '2' : '1'],
    ['ExecMainStatus', String(unit.exitStatus)],
    ['ExecMainStartTimestamp', date(unit.startedAt)],
    ['MemoryCurrent', isRunning ? String(4_096 * (500 + unit.mainPID)) : '[not set]'],
    ['TasksCurrent', isRunning ? String(1 + (unit.mainPID % 7)) : '[not set]'],
  ];
  return new Map([
    ...(isService ? service : []),
    ['Result', unit.result],
    ...(isService ? processes : []),
    ['Id', name],
    ['Names', name],
    ['RequiredBy', wanting('requires').join(' ')],
    ['WantedBy', wanting('wants').join(' ')],
    ['Description', settings.description ?? name],
    ['LoadState', settings.load],
    ['ActiveState', active],
    ['SubState', sub],
    ['FragmentPath', path],
    ['SourcePath', sourceOf(unit)],
    ['DropInPaths', unit.dropIns.map(quoted).join(' ')],
    ['UnitFileState', unitFileState(unit, systemd)],
    ['StateChangeTimestamp', date(unit.changedAt)],
    ['StateChangeTimestampMonotonic', monotonic(unit.changedAt)],
    ['InactiveExitTimestamp', date(unit.inactiveUntil)],
    ['InactiveExitTimestampMonotonic', monotonic(unit.inactiveUntil)],
    ['ActiveEnterTimestamp', date(unit.activeAt)],
    ['ActiveEnterTimestampMonotonic', monotonic(unit.activeAt)],
    ['ActiveExitTimestamp', date(unit.activeUntil)],
    ['ActiveExitTimestampMonotonic', monotonic(unit.activeUntil)],
    ['InactiveEnterTimestamp', date(unit.inactiveAt)],
    ['InactiveEnterTimestampMonotonic', monotonic(unit.inactiveAt)],
    ['CanStart', yes(settings.load === 'loaded')],
    ['CanStop', yes(settings.load === 'loaded' || isUp(unit))],
    ['CanReload', yes(settings.load === 'loaded' && settings.reload !== undefined)],
    ...(unit.job === undefined ? [] : [['Job', '1'] as const]),
    ['NeedDaemonReload', yes(systemd.needsReload(unit))],
    ['ConditionResult', yes(unit.conditionHolds)],
    ['ConditionTimestampMonotonic', monotonic(unit.conditionAt)],
    ['Transient', yes(path.startsWith('/run/systemd/transient/'))],
    ['InvocationID', unit.invocationID],
  ]);
}

/** What `systemctl is-enabled` says of a unit; empty: it has no file. */
export function unitFileState({ name, path, settings }: LoadedUnit, { folders }: SimulatedSystemd): string {
  if (path === undefined) return '';
  if (settings.load === 'masked') return 'masked';
  if (settings.load === 'error') return 'bad';
  if (path.startsWith('/run/systemd/generator/')) return 'generated';
  if (path.startsWith('/run/systemd/transient/')) return 'transient';
  const hasAlias = settings.install.some(
    ({ name: key, unit }) => key === 'Alias' && folders.linkAt(`${OPERATOR_FOLDER}/${unit}`) !== undefined,
  );
  if (hasAlias || folders.enablingLinks(name).length > 0) return 'enabled';
  if (folders.linkAt(path) !== undefined) return 'linked';
  if (settings.install.length === 0) return 'static';
  return settings.install.every(({ name: key }) => key === 'Also') ? 'indirect' : 'disabled';
}

/** As systemd 252 shows a path with blanks, quotes or backslashes. */
function quoted(path: string): string {
  return /[\s"\\]/.test(path) ? `"${path.replaceAll(/["\\]/g, String.raw`\$&`)}"` : path;
}

/** The file from which a generator has made that of a unit. */
function sourceOf({ settings: { options } }: LoadedUnit): string {
  return options.find(({ section, name }) => section === 'Unit' && name === 'SourcePath')?.value ?? '';
}

/** Such as `Wed 2026-11-25 19:05:02 UTC`. */
function dateText(ms: number): string {
  const [day = ''] = new Date(ms).toUTCString().split(',');
  return `${day} ${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
