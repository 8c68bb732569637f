import { ActionError } from '../api/action-error.js';
import { quoteArgv } from './quoting.js';
import { shellLine } from './shell-line.js';

/** The time between SIGTERM and SIGKILL when a command is stopped, in seconds. */
export const TERM_TO_KILL_SECONDS = 2;

/**
 * Linux allows at most 128 KiB for one argument, and sshd passes the whole command to the login shell as one argument.
 */
const MAX_COMMAND_BYTES = 120 * 1024;

/**
 * Runs "$@" (a limit in seconds, then a program and its arguments) and stops it when stdin is closed.
 *
 * Without `env` or `timeout` it says so before the marks: a status of 127 would not tell which program is missing.
 *
 * When a channel or connection is closed, sshd does not stop a process without a terminal, and it does not reliably
 * forward signals; but it always closes the process's stdin. So the script moves stdin to fd 3, and a watcher sends
 * TERM when fd 3 is closed. `timeout` runs the command in a new process group: it forwards TERM to the whole group, and
 * sends KILL later. It also stops the command at the limit when the end of stdin never arrives.
 *
 * - Only the command gets stdout and stderr, saved as fd 4 and 5, so bash cannot write its own report of a killed job to
 *   stderr.
 * - The marks separate what the command writes from what a login shell or a forced command writes before and after it.
 *   The exit status follows the last mark, because the status of the login shell may be another one. The mark of stderr is
 *   another one and comes first: a login shell may send both to stdout.
 * - The environment of the command is always the same, whatever the login sets (`TZ`, `LANG`, `SYSTEMD_COLORS`, `DOCKER_HOST`,
 *   ...): times are in UTC, texts in English, and a command tells of the machine that it runs on.
 * - Processes that the command has left in its group are killed, because they would keep the channel open.
 */
export const SCRIPT = `mark=$1
shift
for tool in env timeout; do
command -v "$tool" >/dev/null && continue
echo "$tool is not installed" >&2
exit 127
done
exec 3<&0 4>&1 5>&2 </dev/null >/dev/null 2>&1
printf %s2 "$mark" >&5
printf %s1 "$mark" >&4
env -i PATH="$PATH" HOME="$HOME" USER="$USER" LOGNAME="$LOGNAME" TZ=UTC LC_ALL=C \\
timeout -k ${TERM_TO_KILL_SECONDS} "$@" >&4 2>&5 3<&- 4>&- 5>&- &
command=$!
( while read -r line <&3; do :; done; kill -s TERM "$command" ) 4>&- 5>&- &
watcher=$!
exec 3<&- 5>&-
wait "$command"
status=$?
kill -s KILL -- "-$command"
kill "$watcher"
printf '%s1%s\\n' "$mark" "$status" >&4
exit "$status"`;

/** How `remoteCommand` runs a program. */
export interface RemoteCommandOptions {
  /** The host prints what `marksOf` makes of it before and after the output of the program: random letters and digits. */
  mark: string;
  /** The time after which the host stops the program, in whole seconds. */
  limitSeconds: number;
  /** Runs the whole script as root, because the login user cannot signal root's processes. */
  sudo: boolean;
}

/**
 * The command line that runs one program with its arguments on a host. Keep its stdin open while the program runs:
 * closing it stops the program (TERM, and KILL two seconds later, to its process group).
 *
 * It prints the marks on stderr and stdout when it begins the program, and at the end the mark, the exit status and a
 * newline on stdout; `MarkedOutput` reads that. The exit status is that of the program, or 128 + N when signal N ended it.
 *
 * @throws ActionError `invalid_parameters` when an argument cannot be sent
 */
export function remoteCommand(
  argv: readonly [string, ...string[]],
  { mark, limitSeconds, sudo }: RemoteCommandOptions,
): string {
  const parameters = quoteArgv([mark, String(limitSeconds), ...argv]);
  const command = shellLine(sudo ? SUDO : [], `set -- ${parameters}\n${SCRIPT}`);
  if (Buffer.byteLength(command) > MAX_COMMAND_BYTES) {
    throw new ActionError('invalid_parameters', 'the arguments of a command are too long');
  }
  return command;
}

/** The marks of a command's streams. Neither is in the command itself, which a shell may print in an error. */
export function marksOf(mark: string): { stdout: string; stderr: string } {
  return { stdout: `${mark}1`, stderr: `${mark}2` };
}

export const SUDO: readonly string[] = ['sudo', '-n', '--'];
