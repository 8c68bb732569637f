import { isDeepStrictEqual } from 'node:util';
import { isTemplateName, isUnitName } from '../api/grammar.js';
import type { Clock } from '../lib/clock.js';
import { DESIRED_STATES, type DesiredState, type Machine } from '../api/fleet-transport.js';
import { isGlobalUnit } from '../api/unit-requirements.js';
import type { Unit, UnitOption, UnitState } from '../api/fleet-transport.js';
import { unitFileHash } from '../api/unit-file.js';
import { EventQueue } from './event-queue.js';
import { FleetAgent, type Order } from './fleet-agent.js';
import type { SystemdState, UnitBehaviour } from './unit-behaviour.js';
import { type UnitEvent, UnitHistory } from './unit-history.js';
import { UnitPlacement } from './unit-placement.js';

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

/** The units of one machine as its systemd has them, and the time of the simulation. */
export interface MachineSystemd {
  options(name: string): readonly UnitOption[];
  /** Undefined: the machine does not have the unit. */
  state(name: string): SystemdState | undefined;
  /** How often it was started. */
  starts(name: string): number;
  restart(name: string): void;
  resetFailed(name: string): void;
  /** In milliseconds of the clock. */
  now(): number;
  runOn(steps: Generator<number, void>): void;
  runDue(): void;
}

/** What fleet lists of the cluster for some time after an outage of etcd. */
interface OutageAftermath {
  machines: number;
  states: number;
  until: number;
}

/** A unit in etcd. */
interface UnitRecord {
  readonly name: string;
  options: readonly UnitOption[];
  hash: string;
  /** Any text. A string that fleet does not know poisons the unit: fleet can no longer read it. */
  desiredState: string;
  /** The ids of the machines that the unit is scheduled to. */
  placed: readonly string[];
}

/**
 * A simulated fleet cluster: the units in etcd, the engine that schedules them, and the agents of the machines, which
 * run them and write down their states. It uses no timers: every read first runs what is due by then.
 */
export class ClusterState {
  readonly #delays: ClusterDelays;
  readonly #events: EventQueue;
  readonly #history = new UnitHistory();
  readonly #placement = new UnitPlacement();
  readonly #units = new Map<string, UnitRecord>();
  readonly #behaviours = new Map<string, UnitBehaviour>();
  /** By the id of their machine, in the order of those. */
  #agents: ReadonlyMap<string, FleetAgent> = new Map();
  #etcdOutages = 0;
  #generated = 0;
  #aftermath: OutageAftermath = { machines: Infinity, states: Infinity, until: 0 };

  constructor({ clock, delays, machines, units }: ClusterContents) {
    this.#delays = delays;
    this.#events = new EventQueue(clock);
    this.#agents = this.#agentsFor(machines);
    this.addUnits(units);
  }

