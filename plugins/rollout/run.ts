import {
  ActionError,
  type ActionRequest,
  type Actions,
  type Clock,
  type Cluster,
  type FleetTransport,
  type UnitCondition,
  type UnitPut,
  withTimeLimit,
} from '../../src/plugin.js';
import { isUp, type Operation, type Plan, type PlannedTarget } from './plan.js';
import { type StopReason, Stops } from './stops.js';

/** What came of one target. */
export interface TargetResult {
  unit: string;
  machine_id: string | null;
  /** Counted from 1; 0: nothing was to be done. */
  batch: number;
  /** When the plan was made. */
  states: string[];
  file_hash: string | null;
  status: 'planned' | 'done' | 'unchanged' | 'failed' | 'not_tried';
  /** As the action of the operation says. */
  did: string | null;
  before: UnitCondition | null;
  after: UnitCondition | null;
  took_ms: number;
  error: { code: string; message: string } | null;
}

/** Why a rollout has ended. */
export type End = 'completed' | 'max_failures' | StopReason;

export interface RunOptions {
  operation: Operation;
  text: string | undefined;
  pauseMs: number;
  settleMs: number;
  waitMs: number;
  maxFailures: number;
  /** Whether machines can be named to the actions. */
  namesMachines: boolean;
  /** Told what a new file is accepted with, once for each sentence. */
  warn: (text: string) => void;
}

interface Ports {
  actions: Pick<Actions, 'call'>;
  fleet: Pick<FleetTransport, 'unitStates'>;
  clock: Clock;
}

type Request = Pick<ActionRequest<unknown, Cluster>, 'cluster' | 'signal' | 'drain' | 'deadline'>;

/** A rollout while it runs. */
interface Rollout {
  request: Request;
  options: RunOptions;
  ports: Ports;
  stops: Stops;
}

/** What a batch needs besides its settling and waits, in milliseconds. */
const ASIDE_MS = 3_000;
const LOOK_MS = 10_000;
const SETTLE_AGAIN_MS = 3_000;

/**
 * Carries out a plan, batch by batch, until too much has failed, the time is up, or the service stops. The batch that runs then comes to
 * its end, unless the answer would be too late: what it has not reported is unknown. Never rejects.
 */
export async function runPlan(
  plan: Plan,
  request: Request,
  options: RunOptions,
  ports: Ports,
): Promise<{ end: End; targets: TargetResult[]; leftStopped: string[] }> {
  const stops = new Stops(request, ports.clock);
  try {
    return await batches(plan, { request, options, ports, stops });
  } finally {
    stops.close();
  }
}

async function batches(
  plan: Plan,
  rollout: Rollout,
): Promise<{ end: End; targets: TargetResult[]; leftStopped: string[] }> {
  const { options, ports, stops } = rollout;
  const results = new Map<PlannedTarget, TargetResult>();
  let end: End = 'completed';
  let longestMs = options.settleMs + ASIDE_MS;
  for (let batch = 1; batch <= plan.batches; batch++) {
    const pauseMs = batch === 1 ? 0 : options.pauseMs;
    let stopped = stopReason(rollout, pauseMs + longestMs);
    if (stopped === undefined && pauseMs > 0) {
      await paused(pauseMs, rollout);
      stopped = stopReason(rollout, longestMs);
    }
    if (stopped !== undefined) {
      end = stopped;
      break;
    }
    const begun = ports.clock.now();
    const due = plan.targets.filter((target) => target.batch === batch);
    for (const [target, result] of await runBatch(due, rollout)) results.set(target, result);
    longestMs = Math.max(longestMs, ports.clock.now() - begun);
    const failures = [...results.values()].filter(({ status }) => status === 'failed').length;
    if (failures > options.maxFailures) {
      // What the stop has cut off counts as failed.
      end =
        (rollout.request.signal.aborted || stops.late.aborted ? stops.reason : undefined) ?? 'max_failures';
      break;
    }
  }
  // The last batch too may have been cut off before it began.
  if (end === 'completed' && [...results.values()].some(({ status }) => status === 'not_tried'))
    end = stops.reason ?? end;
  const targets = plan.targets.map(
    (target) => results.get(target) ?? newResult(target, target.batch === 0 ? 'unchanged' : 'not_tried'),
  );
  const leftStopped = options.operation === 'stop' ? [] : targets.filter(isLeftStopped).map(nameOf);
  return { end, targets, leftStopped };
}

