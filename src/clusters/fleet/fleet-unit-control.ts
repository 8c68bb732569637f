import { ActionError } from '../../api/action-error.js';
import { DESIRED_STATES } from '../../api/fleet-transport.js';
import type { DesiredState, FleetTransport, Machine, Unit, UnitState } from '../../api/fleet-transport.js';
import { isTemplateName } from '../../api/grammar.js';
import { mapLimited } from '../../api/map-limited.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import { withTimeLimit } from '../../api/time-limit.js';
import type {
  ChangeRequest,
  PutOrder,
  UnitChange,
  UnitOrder,
  UnitPut,
  UnitVerb,
} from '../../api/unit-control.js';
import { unitFileHash } from '../../api/unit-file.js';
import { isGlobalUnit } from '../../api/unit-requirements.js';
import type { Clock } from '../../lib/clock.js';
import { reasonOf } from '../../lib/errors.js';
import { allMade, requireStartable } from '../unit-changes.js';
import { readBootAge } from '../systemd/machine-requests.js';
import type { AgedMachine } from '../systemd/once-on-machines.js';
import { changeOn } from '../systemd/unit-verbs.js';
import { type FleetUnitFile, readFleetUnitFile, replacedBy } from './file-check.js';
import { conditionOn, hasArrived, mayRun, type Shown } from './fleet-evidence.js';

export interface FleetUnitControlOptions {
  fleet: FleetTransport;
  shell: RemoteShell;
  clock: Clock;
}

/** The orders of fleet. `stop` leaves the unit on its machine, as fleetctl does. */
const ORDERS = {
  start: 'launched',
  load: 'loaded',
  stop: 'loaded',
  unload: 'inactive',
} as const satisfies Partial<Record<UnitVerb, DesiredState>>;

const POLL_MS = 500;
/** The time limit of one call of fleet's API; the next one uses another host. */
const CALL_MS = 3_000;
/** fleet may show a crash, or the end of an earlier run, so late, in milliseconds. */
const SETTLE_MS = 7_000;
/** How long to wait for what fleet makes of an order, in milliseconds. */
const WAIT_MS = 60_000;
/** What is left for the reply, in milliseconds. */
const RESERVE_MS = 1_500;
const AT_ONCE = 64;
/** How long it may take to put a unit back as it was, in milliseconds. */
const TAKE_BACK_MS = 10_000;

/**
 * Changes units of fleet clusters: by orders to fleet, which are proven by the states that its machines report, and, where fleet has no
 * such verb, by systemctl on the machines that have the unit.
 */
export class FleetUnitControl {
  readonly #options: FleetUnitControlOptions;

  constructor(options: FleetUnitControlOptions) {
    this.#options = options;
  }

  async change(request: ChangeRequest, order: UnitOrder): Promise<UnitChange[]> {
    const { unit, verb } = order;
    if (verb === 'enable' || verb === 'disable')
      throw new ActionError(
        'unsupported_by_cluster',
        `${unit} was not changed: fleet starts the units whose desired state is launched, so none is ${verb}d: start or stop it instead`,
      );
    const changes = isOrder(verb)
      ? await this.#order(request, order, ORDERS[verb])
      : await this.#onMachines(request, order);
    return allMade(order, changes);
  }

  async put(request: ChangeRequest, order: PutOrder): Promise<UnitPut[]> {
    if (order.machines !== undefined)
      throw new ActionError(
        'unsupported_by_cluster',
        'Nothing was changed: fleet chooses the machines of a unit itself, by the section [X-Fleet] of its file, so machine_ids cannot name them',
      );
    requireStartable(order);
    const { fleet } = this.#options;
    const { cluster, signal } = request;
    // All are read before the first one is written.
    const files = order.files.map(readFleetUnitFile);
    const present = await mapLimited(order.files, AT_ONCE, async ({ unit }) =>
      fleet.unit(cluster, unit, { signal }),
    );
    const puts: UnitPut[] = [];
    for (const [index, file] of files.entries()) {
      const put = await this.#putOrFailed(request, order, file, present[index]);
      puts.push(put);
      // The others may need it.
      if (put.error !== null) break;
    }
    return allMade({ unit: order.files.map(({ unit }) => unit).join(', '), verb: 'put' }, puts);
  }

