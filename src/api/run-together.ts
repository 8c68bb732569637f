import { randomBytes } from 'node:crypto';
import { endOfText, lastLine } from '../lib/machine-text.js';
import { ActionError } from './action-error.js';
import type { Cancellable } from './cancellable.js';
import type { RemoteOutput, RemoteShell } from './remote-shell.js';
import {
  type MachineTime,
  type Program,
  type ProgramSection,
  readTogether,
  togetherArgv,
} from './together-script.js';

export interface TogetherOptions extends Cancellable {
  /** The time limit for each program, in milliseconds: on the machine, in whole seconds. All of them together have two seconds more. */
  timeoutMs: number;
  /** The limit for the standard output of each program, in bytes. */
  maxOutputBytes: number;
  /** Whether the programs run as root, by `sudo -n`; the setting of the service by default. */
  sudo?: boolean;
}

export interface Together<Programs extends readonly Program[]> {
  /** What each program wrote, in their order; with `failure` when it has failed. */
  outputs: { -readonly [Index in keyof Programs]: RemoteOutput };
  /** When the machine began the first program; undefined: it does not say. */
  began: MachineTime | undefined;
  /** When all of them had ended; undefined: they have not, or the machine does not say. */
  ended: MachineTime | undefined;
}

/** How long the programs may take together beyond the limit of each, in milliseconds. */
const EXTRA_MS = 2_000;
/** For the standard error of a program, and for marks and times, in bytes. */
const AROUND_BYTES = 3_000;
/** The exit status of timeout(1) when the limit has passed, and of a shell that does not find a program. */
const [TIMED_OUT, NOT_INSTALLED] = [124, 127];

/**
 * Runs programs that change nothing on a machine, at the same time and in one round trip. The machine needs `sh`, `timeout`, `head`
 * and `date`. Those that may hang come last: one that cannot even be killed costs those after it. Of such calls two run on
 * a machine at a time, as of any program; so a program that hangs often is better run alone.
 *
 * Of a program that has failed `failure` is `command_failed`, with the details `{ host, exitStatus, stderr }` (127: it is not
 * installed), or `timeout`.
 *
 * @throws ActionError as `RemoteShell.run` does, when none of them could be run
 */
export async function runTogether<const Programs extends readonly Program[]>(
  shell: RemoteShell,
  host: string,
  programs: Programs,
  { timeoutMs, maxOutputBytes, ...options }: TogetherOptions,
): Promise<Together<Programs>> {
  const mark = randomBytes(16).toString('hex');
  const seconds = Math.max(1, Math.ceil(timeoutMs / 1_000));
  const bytes = maxOutputBytes + AROUND_BYTES;
  const argv = togetherArgv({ programs, mark, seconds, bytes });
  const { stdout, truncated, failure } = await shell.run(host, argv, {
    ...options,
    timeoutMs: seconds * 1_000 + EXTRA_MS,
    maxOutputBytes: programs.length * bytes + AROUND_BYTES,
    // What some of them wrote is of use, whatever became of the others.
    anyExitStatus: true,
    partial: true,
  });
  const { sections, began, ended } = readTogether(stdout, mark);
  if (sections.size === 0 && failure !== undefined) throw failure;
  const outputs = programs.map(([name], number): RemoteOutput => {
    const section = sections.get(number);
    const ran = { name, host, seconds };
    if (section !== undefined) return outputOf(section, { ...ran, maxOutputBytes });
    const why = failure === undefined || failure.code === 'timeout' ? tookLonger(ran) : failure;
    return { stdout: '', stderr: '', truncated, failure: why };
  });
  // As many as there are programs.
  return { outputs: outputs as Together<Programs>['outputs'], began, ended };
}

interface Ran {
  name: string;
  host: string;
  seconds: number;
}

function outputOf(
  { stdout, stderr, status }: ProgramSection,
  ran: Ran & { maxOutputBytes: number },
): RemoteOutput {
  const truncated = status === undefined || Buffer.byteLength(stdout) > ran.maxOutputBytes;
  const failure =
    // Cut off, it may have ended because nobody read what it wrote.
    status === 0 || truncated
      ? undefined
      : status === TIMED_OUT
        ? tookLonger(ran)
        : failed(ran, status, stderr);
  return { stdout, stderr, truncated, ...(failure && { failure }) };
}

function tookLonger({ name, host, seconds }: Ran): ActionError {
  return new ActionError('timeout', `${name} on ${host} took longer than ${seconds} s`, {
    details: { host, timeoutMs: seconds * 1_000, begun: true },
  });
}

function failed({ name, host }: Ran, status: number, stderr: string): ActionError {
  const how =
    status === NOT_INSTALLED && stderr === ''
      ? 'failed: it is not installed'
      : `failed with exit status ${status}`;
  const reason = lastLine(stderr);
  return new ActionError('command_failed', `${name} on ${host} ${how}${reason === '' ? '' : `: ${reason}`}`, {
    details: { host, begun: true, exitStatus: status, signal: null, stderr: endOfText(stderr) },
  });
}
