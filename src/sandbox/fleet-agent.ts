import { isDeepStrictEqual } from 'node:util';
import type { DesiredState, Machine, UnitOption, UnitState } from '../api/fleet-transport.js';
import type { EventQueue } from './event-queue.js';
import { Lease } from './lease.js';
import {
  isUp,
  launchedState,
  RESTARTING,
  STARTING,
  STOPPED,
  STOPPING,
  type SystemdState,
  type UnitBehaviour,
} from './unit-behaviour.js';
import type { UnitHistory } from './unit-history.js';

/** What fleet wants of a unit that is scheduled to the machine. */
export interface Order {
  name: string;
  options: readonly UnitOption[];
  hash: string;
  launched: boolean;
  behaviour: UnitBehaviour | undefined;
}

/** A unit as it really is on the machine. */
interface MachineUnit {
  hash: string;
  /** Whether the agent has started it, and not stopped it since. */
  launched: boolean;
  systemd: SystemdState;
  /** Set while it keeps starting and failing. */
  flapsSince: number | undefined;
}

/** A unit as the agent has last written it to etcd. */
interface PublishedUnit {
  row: UnitState;
  currentState: DesiredState;
  flapsSince: number | undefined;
  at: number;
}

export interface AgentParts {
  events: EventQueue;
  history: UnitHistory;
  /** How long systemd takes to start or stop a unit, and a flapping unit to change, in milliseconds. */
  delays: { report: number; change: number };
}

/** Why an agent does nothing: it is frozen, killed or cut off, which look the same to fleet; or etcd is away. */
export type Hindrance = 'silent' | 'no etcd';

// As seen on fleetd 1.0.0.
const ROW_TTL_MS = 30_000;
const ROW_REFRESH_MS = 24_000;
const PRESENCE_TTL_MS = 26_000;
const PRESENCE_REFRESH_MS = 13_000;

/** The agent of one machine: it starts and stops units, and writes their states and its presence to etcd. */
export class FleetAgent {
  machine: Machine;
  readonly #parts: AgentParts;
  readonly #presence: Lease;
  readonly #rows: Lease;
  readonly #units = new Map<string, MachineUnit>();
  readonly #published = new Map<string, PublishedUnit>();
  readonly #hindrances = new Set<Hindrance>();

  constructor(machine: Machine, parts: AgentParts) {
    this.machine = machine;
    this.#parts = parts;
    const { now } = parts.events;
    this.#presence = new Lease({ everyMs: PRESENCE_REFRESH_MS, ttlMs: PRESENCE_TTL_MS, now });
    this.#rows = new Lease({ everyMs: ROW_REFRESH_MS, ttlMs: ROW_TTL_MS, now });
  }

  /** Whether fleet lists the machine. */
  get isListed(): boolean {
    return this.#presence.expiresAt(this.#now) > this.#now;
  }

  /** How long until fleet lists the machine no longer, if its agent stays hindered; 0 when it does not list it. */
  get untilUnlisted(): number {
    return Math.max(0, this.#presence.expiresAt(this.#now) - this.#now);
  }

  /** How long until the agent writes its presence again. */
  get untilPresent(): number {
    return this.isListed ? 0 : this.#presence.untilDue(this.#now);
  }

  /** Whether it runs or shows the unit. */
  knows(name: string): boolean {
    return this.#units.has(name) || this.#published.has(name);
  }

  /** The units that the machine has, as they really are there, whatever their rows show. */
  get units(): { name: string; systemd: SystemdState }[] {
    return [...this.#units].map(([name, { systemd }]) => {
      return { name, systemd: this.systemdState(name) ?? systemd };
    });
  }

