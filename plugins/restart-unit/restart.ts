import {
  ActionError,
  type Clock,
  type Cluster,
  type FleetTransport,
  isGlobalUnit,
  type RequestLog,
  withTimeLimit,
} from '../../src/plugin.js';
import { hasFailed, isStopped, isUp, type Observation, describeState } from './observation.js';
import { unmetRequirements, writtenRequirements } from './scheduling.js';

export interface RestartParts {
  fleet: FleetTransport;
  clock: Clock;
  cluster: Cluster;
  /** The signal of the request. Before the unit is changed it ends the restart, after that only the waiting. */
  signal: AbortSignal;
  log: RequestLog;
}

const POLL_MS = 500;
/** The time limit for one call; a retry then uses another host of the cluster. */
const CALL_MS = 3_000;
/** A unit counts as started when it has been active for this long: fleet shows a change, or a crash, after up to 7 s. */
const STEADY_MS = 7_000;
/** The same after `wait_seconds` are over; not shorter, since a flapping unit is briefly active. */
const MIN_STEADY_MS = 2_000;
/** fleet shows a change after up to 7 s: until then, a failure may be from before the restart. */
const STALE_MS = 8_000;
/** The minimum wait for the start, when stopping has used up the time. */
const MIN_START_MS = 3_000;
/** How long sending `loaded` is retried. */
const STOP_MS = 7_000;
/** How long to wait for the stop after the request was aborted. */
const ABORTED_STOP_MS = 3_000;
/**
 * How long sending `launched` is retried. Together with a call and `ABORTED_STOP_MS` it stays below the 30 s that the
 * service waits for an aborted change.
 */
const LAUNCH_MS = 15_000;

/**
 * Restarts a unit through fleet: sets it to `loaded` and waits until it has really stopped, then sets it to `launched`
 * and waits until it is up and stays up. (fleetctl does not wait for the stop, so the unit may never stop.)
 * @returns a string for people with the observed states
 * @throws ActionError that says which states were observed, and whether the unit is now stopped
 */
export async function restart(name: string, waitMs: number, parts: RestartParts): Promise<string> {
  const { clock, signal } = parts;
  const before = await startingPoint(name, parts);
  const startedAt = clock.now();
  const end = startedAt + waitMs;
  signal.throwIfAborted();
  // From here on the unit may be stopped, so `launched` is sent even after an abort.
  const unsure = await requestStop(name, parts);
  const stopped = unsure === undefined ? await untilStopped(name, end, parts) : undefined;
  const stoppedAt = clock.now();
  await requestLaunch(name, parts);
  if (unsure !== undefined) throw unsure;
  if (stopped === undefined || !isStopped(stopped)) {
    throw new ActionError(
      'unit_did_not_stop',
      `${name} did not stop within ${seconds(stoppedAt - startedAt)}, so it was not restarted; its desired state is launched again. Last state: ${describeState(stopped ?? before)}`,
    );
  }
  const up = await untilUp(name, end, stopped, parts);
  return [
    `${name} was restarted.`,
    `before:  ${describeState(before)}`,
    `stopped: ${describeState(stopped)} (after ${seconds(stoppedAt - startedAt)})`,
    `started: ${describeState(up)} (after ${seconds(clock.now() - stoppedAt)})`,
    '',
  ].join('\n');
}

/** Reads the state before the restart. A unit that could not start again must not be stopped. */
async function startingPoint(name: string, { fleet, cluster, signal }: RestartParts): Promise<Observation> {
  const [seen, machines] = await Promise.all([
    observe(name, { fleet, cluster, signal }),
    fleet.machines(cluster, { signal }),
  ]);
  if (seen.unit === undefined)
    throw new ActionError('unit_not_found', `Unable to load unit ${name}: the cluster has no such unit`);
  if (isGlobalUnit(seen.unit)) {
    throw new ActionError(
      'unit_is_global',
      `${name} is a global unit: it would stop on all machines at the same time, and fleet does not report when it is up again`,
    );
  }
  const unmet = unmetRequirements(seen.unit, machines);
  if (unmet.length > 0) {
    throw new ActionError(
      'unit_not_schedulable',
      `${name} was not changed (${describeState(seen)}), because it could not be started again: no machine meets ${unmet.join(', ')}`,
      { details: { requirements: unmet } },
    );
  }
  return seen;
}

