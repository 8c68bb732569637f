import { GENERATED, OPERATOR_FOLDERS, TRANSIENT } from '../../api/operator-folders.js';

const FOLDERS = [...OPERATOR_FOLDERS, GENERATED, TRANSIENT];

/** The parts of what the script prints, in this order. */
export const SECTIONS = ['machine', 'loaded', 'files', 'text', 'end'] as const;

/**
 * Prints what a machine knows of its units, in one round trip: for `sh -c SCRIPT sh MARK`, where MARK is a word that nobody can guess.
 * Each section begins with a line `MARK NAME`.
 *
 * It asks PID 1 once, by `list-units`, which costs it nothing: `list-unit-files` and `show` take it seconds on a machine with some
 * hundreds of units, in which no service is supervised. The rest is read from files: which there are, where links lead, and their text,
 * each line after the path of its file and a NUL. In UTF-8, whatever is not is replaced by the reader.
 *
 * - `loaded`: `UNIT LOAD ACTIVE SUB DESCRIPTION`, separated by blanks
 * - `files`: `TYPE SIZE\0PATH\0LINK\0`, with the type of `find` (`f`, `l`, `d`)
 * - `text`: `PATH\0LINE\n`
 */
export const SURVEY_SCRIPT = `
export SYSTEMD_COLORS=0 SYSTEMD_PAGER=
part() { printf '\\n%s %s\\n' "$1" "$2"; }
part "$1" machine
cat /etc/machine-id /proc/sys/kernel/random/boot_id
cut -d' ' -f1 /proc/uptime
systemctl --version | head -n 1
part "$1" loaded
systemctl list-units --all --full --plain --no-legend --no-pager || exit 3
part "$1" files
find ${FOLDERS.join(' ')} -maxdepth 2 -printf '%y %s\\0%p\\0%l\\0' 2>/dev/null
part "$1" text
find ${FOLDERS.join(' ')} -maxdepth 1 \\( -type f -o -type l \\) -name '*.*' -size -256k -print0 2>/dev/null | xargs -0 -r grep -aHZs -e ''
part "$1" end
`;
