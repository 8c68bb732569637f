import { WORK_BEGINS, WORK_ENDS } from './request-script.js';
import { CONDITION_PROPERTIES } from './verb-script.js';

/** Where new unit files are written. */
const FOLDER = '/etc/systemd/system';

const MOST_PRESENT_BYTES = 1024 * 1024;

/** The parts of what `CHECK_FILES_SCRIPT` prints, in this order. */
export const CHECK_SECTIONS = ['machine', 'files', 'drop_ins', 'verify', 'end'] as const;

/**
 * Looks what new unit files would replace, and lets systemd check them, where they shall be: for `sh -c SCRIPT sh MARK UNIT TEXT...`, with
 * TEXT in base64. It writes only to a folder of its own, which it removes.
 *
 * - `machine`: the boot id and the seconds since the boot
 * - `files`: for each unit a line: `none PATH`, with where its file is otherwise, if it is anywhere; `link TARGET`; `file TEXT`, the present
 *   text in base64; `first PATH`: systemd takes a file elsewhere first; or `other`: a folder, or a file of more than 1 MiB
 * - `drop_ins`: for each unit that has some a line: `UNIT PATH...`
 * - `verify`: the exit status of `systemd-analyze verify`, and what it said; `none`: the machine has no such program
 */
export const CHECK_FILES_SCRIPT = `
mark=$1
shift
export SYSTEMD_COLORS=0 SYSTEMD_PAGER=
part() { printf '\\n%s %s\\n' "$mark" "$1"; }
part machine
cat /proc/sys/kernel/random/boot_id
cut -d' ' -f1 /proc/uptime
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT PIPE TERM
part files
drop_ins=
while [ "$#" -gt 1 ]; do
  printf %s "$2" | base64 -d >"$folder/$1" || exit 1
  shown=$(systemctl show --property=FragmentPath,DropInPaths -- "$1" 2>/dev/null)
  fragment=$(printf '%s\\n' "$shown" | sed -n 's/^FragmentPath=//p')
  drop_ins="$drop_ins$(printf '%s\\n' "$shown" | sed -n "s|^DropInPaths=\\(.\\)|$1 \\1|p")
"
  case $fragment in /etc/systemd/system.control/*|/run/systemd/system.control/*|/run/systemd/transient/*|/run/systemd/generator.early/*)
    printf 'first %s\\n' "$fragment"
    shift 2
    continue
    ;;
  esac
  if [ -L "${FOLDER}/$1" ]; then printf 'link %s\\n' "$(readlink "${FOLDER}/$1")"
  elif [ -f "${FOLDER}/$1" ] && [ "$(wc -c <"${FOLDER}/$1")" -le ${MOST_PRESENT_BYTES} ]; then
    printf 'file %s\\n' "$(base64 -w 0 <"${FOLDER}/$1")"
  elif [ -e "${FOLDER}/$1" ]; then echo other
  else printf 'none %s\\n' "$fragment"; fi
  shift 2
done
part drop_ins
printf '%s' "$drop_ins"
part verify
if command -v systemd-analyze >/dev/null; then
  version=$(systemd-analyze --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')
  count=0
  for file in "$folder"/*; do
    case $file in
    *:*)
      # Since version 250 a colon ends the name of a file, and the unit's name follows.
      if [ "\${version:-0}" -ge 250 ]; then
        count=$((count + 1))
        mv "$file" "$folder/.$count" || exit 1
        file=$folder/.$count:\${file##*/}
      fi
      ;;
    esac
    set -- "$@" "$file"
  done
  said=$(systemd-analyze --man=no verify "$@" 2>&1); echo "$?"
  printf '%s\\n' "$said" | sed -e "s|$folder/||g" -e 's|/[^ ]*/systemd-analyze-[^/ ]*/||g'
else echo none; fi
part end
`;

