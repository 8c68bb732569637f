import { GENERATED, OPERATOR_FOLDERS, TRANSIENT } from './operator-folders.js';

/** What is read of each unit by `systemctl show`. */
export const CHECKED_PROPERTIES = [
  'Id',
  'LoadState',
  'ActiveState',
  'SubState',
  'Type',
  'RemainAfterExit',
  'NRestarts',
  'NeedDaemonReload',
  'WantedBy',
  'RequiredBy',
  'ConditionResult',
  'ConditionTimestampMonotonic',
] as const;
export type CheckedProperty = (typeof CHECKED_PROPERTIES)[number];

const FOLDERS = [...OPERATOR_FOLDERS, GENERATED, TRANSIENT].join(' ');

/**
 * Prints what `systemctl show` says of the units that PID 1 has loaded and that have a file of the operator's, or of its template: for
 * `sh -c SCRIPT sh SECONDS`. Those that systemd has restarted since somebody did are shown a second time after SECONDS (0: not), in
 * which the number of restarts of a flapping one grows; those that wait for their restart are flapping anyway. An empty line ends each unit.
 *
 * `list-units` costs PID 1 nothing; each unit that is shown takes half a millisecond of it, in which no service is supervised.
 */
export const UNIT_CHECK_SCRIPT = `export SYSTEMD_COLORS=0 SYSTEMD_PAGER=
set -f
seconds=$1
show() { [ "$#" -eq 0 ] || systemctl show --property=${CHECKED_PROPERTIES.join(',')} -- "$@"; }
systemctl list-units --all --full --plain --no-legend --no-pager | {
set --
while read -r unit others; do
  case $unit in *@*) file=\${unit%%@*}@.\${unit##*.} ;; *) file=$unit ;; esac
  for folder in ${FOLDERS}; do
    if [ -e "$folder/$unit" ] || [ -e "$folder/$file" ]; then
      set -- "$@" "$unit"
      break
    fi
  done
done
first=$(show "$@") || exit
printf '%s\\n\\n' "$first"
[ "$seconds" != 0 ] || exit 0
again= id= restarts=0 sub=
while IFS= read -r line; do
  case $line in
  Id=*) id=\${line#Id=} ;;
  NRestarts=*) restarts=\${line#NRestarts=} ;;
  SubState=auto-restart*) sub=waits ;;
  '')
    [ "$restarts" = 0 ] || [ "$sub" = waits ] || again="$again $id"
    id= restarts=0 sub= ;;
  esac
done <<END
$first

END
[ -z "$again" ] || {
  sleep "$seconds"
  show $again
}
}`;