/**
 * Sends `loaded` until fleet has confirmed it; the call is idempotent.
 * @returns the error when it is not known whether fleet applied it
 * @throws ActionError when fleet certainly did not apply it
 */
async function requestStop(name: string, parts: RestartParts): Promise<ActionError | undefined> {
  const { clock, signal } = parts;
  const end = clock.now() + STOP_MS;
  // After one attempt with an unknown outcome, a later failure does not show that the unit is unchanged.
  let unsure = false;
  for (;;) {
    try {
      // Without the request's signal: after an abort it would not be known whether the unit must be launched again.
      return await setState(name, 'loaded', parts);
    } catch (error) {
      unsure ||= isUnsure(error);
      if (!unsure || (error instanceof ActionError && error.code === 'unit_not_found')) throw error;
      if (signal.aborted || clock.now() + POLL_MS + CALL_MS > end) {
        return new ActionError(
          'outcome_unknown',
          `It is not known whether fleet stopped ${name} (${failureText(error)}); its desired state is launched again`,
          { cause: error },
        );
      }
    }
    await clock.sleep(POLL_MS);
  }
}

async function untilStopped(
  name: string,
  end: number,
  parts: RestartParts,
): Promise<Observation | undefined> {
  const { clock, signal } = parts;
  let abortedEnd = Number.POSITIVE_INFINITY;
  let last: Observation | undefined;
  while (clock.now() < Math.min(end, abortedEnd)) {
    last = (await observeIfPossible(name, parts)) ?? last;
    if (last !== undefined && isStopped(last)) return last;
    if (signal.aborted) abortedEnd = Math.min(abortedEnd, clock.now() + ABORTED_STOP_MS);
    await clock.sleep(POLL_MS);
  }
  return last;
}

/** Sends `launched` until fleet has confirmed it. */
async function requestLaunch(name: string, parts: RestartParts): Promise<void> {
  const { clock, log } = parts;
  const end = clock.now() + LAUNCH_MS;
  for (;;) {
    try {
      return await setState(name, 'launched', parts);
    } catch (error) {
      if (error instanceof ActionError && error.code === 'unit_not_found') throw error;
      const reason = failureText(error);
      if (clock.now() + POLL_MS + CALL_MS > end) return checkLaunched(name, reason, parts);
      log.warn('unit launch failed', { unit: name, reason });
      await clock.sleep(POLL_MS);
    }
  }
}

/** Without a confirmation of `launched`: checks whether fleet applied it. */
async function checkLaunched(name: string, reason: string, parts: RestartParts): Promise<void> {
  const seen = await observeIfPossible(name, parts);
  if (seen?.unit?.desiredState === 'launched') return;
  const [code, state] =
    seen === undefined
      ? ['outcome_unknown', 'MAY NOW BE STOPPED: fleet did not confirm that it starts it again']
      : ['unit_stopped', 'IS NOW STOPPED: fleet could not be asked to start it again'];
  throw new ActionError(code, `${name} ${state}: ${reason}`, {
    details: { unit: name, state: seen?.state },
  });
}

async function setState(
  name: string,
  state: 'loaded' | 'launched',
  { fleet, cluster, clock }: RestartParts,
): Promise<undefined> {
  await withTimeLimit(limitOf(clock), async (signal) =>
    fleet.setDesiredState(cluster, name, state, { signal }),
  );
}

/** Whether it is unknown if fleet applied the change. */
function isUnsure(error: unknown): boolean {
  return error instanceof ActionError && ['outcome_unknown', 'timeout'].includes(error.code);
}