/** With the state that the plan has seen. */
export function newResult(
  { unit, machineID, batch, states, hash }: PlannedTarget,
  status: TargetResult['status'],
): TargetResult {
  return {
    unit,
    machine_id: machineID,
    batch,
    states: [...states],
    file_hash: hash,
    status,
    did: null,
    before: states.length === 0 ? null : shown(states.find(isUp) ?? states[0]),
    after: null,
    took_ms: 0,
    error: null,
  };
}

/** A pause that a stop ends. */
async function paused(ms: number, { stops, ports }: Rollout): Promise<void> {
  await ports.clock.sleep(ms, { signal: stops.stopping }).catch(() => undefined);
}

/**
 * Why the next batch must not begin; undefined: it may.
 * @param needsMs how long it takes at least
 */
function stopReason({ request, ports, stops }: Rollout, needsMs: number): StopReason | undefined {
  return stops.reason ?? (request.deadline - ports.clock.now() < needsMs ? 'deadline' : undefined);
}

async function runBatch(
  due: readonly PlannedTarget[],
  rollout: Rollout,
): Promise<Map<PlannedTarget, TargetResult>> {
  const byUnit = grouped(due, ({ unit }) => unit);
  // The targets of one unit are one call: a unit has one change at a time.
  const outcomes = await Promise.all(
    [...byUnit].map(async ([unit, targets]) => changeOf(unit, targets, rollout)),
  );
  const results = new Map(outcomes.flat());
  if (rollout.options.operation === 'stop') return results;
  await gate(results, rollout);
  const down = [...results].filter(([, result]) => isLeftStopped(result));
  await startAgain(down, rollout);
  return results;
}

/** The change of one unit on its machines in this batch. */
async function changeOf(
  unit: string,
  targets: readonly PlannedTarget[],
  { request: { signal }, options, ports: { actions, clock }, stops }: Rollout,
): Promise<[PlannedTarget, TargetResult][]> {
  const begun = clock.now();
  const machines = targets.flatMap(({ machineID }) => machineID ?? []);
  const [action, parameters] = callOf(unit, machines, options);
  let changes: readonly Partial<UnitPut>[] = [];
  let failure = { code: 'outcome_unknown', message: `${action} did not say what came of it` };
  try {
    changes = changesIn(await unlessLate(actions.call(action, parameters), stops));
  } catch (error) {
    if (signal.aborted && hasNotBegun(error, signal))
      return targets.map((target) => [target, newResult(target, 'not_tried')]);
    failure =
      error instanceof ActionError
        ? { code: error.code, message: error.message }
        : { code: 'internal', message: 'the action failed unexpectedly' };
    changes = changesIn(error instanceof ActionError ? error.details : undefined);
  }
  for (const { warnings = [] } of changes) warnings.forEach(options.warn);
  return targets.map((target) => {
    const own = options.namesMachines
      ? changes.find(({ machine_id: id }) => id === target.machineID)
      : (changes.find(({ error }) => error !== null && error !== undefined) ??
        changes.find(({ did }) => did !== 'nothing') ??
        changes[0]);
    const error = own === undefined ? failure : (own.error ?? null);
    const did = own?.did ?? null;
    const result = newResult(target, error !== null ? 'failed' : did === 'nothing' ? 'unchanged' : 'done');
    const { before, after = null, took_ms = clock.now() - begun } = own ?? {};
    return [target, { ...result, did, before: before ?? result.before, after, took_ms, error }];
  });
}

/** @throws the reason of `late`: what came of it is not waited for any more */
async function unlessLate<T>(running: Promise<T>, { late }: Stops): Promise<T> {
  let give = () => {};
  const tooLate = new Promise<never>((_, reject) => {
    give = () => reject(late.reason);
    if (late.aborted) give();
    else late.addEventListener('abort', give, { once: true });
  });
  try {
    return await Promise.race([running, tooLate]);
  } finally {
    late.removeEventListener('abort', give);
  }
}

/** These two codes say so of a change. */
function hasNotBegun(error: unknown, signal: AbortSignal): boolean {
  return (
    error === signal.reason ||
    (error instanceof ActionError && (error.code === 'timeout' || error.code === 'cancelled'))
  );
}

