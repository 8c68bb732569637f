/** Where a machine keeps what came of requests: a folder for each. */
const REQUESTS = '/var/lib/fleet-manager/requests';
/** How long it keeps that, in minutes: as long as a request may be delivered again. */
const KEPT_MINUTES = 24 * 60;
/** How much of what its command said is told, in bytes. */
const MOST_OUTPUT_BYTES = 64 * 1024;
const KEPT_HUNDREDTHS = KEPT_MINUTES * 60 * 100;

/** The parts of what the script prints, in this order; those from `began` to `log` are files that the work has written. */
export const REQUEST_SECTIONS = [
  'outcome',
  'machine',
  'began',
  'before',
  'output',
  'status',
  'after',
  'later',
  'log',
  'end',
] as const;

/**
 * Has work done on a machine, once for a request, and prints what came of it: for `sh -c SCRIPT sh MARK KEY HOW BOOT UPTIME WAIT WORK
 * ARGUMENT...`, as root.
 *
 * The work is a script that runs as a unit of systemd of its own (`fm-KEY.service`), so it goes on when the connection is lost. It begins
 * with `mkdir` of its folder, which succeeds only once, and is as good after a reboot, when systemd has forgotten the unit. It ends with
 * the file `done` in that folder. This script waits for it, also when another one has begun it.
 *
 * - MARK: a word that nobody can guess; each part of the output begins with a line `MARK NAME`
 * - KEY: names the request
 * - HOW: `repeated`: the work may have begun for an earlier delivery of the request. `first`: what there is of an older request with this
 *   key is forgotten, once its work has ended; older is what began before the boot BOOT was UPTIME (in hundredths of a second) old
 * - WAIT: how long to wait for the end, in seconds
 *
 * While it waits it prints empty lines. The first line of `outcome`: `ended`; `running`, at the end of WAIT; `interrupted`: it began and has not ended, and does not run;
 * `refused`: it did not begin and never will, and `output` says why. systemd may start it late, when it did not answer: so this script
 * makes the folder itself before it says `refused`. Results of more than a day ago are removed; those of this boot by its own clock, as
 * the machine's may be set.
 *
 * systemd replaces `$` and a name in braces in the command of a unit, so WORK must have none.
 */
export const REQUEST_SCRIPT = `
mark=$1 key=$2 how=$3 boot=$4 uptime=$5 wait=$6 work=$7
shift 7
export SYSTEMD_COLORS=0 SYSTEMD_PAGER=
umask 077
requests=${REQUESTS} dir=${REQUESTS}/$key unit=fm-$key.service
part() { printf '\\n%s %s\\n' "$mark" "$1"; }
tell() {
  part outcome; echo "$1"
  part machine; cat /proc/sys/kernel/random/boot_id
  for each in began before; do part $each; cat "$dir/$each" 2>/dev/null; done
  part output; head -c ${MOST_OUTPUT_BYTES} "$dir/output" 2>/dev/null
  for each in status after later log; do part $each; cat "$dir/$each" 2>/dev/null; done
  part end
  exit 0
}
refuse() {
  part outcome; echo refused
  part machine; cat /proc/sys/kernel/random/boot_id
  for each in began before; do part $each; done
  part output; printf '%s\\n' "$1"
  for each in status after later log end; do part $each; done
  exit 0
}
began() {
  began_boot= began_uptime=
  { read -r began_boot; read -r began_uptime; } 2>/dev/null <"$1/began"
  [ -n "$began_uptime" ]
}
# 0: it runs; 1: it does not; 2: systemd does not say.
runs() {
  state=$(systemctl show --property=ActiveState,Job -- "$unit" 2>/dev/null) || return 2
  case $state in *ActiveState=activating*|*ActiveState=active*|*ActiveState=deactivating*|*Job=[1-9]*) return 0 ;; esac
  return 1
}
now() { cut -d. -f1 /proc/uptime; }
this_boot=$(cat /proc/sys/kernel/random/boot_id)
mkdir -p "$requests" || exit 77
last=$(( $(now) + wait ))
for each in $(find "$requests" -mindepth 1 -maxdepth 1 -mmin +${KEPT_MINUTES} 2>/dev/null); do
  if began "$each" && [ "$began_boot" = "$this_boot" ] &&
    [ $(( $(now) * 100 - began_uptime )) -lt ${KEPT_HUNDREDTHS} ]; then continue; fi
  rm -rf "$each"
done
if [ "$how" = first ] && [ -d "$dir" ]; then
  began "$dir"
  if [ "$began_boot" != "$boot" ] && [ "$began_boot" = "$this_boot" ]; then older=false
  elif [ "$began_boot" = "$boot" ] && [ "$began_uptime" -ge "$uptime" ]; then older=false
  else older=true; fi
  if $older; then
    while runs || [ "$?" = 2 ]; do [ "$(now)" -lt "$last" ] || tell running; sleep 0.2; done
    mv "$dir" "$dir.$$" && rm -rf "$dir.$$"
  fi
fi
queue() {
  said=$(systemd-run -q --no-block --unit="$unit" --description="fleet-manager request $key" --property=Type=oneshot -- /bin/sh -c "$work" sh "$dir" "$@" 2>&1)
}
writes() {
  t=$(mktemp "$requests/.new-XXXXXX") && echo >"$t" && [ -s "$t" ]
  set -- "$?"
  rm -f "$t"
  return "$1"
}
if [ ! -d "$dir" ]; then
  systemctl reset-failed -- "$unit" >/dev/null 2>&1
  queue "$@" || {
    sleep 0.2
    if ! runs && mkdir "$dir" 2>/dev/null; then
      printf '%s\\n' "$said" >"$dir/output"
      touch "$dir/refused"
      refuse "$said"
    fi
  }
fi
turns=0
while [ ! -e "$dir/done" ]; do
  turns=$(( turns + 1 ))
  [ -e "$dir/refused" ] && tell refused
  # The machine responds.
  if [ $(( turns % 2 )) = 0 ]; then echo; fi
  if [ $(( turns % 10 )) = 0 ]; then
    runs
    if [ "$?" = 1 ] && [ ! -e "$dir/done" ]; then
      systemctl reset-failed -- "$unit" >/dev/null 2>&1
      [ -d "$dir" ] && tell interrupted
      writes 2>/dev/null || refuse "the machine cannot write to $requests, so nothing was begun: it is full, or read-only"
      # When systemd reads its files again, it may forget that a unit waits for its start, or the unit too.
      systemctl start --no-block -- "$unit" >/dev/null 2>&1 || queue "$@"
    fi
    [ "$(now)" -lt "$last" ] || tell running
  fi
  sleep 0.1
done
tell ended
`;

/** The beginning of each work: its first argument is its folder. It ends here when the work was begun before. */
export const WORK_BEGINS = `
export LC_ALL=C TZ=UTC SYSTEMD_COLORS=0 SYSTEMD_PAGER=
umask 077
dir=$1
shift
mkdir "$dir" 2>/dev/null || exit 0
uptime() { cut -d' ' -f1 /proc/uptime | tr -d .; }
# What cannot be kept is not begun.
{ cat /proc/sys/kernel/random/boot_id && uptime; } >"$dir/began.new" && [ -s "$dir/began.new" ] || { rm -rf "$dir"; exit 0; }
mv "$dir/began.new" "$dir/began"
sync "$dir" 2>/dev/null
`;

/** The end of each work. */
export const WORK_ENDS = `
uptime >"$dir/done.new"
sync "$dir" 2>/dev/null
mv "$dir/done.new" "$dir/done"
sync "$dir" 2>/dev/null
`;
