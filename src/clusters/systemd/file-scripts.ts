import { GENERATED, OPERATOR_FOLDERS, TRANSIENT } from '../../api/operator-folders.js';

/** Where the unit files of the distribution are. */
export const VENDOR_FOLDERS = ['/usr/lib/systemd/system', '/lib/systemd/system'] as const;

/** The longest file that is read, in bytes: one that is longer is printed with a byte more. */
export const MOST_BYTES = 1024 * 1024;

/** Stands for the text of a file that cannot be read; it is no base64. */
export const UNREADABLE = '!';

/** Prints the words of a property on lines of their own: `xargs` reads quotes as systemd writes them, but for backslashes within. */
const A_WORD_A_LINE = String.raw`sed 's/\\\(.\)/"'"'"'\1'"'"'"/g' | xargs printf '%s\n'`;

/** The parts of what `READ_FILE_SCRIPT` prints, in this order. */
export const READ_FILE_SECTIONS = ['machine', 'state', 'files', 'end'] as const;

/**
 * Prints the file of a unit and its drop-ins: for `sh -c SCRIPT sh MARK UNIT`.
 *
 * - `machine`: `/etc/machine-id`
 * - `state`: `systemctl show` of the unit. A template, which it does not know, is looked for in the folders.
 * - `files`: for each file a line with its path, and one with its text in base64: the unit's own, the one that a generator made that
 *   from, and the drop-ins
 */
export const READ_FILE_SCRIPT = `
export LC_ALL=C SYSTEMD_COLORS=0 SYSTEMD_PAGER=
mark=$1 unit=$2
part() { printf '\\n%s %s\\n' "$mark" "$1"; }
part machine
cat /etc/machine-id
part state
state=$(systemctl show --property=LoadState,FragmentPath,SourcePath,DropInPaths,NeedDaemonReload -- "$unit" 2>/dev/null)
printf '%s\\n' "$state"
path=$(printf '%s\\n' "$state" | sed -n 's/^FragmentPath=//p')
if [ -z "$path" ]; then
  for folder in ${[...OPERATOR_FOLDERS, GENERATED, ...VENDOR_FOLDERS].join(' ')}; do
    if [ -f "$folder/$unit" ]; then path=$folder/$unit; break; fi
  done
fi
part files
{
  printf '%s\\n' "$path"
  printf '%s\\n' "$state" | sed -n 's/^SourcePath=//p'
  printf '%s\\n' "$state" | sed -n 's/^DropInPaths=//p' | ${A_WORD_A_LINE}
} | while IFS= read -r each; do
  [ -f "$each" ] || continue
  printf '%s\\n' "$each"
  if [ -r "$each" ]; then head -c ${MOST_BYTES + 1} "$each" | base64 | tr -d '\\n'; else printf '${UNREADABLE}'; fi
  echo
done
part end
`;

/** The parts of what `LIST_FILES_SCRIPT` prints, in this order. */
export const LIST_FILES_SECTIONS = ['machine', 'files', 'installable', 'end'] as const;

const OWN = [...OPERATOR_FOLDERS, GENERATED, TRANSIENT].join(' ');

/**
 * Lists the unit files of a machine, without a question to PID 1, which takes seconds for that (\`list-unit-files\`): for
 * `sh -c SCRIPT sh MARK WHICH`, where WHICH is `all`, with those of the distribution, or `own`.
 *
 * - `machine`: `/etc/machine-id`
 * - `files`: `TYPE SIZE\\0PATH\\0LINK\\0` as of `SURVEY_SCRIPT`
 * - `installable`: the paths of those with a section `[Install]`, each with a NUL after it
 */
export const LIST_FILES_SCRIPT = `
mark=$1
part() { printf '\\n%s %s\\n' "$mark" "$1"; }
folders='${OWN}'
if [ "$2" = all ]; then
  folders="$folders ${VENDOR_FOLDERS[0]}"
  [ -L /lib ] || folders="$folders ${VENDOR_FOLDERS[1]}"
fi
part machine
cat /etc/machine-id
part files
find $folders -maxdepth 2 -printf '%y %s\\0%p\\0%l\\0' 2>/dev/null
part installable
find $folders -maxdepth 1 \\( -type f -o -type l \\) -name '*.*' -size -256k -print0 2>/dev/null | xargs -0 -r grep -alZs '^\\[Install\\]'
part end
`;
