import { createHash, randomBytes } from 'node:crypto';
import { ActionError } from '../../api/action-error.js';
import type { RemoteRunOptions, RemoteShell } from '../../api/remote-shell.js';
import type { Clock } from '../../lib/clock.js';
import { reasonOf } from '../../lib/errors.js';
import { fieldsOf } from '../../lib/fields-of.js';
import { REQUEST_SCRIPT, REQUEST_SECTIONS } from './request-script.js';
import { sectionsOf } from '../../api/sections.js';

/** What came of the work of a request on a machine. */
export interface WorkResult {
  /** `running`: it goes on. `interrupted`: it was begun, and ended in the middle. `refused`: systemd did not start it. */
  outcome: 'ended' | 'running' | 'interrupted' | 'refused';
  /** Whether the machine was booted since the work began. */
  wasRebooted: boolean;
  /** The exit status of its command; undefined: it did not get so far. */
  status: number | undefined;
  /** How long that took, in milliseconds. */
  tookMs: number;
  /** What its command said, or why it was refused. */
  output: string;
  before: string;
  after: string;
  later: string;
  log: string;
}

/** How old a machine's boot was at some time, by which older work is told from newer. */
export interface BootAge {
  bootID: string;
  /** In seconds. */
  uptimeSeconds: number;
}

export interface MachineWork {
  host: string;
  /** Names the work: letters and digits. */
  key: string;
  /** Whether an earlier delivery of the request may have begun it. */
  repeated: boolean;
  /** After the request came. */
  age: BootAge;
  work: string;
  args: readonly string[];
}

export interface WorkOptions {
  /** The machine goes on with what has begun when it is aborted; for some seconds it is asked what came of it. */
  signal: AbortSignal;
  /** How long to wait for the end of the work, in milliseconds. */
  waitMs: number;
  /** How long it may wait for others before it begins, in milliseconds: with less time it could not end. */
  startWithinMs: number;
  /** Called while the machine is at work, and responds. */
  onResponse: () => void;
  clock: Clock;
}

/** The name of a piece of work of a request, for a machine. */
export function workKey(request: string, ...parts: readonly string[]): string {
  return createHash('sha256')
    .update(JSON.stringify([request, ...parts]))
    .digest('hex')
    .slice(0, 40);
}

/** How long work that has begun may still be waited for after an abort, in milliseconds. */
const ABORT_GRACE_MS = 15_000;
/** The same, after the deadline: the machine was to answer before it, and the caller waits no longer than for the way of the reply. */
const DEADLINE_GRACE_MS = 1_000;
/** Between two attempts to reach the machine again, in milliseconds. */
const RETRY_MS = 500;
/** What one attempt may take besides the work, in milliseconds. */
const ASIDE_MS = 10_000;
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;

/**
 * Has a machine do work once for a request, and waits for the end. When the connection is lost it asks again: the machine knows what it
 * has begun.
 * @throws ActionError `outcome_unknown` when it is not known whether the work was begun, or what came of it; with any other code, and
 * with the signal's reason, it was not begun
 */
