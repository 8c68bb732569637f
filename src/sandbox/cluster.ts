import { isDeepStrictEqual } from 'node:util';
import { isUnitName } from '../api/grammar.js';
import type { Clock } from '../lib/clock.js';
import { DESIRED_STATES, type DesiredState, type Machine } from '../api/fleet-transport.js';
import { isGlobalUnit, meetsRequirements, requirementsOf } from '../api/unit-requirements.js';
import type { Unit, UnitOption, UnitState } from '../api/fleet-transport.js';
import { isTemplate } from './scheduling.js';
import { launchedState, RESTARTING, STARTING, STOPPED, STOPPING } from './unit-behaviour.js';
import type { SystemdState, UnitBehaviour } from './unit-behaviour.js';
import { unitFileHash } from './unit-file.js';

/** An initial unit: it is in its desired state from the start. */
export interface SandboxUnit {
  name: string;
  /** A service that sleeps by default. */
  options?: UnitOption[];
  /** `launched` by default. */
  desiredState?: DesiredState;
  behaviour?: UnitBehaviour;
}

/** How long the cluster takes to show a change, in milliseconds. In a real cluster each step takes seconds. */
export interface ClusterDelays {
  /** Until fleet's `currentState` follows the desired state, and systemd begins to start or stop the unit. */
  change: number;
  /** From there until systemd has started or stopped the unit. */
  report: number;
  /** How long the state rows of a deleted unit remain. */
  linger: number;
}

export interface ClusterContents {
  clock: Pick<Clock, 'now'>;
  delays: ClusterDelays;
  machines: readonly Machine[];
  units: readonly SandboxUnit[];
}

/** What fleet lists of the cluster for some time after an outage of etcd. */
interface OutageAftermath {
  machines: number;
  states: number;
  until: number;
}

/** What the cluster shows of a unit, from a point in time on. */
interface Snapshot {
  from: number;
  currentState: DesiredState;
  machineID: string | null;
  rows: readonly UnitState[];
  /** systemd begins to start the unit at this time. */
  starts: boolean;
  flaps: boolean;
}

interface UnitRecord {
  readonly name: string;
  options: readonly UnitOption[];
  hash: string;
  /** Any text. A string that fleet does not know poisons the unit: fleet can no longer read it. */
  desiredState: string;
  /** The ids of the machines that the unit is scheduled to. */
  placed: readonly string[];
  current: Snapshot;
  /** Later snapshots, the earliest first. */
  upcoming: readonly Snapshot[];
  starts: number;
}

/**
 * The machines, units and unit states of a simulated fleet cluster, and how they change.
 *
 * It uses no timers: a change stores snapshots with their times, and every read compares those with the clock.
 */
export class ClusterState {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #delays: ClusterDelays;
  readonly #units = new Map<string, UnitRecord>();
  readonly #behaviours = new Map<string, UnitBehaviour>();
  /** The state rows of deleted units. */
  readonly #lingering = new Map<string, { rows: readonly UnitState[]; until: number }>();
  /** The number of units scheduled to each machine. */
  readonly #load = new Map<string, number>();
  #machines: readonly Machine[];
  #generated = 0;
  #aftermath: OutageAftermath = { machines: Infinity, states: Infinity, until: 0 };

  constructor({ clock, delays, machines, units }: ClusterContents) {
    this.#clock = clock;
    this.#delays = delays;
    this.#machines = sortedById(machines);
    this.addUnits(units);
  }

