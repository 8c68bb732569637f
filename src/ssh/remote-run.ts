import type { ClientChannel } from 'ssh2';
import { ActionError } from '../api/action-error.js';
import type { Clock } from '../lib/clock.js';
import { CutOutput } from './cut-output.js';
import { TERM_TO_KILL_SECONDS } from './remote-command.js';
import type { SshConnection } from './ssh-connection.js';
import { connectionLost } from './ssh-errors.js';

/** How long the host has to end a stopped command before the channel is closed, in milliseconds. */
const END_MS = TERM_TO_KILL_SECONDS * 1_000 + 2_000;

/** How long the server has to confirm the closing of a channel before the connection is destroyed, in milliseconds. */
const CLOSE_MS = 2_000;

const MAX_STDERR_CHARACTERS = 2_000;

export interface RemoteRunOptions {
  host: string;
  /** For error messages. */
  program: string;
  timeoutMs: number;
  /** For each of stdout and stderr. */
  maxOutputBytes: number;
  clock: Clock;
  /** Its reason is an `ActionError`. */
  signal: AbortSignal;
}

export interface CommandOutput {
  stdout: string;
  stderr: string;
  truncated: boolean;
}

/** A command that runs on a channel. */
export interface RemoteRun {
  /**
   * Its output, when it has succeeded or has exceeded the output limit. Rejects with `command_failed`,
   * `host_unreachable`, `timeout`, or the signal's reason. When the command is stopped, this settles before the command
   * has ended.
   */
  outcome: Promise<CommandOutput>;
  /** Resolves when the channel is closed; never rejects. */
  ended: Promise<void>;
}

/** Collects the output of a command made by `remoteCommand`; stops the command on timeout, abort or too much output. */
export function followRun(
  connection: SshConnection,
  channel: ClientChannel,
  options: RemoteRunOptions,
): RemoteRun {
  const { host, program, clock, signal } = options;
  const stdout = new CutOutput(options.maxOutputBytes);
  const stderr = new CutOutput(options.maxOutputBytes);
  const output = (truncated: boolean) => ({ stdout: stdout.text(), stderr: stderr.text(), truncated });
  const ending = endOfChannel(connection, channel, clock);

  const outcome = new Promise<CommandOutput>((resolve, reject) => {
    const stop = (act: () => void) => {
      act();
      ending.begin();
    };
    const abort = () => stop(() => reject(signal.reason));
    const cancelTimeout = clock.after(options.timeoutMs, () => stop(() => reject(timedOut(options))));
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();

    // Both streams are read to their end even when the command was stopped: the channel does not close before.
    const collect = (into: CutOutput) => (chunk: Buffer) => {
      if (!into.add(chunk)) stop(() => resolve(output(true)));
    };
    channel.on('data', collect(stdout));
    channel.stderr.on('data', collect(stderr));

    const finish = (exit: Exit) => {
      cancelTimeout();
      signal.removeEventListener('abort', abort);
      // Even with an exit status, because output may be missing.
      if (!connection.open) reject(connectionLost(host));
      else if (exit.status === 0) resolve(output(false));
      else reject(commandFailed(host, program, exit, stderr.text()));
    };
    void ending.closed.then(finish);
  });
  return { outcome, ended: ending.closed.then(() => undefined) };
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

interface Exit {
  status: number | undefined;
  signalName: string | undefined;
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
    const forgetConnection = connection.onClosed(() => finish({ status: undefined, signalName: undefined }));
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

function timedOut({ host, program, timeoutMs }: RemoteRunOptions): ActionError {
  return new ActionError('timeout', `${program} on ${host} took longer than ${timeoutMs / 1_000} s`, {
    details: { host, timeoutMs },
  });
}

/**
 * `command_failed`, details `{ host, exitStatus, signal, stderr }`: the exit status or the signal, and the end of
 * stderr.
 */
function commandFailed(
  host: string,
  program: string,
  { status, signalName }: Exit,
  stderr: string,
): ActionError {
  const how =
    status !== undefined
      ? `failed with exit status ${status}`
      : signalName !== undefined
        ? `was ended by ${signalName}`
        : 'ended without an exit status';
  return new ActionError('command_failed', `${program} on ${host} ${how}`, {
    details: {
      host,
      exitStatus: status ?? null,
      signal: signalName ?? null,
      stderr: stderr.slice(-MAX_STDERR_CHARACTERS),
    },
  });
}
