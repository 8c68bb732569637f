import { WORK_BEGINS, WORK_ENDS } from './request-script.js';

/** What is read of a unit, by `systemctl show`. */
export const CONDITION_PROPERTIES = [
  'LoadState',
  'ActiveState',
  'SubState',
  'Result',
  'InvocationID',
  'MainPID',
  'NRestarts',
  'UnitFileState',
  'Type',
  'RemainAfterExit',
  'ConditionResult',
  'ConditionTimestampMonotonic',
  'ExecMainStatus',
  'NeedDaemonReload',
  'CanReload',
] as const;

/**
 * The work of `REQUEST_SCRIPT` that carries out a verb of systemctl: ARGUMENTS are the unit, the verb, and how many seconds later to look
 * once more (0: never). Before a start the counter of failed starts is set back: the sixth start within 10 s, of a healthy unit too, would
 * stop it and leave it failed.
 */
export const VERB_WORK = `${WORK_BEGINS}
unit=$1 verb=$2 settle=$3 began=$(date +%s)
show() { systemctl show --property=${CONDITION_PROPERTIES.join(',')} -- "$unit" >"$dir/$1" 2>&1; }
show before
case $verb in start|restart) systemctl reset-failed -- "$unit" >/dev/null 2>&1 ;; esac
systemctl "$verb" -- "$unit" >"$dir/output" 2>&1 </dev/null
{ echo "$?"; uptime; } >"$dir/status"
show after
if [ "$settle" != 0 ]; then
sleep "$settle"
show later
fi
# A unit that is not active after a start may have been skipped, which systemd forgets with the unit.
grep -q ActiveState=inactive "$dir/after" && journalctl -q --no-pager -o cat -n 20 --since="@$began" _PID=1 UNIT="$unit" >"$dir/log" 2>/dev/null
${WORK_ENDS}`;