async function untilUp(
  name: string,
  end: number,
  stopped: Observation,
  parts: RestartParts,
): Promise<Observation> {
  const { clock, signal } = parts;
  const launchedAt = clock.now();
  const latest = Math.max(end, launchedAt + MIN_START_MS);
  // A failed state from before the restart remains visible for a while; a new one counts immediately.
  const failureCountsAt = stopped.state?.systemdActiveState === 'failed' ? launchedAt + STALE_MS : launchedAt;
  let upSince: number | undefined;
  let failures = 0;
  let last = stopped;
  while (clock.now() < latest || upSince !== undefined) {
    last = (await observeIfPossible(name, parts)) ?? last;
    if (isUp(last)) {
      upSince ??= clock.now();
      const steadyMs = clock.now() < latest ? STEADY_MS : MIN_STEADY_MS;
      if (clock.now() - upSince >= steadyMs) return last;
    } else {
      if (upSince !== undefined) failures++;
      upSince = undefined;
      if (hasFailed(last) && clock.now() >= failureCountsAt)
        throw notStarted('unit_failed', `${name} failed when it was started`, last);
    }
    if (signal.aborted) break;
    await clock.sleep(POLL_MS);
  }
  if (failures > 0)
    throw notStarted(
      'unit_flaps',
      `${name} started ${failures + (upSince === undefined ? 0 : 1)} times and did not stay up`,
      last,
    );
  if (signal.aborted) {
    const [code, why] =
      signal.reason instanceof ActionError ? [signal.reason.code, signal.reason.message] : [];
    throw notStarted(
      code ?? 'timeout',
      `${name} was stopped and set to launched, but the request ended before it was up again: ${why ?? 'the time was up'}`,
      last,
    );
  }
  if (last.unit?.machineID === null) {
    const requirements = writtenRequirements(last.unit);
    const why = requirements.length === 0 ? '' : `; it requires ${requirements.join(', ')}`;
    throw notStarted(
      'unit_not_scheduled',
      `${name} IS NOW STOPPED: fleet has found no machine for it yet${why}`,
      last,
    );
  }
  const waited = seconds(clock.now() - launchedAt);
  throw notStarted('unit_not_started', `${name} was stopped, and is not active again after ${waited}`, last);
}

function notStarted(code: string, what: string, last: Observation): ActionError {
  return new ActionError(code, `${what}. Last state: ${describeState(last)}`, {
    details: { unit: last.unit?.name, state: last.state },
  });
}

async function observe(
  name: string,
  { fleet, cluster, signal }: Pick<RestartParts, 'fleet' | 'cluster' | 'signal'>,
): Promise<Observation> {
  const [unit, states] = await Promise.all([
    fleet.unit(cluster, name, { signal }),
    fleet.unitStates(cluster, { unitName: name, signal }),
  ]);
  // The row of a machine that the unit has left remains for a few seconds. For a unit without a machine, that row is used.
  const own = states.find(({ machineID }) => machineID === unit?.machineID);
  return { unit, state: unit?.machineID === null ? states[0] : own };
}

/**
 * The states of the unit; undefined when fleet could not be reached.
 * @throws ActionError `unit_not_found` when the unit was removed
 */
async function observeIfPossible(name: string, parts: RestartParts): Promise<Observation | undefined> {
  const seen = await withTimeLimit(limitOf(parts.clock), async (signal) =>
    observe(name, { ...parts, signal }),
  ).catch((error: unknown) => {
    parts.log.debug('unit state not available', { reason: failureText(error) });
    return undefined;
  });
  if (seen === undefined || seen.unit !== undefined) return seen;
  throw new ActionError(
    'unit_not_found',
    `${name} was removed from the cluster while it was being restarted`,
  );
}

function limitOf(clock: Clock) {
  return { ms: CALL_MS, message: `fleet did not respond within ${seconds(CALL_MS)}`, clock };
}

function failureText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
