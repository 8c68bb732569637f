import {
  ActionError,
  type Clock,
  type Cluster,
  type FleetTransport,
  type RequestLog,
} from '../../src/plugin.js';
import { hasFailed, isStopped, isUp, type Observation, told } from './observation.js';
import { isGlobal, requirements, unmetRequirements } from './scheduling.js';

export interface RestartParts {
  fleet: FleetTransport;
  clock: Clock;
  cluster: Cluster;
  /** Of the request: before the unit is touched it ends the restart, after that only the waiting. */
  signal: AbortSignal;
  log: RequestLog;
}

const POLL_MS = 500;
/** How long a unit must stay active to count as started: one that flaps is active now and then. */
const STEADY_MS = 2_000;
/** fleet shows a change after up to 7 s: until then a failure may be the one from before. */
const STALE_MS = 8_000;
/** How long the unit may still take to stop once nobody waits for it any more. */
const PATIENCE_MS = 5_000;
/** How long a start is waited for at least, when stopping has used up the time. */
const LEAST_MS = 3_000;
/** How long `launched` is tried to be sent. */
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
  const failure = await setLoaded(name, parts);
  const stopped = failure === undefined ? await untilStopped(name, end, parts) : undefined;
  const stoppedAt = clock.now();
  await launch(name, parts);
  if (failure !== undefined) throw failure;
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
  if (isGlobal(seen.unit)) {
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

/** @returns what went wrong when it is not known whether the unit was told to stop */
async function setLoaded(name: string, { fleet, cluster }: RestartParts): Promise<ActionError | undefined> {
  // Not the request's signal: cut off in the middle, nobody would know whether the unit has to be launched again.
  const own = new AbortController();
  try {
    await fleet.setDesiredState(cluster, name, 'loaded', { signal: own.signal });
    return undefined;
  } catch (error) {
    if (error instanceof ActionError && error.code === 'outcome_unknown') return error;
    throw error;
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
async function launch(name: string, { fleet, cluster, clock, log }: RestartParts): Promise<void> {
  const end = clock.now() + LAUNCH_MS;
  const budget = new AbortController();
  const cancel = clock.after(LAUNCH_MS, () => budget.abort(new Error('no time left')));
  try {
    for (;;) {
      try {
        return await fleet.setDesiredState(cluster, name, 'launched', { signal: budget.signal });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        if (clock.now() + POLL_MS >= end) {
          throw new ActionError(
            'unit_stopped',
            `${name} IS NOW STOPPED: it was told to stop, and could not be told to start again: ${reason}`,
            {
              cause: error,
            },
          );
        }
        log.warn('the unit could not be told to start yet', { unit: name, reason });
        await clock.sleep(POLL_MS);
      }
    }
  } finally {
    cancel();
  }
}

async function untilUp(
  name: string,
  end: number,
  stopped: Observation,
  parts: RestartParts,
): Promise<Observation> {
  const { clock, signal } = parts;
  const launchedAt = clock.now();
  const latest = Math.max(end, launchedAt + LEAST_MS);
  // A failure from before the restart is seen for a while; one that was not there before is believed at once.
  const believedAt = stopped.state?.systemdActiveState === 'failed' ? launchedAt + STALE_MS : launchedAt;
  let upSince: number | undefined;
  let fell = 0;
  let last = stopped;
  while (clock.now() < latest || upSince !== undefined) {
    last = (await observeIfPossible(name, parts)) ?? last;
    if (isUp(last)) {
      upSince ??= clock.now();
      if (clock.now() - upSince >= STEADY_MS) return last;
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
  if (signal.aborted)
    throw notStarted(
      'timeout',
      `The time was up before ${name} was seen to be up again; it was stopped and told to launch`,
      last,
    );
  if (last.unit?.machineID === null) {
    const asked = requirements(last.unit);
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
  // A row of a machine that the unit has left lingers for a few seconds.
  const own = states.find(({ machineID }) => machineID === unit?.machineID) ?? states[0];
  return { unit, state: own };
}

/** Undefined: fleet could not say just now. */
async function observeIfPossible(name: string, parts: RestartParts): Promise<Observation | undefined> {
  const own = new AbortController();
  const cancel = parts.clock.after(PATIENCE_MS, () => own.abort(new Error('no answer')));
  try {
    return await observe(name, { ...parts, signal: own.signal });
  } catch (error) {
    parts.log.debug('the unit could not be looked at', {
      reason: error instanceof Error ? error.message : String(error),
    });
    return undefined;
  } finally {
    cancel();
  }
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
