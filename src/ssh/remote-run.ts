import type { ClientChannel } from 'ssh2';
import type { RemoteOutput } from '../api/remote-shell.js';
import type { Clock } from '../lib/clock.js';
import { MarkedOutput } from './marked-output.js';
import { marksOf, TERM_TO_KILL_SECONDS } from './remote-command.js';
import {
  commandFailed,
  commandNotRun,
  commandTimedOut,
  type Exit,
  outcomeUnknown,
  type RanCommand,
} from './run-errors.js';
import type { SshConnection } from './ssh-connection.js';
import { connectionLost } from './ssh-errors.js';

/** How long the host has to end a stopped command before the channel is closed, in milliseconds. */
const END_MS = TERM_TO_KILL_SECONDS * 1_000 + 2_000;

/** How long the server has to confirm the closing of a channel before the connection is destroyed, in milliseconds. */
const CLOSE_MS = 2_000;

export interface RunOptions extends RanCommand {
  /** The mark in the command line. */
  mark: string;
  timeoutMs: number;
  /** For each of stdout and stderr. */
  maxOutputBytes: number;
  effect: 'read' | 'change';
  /** Whether an exit status other than 0 is a success. */
  anyExitStatus: boolean;
  /** Whether the output is used when the time limit of a read has passed. */
  partial: boolean;
  onOutput?: (() => void) | undefined;
  clock: Clock;
  /** For this run alone. Its reason is an `ActionError`. */
  signal: AbortSignal;
}

/** A command that runs on a channel. */
export interface RemoteRun {
  /**
   * Its output, when it has succeeded or has exceeded the output limit; with `partial` also at the time limit. Rejects with `command_failed`,
   * `host_unreachable`, `timeout`, or the signal's reason; for a change that may have begun and has not ended, with
   * `outcome_unknown`. When the command is stopped, this settles before the command has ended.
   */
  outcome: Promise<RemoteOutput>;
  /** Resolves when the channel is closed; never rejects. */
  ended: Promise<unknown>;
}

/** Collects the output of a command made by `remoteCommand`; stops the command on timeout, abort or too much output. */
export function followRun(connection: SshConnection, channel: ClientChannel, options: RunOptions): RemoteRun {
  const { clock, signal, mark, maxOutputBytes } = options;
  const marks = marksOf(mark);
  const stdout = new MarkedOutput(marks.stdout, maxOutputBytes);
  const stderr = new MarkedOutput(marks.stderr, maxOutputBytes);
  const begun = () => stdout.begun || stderr.begun;
  const printed = () => (stderr.greeting().trim() === '' ? stdout : stderr).greeting();
  const output = () => ({ stdout: stdout.text(), stderr: stderr.text(), truncated: false });
  const ending = endOfChannel(connection, channel, clock);

  const outcome = new Promise<RemoteOutput>((resolve, reject) => {
    const stop = (act: () => void) => {
      act();
      ending.begin();
    };
    /** Rejects when it is not known whether the command has run to its end. */
    const rejectUnknown = (error: unknown) =>
      reject(options.effect === 'change' ? outcomeUnknown(options, error) : error);
    const abort = () => stop(() => rejectUnknown(signal.reason));
    const timedOut = () => {
      const failure = commandTimedOut(options, options.timeoutMs, begun());
      if (options.partial && options.effect === 'read' && begun()) resolve({ ...output(), failure });
      else rejectUnknown(failure);
    };
    const cancelTimeout = clock.after(options.timeoutMs, () => stop(timedOut));
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();

    const cut = () => {
      if (options.effect === 'change') rejectUnknown(new Error(`it wrote more than ${maxOutputBytes} bytes`));
      else resolve({ ...output(), truncated: true });
    };
    // Both streams are read to their end even when the command was stopped: the channel does not close before.
    const collect = (into: MarkedOutput) => (chunk: Buffer) => {
      const state = into.add(chunk);
      if (begun()) options.onOutput?.();
      if (state === 'cut') stop(cut);
      else if (state === 'endless')
        stop(() => rejectUnknown(commandNotRun(options, UNKNOWN_EXIT, printed())));
    };
    channel.on('data', collect(stdout));
    channel.stderr.on('data', collect(stderr));

    const finish = (exit: Exit) => {
      cancelTimeout();
      const { exitStatus } = stdout;
      // Even with an exit status, because output may be missing.
      if (!connection.open) rejectUnknown(connectionLost(options.host));
      // The login shell may have run the program, and only have hidden the marks.
      else if (!begun()) rejectUnknown(commandNotRun(options, exit, printed()));
      // Whoever runs the login shell may report another status than that of the command.
      else if (exitStatus === undefined)
        rejectUnknown(commandFailed(options, withoutSuccess(exit), stderr.text()));
      else if (exitStatus === 0) resolve(output());
      else {
        const failure = commandFailed(options, { status: exitStatus, signalName: undefined }, stderr.text());
        if (options.anyExitStatus) resolve({ ...output(), failure });
        else reject(failure);
      }
    };
    void ending.closed.then(finish);
  });
  return { outcome, ended: ending.closed };
}

const UNKNOWN_EXIT: Exit = { status: undefined, signalName: undefined };

/** A status of 0 says nothing when the host has not told the status of the command. */
function withoutSuccess(exit: Exit): Exit {
  return exit.status === 0 ? UNKNOWN_EXIT : exit;
}

/** Stops a command whose caller no longer waits. Resolves when the channel is closed. */
export async function stopRun(
  connection: SshConnection,
  channel: ClientChannel,
  clock: Clock,
): Promise<void> {
  channel.resume();
  channel.stderr.resume();
  const ending = endOfChannel(connection, channel, clock);
  ending.begin();
  await ending.closed;
}

/**
 * Reports when a channel is closed. `begin` closes it in steps: first the command's stdin, then the channel, then the
 * connection.
 */
function endOfChannel(connection: SshConnection, channel: ClientChannel, clock: Clock) {
  let isClosed = false;
  let begun = false;
  let cancelNext: (() => void) | undefined;
  const closed = new Promise<Exit>((resolve) => {
    const finish = (exit: Exit) => {
      isClosed = true;
      forgetConnection();
      cancelNext?.();
      resolve(exit);
    };
    channel.on('close', (status: unknown, signalName: unknown) =>
      finish({
        status: typeof status === 'number' ? status : undefined,
        signalName: typeof signalName === 'string' ? signalName : undefined,
      }),
    );
    // Not with the promise `connection.closed`, which would reference every channel until the connection is closed.
    const forgetConnection = connection.onClosed(() => finish(UNKNOWN_EXIT));
  });
  channel.on('error', () => undefined);
  channel.stderr.on('error', () => undefined);
  const begin = () => {
    if (begun || isClosed) return;
    begun = true;
    channel.end();
    cancelNext = clock.after(END_MS, () => {
      // SIGKILL cannot end a process that is blocked in I/O. Leave it running, and free the channel.
      channel.close();
      cancelNext = clock.after(CLOSE_MS, () => connection.destroy());
    });
  };
  return { closed, begin };
}