  /** The machines that fleet lists, sorted by id. */
  get machines(): Machine[] {
    this.#events.runDue();
    return structuredClone(this.#listed());
  }

  /**
   * Shows the cluster as fleet does for some time after an outage of etcd: only the first machines and the first states.
   * A launched unit without a state is shown as inactive, although it runs.
   * @param aftermath how many machines and states fleet lists, and for how many milliseconds
   */
  recover({ machines, states, lasts }: { machines: number; states: number; lasts: number }): void {
    this.#aftermath = { machines, states, until: this.#events.now + lasts };
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
    this.#events.runDue();
    for (const [id, agent] of this.#agents)
      if (!machines.some((machine) => machine.id === id)) agent.powerOff();
    this.#agents = this.#agentsFor(machines);
    this.#events.after(this.#delays.change, () => this.#reschedule());
  }

  /** Sets one metadata value of a machine; null removes it. Does nothing when there is no such machine. */
  setMetadata(machineID: string, key: string, value: string | null): void {
    this.#events.runDue();
    const agent = this.#agents.get(machineID);
    if (agent === undefined) return;
    const others = Object.entries(agent.machine.metadata).filter(([name]) => name !== key);
    const metadata = Object.fromEntries(value === null ? others : [...others, [key, value]]);
    agent.machine = { ...agent.machine, metadata };
    this.#events.after(this.#delays.change, () => this.#reschedule());
  }

  /**
   * Simulates that a machine's agent is frozen, killed or cut off, which look the same to fleet: it carries out no
   * change, its state rows expire after 30 s, and after 26 s fleet lists the machine no longer and schedules its units
   * elsewhere. They run on all the same.
   * @returns a function that ends it: the agent writes its states, and does what it has missed
   */
  silenceAgent(machineID: string): () => void {
    const agent = this.#agentOf(machineID);
    agent.hinder('silent');
    this.#events.after(agent.untilUnlisted, () => this.#rescheduleSoon());
    return () => {
      this.#events.runDue();
      agent.unhinder('silent');
      this.#resume();
    };
  }

  /** Switches a machine off: it does not return, its units stop, but fleet notices that only when their rows have expired. */
  powerOff(machineID: string): void {
    this.silenceAgent(machineID);
    this.#agentOf(machineID).powerOff();
  }

  /**
   * Simulates that etcd is away: fleet's API fails, and nothing changes. State rows expire meanwhile, and are there
   * again when their agent writes them the next time, up to 24 s later.
   * @returns a function that ends it
   */
  loseEtcd(): () => void {
    this.#events.runDue();
    this.#etcdOutages++;
    for (const agent of this.#agents.values()) agent.hinder('no etcd');
    return () => {
      this.#events.runDue();
      if (--this.#etcdOutages > 0) return;
      for (const agent of this.#agents.values()) {
        agent.unhinder('no etcd');
        this.#events.after(agent.untilPresent, () => this.#rescheduleSoon());
      }
      this.#resume();
    };
  }

  get etcdIsAway(): boolean {
    return this.#etcdOutages > 0;
  }

  /** All units, sorted by name. Poisoned units are missing: fleet logs that it cannot read them, and continues. */
  units(): Unit[] {
    this.#events.runDue();
    return [...this.#units.values()]
      .filter((record) => !isPoisoned(record))
      .map((record) => this.#unitOf(record))
      .toSorted((a, b) => compareText(a.name, b.name));
  }

  /** One unit; `poisoned` when fleet cannot read its desired state. */
  unit(name: string): Unit | 'poisoned' | undefined {
    this.#events.runDue();
    const record = this.#units.get(name);
    if (record === undefined) return undefined;
    return isPoisoned(record) ? 'poisoned' : this.#unitOf(record);
  }

  /** All state rows, sorted by unit name and machine id, including the rows of deleted units that still remain. */
  states(): UnitState[] {
    this.#events.runDue();
    return [...this.#agents.values()]
      .flatMap((agent) => agent.unitNames.flatMap((name) => agent.row(name) ?? []))
      .toSorted((a, b) => compareText(a.name, b.name) || compareText(a.machineID ?? '', b.machineID ?? ''));
  }

  /**
   * Adds units that are already in their desired state.
   * @param units the units, or the number of units to generate (`load-0001.service` and so on)
   * @returns their names
   */
  addUnits(units: number | readonly SandboxUnit[]): string[] {
    this.#events.runDue();
    const list = typeof units === 'number' ? this.#generatedUnits(units) : units;
    for (const unit of list) {
      requireUnit(unit);
      const { name, options = SLEEP, desiredState = 'launched', behaviour } = unit;
      if (!isUnitName(name) || this.#units.has(name)) throw new TypeError(`cannot add the unit '${name}'`);
      if (behaviour !== undefined) this.behave(name, behaviour);
      const record = this.#newRecord(name, options, desiredState);
      this.#place(record);
      for (const id of record.placed) this.#agents.get(id)?.adopt(this.#orderOf(record));
    }
    return list.map(({ name }) => name);
  }

  /**
   * Creates a unit, replaces its options, or changes its desired state, as fleet does for a PUT. A missing field stays
   * unchanged; the default state of a new unit is `inactive`. The cluster shows the change after its delays.
   * @param changes.desiredState any text; one that fleet does not know poisons the unit
   */
  setUnit(name: string, changes: { options?: readonly UnitOption[]; desiredState?: string }): void {
    this.#events.runDue();
    const record = this.#units.get(name) ?? this.#newRecord(name, changes.options ?? SLEEP, 'inactive');
    const { options = record.options, desiredState = record.desiredState } = changes;
    Object.assign(record, { options: structuredClone(options), hash: unitFileHash(options), desiredState });
    const delay = isPoisoned(record) ? this.#delays.linger : this.#delays.change;
    this.#events.after(delay, () => this.#follow(record));
  }

  /** Overwrites the systemd state of a unit, for example to let it fail; on one machine, or on all that run it. */
  setState(name: string, state: Partial<Omit<UnitState, 'name'>>, machineID?: string): void {
    this.#events.runDue();
    if (!this.#units.has(name)) throw new TypeError(`there is no unit '${name}'`);
    for (const [id, agent] of this.#agents)
      if (machineID === undefined || machineID === id) agent.overwrite(name, state);
  }

  /** Deletes a unit, also a poisoned one; its state rows remain for the delay `linger`. @returns false: no such unit */
  removeUnit(name: string): boolean {
    this.#events.runDue();
    const record = this.#units.get(name);
    if (record === undefined) return false;
    this.#units.delete(name);
    this.#placement.moved(record.placed, []);
    this.#events.after(this.#delays.linger, () => {
      // A unit that was created again keeps the rows of the deleted one until it has its own.
      if (this.#units.has(name)) return;
      for (const agent of this.#agents.values()) agent.remove(name);
    });
    return true;
  }

  /** Sets how the unit with this name reacts to changes from now on; the unit need not exist yet. */
  behave(name: string, behaviour: UnitBehaviour | 'well'): void {
    if (behaviour === 'well') this.#behaviours.delete(name);
    else this.#behaviours.set(name, behaviour);
  }

  /** What really happened to the unit, oldest first, whatever fleet shows. Units that are added running have no start. */
  history(name: string): UnitEvent[] {
    this.#events.runDue();
    return this.#history.of(name);
  }

  /** The units that a machine has, as they really are there, sorted by name. */
  unitsOn(machineID: string): { name: string; options: readonly UnitOption[]; systemd: SystemdState }[] {
    this.#events.runDue();
    const units = this.#agents.get(machineID)?.units ?? [];
    return units
      .map((unit) => ({ ...unit, options: this.#units.get(unit.name)?.options ?? [] }))
      .toSorted((a, b) => compareText(a.name, b.name));
  }

  /**
   * A unit as it really is on a machine; undefined: the machine does not have it.
   * @returns its state, how often it was started, and how long ago it was started or stopped, in milliseconds; undefined: it has been so from the beginning
   */
  unitOn(
    name: string,
    machineID: string,
  ): { state: SystemdState; starts: number; changedAgo: number | undefined } | undefined {
    this.#events.runDue();
    const state = this.#agents.get(machineID)?.systemdState(name);
    if (state === undefined) return undefined;
    const events = this.#history.of(name).filter((event) => event.machineID === machineID);
    const starts = events.filter(({ what }) => what === 'started').length;
    const last = events.at(-1);
    return { state, starts, changedAgo: last && this.#events.now - last.at };
  }

  /** How often systemd has begun to start a unit of this name. */
  starts(name: string): number {
    return this.history(name).filter(({ what }) => what === 'started').length;
  }

  /** The machine's systemd, apart from fleet. @throws TypeError when there is no such machine */
  systemdOf(machineID: string): MachineSystemd {
    const agent = this.#agentOf(machineID);
    const whenKnown = (name: string, act: (record: UnitRecord) => void) => {
      const record = this.#units.get(name);
      if (record !== undefined) act(record);
    };
    return {
      options: (name) => this.#units.get(name)?.options ?? [],
      state: (name) => agent.systemdState(name),
      starts: (name) => this.unitOn(name, machineID)?.starts ?? 0,
      restart: (name) => whenKnown(name, (record) => agent.restart(this.#orderOf(record))),
      resetFailed: (name) => agent.resetFailed(name),
      now: () => this.#events.now,
      runOn: (steps) => this.#events.runOn(steps),
      runDue: () => this.#events.runDue(),
    };
  }

  /** Whether the unit keeps starting and failing while it is launched. */
  flaps(name: string): boolean {
    this.#events.runDue();
    return [...this.#agents.values()].some((agent) => agent.flaps(name));
  }

  #recovering(): boolean {
    return this.#events.now < this.#aftermath.until;
  }

  #generatedUnits(count: number): SandboxUnit[] {
    return Array.from({ length: count }, () => ({
      name: `load-${String(++this.#generated).padStart(4, '0')}.service`,
    }));
  }

  #newRecord(name: string, options: readonly UnitOption[], desiredState: string): UnitRecord {
    const record: UnitRecord = {
      name,
      options: structuredClone(options),
      hash: unitFileHash(options),
      desiredState,
      placed: [],
    };
    this.#units.set(name, record);
    return record;
  }

  #agentsFor(machines: readonly Machine[]): Map<string, FleetAgent> {
    const parts = { events: this.#events, history: this.#history, delays: this.#delays };
    return new Map(
      structuredClone([...machines])
        .toSorted((a, b) => compareText(a.id, b.id))
        .map((machine) => {
          const agent = this.#agents.get(machine.id) ?? new FleetAgent(machine, parts);
          agent.machine = machine;
          return [machine.id, agent];
        }),
    );
  }

  #agentOf(machineID: string): FleetAgent {
    this.#events.runDue();
    const agent = this.#agents.get(machineID);
    if (agent === undefined) throw new TypeError(`there is no machine '${machineID}'`);
    return agent;
  }

  #listed(): Machine[] {
    return [...this.#agents.values()].filter(({ isListed }) => isListed).map(({ machine }) => machine);
  }

  /** The engine schedules a unit, and the agents do what that means for them. */
  #follow(record: UnitRecord): void {
    if (this.etcdIsAway || this.#units.get(record.name) !== record) return;
    const { name } = record;
    if (isPoisoned(record)) {
      this.#move(record, []);
      for (const agent of this.#agents.values()) agent.remove(name);
      return;
    }
    const holdsOn = this.#behaviours.get(name) === 'never-stops' && record.desiredState !== 'launched';
    if (holdsOn && [...this.#agents.values()].some((agent) => agent.isUp(name))) return;
    this.#place(record);
    for (const [id, agent] of this.#agents) {
      const placed = record.placed.includes(id);
      if (placed || agent.knows(name)) agent.carryOut(name, placed ? this.#orderOf(record) : undefined);
    }
  }

  /** The engine schedules the units whose machines have changed. */
  #reschedule(): void {
    if (this.etcdIsAway) return;
    for (const record of this.#units.values())
      if (!isDeepStrictEqual(this.#machinesFor(record), record.placed)) this.#follow(record);
  }

  #rescheduleSoon(): void {
    this.#events.after(this.#delays.change, () => this.#reschedule());
  }

  /** After an interruption: the engine and the agents do what they have missed. */
  #resume(): void {
    this.#events.after(this.#delays.change, () => {
      for (const record of this.#units.values()) this.#follow(record);
      for (const agent of this.#agents.values())
        for (const name of agent.unitNames) if (!this.#units.has(name)) agent.carryOut(name, undefined);
    });
  }

  #place(record: UnitRecord): void {
    this.#move(record, this.#machinesFor(record));
  }

  #move(record: UnitRecord, placed: readonly string[]): void {
    this.#placement.moved(record.placed, placed);
    record.placed = placed;
  }

  #machinesFor(record: UnitRecord): string[] {
    const wanted = record.desiredState === 'loaded' || record.desiredState === 'launched';
    if (!wanted || isTemplateName(record.name)) return [];
    if (this.#behaviours.get(record.name) === 'never-scheduled') return [];
    return this.#placement.choose(record, record.placed, this.#listed());
  }

  #orderOf({ name, options, hash, desiredState }: UnitRecord): Order {
    const behaviour = this.#behaviours.get(name);
    return { name, options, hash, launched: desiredState === 'launched', behaviour };
  }

  #unitOf(record: UnitRecord): Unit {
    const { name, desiredState, placed } = record;
    const machineID = isGlobalUnit(record) ? null : (placed[0] ?? null);
    return {
      name,
      options: record.options.map((option) => ({ ...option })),
      desiredState,
      currentState:
        machineID === null ? 'inactive' : (this.#agents.get(machineID)?.currentState(name) ?? 'inactive'),
      machineID,
    };
  }
}

const SLEEP: readonly UnitOption[] = [
  { section: 'Unit', name: 'Description', value: 'Sleeps' },
  { section: 'Service', name: 'ExecStart', value: '/usr/bin/sleep infinity' },
];

function isPoisoned({ desiredState }: UnitRecord): boolean {
  return !DESIRED_STATES.some((state) => state === desiredState);
}

/** Ordered by code unit, as Go's string comparison orders ASCII. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const UNIT_FIELDS = Object.keys({
  name: true,
  options: true,
  desiredState: true,
  behaviour: true,
} satisfies Record<keyof SandboxUnit, true>);

/** A test in JavaScript may give any value. */
function requireUnit(unit: unknown): void {
  const shape = `a unit is an object with ${UNIT_FIELDS.join(', ')}`;
  if (typeof unit !== 'object' || unit === null) throw new TypeError(`${shape}, not ${String(unit)}`);
  const unknown = Object.keys(unit).find((key) => !UNIT_FIELDS.includes(key));
  if (unknown !== undefined)
    throw new TypeError(
      `a unit of the sandbox has no field '${unknown}': ${shape}; one that has failed has the behaviour 'fails-at-start'`,
    );
}