/**
 * The work of `REQUEST_SCRIPT` that writes unit files: ARGUMENTS are what to do with the units (`none`; `restart`, those that are active
 * and whose files it changes, or were changed since they were started; `start`, those that are down too), for how many seconds they must stay active, and
 * for each file its unit, the sha256 of the text that it replaces (`none`: there is none) and its text in base64.
 *
 * A file is there whole or not at all, all are there before systemd reads them, once. When a unit is not active as it should be, all
 * are as before again, and running again, unless somebody has changed a file since.
 *
 * - `output`: what systemctl said
 * - `status`: 0; 1: not active, and as before; 2: a file was changed meanwhile, and none is written; 3: not active, and left so, as
 *   somebody has changed a file since; 4: not active, the files are as before, and the units do not run with them either; 5: the machine
 *   cannot keep the files, and none is written; 6: active, and somebody has changed a file since; 7: not active, and a file could not be
 *   put back; 8: a file could not be written, and all are as before
 * - `log`: for each unit what was there: a line `none`, or `file TEXT`, in base64
 * - `before`, `after`, `later`: what `systemctl show` says of the units, in their order, each after a line `Unit=NAME`, as it says nothing
 *   of templates; `later` is after the return to what was before
 */
export const PUT_WORK = `${WORK_BEGINS}
then=$1 settle=$2
shift 2
say() {
  for unit in $(cat "$dir/units"); do
    printf 'Unit=%s\\n' "$unit"
    systemctl show --property=${CONDITION_PROPERTIES.join(',')} -- "$unit" 2>/dev/null
    echo
  done >"$dir/$1"
}
sum() { if [ -f "$1" ]; then sha256sum <"$1" | cut -d' ' -f1; else echo none; fi; }
active() { case $(systemctl show --property=ActiveState -- "$1") in *=active|*=reloading|*=activating) return 0 ;; esac; return 1; }
was_active() { grep -Fqx -- "$1" "$dir/active"; }
same() { [ "$(sum "$dir/new/$1")" = "$(sum "$dir/old/$1")" ]; }
# Active with the same file: systemd has read it, and has started the unit since it was written.
kept() {
  same "$1" || return 1
  shown=$(systemctl show --property=NeedDaemonReload,InactiveExitTimestamp,InactiveExitTimestampMonotonic -- "$1")
  case $shown in *=yes*) return 1 ;; esac
  # By both clocks, as the machine's may have been set since. In hundredths of a second, and in seconds.
  changed_at=$(stat -c %.2Y "${FOLDER}/$1" | tr -d .)
  started=$(printf '%s\\n' "$shown" | sed -n 's/^InactiveExit.*=\\([0-9]*\\)[0-9]\\{4\\}$/\\1/p')
  started_at=$(date -d "$(printf '%s\\n' "$shown" | sed -n 's/^InactiveExitTimestamp=//p')" +%s)
  [ -n "$changed_at" ] && [ -n "$started" ] && [ -n "$started_at" ] || return 1
  [ $(($(date +%s%N) / 10000000 - changed_at)) -ge $(($(uptime) - started)) ] && [ "$started_at" -ge $((changed_at / 100)) ]
}
finish() {
{ echo "$1"; uptime; } >"$dir/status"
${WORK_ENDS}
exit 0
}
mkdir "$dir/new" "$dir/old"
: >"$dir/output"
changed=false ready=true
while [ "$#" -gt 2 ]; do
  printf '%s\\n' "$1" >>"$dir/units" || ready=false
  printf %s "$3" | base64 -d >"$dir/new/$1" || ready=false
  if [ -f "${FOLDER}/$1" ]; then
    cp -p "${FOLDER}/$1" "$dir/old/$1" || ready=false
    printf 'file %s\\n' "$(base64 -w 0 <"${FOLDER}/$1")"
  else echo none; fi >>"$dir/log"
  [ "$(sum "$dir/old/$1")" = "$2" ] || changed=true
  [ -L "${FOLDER}/$1" ] && changed=true
  if active "$1"; then
    printf '%s\\n' "$1" >>"$dir/active"
    if kept "$1"; then printf '%s\\n' "$1" >>"$dir/kept"; fi
  fi
  shift 3
done
touch "$dir/active" "$dir/kept" "$dir/held"
if ! $ready; then rm -rf "$dir/new" "$dir/old" "$dir/log"; finish 5; fi
say before
if $changed; then say after; finish 2; fi
place() {
  t=$(mktemp "${FOLDER}/.fm-XXXXXX") || return 1
  if cat "$1" >"$t" && chmod 644 "$t" &&
    { [ ! -f "$dir/old/$2" ] || { chmod --reference="$dir/old/$2" "$t" && chown --reference="$dir/old/$2" "$t"; }; } &&
    sync "$t" && mv -f "$t" "${FOLDER}/$2"; then return 0; fi
  rm -f "$t"
  return 1
}
ok=true written=true
for unit in $(cat "$dir/units"); do
  same "$unit" || place "$dir/new/$unit" "$unit" 2>>"$dir/output" || { ok=false written=false; break; }
done
sync "${FOLDER}" 2>/dev/null
if $ok; then systemctl daemon-reload >>"$dir/output" 2>&1 || ok=false; fi
bring() {
  for unit in $(cat "$dir/units"); do
    case $unit in *@.*) continue ;; esac
    was=false
    if was_active "$unit"; then was=true; fi
    if grep -Fqx -- "$unit" "$dir/kept"; then continue; fi
    case $1 in none) continue ;; restart) $was || continue ;; esac
    systemctl reset-failed -- "$unit" >/dev/null 2>&1
    verb=start
    if $was; then
      # A new file of a slice counts at once, and a restart would stop what runs in it.
      case $unit in *.slice) continue ;; esac
      verb=restart
    fi
    case $unit in *.socket)
      # A socket does not start while its service runs.
      for each in $(systemctl show --property=Triggers -- "$unit" | cut -d= -f2-); do
        if active "$each"; then
          printf '%s\\n' "$each" >>"$dir/held"
          systemctl stop -- "$each" >>"$dir/output" 2>&1 </dev/null
        fi
      done
      ;;
    esac
    systemctl "$verb" -- "$unit" >>"$dir/output" 2>&1 </dev/null || ok=false
    printf '%s\\n' "$unit" >>"$dir/brought"
  done
  for each in $(cat "$dir/held"); do systemctl start -- "$each" >>"$dir/output" 2>&1 </dev/null || ok=false; done
}
restarts() { echo "$(systemctl show --property=NRestarts -- "$1" | cut -d= -f2)"; }
stay() {
  [ -s "$dir/brought" ] || return
  $ok && for unit in $(cat "$dir/brought"); do restarts "$unit"; done >"$dir/restarts"
  $ok && sleep "$1"
  $ok && for unit in $(cat "$dir/brought"); do
    read -r first
    # It is started again and again.
    [ "$(restarts "$unit")" -le "$first" ] 2>/dev/null || [ -z "$first" ] || ok=false
  done <"$dir/restarts"
  for unit in $(cat "$dir/brought"); do
    case $(systemctl show --property=ActiveState,SubState,Type -- "$unit" | tr '\\n' ' ') in
    *SubState=auto-restart*) ok=false ;;
    *ActiveState=active*|*ActiveState=reloading*) ;;
    *Type=oneshot*) ;;
    *) ok=false ;;
    esac
  done
}
: >"$dir/brought"
$ok && bring "$then"
stay "$settle"
say after
own=true new=true
for unit in $(cat "$dir/units"); do
  is=$(sum "${FOLDER}/$unit")
  if [ "$is" != "$(sum "$dir/new/$unit")" ]; then
    new=false
    [ "$is" = "$(sum "$dir/old/$unit")" ] || own=false
  fi
done
if $ok; then
  $new && finish 0
  finish 6
fi
$own || finish 3
back=true
for unit in $(cat "$dir/units"); do
  # It may run with its new file, though it did not run before.
  was_active "$unit" || ! grep -Fqx -- "$unit" "$dir/brought" || systemctl stop -- "$unit" >/dev/null 2>&1
  if [ -f "$dir/old/$unit" ]; then
    [ "$(sum "${FOLDER}/$unit")" = "$(sum "$dir/old/$unit")" ] || place "$dir/old/$unit" "$unit" 2>>"$dir/output" || back=false
  elif [ -f "${FOLDER}/$unit" ]; then
    systemctl stop -- "$unit" >/dev/null 2>&1
    rm -f "${FOLDER}/$unit" 2>>"$dir/output" || back=false
  fi
done
systemctl daemon-reload >>"$dir/output" 2>&1 || back=false
# What is not there any more would be left in the list of failed units.
for unit in $(cat "$dir/units"); do [ -f "$dir/old/$unit" ] || systemctl reset-failed -- "$unit" >/dev/null 2>&1; done
ok=true
if [ -s "$dir/brought" ]; then
  : >"$dir/brought"
  bring restart
  stay 1
fi
say later
$back || finish 7
$written || finish 8
$ok || finish 4
finish 1
`;