export async function doOnce(
  shell: RemoteShell,
  given: MachineWork,
  { signal, waitMs, startWithinMs, onResponse, clock }: WorkOptions,
): Promise<WorkResult> {
  signal.throwIfAborted();
  const until = clock.now() + waitMs;
  const waiting = new AbortController();
  let cancelGrace = () => {};
  const onAbort = () => {
    const isDeadline = signal.reason instanceof ActionError && signal.reason.code === 'timeout';
    const graceMs = isDeadline ? DEADLINE_GRACE_MS : ABORT_GRACE_MS;
    cancelGrace = clock.after(graceMs, () => waiting.abort(signal.reason));
  };
  signal.addEventListener('abort', onAbort, { once: true });
  const starting = new AbortController();
  const cancelStart = clock.after(startWithinMs, () => starting.abort(tooLate(given.host)));
  try {
    let mayHaveBegun = given.repeated;
    for (;;) {
      const leftMs = Math.max(1_000, until - clock.now());
      try {
        const work = { ...given, repeated: mayHaveBegun };
        // What no machine has begun does not begin when it could not end any more.
        const startSignal = mayHaveBegun ? undefined : AbortSignal.any([signal, starting.signal]);
        return await attempt(shell, work, leftMs, {
          signal: waiting.signal,
          startSignal,
          onOutput: onResponse,
        });
      } catch (error) {
        const isUnclear = error instanceof ActionError && error.code === 'outcome_unknown';
        if (!mayHaveBegun && !isUnclear) throw notPermitted(given.host, error) ?? error;
        mayHaveBegun = true;
        if (waiting.signal.aborted || clock.now() + RETRY_MS >= until)
          throw unknownOutcome(given.host, error);
        await clock.sleep(RETRY_MS, { signal: waiting.signal }).catch(() => undefined);
      }
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    cancelGrace();
    cancelStart();
  }
}

async function attempt(
  shell: RemoteShell,
  { host, key, repeated, age, work, args }: MachineWork,
  waitMs: number,
  how: Pick<RemoteRunOptions, 'signal' | 'startSignal' | 'onOutput'>,
): Promise<WorkResult> {
  const mark = randomBytes(16).toString('hex');
  const delivery = repeated ? 'repeated' : 'first';
  const uptime = String(Math.round(age.uptimeSeconds * 100));
  const wait = String(Math.ceil(waitMs / 1_000));
  const { stdout } = await shell.run(
    host,
    ['sh', '-c', REQUEST_SCRIPT, 'sh', mark, key, delivery, age.bootID, uptime, wait, work, ...args],
    {
      ...how,
      timeoutMs: waitMs + ASIDE_MS,
      maxOutputBytes: MAX_OUTPUT_BYTES,
      effect: 'change',
    },
  );
  try {
    return workResult(sectionsOf(stdout, mark, REQUEST_SECTIONS));
  } catch (error) {
    throw new ActionError('outcome_unknown', `${host} answered what cannot be read: ${reasonOf(error)}`);
  }
}

function workResult(parts: Record<(typeof REQUEST_SECTIONS)[number], string>): WorkResult {
  const [beganBoot = '', beganAt = ''] = parts.began.split('\n');
  const [status = '', statusAt = ''] = parts.status.split('\n');
  return {
    outcome: outcomeIn(parts.outcome),
    wasRebooted: beganBoot !== '' && beganBoot !== parts.machine.trim(),
    status: /^\d+$/.test(status) ? Number(status) : undefined,
    tookMs: statusAt === '' ? 0 : Math.max(0, (Number(statusAt) - Number(beganAt)) * 10),
    output: parts.output.trim(),
    before: parts.before,
    after: parts.after,
    later: parts.later,
    log: parts.log,
  };
}

function outcomeIn(text: string): WorkResult['outcome'] {
  const outcome = text.trim();
  if (outcome === 'ended' || outcome === 'running' || outcome === 'interrupted' || outcome === 'refused')
    return outcome;
  throw new Error(`an outcome '${outcome}' is not known`);
}

/** The error when the login has no right to keep what came of requests, as it is not root. */
function notPermitted(host: string, error: unknown): ActionError | undefined {
  if (!(error instanceof ActionError) || error.code !== 'command_failed') return undefined;
  const { exitStatus, stderr } = fieldsOf(error.details);
  const text = typeof stderr === 'string' ? stderr.trim() : '';
  if (/Read-only file system|No space left/.test(text)) return undefined;
  if (exitStatus !== 77 && !/a password is required|not allowed to execute|command not found/.test(text))
    return undefined;
  return new ActionError(
    'not_permitted',
    `The login of the service on ${host} has no right to change units (${text}): let it run commands by sudo without a password, and set SSH_SUDO`,
    { cause: error, details: error.details },
  );
}

function tooLate(host: string): ActionError {
  return new ActionError(
    'timeout',
    `Nothing was changed on ${host}: it waited for other changes there until it could not end in time any more`,
  );
}

function unknownOutcome(host: string, error: unknown): ActionError {
  return new ActionError(
    'outcome_unknown',
    `It is not known what came of the change on ${host}, which goes on with what it has begun: ${reasonOf(error)}`,
    { cause: error },
  );
}

const AGE_MS = 10_000;

/** @throws ActionError when the machine cannot be asked */
export async function readBootAge(shell: RemoteShell, host: string, signal: AbortSignal): Promise<BootAge> {
  const { stdout } = await shell.run(host, ['cat', '/proc/sys/kernel/random/boot_id', '/proc/uptime'], {
    signal,
    timeoutMs: AGE_MS,
    maxOutputBytes: 4_096,
  });
  const [bootID = '', uptime = ''] = stdout.split('\n');
  return { bootID, uptimeSeconds: Number.parseFloat(uptime) };
}
