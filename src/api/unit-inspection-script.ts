/** What the script reads of a unit. Older versions of systemd leave out what they do not know. */
export const INSPECTED_PROPERTIES = [
  'LoadState',
  'ActiveState',
  'SubState',
  'ActiveEnterTimestamp',
  'ActiveExitTimestamp',
  'InactiveEnterTimestamp',
  'InactiveExitTimestamp',
  'MainPID',
  'MemoryCurrent',
  'TasksCurrent',
  'NRestarts',
  'Result',
  'ExecMainCode',
  'ExecMainStatus',
  'InvocationID',
  'UnitFileState',
  'NeedDaemonReload',
  'CanReload',
  'FragmentPath',
  'DropInPaths',
] as const;
export type InspectedProperty = (typeof INSPECTED_PROPERTIES)[number];

/** The parts of what the script prints, in this order. */
export const INSPECTION_SECTIONS = ['unit', 'log', 'said', 'end'] as const;
export type InspectionSection = (typeof INSPECTION_SECTIONS)[number];

/**
 * Prints what a machine knows of one unit, with the last lines of its log, in one round trip: for
 * `sh -c SCRIPT sh MARK UNIT LINES BYTES`. MARK is a word that nobody can guess; each section begins with a line `MARK NAME`.
 *
 * - `unit`: `systemctl show`, with what it says on stderr. It writes times in the zone of its caller, so they are in UTC, on every
 *   version; `--timestamp=unix` is of systemd 251.
 * - `log`: the last LINES entries of the journal, of these the last BYTES bytes; nothing when LINES is 0
 * - `said`: what journalctl wrote to stderr, then `status=` and its exit status. Not `--quiet`: that would hide that the user may not
 *   read the journal. Nothing when LINES is 0.
 */
export const INSPECTION_SCRIPT = `
export LC_ALL=C TZ=UTC SYSTEMD_COLORS=0 SYSTEMD_PAGER=
mark=$1 unit=$2 lines=$3 bytes=$4
part() { printf '\\n%s %s\\n' "$mark" "$1"; }
part unit
systemctl show --property=${INSPECTED_PROPERTIES.join(',')} -- "$unit" 2>&1
part log
said=
if [ "$lines" != 0 ]; then
exec 3>&1
said=$({
  { journalctl --unit="$unit" --lines="$lines" --output=short --all --no-pager 2>&4; echo "status=$?" >&4; } | tail -c "$bytes" >&3
} 4>&1 | tail -c 4096)
exec 3>&-
fi
part said
printf '%s\\n' "$said"
part end
`;
