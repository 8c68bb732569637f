import {
  ActionError,
  type Clock,
  type Cluster,
  type FleetTransport,
  isGlobalUnit,
  type RequestLog,
  withTimeLimit,
} from '../../src/plugin.js';
import { hasFailed, isStopped, isUp, type Observation, shown } from './observation.js';
import { unmetRequirements, writtenRequirements } from './scheduling.js';

export interface RestartParts {
  fleet: FleetTransport;
  clock: Clock;
  cluster: Cluster;
  /** The signal of the request: before the unit is changed it ends the restart, after that only the waiting. */
  signal: AbortSignal;
  log: RequestLog;
}

const POLL_MS = 500;
/** How long one call may take: then it is retried, also on another of the cluster's hosts. */
const CALL_MS = 3_000;
/** A unit counts as started after it has been active this long: fleet shows a change, also a crash, after up to 7 s. */
const STEADY_MS = 7_000;
/** The same when the time is up earlier: a flapping unit is active now and then. */
const LEAST_STEADY_MS = 2_000;
/** fleet shows a change after up to 7 s: until then a failure may be an earlier one. */
const STALE_MS = 8_000;
/** The shortest wait for a start, when stopping has used up the time. */
const LEAST_START_MS = 3_000;
/** How long sending `loaded` is retried. */
const STOP_MS = 7_000;
/** How long the unit may still take to stop after the caller has stopped waiting. */
const PATIENCE_MS = 3_000;
/**
 * How long sending `launched` is retried. Together with one call and the wait for the stop it stays below the 30 s that
 * the service waits for a stopped change.
 */
const LAUNCH_MS = 15_000;

/**
 * Restarts a unit through fleet: `loaded`, until it has really stopped; `launched`, until it stays active. (fleetctl
 * does not wait for the stop, and so may restart nothing.)
 * @returns the observed states, for people
 * @throws ActionError that says what was observed, and whether the unit is now stopped
 */
export async function restart(name: string, waitMs: number, parts: RestartParts): Promise<string> {
  const { clock, signal } = parts;
  const before = await startingPoint(name, parts);
  const begun = clock.now();
  const end = begun + waitMs;
  signal.throwIfAborted();
  // From here on the unit may be down: only the end of this process keeps `launched` from being sent.
  const unsure = await tellToStop(name, parts);
  const stopped = unsure === undefined ? await untilStopped(name, end, parts) : undefined;
  const stoppedAt = clock.now();
  await tellToLaunch(name, parts);
  if (unsure !== undefined) throw unsure;
  if (stopped === undefined || !isStopped(stopped)) {
    throw new ActionError(
      'unit_did_not_stop',
      `${name} did not stop within ${seconds(stoppedAt - begun)}, so it was not restarted; fleet was asked to launch it again. Last seen: ${shown(stopped ?? before)}`,
    );
  }
  const up = await untilUp(name, end, stopped, parts);
  return [
    `${name} was restarted.`,
    `before:  ${shown(before)}`,
    `stopped: ${shown(stopped)} (after ${seconds(stoppedAt - begun)})`,
    `started: ${shown(up)} (after ${seconds(clock.now() - stoppedAt)})`,
    '',
  ].join('\n');
}

/** Checked before any change: a unit that could not start again is not stopped. */
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
      `${name} is a global unit: fleet has no state of it to wait for, so all its instances would stop at the same time without a way to see when they are active again`,
    );
  }
  const unmet = unmetRequirements(seen.unit, machines);
  if (unmet.length > 0) {
    throw new ActionError(
      'unit_not_schedulable',
      `${name} was not changed (${shown(seen)}), because it could not be started again: no machine meets ${unmet.join(', ')}`,
      { details: { requirements: unmet } },
    );
  }
  return seen;
}

/**
 * Sends `loaded` until fleet has accepted it; sending it twice has the same effect as once.
 * @returns the error when it is unknown whether fleet accepted it
 * @throws ActionError when it is certain that fleet did not accept it
 */
