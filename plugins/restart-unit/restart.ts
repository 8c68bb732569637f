import {
  ActionError,
  type Clock,
  type Cluster,
  type FleetTransport,
  isGlobalUnit,
  type RequestLog,
  withTimeLimit,
} from '../../src/plugin.js';
import { hasFailed, isStopped, isUp, type Observation, told } from './observation.js';
import { unmetRequirements, writtenRequirements } from './scheduling.js';

export interface RestartParts {
  fleet: FleetTransport;
  clock: Clock;
  cluster: Cluster;
  /** Of the request: before the unit is touched it ends the restart, after that only the waiting. */
  signal: AbortSignal;
  log: RequestLog;
}

const POLL_MS = 500;
/** How long one call may take: then it is tried again, and so another of the cluster's hosts. */
const CALL_MS = 3_000;
/** A unit counts as started when it has been active for so long: fleet shows a change, a crash too, after up to 7 s. */
const STEADY_MS = 7_000;
/** When the time is up before that: one that flaps is active now and then. */
const LEAST_STEADY_MS = 2_000;
/** fleet shows a change after up to 7 s: until then a failure may be the one from before. */
const STALE_MS = 8_000;
/** How long a start is waited for at least, when stopping has used up the time. */
const LEAST_START_MS = 3_000;
/** How long `loaded` is tried to be sent. */
const STOP_MS = 7_000;
/** How long the unit may still take to stop once nobody waits for it any more. */
const PATIENCE_MS = 3_000;
/**
 * How long `launched` is tried to be sent. With what a call and the patience may take it stays below the 30 s that the
 * service waits for a change that it has told to stop.
 */
const LAUNCH_MS = 15_000;

/**
 * Restarts a unit through fleet: `loaded`, until it has really stopped; `launched`, until it is up and stays so. (fleetctl
 * does not wait for the stop, and so may restart nothing.)
 * @returns for people, what was seen
 * @throws ActionError that says what was seen, and whether the unit is now stopped
 */
export async function restart(name: string, waitMs: number, parts: RestartParts): Promise<string> {
  const { clock, signal } = parts;
  const before = await startingPoint(name, parts);
  const begun = clock.now();
  const end = begun + waitMs;
  signal.throwIfAborted();
  // From here on the unit may be down: nothing but the end of this process keeps `launched` from being sent.
  const unsure = await tellToStop(name, parts);
  const stopped = unsure === undefined ? await untilStopped(name, end, parts) : undefined;
  const stoppedAt = clock.now();
  await tellToLaunch(name, parts);
  if (unsure !== undefined) throw unsure;
  if (stopped === undefined || !isStopped(stopped)) {
    throw new ActionError(
      'unit_did_not_stop',
      `${name} did not stop within ${seconds(stoppedAt - begun)}, so it was not restarted; it was told to launch again. Last seen: ${told(stopped ?? before)}`,
    );
  }
  const up = await untilUp(name, end, stopped, parts);
  return [
    `${name} was restarted.`,
    `before:  ${told(before)}`,
    `stopped: ${told(stopped)} (after ${seconds(stoppedAt - begun)})`,
    `started: ${told(up)} (after ${seconds(clock.now() - stoppedAt)})`,
    '',
  ].join('\n');
}

/** Looks before anything is touched: a unit that could not start again is not stopped. */
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
      `${name} is a global unit: fleet has no state of it that could be waited for, so it would stop everywhere at once with nothing to tell when it is up again`,
    );
  }
  const unmet = unmetRequirements(seen.unit, machines);
  if (unmet.length > 0) {
    throw new ActionError(
      'unit_not_schedulable',
      `${name} was left as it is (${told(seen)}), for it could not be started again: no machine meets ${unmet.join(', ')}`,
      { details: { requirements: unmet } },
    );
  }
  return seen;
}

/**
 * Sends `loaded` until fleet has taken it; sent twice it does no more than once.
 * @returns what went wrong when it is not known whether fleet took it
 * @throws ActionError when it is certain that fleet did not
 */
async function tellToStop(name: string, parts: RestartParts): Promise<ActionError | undefined> {
  const { clock, signal } = parts;
  const end = clock.now() + STOP_MS;
  // Once one try may have been taken, no later failure makes it certain that the unit was left alone.
  let unsure = false;
  for (;;) {
    try {
      // Not the request's signal: cut off in the middle, nobody would know whether the unit has to be launched again.
      return await setState(name, 'loaded', parts);
    } catch (error) {
      unsure ||= isUnsure(error);
      if (!unsure || (error instanceof ActionError && error.code === 'unit_not_found')) throw error;
      if (signal.aborted || clock.now() + POLL_MS + CALL_MS > end) {
        return new ActionError(
          'outcome_unknown',
          `It is not known whether fleet took the order to stop ${name} (${reasonOf(error)}); it was told to launch again`,
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

/** Sends `launched` until fleet has taken it. */
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
      log.warn('the unit could not be told to start yet', { unit: name, reason });
      await clock.sleep(POLL_MS);
    }
  }
}

/** When fleet has not confirmed that it took `launched`: looks whether it did. */
async function unlessLaunched(name: string, reason: string, parts: RestartParts): Promise<void> {
  const seen = await observeIfPossible(name, parts);
  if (seen?.unit?.desiredState === 'launched') return;
  const [code, state] =
    seen === undefined
      ? ['outcome_unknown', 'MAY NOW BE STOPPED: it was told to stop, and perhaps']
      : ['unit_stopped', 'IS NOW STOPPED: it was told to stop, and'];
  throw new ActionError(code, `${name} ${state} could not be told to start again: ${reason}`, {
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

/** Whether fleet may have done what it was told, or not. */
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
  // A failure from before the restart is seen for a while; one that was not there before is believed at once.
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
      `${name} started ${fell + (upSince === undefined ? 0 : 1)} times and did not stay up`,
      last,
    );
  if (signal.aborted) {
    const [code, why] =
      signal.reason instanceof ActionError ? [signal.reason.code, signal.reason.message] : [];
    throw notStarted(
      code ?? 'timeout',
      `${name} was stopped and told to launch, and had to be left before it was seen to be up again: ${why ?? 'the time was up'}`,
      last,
    );
  }
  if (last.unit?.machineID === null) {
    const asked = writtenRequirements(last.unit);
    const why = asked.length === 0 ? '' : `; it asks for ${asked.join(', ')}`;
    throw notStarted(
      'unit_not_scheduled',
      `${name} IS NOW STOPPED: fleet has found no machine for it yet${why}`,
      last,
    );
  }
  const waited = seconds(clock.now() - launchedAt);
  throw notStarted('unit_not_started', `${name} was stopped, and is not up again after ${waited}`, last);
}

function notStarted(code: string, what: string, last: Observation): ActionError {
  return new ActionError(code, `${what}. Last seen: ${told(last)}`, {
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
  // A row of a machine that the unit has left lingers for a few seconds. Without a machine it is all there is to see.
  const own = states.find(({ machineID }) => machineID === unit?.machineID);
  return { unit, state: unit?.machineID === null ? states[0] : own };
}

/**
 * Undefined: fleet could not say just now.
 * @throws ActionError `unit_not_found` when the unit is gone
 */
async function observeIfPossible(name: string, parts: RestartParts): Promise<Observation | undefined> {
  const seen = await withTimeLimit(limitOf(parts.clock), async (signal) =>
    observe(name, { ...parts, signal }),
  ).catch((error: unknown) => {
    parts.log.debug('the unit could not be looked at', { reason: reasonOf(error) });
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