  async destroy(request: ChangeRequest, order: Pick<UnitOrder, 'unit' | 'machines' | 'timeoutMs'>) {
    const { fleet, clock } = this.#options;
    const { cluster, signal, repeated } = request;
    const { unit: name, machines, timeoutMs = WAIT_MS } = order;
    if (machines !== undefined)
      throw new ActionError(
        'unsupported_by_cluster',
        `${name} was not changed: a unit of a fleet cluster is removed as a whole, so a change cannot name machines`,
      );
    const unit = await fleet.unit(cluster, name, { signal });
    if (unit === undefined && !repeated)
      throw new ActionError('unit_not_found', `The cluster has no unit ${name}: nothing was changed`);
    if (unit !== undefined && repeated)
      throw new ActionError(
        'outcome_unknown',
        `A worker may have removed ${name} for an earlier delivery of the request, and somebody made it again. It is not removed again`,
      );
    const rowsNow = async () => fleet.unitStates(cluster, { unitName: name, signal });
    const before = await rowsNow();
    const begun = clock.now();
    if (unit !== undefined) await fleet.destroyUnit(cluster, name, { signal });
    const until = Math.min(begun + timeoutMs, request.deadline - RESERVE_MS);
    let rows = before;
    while (rows.some(({ systemdActiveState }) => mayRun(systemdActiveState))) {
      if (clock.now() >= until || signal.aborted) break;
      await clock.sleep(POLL_MS);
      rows = await rowsNow().catch(() => rows);
    }
    const runs = rows.filter(({ systemdActiveState }) => mayRun(systemdActiveState));
    const gone: Unit = unit ?? { name, options: [], desiredState: null, currentState: null, machineID: null };
    const ids = new Set<string | null>(before.flatMap(({ machineID }) => machineID ?? []));
    if (ids.size === 0) ids.add(null);
    const tookMs = clock.now() - begun;
    const changes = [...ids].map((id): UnitChange => {
      const runsOn = runs.some(({ machineID }) => machineID === id);
      const wasUp = before.some((row) => row.machineID === id && mayRun(row.systemdActiveState));
      const did = wasUp && !runsOn ? 'stopped and removed' : 'removed';
      return {
        machine_id: id,
        host: null,
        did: unit === undefined ? 'nothing' : did,
        before: conditionOn({ unit: gone, rows: before }, id),
        after: conditionOn({ unit: { ...gone, desiredState: null }, rows }, id),
        took_ms: tookMs,
        error: runsOn ? failureOf(name, 'stop', 'no', tookMs) : null,
      };
    });
    return allMade({ unit: name, verb: 'destroy' }, changes);
  }