async function tellToStop(name: string, parts: RestartParts): Promise<ActionError | undefined> {
  const { clock, signal } = parts;
  const end = clock.now() + STOP_MS;
  // After one try that fleet may have accepted, no later failure makes it certain that the unit is unchanged.
  let unsure = false;
  for (;;) {
    try {
      // Not the request's signal: an aborted call would leave it unknown whether the unit must be launched again.
      return await setState(name, 'loaded', parts);
    } catch (error) {
      unsure ||= isUnsure(error);
      if (!unsure || (error instanceof ActionError && error.code === 'unit_not_found')) throw error;
      if (signal.aborted || clock.now() + POLL_MS + CALL_MS > end) {
        return new ActionError(
          'outcome_unknown',
          `It is unknown whether fleet accepted the request to stop ${name} (${reasonOf(error)}); fleet was asked to launch it again`,
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
  let patience = Number.POSITIVE_INFINITY;
  let last: Observation | undefined;
  while (clock.now() < Math.min(end, patience)) {
    last = (await observeIfPossible(name, parts)) ?? last;
    if (last !== undefined && isStopped(last)) return last;
    if (signal.aborted) patience = Math.min(patience, clock.now() + PATIENCE_MS);
    await clock.sleep(POLL_MS);
  }
  return last;
}

/** Sends `launched` until fleet has accepted it. */
async function tellToLaunch(name: string, parts: RestartParts): Promise<void> {
  const { clock, log } = parts;
  const end = clock.now() + LAUNCH_MS;
  for (;;) {
    try {
      return await setState(name, 'launched', parts);
    } catch (error) {
      if (error instanceof ActionError && error.code === 'unit_not_found') throw error;
      const reason = reasonOf(error);
      if (clock.now() + POLL_MS + CALL_MS > end) return unlessLaunched(name, reason, parts);
      log.warn('unit could not be started yet', { unit: name, reason });
      await clock.sleep(POLL_MS);
    }
  }
}

/** When fleet has not confirmed `launched`: reads whether it was accepted. */
async function unlessLaunched(name: string, reason: string, parts: RestartParts): Promise<void> {
  const seen = await observeIfPossible(name, parts);
  if (seen?.unit?.desiredState === 'launched') return;
  const [code, state] =
    seen === undefined
      ? ['outcome_unknown', 'MAY NOW BE STOPPED: fleet was asked to stop it, and perhaps']
      : ['unit_stopped', 'IS NOW STOPPED: fleet was asked to stop it, and'];
  throw new ActionError(code, `${name} ${state} could not be asked to start it again: ${reason}`, {
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

/** Whether fleet may or may not have made the change. */
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
  const latest = Math.max(end, launchedAt + LEAST_START_MS);
  // A failure from before the restart remains visible for a while; a new one is believed immediately.
  const believedAt = stopped.state?.systemdActiveState === 'failed' ? launchedAt + STALE_MS : launchedAt;
  let upSince: number | undefined;
  let fell = 0;
  let last = stopped;
  while (clock.now() < latest || upSince !== undefined) {
    last = (await observeIfPossible(name, parts)) ?? last;
    if (isUp(last)) {
      upSince ??= clock.now();
      const steadyMs = clock.now() < latest ? STEADY_MS : LEAST_STEADY_MS;
      if (clock.now() - upSince >= steadyMs) return last;
    } else {
      if (upSince !== undefined) fell++;
      upSince = undefined;
      if (hasFailed(last) && clock.now() >= believedAt)
        throw notStarted('unit_failed', `${name} failed when it was started`, last);
    }
    if (signal.aborted) break;
    await clock.sleep(POLL_MS);
  }
  if (fell > 0)
    throw notStarted(
      'unit_flaps',
      `${name} started ${fell + (upSince === undefined ? 0 : 1)} times and did not stay active`,
      last,
    );
  if (signal.aborted) {
    const [code, why] =
      signal.reason instanceof ActionError ? [signal.reason.code, signal.reason.message] : [];
    throw notStarted(
      code ?? 'timeout',
      `${name} was stopped, and fleet was asked to launch it; the wait ended before it was active again: ${why ?? 'the time was up'}`,
      last,
    );
  }
  if (last.unit?.machineID === null) {
    const asked = writtenRequirements(last.unit);
    const why = asked.length === 0 ? '' : `; it requires ${asked.join(', ')}`;
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
  return new ActionError(code, `${what}. Last seen: ${shown(last)}`, {
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
  // A row of a machine that the unit has left remains for a few seconds. Without a machine it is the only row.
  const own = states.find(({ machineID }) => machineID === unit?.machineID);
  return { unit, state: unit?.machineID === null ? states[0] : own };
}

/**
 * Undefined: fleet could not answer just now.
 * @throws ActionError `unit_not_found` when the unit is gone
 */
async function observeIfPossible(name: string, parts: RestartParts): Promise<Observation | undefined> {
  const seen = await withTimeLimit(limitOf(parts.clock), async (signal) =>
    observe(name, { ...parts, signal }),
  ).catch((error: unknown) => {
    parts.log.debug('unit state could not be read', { reason: reasonOf(error) });
    return undefined;
  });
  if (seen === undefined || seen.unit !== undefined) return seen;
  throw new ActionError(
    'unit_not_found',
    `${name} was removed from the cluster while it was being restarted`,
  );
}

function limitOf(clock: Clock) {
  return { ms: CALL_MS, message: `fleet did not answer within ${seconds(CALL_MS)}`, clock };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
