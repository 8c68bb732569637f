import { ActionError } from '../api/action-error.js';
import { quoteArgv } from './quoting.js';

/** How long a command has between SIGTERM and SIGKILL, in seconds. */
export const TERM_TO_KILL_SECONDS = 2;

/** Linux accepts at most 128 KiB in one argument, and sshd passes the whole command to the login shell as one. */
const MAX_COMMAND_BYTES = 120 * 1024;

/**
 * Runs "$@" (a limit in seconds, then a program and its arguments) and ends it when stdin closes.
 *
 * sshd leaves a process without a terminal running when its channel or connection closes, and passes signals on
 * unreliably; but it always closes the process's stdin. So stdin is kept on fd 3, and a watcher that waits for its end
 * sends TERM. `timeout` leads a process group of its own: it passes the signal to the whole group, sends KILL later, and
 * is the last resort when the end of stdin never arrives.
 *
 * - Only the command gets stdout and stderr, which are kept for it on fd 4 and 5: the channel closes with it, and bash
 * cannot write its report of a job's signal to stderr.
 * - Processes that the command left in its group are killed, or they would keep the channel open.
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
 * The command line for one program and its arguments on a host. Closing its stdin ends the program (TERM, two seconds
 * later KILL, to its process group); until then stdin must stay open. The exit status is the program's own; 128 + N when
 * signal N ended it.
 *
 * @param options.limitSeconds after which the host itself ends the program, whole seconds
 * @param options.sudo runs everything as root, with the watcher: the login user could not signal root's processes
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
    throw new ActionError('invalid_parameters', 'the arguments of a command are too long to be sent');
  }
  return command;
}