/**
 * The work of `REQUEST_SCRIPT` that removes a unit: the argument is the unit. It is stopped and disabled, its file and its drop-ins are
 * removed, and systemd reads its files anew. `status`: 0; 1: it did not stop, and its file is left; 2: it has no file in the folder of
 * the operator; 3: it is stopped and disabled, and its file could not be removed; 4: the machine cannot keep the file, and nothing is done;
 * 5: what is there is no file of it, it masks the unit; 6: it is a template, and there is none;
 * 7: it is an alias.
 */
export const DESTROY_WORK = `${WORK_BEGINS}
unit=$1
show() { systemctl show --property=${CONDITION_PROPERTIES.join(',')} -- "$unit" >"$dir/$1" 2>&1; }
finish() {
{ echo "$1"; uptime; } >"$dir/status"
show after
${WORK_ENDS}
exit 0
}
: >"$dir/output"
show before
if ! [ -e "${FOLDER}/$unit" ] && ! [ -L "${FOLDER}/$unit" ]; then
  # systemd shows nothing of a template, also of one that is there.
  case $unit in *@.*) systemctl cat -- "$unit" >/dev/null 2>&1 || finish 6 ;; esac
  finish 2
fi
if grep -qx LoadState=masked "$dir/before"; then finish 5; fi
if [ -L "${FOLDER}/$unit" ] && [ "$(basename -- "$(readlink "${FOLDER}/$unit")")" != "$unit" ]; then finish 7; fi
if [ -d "${FOLDER}/$unit" ]; then finish 2; fi
mkdir "$dir/old"
if ! cp -pR "${FOLDER}/$unit" "$dir/old/" 2>>"$dir/output"; then rm -rf "$dir/old"; finish 4; fi
case $unit in
*@.*) ;;
*)
  systemctl stop -- "$unit" >>"$dir/output" 2>&1 </dev/null
  case $(systemctl show --property=ActiveState -- "$unit") in *=inactive|*=failed) ;; *) finish 1 ;; esac
  ;;
esac
systemctl disable -- "$unit" >>"$dir/output" 2>&1
rm -f "${FOLDER}/$unit" 2>>"$dir/output" && rm -rf "${FOLDER}/$unit.d" 2>>"$dir/output"
sync "${FOLDER}" 2>/dev/null
systemctl daemon-reload >>"$dir/output" 2>&1
systemctl reset-failed -- "$unit" >/dev/null 2>&1
if [ -e "${FOLDER}/$unit" ] || [ -L "${FOLDER}/$unit" ]; then finish 3; fi
finish 0
`;
