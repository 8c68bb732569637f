import { ActionError } from '../api/action-error.js';
import { quoteArgv } from './quoting.js';

/** The time between SIGTERM and SIGKILL when a command is stopped, in seconds. */
export const TERM_TO_KILL_SECONDS = 2;

/**
 * Linux allows at most 128 KiB for one argument, and sshd passes the whole command to the login shell as one argument.
 */
const MAX_COMMAND_BYTES = 120 * 1024;

/**
 * Runs "$@" (a limit in seconds, then a program and its arguments) and stops it when stdin is closed.
 *
 * When a channel or connection is closed, sshd does not stop a process without a terminal, and it does not reliably
 * forward signals; but it always closes the process's stdin. So the script moves stdin to fd 3, and a watcher sends
 * TERM when fd 3 is closed. `timeout` runs the command in a new process group: it forwards TERM to the whole group, and
 * sends KILL later. It also stops the command at the limit when the end of stdin never arrives.
 *
 * - Only the command gets stdout and stderr, saved as fd 4 and 5. So the channel closes when the command ends, and bash
 *   cannot write its own report of a killed job to stderr.
 * - Processes that the command has left in its group are killed, because they would keep the channel open.
 */
const SCRIPT = `exec 3<&0 4>&1 5>&2 </dev/null >/dev/null 2>&1
timeout -k ${TERM_TO_KILL_SECONDS} "$@" >&4 2>&5 3<&- 4>&- 5>&- &
command=$!
( while read -r line <&3; do :; done; kill -s TERM "$command" ) 4>&- 5>&- &
watcher=$!
exec 3<&- 4>&- 5>&-
wait "$command"
status=$?
kill -s KILL -- "-$command"
kill "$watcher"
exit "$status"`;

/**
 * The command line that runs one program with its arguments on a host. Keep its stdin open while the program runs:
 * closing it stops the program (TERM, and KILL two seconds later, to its process group). The exit status is that of the
 * program, or 128 + N when signal N ended it.
 *
 * @param options.limitSeconds the time after which the host stops the program, in whole seconds
 * @param options.sudo runs the whole script as root, because the login user cannot signal root's processes
 * @throws ActionError `invalid_parameters` when an argument cannot be sent
 */
export function remoteCommand(
  argv: readonly [string, ...string[]],
  options: { limitSeconds: number; sudo: boolean },
): string {
  const sudo = options.sudo ? ['sudo', '-n', '--'] : [];
  const words = [...sudo, 'sh', '-c', SCRIPT, 'sh', String(options.limitSeconds), ...argv];
  const command = `exec ${quoteArgv(words)}`;
  if (Buffer.byteLength(command) > MAX_COMMAND_BYTES) {
    throw new ActionError('invalid_parameters', 'the arguments of a command are too long');
  }
  return command;
}