  /** Sorted by id, as fleet lists them. */
  get machines(): Machine[] {
    return structuredClone([...this.#machines]);
  }

  /**
   * Shows the cluster as fleet does for some time after an outage of etcd: only the first machines and the first states.
   * A launched unit without a state is shown as inactive, although it runs.
   * @param aftermath how many machines and states fleet lists, and for how many milliseconds
   */
  recover({ machines, states, lasts }: { machines: number; states: number; lasts: number }): void {
    this.#aftermath = { machines, states, until: this.#clock.now() + lasts };
  }

  /** The machines that fleet lists now. */
  listedMachines(): Machine[] {
    return this.#recovering() ? this.machines.slice(0, this.#aftermath.machines) : this.machines;
  }

  /** The units as fleet lists them now. */
  listedUnits(): Unit[] {
    if (!this.#recovering()) return this.units();
    const reported = new Set(this.listedStates().map(({ name }) => name));
    return this.units().map((unit) =>
      reported.has(unit.name) ? unit : { ...unit, currentState: 'inactive' as const },
    );
  }

  /** The state rows that fleet lists now. */
  listedStates(): UnitState[] {
    return this.#recovering() ? this.states().slice(0, this.#aftermath.states) : this.states();
  }

  /** Replaces the machines; units move away from machines that are removed. */
  setMachines(machines: readonly Machine[]): void {
    this.#machines = sortedById(machines);
    for (const record of this.#units.values()) {
      this.#settle(record);
      if (!isDeepStrictEqual(this.#place(record), record.placed)) this.#follow(record);
    }
  }

  /** Sets one metadata value of a machine; null removes it. Does nothing when there is no such machine. */
  setMetadata(machineID: string, key: string, value: string | null): void {
    const machines = this.machines;
    const machine = machines.find(({ id }) => id === machineID);
    if (machine === undefined) return;
    const others = Object.entries(machine.metadata).filter(([name]) => name !== key);
    machine.metadata = Object.fromEntries(value === null ? others : [...others, [key, value]]);
    this.setMachines(machines);
  }

  /** All units, sorted by name. Poisoned units are missing: fleet logs that it cannot read them, and continues. */
  units(): Unit[] {
    return [...this.#units.values()]
      .filter((record) => !isPoisoned(record))
      .map((record) => this.#unitOf(record))
      .toSorted((a, b) => compareText(a.name, b.name));
  }

  /** One unit; `poisoned` when fleet cannot read its desired state. */
  unit(name: string): Unit | 'poisoned' | undefined {
    const record = this.#units.get(name);
    if (record === undefined) return undefined;
    return isPoisoned(record) ? 'poisoned' : this.#unitOf(record);
  }

  /** All state rows, sorted by unit name and machine id, including the rows of deleted units that still remain. */
  states(): UnitState[] {
    const now = this.#clock.now();
    for (const [name, { until }] of this.#lingering) if (until <= now) this.#lingering.delete(name);
    return [
      ...[...this.#units.values()].flatMap((record) => this.#rowsOf(record)),
      ...[...this.#lingering.values()].flatMap(({ rows }) => rows),
    ].toSorted((a, b) => compareText(a.name, b.name) || compareText(a.machineID ?? '', b.machineID ?? ''));
  }

  /**
   * Adds units that are already in their desired state.
   * @param units the units, or the number of units to generate (`load-0001.service` and so on)
   * @returns their names
   */
  addUnits(units: number | readonly SandboxUnit[]): string[] {
    const list = typeof units === 'number' ? this.#generatedUnits(units) : units;
    for (const { name, options = SLEEP, desiredState = 'launched', behaviour } of list) {
      if (!isUnitName(name) || this.#units.has(name)) throw new TypeError(`cannot add the unit '${name}'`);
      if (behaviour !== undefined) this.behave(name, behaviour);
      const record = this.#newRecord(name, options, desiredState);
      this.#reschedule(record);
      record.current = this.#target(record, this.#clock.now());
    }
    return list.map(({ name }) => name);
  }

  /**
   * Creates a unit, replaces its options, or changes its desired state, as fleet does for a PUT. A missing field stays
   * unchanged; the default state of a new unit is `inactive`. The cluster shows the change after its delays.
   * @param changes.desiredState any text; one that fleet does not know poisons the unit
   */
  setUnit(name: string, changes: { options?: readonly UnitOption[]; desiredState?: string }): void {
    const known = this.#units.get(name);
    const record = known ?? this.#newRecord(name, changes.options ?? SLEEP, 'inactive');
    const { options = record.options, desiredState = record.desiredState } = changes;
    const hash = unitFileHash(options);
    if (known !== undefined && hash === record.hash && desiredState === record.desiredState) return;
    this.#settle(record);
    Object.assign(record, { options: structuredClone(options), hash, desiredState });
    this.#follow(record);
  }

  /** Overwrites the systemd state of a unit, for example to let it fail; on one machine, or on all that run it. */
  setState(name: string, state: Partial<Omit<UnitState, 'name'>>, machineID?: string): void {
    const record = this.#units.get(name);
    if (record === undefined) throw new TypeError(`there is no unit '${name}'`);
    this.#settle(record);
    const rows = record.current.rows.map((row) =>
      machineID === undefined || row.machineID === machineID ? { ...row, ...state } : row,
    );
    record.current = { ...record.current, rows, flaps: false };
    record.upcoming = [];
  }

  /** Deletes a unit, also a poisoned one; its state rows remain for the delay `linger`. @returns false: no such unit */
  removeUnit(name: string): boolean {
    const record = this.#units.get(name);
    if (record === undefined) return false;
    this.#lingering.set(name, {
      rows: this.#rowsOf(record),
      until: this.#clock.now() + this.#delays.linger,
    });
    this.#count(record.placed, -1);
    return this.#units.delete(name);
  }

  /** Sets how the unit with this name reacts to changes from now on; the unit need not exist yet. */
  behave(name: string, behaviour: UnitBehaviour | 'well'): void {
    if (behaviour === 'well') this.#behaviours.delete(name);
    else this.#behaviours.set(name, behaviour);
  }

  /** How often systemd has begun to start the unit since it was added. */
  starts(name: string): number {
    const record = this.#units.get(name);
    if (record === undefined) return 0;
    this.#settle(record);
    return record.starts;
  }

  /** Whether the unit keeps starting and failing while it is launched. */
  flaps(name: string): boolean {
    const record = this.#units.get(name);
    if (record === undefined) return false;
    this.#settle(record);
    return record.current.flaps;
  }

  #recovering(): boolean {
    return this.#clock.now() < this.#aftermath.until;
  }

  #generatedUnits(count: number): SandboxUnit[] {
    return Array.from({ length: count }, () => ({
      name: `load-${String(++this.#generated).padStart(4, '0')}.service`,
    }));
  }

  #newRecord(name: string, options: readonly UnitOption[], desiredState: string): UnitRecord {
    const now = this.#clock.now();
    const lingering = this.#lingering.get(name);
    this.#lingering.delete(name);
    // A unit that is created again shows the rows of the deleted one until it has its own.
    const rows = lingering !== undefined && lingering.until > now ? lingering.rows : [];
    const record: UnitRecord = {
      name,
      options: structuredClone(options),
      hash: unitFileHash(options),
      desiredState,
      placed: [],
      current: { ...NOWHERE, from: now, rows },
      upcoming: [],
      starts: 0,
    };
    this.#units.set(name, record);
    return record;
  }

  /** Plans the snapshots from the current one to the desired state. */
  #follow(record: UnitRecord): void {
    const now = this.#clock.now();
    const before = record.current;
    if (isPoisoned(record)) {
      this.#reschedule(record);
      record.upcoming = [{ ...NOWHERE, from: now + this.#delays.linger }];
    } else if (
      this.#behaviours.get(record.name) === 'never-stops' &&
      record.desiredState !== 'launched' &&
      before.rows.some(isUp)
    ) {
      record.upcoming = [];
    } else {
      this.#reschedule(record);
      record.upcoming = transition(before, this.#target(record, now), this.#delays);
    }
  }

  #reschedule(record: UnitRecord): void {
    const placed = this.#place(record);
    this.#count(record.placed, -1);
    this.#count(placed, 1);
    record.placed = placed;
  }

  #count(machineIDs: readonly string[], change: 1 | -1): void {
    for (const id of machineIDs) this.#load.set(id, (this.#load.get(id) ?? 0) + change);
  }

  #place(record: UnitRecord): string[] {
    const wanted = record.desiredState === 'loaded' || record.desiredState === 'launched';
    if (!wanted || isTemplate(record.name)) return [];
    if (this.#behaviours.get(record.name) === 'never-scheduled') return [];
    const requirements = requirementsOf(record);
    const able = this.#machines
      .filter((machine) => meetsRequirements(machine, requirements))
      .map(({ id }) => id);
    if (isGlobalUnit(record)) return able;
    const kept = record.placed.find((id) => able.includes(id));
    if (kept !== undefined) return [kept];
    const leastLoadedFirst = able.toSorted((a, b) => (this.#load.get(a) ?? 0) - (this.#load.get(b) ?? 0));
    return leastLoadedFirst.slice(0, 1);
  }

  /** The last snapshot of the change. */
  #target(record: UnitRecord, from: number): Snapshot {
    const { name, hash, desiredState, placed } = record;
    const [first] = placed;
    if (first === undefined) return { ...NOWHERE, from };
    const behaviour = this.#behaviours.get(name);
    const launched = desiredState === 'launched';
    const [active, sub] = launched ? launchedState(name, behaviour) : STOPPED;
    const global = isGlobalUnit(record);
    return {
      from,
      currentState: global ? 'inactive' : launched ? 'launched' : 'loaded',
      machineID: global ? null : first,
      rows: placed.map((machineID) => ({
        name,
        hash,
        machineID,
        systemdLoadState: 'loaded',
        systemdActiveState: active,
        systemdSubState: sub,
      })),
      starts: false,
      flaps: launched && behaviour === 'flaps',
    };
  }

  #settle(record: UnitRecord): void {
    const now = this.#clock.now();
    const due = record.upcoming.filter(({ from }) => from <= now);
    record.upcoming = record.upcoming.slice(due.length);
    record.current = due.at(-1) ?? record.current;
    record.starts += due.filter(({ starts }) => starts).length;
  }

  #unitOf(record: UnitRecord): Unit {
    this.#settle(record);
    const { name, desiredState, current } = record;
    return {
      name,
      options: record.options.map((option) => ({ ...option })),
      desiredState,
      currentState: current.currentState,
      machineID: current.machineID,
    };
  }

  #rowsOf(record: UnitRecord): readonly UnitState[] {
    this.#settle(record);
    const { rows, flaps, from } = record.current;
    if (!flaps) return rows;
    const turn = Math.floor((this.#clock.now() - from) / Math.max(1, this.#delays.change));
    return turn % 2 === 0 ? rows : rows.map((row) => withState(row, RESTARTING));
  }
}

const SLEEP: readonly UnitOption[] = [
  { section: 'Unit', name: 'Description', value: 'Sleeps' },
  { section: 'Service', name: 'ExecStart', value: '/usr/bin/sleep infinity' },
];

const NOWHERE = { currentState: 'inactive', machineID: null, rows: [], starts: false, flaps: false } as const;

/** The two steps of a change: systemd is starting or stopping the unit, then it has done so. */
function transition(before: Snapshot, after: Snapshot, { change, report }: ClusterDelays): Snapshot[] {
  const starting = after.rows.filter(
    (row) => row.systemdActiveState !== 'inactive' && !among(before.rows, row),
  );
  const goingUp = after.rows.map((row) => (starting.includes(row) ? withState(row, STARTING) : row));
  const goingDown = before.rows.map((row) =>
    isUp(row) && !among(after.rows, row) ? withState(row, STOPPING) : row,
  );
  const rows = starting.length > 0 || goingDown.length === 0 ? goingUp : goingDown;
  const changed = after.from + change;
  return [
    { ...after, from: changed, rows, flaps: false, starts: starting.length > 0 },
    { ...after, from: changed + report },
  ];
}

function among(rows: readonly UnitState[], row: UnitState): boolean {
  return rows.some((each) => isDeepStrictEqual(each, row));
}

function isUp(row: UnitState): boolean {
  return row.systemdActiveState === 'active' || row.systemdActiveState === 'activating';
}

function withState(row: UnitState, [active, sub]: SystemdState): UnitState {
  return { ...row, systemdActiveState: active, systemdSubState: sub };
}

function isPoisoned({ desiredState }: UnitRecord): boolean {
  return !DESIRED_STATES.some((state) => state === desiredState);
}

function sortedById(machines: readonly Machine[]): Machine[] {
  return structuredClone([...machines]).toSorted((a, b) => compareText(a.id, b.id));
}

/** Ordered by code unit, as Go's string comparison orders ASCII. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