  async #putOrFailed(
    request: ChangeRequest,
    order: PutOrder,
    file: FleetUnitFile,
    present: Unit | undefined,
  ): Promise<UnitPut> {
    try {
      return await this.#putOne(request, order, file, present);
    } catch (error) {
      const code = error instanceof ActionError ? error.code : 'outcome_unknown';
      return {
        unit: file.unit,
        machine_id: present?.machineID ?? null,
        host: null,
        did: 'nothing',
        before: null,
        after: null,
        took_ms: 0,
        error: { code, message: reasonOf(error) },
        ...replacedBy(file, present),
        warnings: file.warnings,
      };
    }
  }

  async #putOne(
    request: ChangeRequest,
    { activate, dryRun = false, timeoutMs = WAIT_MS, settleMs = 0 }: PutOrder,
    file: FleetUnitFile,
    present: Unit | undefined,
  ): Promise<UnitPut> {
    const { fleet, clock } = this.#options;
    const { cluster, signal, repeated } = request;
    const { unit: name, options } = file;
    const isSame = present !== undefined && unitFileHash(present.options) === unitFileHash(options);
    const kept = isDesired(present?.desiredState) ? present.desiredState : 'inactive';
    const state: DesiredState = activate === 'start' && !isTemplateName(name) ? 'launched' : kept;
    const planned: UnitPut = {
      unit: name,
      machine_id: present?.machineID ?? null,
      host: null,
      did: present === undefined ? 'created' : isSame ? 'nothing' : 'replaced',
      before: null,
      after: null,
      took_ms: 0,
      error: null,
      ...replacedBy(file, present),
      warnings: file.warnings,
    };
    const isKept = isSame && state === kept;
    if (dryRun) return planned;
    if (repeated && !isKept)
      return {
        ...planned,
        did: 'nothing',
        error: {
          code: 'outcome_unknown',
          message: `A worker may have written ${name} for an earlier delivery of the request, and it is not as ordered: it was not written, or somebody has changed it since. It is not written again`,
        },
      };
    const before: Shown = {
      unit: present ?? { name, options, desiredState: null, currentState: null, machineID: null },
      rows: await fleet.unitStates(cluster, { unitName: name, signal }),
    };
    // An earlier delivery may have written it and not waited: then it is not known yet whether the unit runs.
    if (isKept && !repeated) {
      const condition = conditionOn(before, before.unit.machineID);
      return { ...planned, before: condition, after: condition };
    }
    const begun = clock.now();
    if (isSame && !isKept) await fleet.setDesiredState(cluster, name, state, { signal });
    if (!isSame) await fleet.putUnit(cluster, { name, desiredState: state, options }, { signal });
    const until = Math.min(begun + timeoutMs, request.deadline - RESERVE_MS);
    const { seen, how } = await this.#await(request, {
      name,
      state,
      before: { ...before, rows: [] },
      from: undefined,
      until,
      settleMs,
    });
    const id = seen.unit.machineID;
    const made: UnitPut = {
      ...planned,
      machine_id: id,
      before: present === undefined ? null : conditionOn(before, present.machineID),
      after: conditionOn(seen, id),
      took_ms: clock.now() - begun,
    };
    if (how === 'yes') return made;
    const failure = failureOf(name, state === 'launched' ? 'start' : 'load', how, clock.now() - begun);
    if (state !== 'launched' || isSame) return { ...made, error: failure };
    return { ...made, ...(await this.#takeBack(request, name, present, failure)) };
  }

  /** Puts a unit back as it was, as it does not run with its new file. */
  async #takeBack(
    { cluster }: ChangeRequest,
    name: string,
    present: Unit | undefined,
    failure: { code: string; message: string },
  ): Promise<Pick<UnitPut, 'did' | 'error'>> {
    const { fleet, clock } = this.#options;
    const limit = { ms: TAKE_BACK_MS, message: 'fleet did not respond', clock };
    try {
      await withTimeLimit(limit, async (signal) => {
        if (present === undefined) await fleet.destroyUnit(cluster, name, { signal });
        else {
          const desiredState = isDesired(present.desiredState) ? present.desiredState : 'inactive';
          await fleet.putUnit(cluster, { name, desiredState, options: present.options }, { signal });
        }
      });
      const text = `${failure.message} with its new file, so it is as before again`;
      return { did: 'returned', error: { code: failure.code, message: text } };
    } catch (error) {
      const text = `${failure.message} with its new file, and the old one could not be put back: ${reasonOf(error)}`;
      return { did: 'replaced', error: { code: failure.code, message: text } };
    }
  }

  async #onMachines(request: ChangeRequest, order: UnitOrder): Promise<UnitChange[]> {
    const { shell, fleet } = this.#options;
    const { cluster, signal } = request;
    const [{ rows }, machines] = await Promise.all([
      this.#shown(request, order.unit),
      fleet.machines(cluster, { signal, warn: request.warn }),
    ]);
    if (order.machines === undefined) await fleet.incompleteness(cluster, { signal, warn: request.warn });
    const chosen = chosenMachines(order, rows, machines);
    const aged = await mapLimited(chosen, AT_ONCE, async (machine): Promise<AgedMachine | UnitChange> => {
      try {
        return { machine, age: await readBootAge(shell, machine.primaryIP ?? '', signal) };
      } catch (error) {
        signal.throwIfAborted();
        return notAsked(machine, error);
      }
    });
    const asked = aged.flatMap((each) => ('age' in each ? [each] : []));
    const changed = await changeOn(this.#options, request, order, asked);
    return [...changed, ...aged.flatMap((each) => ('age' in each ? [] : [each]))];
  }

  async #order(request: ChangeRequest, order: UnitOrder, wanted: DesiredState): Promise<UnitChange[]> {
    const { fleet, clock } = this.#options;
    const { cluster, signal, repeated, warn } = request;
    const { unit: name, verb, machines, timeoutMs = WAIT_MS, settleMs = 0 } = order;
    if (machines !== undefined)
      throw new ActionError(
        'unsupported_by_cluster',
        `${name} was not changed: fleet chooses the machines of a unit itself, so a change cannot name them`,
      );
    const before = await this.#shown(request, name);
    const { desiredState } = before.unit;
    if (isGlobalUnit(before.unit)) await fleet.incompleteness(cluster, { signal, warn });
    // What is not even loaded is stopped; to load it is another verb.
    const isDone = desiredState === wanted || (verb === 'stop' && desiredState === 'inactive');
    if (repeated && !isDone)
      throw new ActionError(
        'outcome_unknown',
        `A worker may have begun this change of ${name} for an earlier delivery of the request. Its desired state is ${desiredState} now: it was not made, or somebody has changed it since. It is not made again`,
      );
    signal.throwIfAborted();
    const begun = clock.now();
    let from: string | undefined;
    const confirmedBy = (host: string) => (from = host);
    if (!isDone) await fleet.setDesiredState(cluster, name, wanted, { signal, confirmedBy });
    const until = Math.min(begun + timeoutMs, request.deadline - RESERVE_MS);
    const state = isDone ? desiredState : wanted;
    const end = await this.#await(request, { name, state, before, from, until, settleMs });
    return this.#report(order, { before, end, isDone, tookMs: clock.now() - begun });
  }

  /** Waits until the cluster shows what was ordered. */
  async #await(
    request: ChangeRequest,
    goal: {
      name: string;
      state: DesiredState;
      before: Shown;
      from: string | undefined;
      until: number;
      settleMs: number;
    },
  ): Promise<{ seen: Shown; how: ReturnType<typeof hasArrived> }> {
    const { clock } = this.#options;
    const { name, state, before, from, until, settleMs } = goal;
    const begun = clock.now();
    let seen = before;
    let arrivedAt: number | undefined;
    for (;;) {
      const look = await this.#look(request, name, state, from);
      if (look !== undefined) seen = look;
      const machines = isGlobalUnit(seen.unit) ? await this.#machines(request) : [];
      const how = look && hasArrived(look, { state, before, machines, sinceMs: clock.now() - begun });
      if (how === 'failed') return { seen, how };
      if (how !== 'yes') arrivedAt = undefined;
      else {
        arrivedAt ??= clock.now();
        if (state !== 'launched' || clock.now() - arrivedAt >= Math.max(settleMs, SETTLE_MS))
          return { seen, how };
      }
      if (clock.now() >= until || request.signal.aborted) return { seen, how: how ?? 'no' };
      await clock.sleep(POLL_MS);
    }
  }

  #report(
    { unit, verb }: UnitOrder,
    {
      before,
      end: { seen, how },
      isDone,
      tookMs,
    }: {
      before: Shown;
      end: { seen: Shown; how: ReturnType<typeof hasArrived> };
      isDone: boolean;
      tookMs: number;
    },
  ): UnitChange[] {
    const ids = new Set<string | null>(
      [...before.rows, ...seen.rows].flatMap(({ machineID }) => machineID ?? []),
    );
    if (seen.unit.machineID !== null) ids.add(seen.unit.machineID);
    if (ids.size === 0) ids.add(null);
    const isLeftFailed = isDone && verb === 'start' && how === 'failed';
    const error = how === 'yes' ? null : isLeftFailed ? leftFailed(unit) : failureOf(unit, verb, how, tookMs);
    return [...ids].map((id) => {
      const [was, is] = [conditionOn(before, id), conditionOn(seen, id)];
      const wasUp = was !== null && mayRun(was.active);
      const isSame = verb === 'start' ? wasUp : verb === 'load' || verb === 'unload' ? isDone : !wasUp;
      const did = isDone && (isSame || isLeftFailed) ? 'nothing' : DONE[verb];
      return { machine_id: id, host: null, did: did ?? verb, before: was, after: is, took_ms: tookMs, error };
    });
  }

  async #machines({ cluster, signal }: ChangeRequest): Promise<readonly Machine[]> {
    try {
      return await this.#options.fleet.machines(cluster, { signal, warn: () => {} });
    } catch {
      return [];
    }
  }

  /** @throws ActionError `unit_not_found` */
  async #shown({ cluster, signal }: ChangeRequest, name: string): Promise<Shown> {
    const { fleet } = this.#options;
    const [unit, rows] = await Promise.all([
      fleet.unit(cluster, name, { signal }),
      fleet.unitStates(cluster, { unitName: name, signal }),
    ]);
    if (unit === undefined)
      throw new ActionError('unit_not_found', `The cluster has no unit ${name}: nothing was changed`);
    return { unit, rows };
  }

  /** What a host shows that has got the order; undefined when none could be asked. */
  async #look(
    { cluster, log }: ChangeRequest,
    name: string,
    state: DesiredState,
    confirmed: string | undefined,
  ): Promise<Shown | undefined> {
    const { fleet, clock } = this.#options;
    const limit = { ms: CALL_MS, message: `fleet did not respond within ${CALL_MS} ms`, clock };
    try {
      return await withTimeLimit(limit, async (signal) => {
        let from: string | undefined;
        const unit = await fleet.unit(cluster, name, {
          signal,
          accepts: (each, host) => {
            const isAccepted = each?.desiredState === state || host === confirmed;
            if (isAccepted) from = host;
            return isAccepted;
          },
        });
        if (unit === undefined) return undefined;
        return { unit, rows: await fleet.unitStates(cluster, { unitName: name, signal, from }) };
      });
    } catch (error) {
      log.debug('unit state not available', { reason: reasonOf(error) });
      return undefined;
    }
  }
}