function callOf(
  unit: string,
  machines: readonly string[],
  { operation, text, settleMs, waitMs, namesMachines }: RunOptions,
): [action: string, parameters: object] {
  const named = { unit_name: unit, ...(namesMachines && machines.length > 0 && { machine_ids: machines }) };
  const wait_seconds = Math.ceil(waitMs / 1_000);
  const settle_seconds = Math.ceil(settleMs / 1_000);
  switch (operation) {
    case 'restart':
      return ['restart_unit', { ...named, format: 'structured', wait_seconds, settle_seconds }];
    case 'start':
      return ['start_unit', { ...named, wait_seconds, settle_seconds }];
    case 'stop':
      return ['stop_unit', { ...named, wait_seconds }];
    case 'reload':
      return ['reload_unit', named];
    default:
      return ['put_unit', { ...named, text, wait_seconds, settle_seconds }];
  }
}

function changesIn(result: unknown): readonly Partial<UnitPut>[] {
  const { changes } = typeof result === 'object' && result !== null ? (result as { changes?: unknown }) : {};
  return Array.isArray(changes) ? (changes as Partial<UnitPut>[]) : [];
}

/** What the cluster shows some seconds later counts too. */
async function gate(
  results: Map<PlannedTarget, TargetResult>,
  { request: { cluster }, ports: { fleet, clock }, stops }: Rollout,
): Promise<void> {
  const limit = { ms: LOOK_MS, message: 'The look after a batch took too long', clock, signal: stops.late };
  try {
    const states = await withTimeLimit(limit, async (signal) =>
      fleet.unitStates(cluster, { signal, all: true, warn: () => {} }),
    );
    for (const [target, result] of results) {
      const { unit, machineID } = target;
      const rows = states.filter(
        (row) => row.name === unit && (machineID === null || row.machineID === machineID),
      );
      const bad = rows.find(({ systemdActiveState: active }) => !isUp(active));
      // fleet's errors do not say it.
      if (result.status === 'failed') {
        const seen = bad ?? rows[0];
        result.after ??= shown(seen?.systemdActiveState, seen?.systemdSubState);
      }
      if (result.status !== 'done' || result.after?.active !== 'active') continue;
      if (bad === undefined) continue;
      result.status = 'failed';
      const state = `${bad.systemdActiveState}/${bad.systemdSubState}`;
      result.error = { code: 'unit_failed', message: `${unit} was active, and is ${state} after the batch` };
      result.after = { ...result.after, active: bad.systemdActiveState, sub: bad.systemdSubState };
    }
  } catch {
    // Each target was proven for itself; this look is one more.
  }
}

function shown(active: string | null = null, sub: string | null = null): UnitCondition {
  const nothing = { load: null, result: null, invocation_id: null, main_pid: null, restarts: null };
  return { ...nothing, active, sub, enabled: null, desired: null };
}

/** One more try for what was running and is not. */
async function startAgain(
  down: readonly (readonly [PlannedTarget, TargetResult])[],
  rollout: Rollout,
): Promise<void> {
  const byUnit = grouped(down, ([{ unit }]) => unit);
  await Promise.all(
    [...byUnit].map(async ([unit, own]) => {
      const targets = own.map(([target]) => target);
      // What was active for a moment may be gone in the next one.
      const settleMs = Math.max(rollout.options.settleMs, SETTLE_AGAIN_MS);
      const options = { ...rollout.options, settleMs, operation: 'start' } as const;
      const again = new Map(await changeOf(unit, targets, { ...rollout, options }));
      for (const [target, result] of own) {
        const { after, status } = again.get(target) ?? result;
        if (after !== null) result.after = after;
        if (result.error !== null && (status === 'done' || status === 'unchanged'))
          result.error = { ...result.error, message: `${result.error.message}. It was started again` };
      }
    }),
  );
}

function isLeftStopped({ before, after, status }: TargetResult): boolean {
  return status === 'failed' && isUp(before?.active) && !isUp(after?.active);
}

function nameOf({ unit, machine_id: id }: TargetResult): string {
  return id === null ? unit : `${unit} on ${id}`;
}

function grouped<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