  get unitNames(): string[] {
    return [...new Set([...this.#units.keys(), ...this.#published.keys()])];
  }

  /** From now on the agent carries out nothing and writes nothing; its units run on. */
  hinder(why: Hindrance): void {
    if (this.#hindrances.size === 0) for (const lease of this.#leases) lease.pause(this.#now);
    this.#hindrances.add(why);
  }

  /** An agent that was silent writes everything at once; one that had no etcd waits until it is due. */
  unhinder(why: Hindrance): void {
    if (!this.#hindrances.delete(why) || this.#hindrances.size > 0) return;
    for (const lease of this.#leases) {
      if (why === 'silent') lease.restart(this.#now);
      else lease.resume(this.#now);
    }
    for (const name of this.#units.keys()) this.#publish(name);
  }

  /** The machine is switched off: nothing runs on it any more. */
  powerOff(): void {
    this.hinder('silent');
    for (const name of this.#units.keys()) this.#drop(name);
  }

  /** Does what fleet wants of a unit; without an order the unit is not scheduled to this machine. */
  carryOut(name: string, order: Order | undefined): void {
    if (this.#hindrances.size > 0) return;
    if (order === undefined) return this.#unload(name);
    const known = this.#units.get(name);
    if (known !== undefined && known.hash !== order.hash) this.#drop(name);
    const unit = this.#units.get(name) ?? this.#load(order);
    if (order.launched && !unit.launched) this.#start(unit, order);
    else if (!order.launched && (unit.launched || isUp(unit.systemd))) this.#stop(name, unit);
    else this.#publish(name);
  }

  /** The unit is in its desired state already. */
  adopt(order: Order): void {
    const unit = this.#load(order);
    unit.launched = order.launched;
    if (order.launched) this.#finishStart(unit, order);
    this.#publish(order.name);
  }

  /** Removes a unit and its state row without a trace of its stop in the row. */
  remove(name: string): void {
    if (this.#hindrances.size > 0) return;
    this.#drop(name);
    this.#published.delete(name);
  }

  isUp(name: string): boolean {
    const unit = this.#units.get(name);
    return unit !== undefined && isUp(unit.systemd);
  }

  /** The unit as it really is, whatever the row shows; undefined: the machine does not have it. */
  systemdState(name: string): SystemdState | undefined {
    const unit = this.#units.get(name);
    return unit?.flapsSince !== undefined && this.#isBetweenStarts(unit.flapsSince)
      ? RESTARTING
      : unit?.systemd;
  }

  flaps(name: string): boolean {
    return this.#units.get(name)?.flapsSince !== undefined;
  }

  /** Does what `systemctl restart` does: fleet is not asked. */
  restart(order: Order): void {
    const { name } = order;
    const unit = this.#units.get(name);
    if (unit === undefined) return;
    if (!isUp(unit.systemd)) return this.#start(unit, order);
    unit.flapsSince = undefined;
    this.#change(name, unit, STOPPING);
    this.#publish(name);
    this.#whenDone(name, unit, () => {
      this.#change(name, unit, STOPPED);
      this.#start(unit, order);
    });
  }

  /** Does what `systemctl reset-failed` does. */
  resetFailed(name: string): void {
    const unit = this.#units.get(name);
    if (unit === undefined || unit.systemd[0] !== 'failed') return;
    this.#change(name, unit, STOPPED);
    this.#publish(name);
  }

  /** Overwrites the systemd state of a unit, and its row. */
  overwrite(name: string, state: Partial<Omit<UnitState, 'name'>>): void {
    const unit = this.#units.get(name);
    const published = this.#published.get(name);
    if (unit === undefined || published === undefined) return;
    const [active, sub] = unit.systemd;
    const { systemdActiveState = active, systemdSubState = sub } = state;
    // A new object, so that an unfinished start or stop of the old one has no effect.
    const overwritten: MachineUnit = {
      ...unit,
      systemd: [systemdActiveState ?? '', systemdSubState ?? ''],
      flapsSince: undefined,
    };
    this.#units.set(name, overwritten);
    this.#record(name, unit.systemd, overwritten.systemd);
    published.flapsSince = undefined;
    published.row = { ...published.row, ...state };
    published.at = this.#now;
  }

  /** What fleet shows as the unit's `currentState`: `inactive` also when the state has expired. */
  currentState(name: string): DesiredState {
    const published = this.#published.get(name);
    return published !== undefined && this.#isLive(published) ? published.currentState : 'inactive';
  }

  row(name: string): UnitState | undefined {
    const published = this.#published.get(name);
    if (published === undefined || !this.#isLive(published)) return undefined;
    const { row, flapsSince } = published;
    if (flapsSince === undefined) return row;
    return this.#isBetweenStarts(flapsSince) ? rowIn(row, RESTARTING) : row;
  }

  #isBetweenStarts(flapsSince: number): boolean {
    return Math.floor((this.#now - flapsSince) / Math.max(1, this.#parts.delays.change)) % 2 !== 0;
  }

  get #now(): number {
    return this.#parts.events.now;
  }

  get #leases(): Lease[] {
    return [this.#presence, this.#rows];
  }

  #isLive({ at }: PublishedUnit): boolean {
    return this.#rows.expiresAt(this.#now) > this.#now || at + ROW_TTL_MS > this.#now;
  }

  #load({ name, hash }: Order): MachineUnit {
    const unit: MachineUnit = { hash, launched: false, systemd: STOPPED, flapsSince: undefined };
    this.#units.set(name, unit);
    return unit;
  }

  #start(unit: MachineUnit, order: Order): void {
    const { name } = order;
    unit.launched = true;
    this.#change(name, unit, STARTING);
    this.#publish(name);
    this.#whenDone(name, unit, () => {
      this.#finishStart(unit, order);
      this.#record(name, STARTING, unit.systemd);
      this.#publish(name);
    });
  }

  #finishStart(unit: MachineUnit, order: Order): void {
    unit.systemd = launchedState(order, order.behaviour);
    if (order.behaviour === 'flaps') unit.flapsSince = this.#now;
  }

  #stop(name: string, unit: MachineUnit): void {
    this.#beginStop(name, unit);
    this.#whenDone(name, unit, () => {
      this.#change(name, unit, STOPPED);
      this.#publish(name);
    });
  }

  #unload(name: string): void {
    const unit = this.#units.get(name);
    if (unit === undefined) return this.remove(name);
    this.#beginStop(name, unit);
    this.#whenDone(name, unit, () => {
      this.#drop(name);
      this.remove(name);
    });
  }

  #beginStop(name: string, unit: MachineUnit): void {
    unit.launched = false;
    unit.flapsSince = undefined;
    if (isUp(unit.systemd)) this.#change(name, unit, STOPPING);
    this.#publish(name);
  }

  /** systemd finishes what was begun, whether or not the agent can still write it down. */
  #whenDone(name: string, unit: MachineUnit, finish: () => void): void {
    const { events, delays } = this.#parts;
    const begun = unit.systemd;
    events.after(delays.report, () => {
      if (this.#units.get(name) === unit && unit.systemd === begun) finish();
    });
  }

  /** The unit no longer exists on the machine. */
  #drop(name: string): void {
    const unit = this.#units.get(name);
    if (unit === undefined) return;
    this.#units.delete(name);
    this.#record(name, unit.systemd, STOPPED);
  }

  #change(name: string, unit: MachineUnit, systemd: SystemdState): void {
    this.#record(name, unit.systemd, systemd);
    unit.systemd = systemd;
  }

  #record(name: string, before: SystemdState, after: SystemdState): void {
    if (isUp(before) === isUp(after)) return;
    const what = isUp(after) ? 'started' : 'stopped';
    this.#parts.history.add(name, { at: this.#now, machineID: this.machine.id, what });
  }

  #publish(name: string): void {
    const unit = this.#units.get(name);
    if (unit === undefined || this.#hindrances.size > 0) return;
    const [active, sub] = unit.systemd;
    const content: Omit<PublishedUnit, 'at'> = {
      row: {
        name,
        hash: unit.hash,
        machineID: this.machine.id,
        systemdLoadState: 'loaded',
        systemdActiveState: active,
        systemdSubState: sub,
      },
      currentState: unit.launched ? 'launched' : 'loaded',
      flapsSince: unit.flapsSince,
    };
    // What has not changed is written again only when that is due.
    const known = this.#published.get(name);
    if (known !== undefined && isDeepStrictEqual({ ...known, at: 0 }, { ...content, at: 0 })) return;
    this.#published.set(name, { ...content, at: this.#now });
  }
}

function rowIn(row: UnitState, [active, sub]: SystemdState): UnitState {
  return { ...row, systemdActiveState: active, systemdSubState: sub };
}