const DONE: Partial<Record<UnitVerb, string>> = {
  start: 'started',
  stop: 'stopped',
  load: 'loaded',
  unload: 'unloaded',
};

function isDesired(state: string | null | undefined): state is DesiredState {
  return DESIRED_STATES.some((each) => each === state);
}

function isOrder(verb: UnitVerb): verb is keyof typeof ORDERS {
  return verb in ORDERS;
}

function chosenMachines(
  { unit, machines: named }: UnitOrder,
  rows: readonly UnitState[],
  machines: readonly Machine[],
): Machine[] {
  const having = new Set(rows.flatMap(({ machineID }) => machineID ?? []));
  const wanted = named === undefined ? having : new Set(named);
  const missing = [...wanted].filter((id) => !machines.some((machine) => machine.id === id));
  if (named !== undefined && missing.length > 0)
    throw new ActionError(
      'machine_not_found',
      `fleet lists no machine ${missing.join(', ')}: nothing was changed`,
      { details: { machine_ids: missing } },
    );
  const chosen = machines.filter(({ id }) => wanted.has(id));
  if (chosen.length === 0)
    throw new ActionError('unit_not_scheduled', `fleet shows ${unit} on no machine: nothing was changed`);
  return chosen;
}

function notAsked({ id, primaryIP }: Machine, error: unknown): UnitChange {
  const code = error instanceof ActionError ? error.code : 'command_failed';
  return {
    machine_id: id,
    host: primaryIP,
    did: 'nothing',
    before: null,
    after: null,
    took_ms: 0,
    error: { code, message: reasonOf(error) },
  };
}

/** fleet does not start a unit again that it has launched already. */
function leftFailed(unit: string): NonNullable<UnitChange['error']> {
  return {
    code: 'unit_failed',
    message: `${unit} has failed, and fleet has launched it already, so it does not start it again: restart it`,
  };
}

function failureOf(
  unit: string,
  verb: UnitVerb,
  how: 'no' | 'failed' | undefined,
  tookMs: number,
): NonNullable<UnitChange['error']> {
  const within = `within ${(tookMs / 1_000).toFixed(1)} s`;
  if (how === 'failed') return { code: 'unit_failed', message: `${unit} failed when fleet started it` };
  if (verb === 'start')
    return { code: 'unit_not_started', message: `fleet did not show ${unit} to be up ${within}` };
  if (verb === 'load')
    return { code: 'unit_not_scheduled', message: `fleet did not load ${unit} to a machine ${within}` };
  return { code: 'unit_did_not_stop', message: `fleet did not show ${unit} to be stopped ${within}` };
}
