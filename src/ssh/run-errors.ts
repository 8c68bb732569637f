import { ActionError } from '../api/action-error.js';
import { reasonOf } from '../lib/errors.js';
import { endOfText, lastLine } from '../lib/machine-text.js';

/** A command that was sent to a host. */
export interface RanCommand {
  host: string;
  /** The login name. */
  user: string;
  /** The name of the program. */
  program: string;
}

/** How a command or a login shell ended: its exit status, or the signal that ended it, as far as the host tells. */
export interface Exit {
  status: number | undefined;
  signalName: string | undefined;
}

/**
 * The program has ended with another status than 0: `command_failed`, details
 * `{ host, begun: true, exitStatus, signal, stderr }`; the message has the last line of stderr.
 */
export function commandFailed({ host, program }: RanCommand, exit: Exit, stderr: string): ActionError {
  const message = withReason(`${program} on ${host} ${howItEnded(exit)}`, stderr);
  return new ActionError('command_failed', message, { details: details(host, true, exit, stderr) });
}

/**
 * Nothing shows that the program was run: the login shell, a forced command or sudo did not run it, or hid its output.
 * `command_failed`, details as of `commandFailed`, with `begun: false`.
 * @param exit how the login shell ended
 * @param printed what was printed instead
 */
export function commandNotRun({ host, user, program }: RanCommand, exit: Exit, printed: string): ActionError {
  const ended =
    exit.status !== undefined
      ? `; it ended with exit status ${exit.status}`
      : exit.signalName !== undefined
        ? `; it was ended by ${exit.signalName}`
        : '';
  const message = withReason(
    `the login shell of ${user} on ${host} did not run ${program}, or hid its output${ended}`,
    printed,
  );
  return new ActionError('command_failed', message, { details: details(host, false, exit, printed) });
}

/**
 * The time limit has passed: `timeout`, details `{ host, timeoutMs, begun }`; `begun` is false when nothing shows that the program
 * was run.
 */
export function commandTimedOut(
  { host, user, program }: RanCommand,
  timeoutMs: number,
  begun: boolean,
): ActionError {
  const limit = `${timeoutMs / 1_000} s`;
  const message = begun
    ? `${program} on ${host} took longer than ${limit}`
    : `the login shell of ${user} on ${host} did not run ${program} within ${limit}, or hid its output`;
  return new ActionError('timeout', message, { details: { host, timeoutMs, begun } });
}

/** A change may have begun, and it is not known how it ended: `outcome_unknown`, details `{ host }`. */
export function outcomeUnknown({ host, program }: RanCommand, cause: unknown): ActionError {
  const message = `it is unknown whether ${program} has run on ${host}: ${reasonOf(cause)}`;
  return new ActionError('outcome_unknown', message, { details: { host }, cause });
}

function howItEnded({ status, signalName }: Exit): string {
  if (status !== undefined) return `failed with exit status ${status}`;
  return signalName === undefined ? 'ended without an exit status' : `was ended by ${signalName}`;
}

function withReason(message: string, printed: string): string {
  const reason = lastLine(printed);
  return reason === '' ? message : `${message}: ${reason}`;
}

function details(host: string, begun: boolean, { status, signalName }: Exit, stderr: string) {
  return {
    host,
    begun,
    exitStatus: status ?? null,
    signal: signalName ?? null,
    stderr: endOfText(stderr),
  };
}
