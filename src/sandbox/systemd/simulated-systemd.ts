import { randomUUID } from 'node:crypto';
import type { Clock } from '../../lib/clock.js';
import { EventQueue } from '../event-queue.js';
import type { UnitHistory } from '../unit-history.js';
import { freshUnit, isUp, type Job, type JobResult, type LoadedUnit, readUnit } from './loaded-unit.js';
import { NOT_EXECUTABLE, type SimulatedProgram } from './simulated-program.js';
import type { UnitFolders } from './unit-folders.js';
import type { UnitCondition } from './unit-settings.js';

/**
 * What the program of a unit does instead of what its file says, from its next start on:
 * - `fails-at-start`: it exits with status 1 at once
 * - `never-starts`: it is never ready, so that its start ends at `TimeoutStartSec`
 * - `flaps`: it exits with status 1 after a second, and systemd starts it again and again
 */
export type HostUnitBehaviour = 'fails-at-start' | 'never-starts' | 'flaps';

/** A line of PID 1 in the journal. */
export interface UnitMessage {
  unit: string;
  /** Milliseconds since the epoch. */
  at: number;
  text: string;
}

export interface SystemdParts {
  machineID: string;
  clock: Pick<Clock, 'now' | 'wallTime'>;
  folders: UnitFolders;
  history: UnitHistory;
  /** How long a program takes to stop, in milliseconds. */
  stopMs: number;
}

/** Why an order makes no job. */
export type Refusal =
  | 'not-found'
  | 'not-loaded'
  | 'masked'
  | 'bad-setting'
  | 'error'
  | 'no-instance'
  | 'not-reloadable'
  | 'not-active';

/** How long a program takes to get ready, or to read its settings again, in milliseconds. */
const READY_MS = 20;
const MAX_MESSAGES = 2_000;
/** The files that conditions find, besides unit files. */
const PATHS: ReadonlySet<string> = new Set([
  '/',
  '/bin/sh',
  '/etc',
  '/etc/os-release',
  '/run',
  '/tmp',
  '/usr',
  '/var',
]);
const FLAPS: SimulatedProgram = { runsMs: 1_000, status: 1, isReady: true };
const PROGRAMS: Readonly<Record<HostUnitBehaviour, SimulatedProgram>> = {
  'fails-at-start': { runsMs: 0, status: 1, isReady: false },
  'never-starts': { runsMs: Number.POSITIVE_INFINITY, status: 0, isReady: false },
  flaps: FLAPS,
};
const DOWN: readonly string[] = ['inactive', 'failed'];
const UP_BY_KIND: Readonly<Record<string, string>> = {
  automount: 'waiting',
  mount: 'mounted',
  path: 'waiting',
  scope: 'running',
  socket: 'listening',
  timer: 'waiting',
};

/**
 * PID 1 of a simulated machine, as systemd 252 behaves: it loads units, runs jobs on them, keeps a counter of starts, and forgets a unit
 * that is down and that nothing needs. Nothing is executed: `programOf` says what programs do. It uses no timers: every read first runs
 * what is due by then.
 *
 * Not simulated: what stops with another unit (`PartOf=`, `BindsTo=`), timers and sockets that start units, and `Upholds=`.
 */
export class SimulatedSystemd {
  readonly #parts: SystemdParts;
  readonly #events: EventQueue;
  readonly #units = new Map<string, LoadedUnit>();
  readonly #behaviours = new Map<string, HostUnitBehaviour>();
  readonly #messages: UnitMessage[] = [];
  #lastPID = 400;

  constructor(parts: SystemdParts) {
    this.#parts = parts;
    this.#events = new EventQueue(parts.clock);
  }

  get folders(): UnitFolders {
    return this.#parts.folders;
  }

  /** In milliseconds of the clock. */
  get now(): number {
    return this.#events.now;
  }

  runDue(): void {
    this.#events.runDue();
  }

  /** See `EventQueue`. */
  runOn(steps: Generator<number, void>): void {
    this.#events.runOn(steps);
  }

  behave(name: string, behaviour: HostUnitBehaviour | 'well'): void {
    if (behaviour === 'well') this.#behaviours.delete(name);
    else this.#behaviours.set(name, behaviour);
  }

  /** The lines of PID 1 about a unit, oldest first. */
  messages(name: string): UnitMessage[] {
    this.runDue();
    return this.#messages.filter(({ unit }) => unit === name);
  }

  /** The loaded units, by name: what runs or has failed, and all that those name. */
  loaded(): Map<string, LoadedUnit> {
    this.runDue();
    this.#collect();
    return new Map([...this.#units].toSorted(([one], [other]) => (one < other ? -1 : 1)));
  }

  /** A unit as PID 1 shows it, which loads it if need be. */
  unit(name: string): LoadedUnit {
    this.runDue();
    this.#collect();
    const id = this.folders.aliased(name);
    return this.#units.get(id) ?? freshUnit(id, this.folders);
  }

  /** Whether the file of a unit has changed since PID 1 has read it. */
  needsReload({ name, text, path, settings }: LoadedUnit): boolean {
    if (settings.load === 'not-found' || path === undefined) return false;
    const now = readUnit(name, this.folders);
    return now.text !== text;
  }

  /** Reads all files again; no unit stops. systemd 252 forgets how often units were started. */
  daemonReload(): void {
    this.runDue();
    for (const unit of this.#units.values())
      Object.assign(unit, { ...readUnit(unit.name, this.folders), starts: [] });
  }

  /** Shows a unit as if it had been started when the machine was booted. @param at in milliseconds of the clock */
  adopt(
    name: string,
    {
      at,
      isKept = false,
      state,
    }: { at: number; isKept?: boolean; state?: readonly [LoadedUnit['active'], string] },
  ): void {
    const unit = this.#load(name);
    unit.isKept = isKept;
    const program = this.#programOf(unit);
    if (state === undefined && program === FLAPS) {
      this.#begin(unit, undefined, at);
      return;
    }
    const isService = name.endsWith('.service');
    const exited = unit.settings.type === 'oneshot' && unit.settings.remainsAfterExit;
    const failed = state === undefined && isService && program.status !== 0 && program.runsMs === 0;
    const [active, sub] =
      state ??
      (failed ? ['failed', 'failed'] : ['active', exited ? 'exited' : isService ? 'running' : upOf(name)]);
    Object.assign(unit, { active, sub, changedAt: at, conditionAt: at, conditionHolds: true, startedAt: at });
    if (active === 'inactive') return;
    unit.invocationID = newInvocation();
    unit.startedText = unit.text;
    unit.inactiveUntil = at;
    if (active === 'active') unit.activeAt = at;
    if (sub === 'running' && isService) unit.mainPID = unit.lastPID = this.#nextPID();
    if (failed) Object.assign(unit, { result: 'exit-code', exitStatus: program.status, inactiveAt: at });
  }

  /** Starts, stops, restarts or reloads a unit: a job, or why there is none. */
  order(type: Job['type'], given: string): Job | Refusal {
    this.runDue();
    this.#collect();
    if (/@\.[a-z]+$/.test(given)) return 'no-instance';
    const name = this.folders.aliased(given);
    const known = this.#units.get(name);
    if (type === 'stop') {
      if (known === undefined && this.folders.fragmentOf(name) === undefined) return 'not-loaded';
      const unit = known ?? freshUnit(name, this.folders);
      if (unit.settings.load === 'bad-setting' || unit.settings.load === 'error') return 'not-loaded';
      return this.#stop(unit);
    }
    const unit = known ?? freshUnit(name, this.folders);
    const { load } = unit.settings;
    if (load !== 'loaded') return load;
    if (type === 'reload') {
      if (unit.settings.reload === undefined) return 'not-reloadable';
      return isUp(unit) ? this.#reload(unit) : 'not-active';
    }
    const missing = unit.settings.needs.find((need) => this.unit(need).settings.load === 'not-found');
    if (missing !== undefined) return 'not-found';
    this.#units.set(name, unit);
    return type === 'restart' ? this.#restart(unit) : this.#start(unit);
  }

  /** Forgets that a unit has failed, and how often it was started. @returns false: it is not loaded */
  resetFailed(name: string): boolean {
    this.runDue();
    this.#collect();
    const unit = this.#units.get(this.folders.aliased(name));
    if (unit === undefined) return false;
    unit.starts = [];
    unit.restarts = 0;
    if (unit.active === 'failed') this.#become(unit, 'inactive', 'dead');
    unit.result = 'success';
    this.#collect();
    return true;
  }

  #load(name: string): LoadedUnit {
    const unit = this.#units.get(name) ?? freshUnit(name, this.folders);
    this.#units.set(name, unit);
    return unit;
  }

  /** Loads what loaded units name, and forgets what is down and that nothing needs. */
  #collect(): void {
    const needed = new Set<string>();
    const queue = [...this.#units.values()].filter(
      ({ active, job, isKept }) => active !== 'inactive' || job !== undefined || isKept,
    );
    for (let unit = queue.pop(); unit !== undefined; unit = queue.pop()) {
      if (needed.has(unit.name)) continue;
      needed.add(unit.name);
      for (const name of [...unit.settings.names, ...this.folders.wantedBy(unit.name)])
        if (!needed.has(name)) queue.push(this.#load(this.folders.aliased(name)));
    }
    for (const name of this.#units.keys()) if (!needed.has(name)) this.#units.delete(name);
  }

  #start(unit: LoadedUnit): Job {
    const job: Job = { type: 'start', result: undefined };
    if (isUp(unit)) return finished(job, 'done');
    if (unit.active === 'activating' && unit.job !== undefined) return unit.job;
    if (unit.active === 'deactivating') {
      // The stop is cancelled, and the unit is started when it is down.
      if (unit.job !== undefined) unit.job.result = 'canceled';
      unit.job = job;
      return job;
    }
    unit.restarts = 0;
    this.#begin(unit, job);
    return job;
  }

  #restart(unit: LoadedUnit): Job {
    const job: Job = { type: 'restart', result: undefined };
    if (unit.active === 'deactivating' || unit.active === 'inactive' || unit.active === 'failed')
      return this.#start(unit);
    // Two at once are one.
    if (unit.job?.type === 'restart') return unit.job;
    cancel(unit.job);
    unit.restarts = 0;
    this.#end(unit, job);
    return job;
  }

  #stop(unit: LoadedUnit): Job {
    const job: Job = { type: 'stop', result: undefined };
    if (unit.active === 'inactive' || unit.active === 'failed') return finished(job, 'done');
    if (unit.active === 'deactivating' && unit.job?.type === 'stop') return unit.job;
    cancel(unit.job);
    if (unit.active === 'deactivating') unit.job = job;
    else this.#end(unit, job);
    return job;
  }

  #reload(unit: LoadedUnit): Job {
    const job: Job = { type: 'reload', result: undefined };
    const { sub } = unit;
    this.#become(unit, 'reloading', 'reload');
    unit.job = job;
    this.#say(unit, `Reloading ${titleOf(unit)}...`);
    this.#plan(unit, unit.settings.reload?.runsMs ?? READY_MS, () => {
      const isGood = unit.settings.reload?.status === 0;
      this.#become(unit, 'active', sub);
      this.#say(unit, isGood ? `Reloaded ${titleOf(unit)}.` : `Reload failed for ${titleOf(unit)}.`);
      this.#finish(unit, isGood ? 'done' : 'failed');
    });
    return job;
  }

  /** Starts a unit that is down. @param job undefined: systemd restarts it by itself */
  #begin(unit: LoadedUnit, job: Job | undefined, at = this.now): void {
    unit.job = job;
    const { settings, name } = unit;
    if (this.#programOf(unit) !== FLAPS && !this.#mayStart(unit)) {
      this.#say(unit, `${name}: Start request repeated too quickly.`);
      // What it failed with before stays.
      this.#fail(unit, unit.result === 'success' ? 'start-limit-hit' : unit.result, 'limit');
      return;
    }
    const unmet = settings.conditions.find((condition) => !this.#holds(condition));
    if (unmet !== undefined) {
      const shown = `(${unmet.name}=${unmet.value})`;
      if (!unmet.isAssert) Object.assign(unit, { conditionHolds: false, conditionAt: this.now });
      this.#say(
        unit,
        unmet.isAssert
          ? `Assertion failed for ${titleOf(unit)} ${shown}.`
          : `${titleOf(unit)} was skipped because of an unmet condition check ${shown}.`,
      );
      this.#become(
        unit,
        unit.active === 'failed' ? 'failed' : 'inactive',
        unit.active === 'failed' ? 'failed' : 'dead',
      );
      this.#finish(unit, unmet.isAssert ? 'assert' : 'done');
      return;
    }
    Object.assign(unit, { conditionHolds: true, conditionAt: this.now });
    for (const want of settings.wants) this.order('start', want);
    this.#whenNeedsAreUp(unit, () => this.#run(unit, at));
  }

  /** Starts what a unit requires, and waits for that which it comes after. */
  #whenNeedsAreUp(unit: LoadedUnit, run: () => void): void {
    const jobs = unit.settings.needs.flatMap((need): Pick<Job, 'result'>[] => {
      const job = this.order('start', need);
      if (typeof job === 'string') return [{ result: 'failed' }];
      return unit.settings.after.includes(need) ? [job] : [];
    });
    const look = () => {
      if (jobs.some(({ result }) => result !== undefined && result !== 'done')) {
        this.#say(unit, `Dependency failed for ${titleOf(unit)}.`);
        this.#become(unit, 'inactive', 'dead');
        this.#finish(unit, 'dependency');
      } else if (jobs.some(({ result }) => result === undefined)) this.#plan(unit, READY_MS, look);
      else run();
    };
    look();
  }

  #run(unit: LoadedUnit, at: number): void {
    const { settings, name, text } = unit;
    const invocationID = newInvocation();
    Object.assign(unit, { result: 'success', exitStatus: 0, invocationID, startedAt: at, startedText: text });
    this.#note(unit, 'started');
    if (!name.endsWith('.service')) {
      this.#become(unit, 'active', upOf(name));
      this.#say(unit, `Started ${titleOf(unit)}.`);
      this.#finish(unit, 'done');
      return;
    }
    const program = this.#programOf(unit);
    unit.mainPID = unit.lastPID = this.#nextPID();
    const isMissing = program.status === NOT_EXECUTABLE;
    const isUpAtOnce =
      settings.type === 'simple' || settings.type === 'idle' || (settings.type === 'exec' && !isMissing);
    const waits = program === PROGRAMS['never-starts'] ? true : !isUpAtOnce;
    if (waits) {
      this.#become(unit, 'activating', 'start');
      this.#say(unit, `Starting ${titleOf(unit)}...`);
    } else this.#started(unit);
    if (waits && settings.type !== 'oneshot' && program.isReady)
      this.#plan(unit, READY_MS, () => {
        this.#started(unit);
        if (Number.isFinite(program.runsMs))
          this.#plan(unit, program.runsMs, () => this.#exit(unit, program.status));
      });
    else if (waits && program.runsMs > settings.timeoutStartMs)
      this.#plan(unit, settings.timeoutStartMs, () => {
        unit.mainPID = 0;
        unit.exitStatus = 15;
        this.#say(unit, `${name}: start operation timed out. Terminating.`);
        this.#fail(unit, 'timeout', 'timeout');
      });
    else if (Number.isFinite(program.runsMs))
      this.#plan(unit, Math.max(program.runsMs, 5), () => this.#exit(unit, program.status));
  }

  #started(unit: LoadedUnit): void {
    this.#become(unit, 'active', 'running');
    this.#say(unit, `Started ${titleOf(unit)}.`);
    this.#finish(unit, 'done');
  }

  /** The program has ended by itself. */
  #exit(unit: LoadedUnit, status: number): void {
    const { settings, name } = unit;
    Object.assign(unit, { mainPID: 0, exitStatus: status });
    // A daemon that ends before it is ready does not do what its type promises.
    if (status === 0 && unit.active === 'activating' && settings.type !== 'oneshot')
      return this.#fail(unit, 'protocol', 'failed');
    if (status !== 0) {
      const text = status === NOT_EXECUTABLE ? '203/EXEC' : `${status}/${status === 1 ? 'FAILURE' : 'n/a'}`;
      this.#say(unit, `${name}: Main process exited, code=exited, status=${text}`);
      this.#fail(unit, 'exit-code', 'failed');
      return;
    }
    if (settings.type === 'oneshot' && settings.remainsAfterExit) this.#become(unit, 'active', 'exited');
    else {
      this.#say(unit, `${name}: Deactivated successfully.`);
      this.#down(unit);
    }
    if (settings.type === 'oneshot') this.#say(unit, `Finished ${titleOf(unit)}.`);
    this.#finish(unit, 'done');
  }

  #fail(unit: LoadedUnit, result: string, job: JobResult): void {
    const wasStarting = unit.active !== 'active' || job === 'limit';
    unit.result = result;
    unit.mainPID = 0;
    this.#say(unit, `${unit.name}: Failed with result '${result}'.`);
    if (wasStarting) this.#say(unit, `Failed to start ${titleOf(unit)}.`);
    if (job === 'limit') this.#become(unit, 'failed', 'failed');
    else this.#down(unit);
    this.#finish(unit, job);
  }

  /** A unit whose program has ended: it is restarted later, if its file says so. */
  #down(unit: LoadedUnit): void {
    const { settings, result } = unit;
    this.#note(unit, 'stopped');
    const isFailed = result !== 'success';
    const restarts =
      this.#programOf(unit) === FLAPS ||
      settings.restart === 'always' ||
      (isFailed ? settings.restart.startsWith('on-fail') : settings.restart === 'on-success');
    if (!restarts) {
      this.#become(unit, isFailed ? 'failed' : 'inactive', isFailed ? 'failed' : 'dead');
      return;
    }
    this.#become(unit, 'activating', 'auto-restart');
    this.#plan(unit, settings.restartMs, () => {
      unit.restarts += 1;
      this.#say(unit, `${unit.name}: Scheduled restart job, restart counter is at ${unit.restarts}.`);
      this.#say(unit, `Stopped ${titleOf(unit)}.`);
      this.#begin(unit, undefined);
    });
  }

  /** Stops a unit that is up. @param job what is finished by it; a restart goes on with a start */
  #end(unit: LoadedUnit, job: Job): void {
    unit.job = job;
    const hasProcess = unit.mainPID !== 0;
    const wait = hasProcess ? this.#parts.stopMs : 0;
    if (unit.sub !== 'auto-restart') this.#say(unit, `Stopping ${titleOf(unit)}...`);
    this.#become(unit, 'deactivating', 'stop-sigterm');
    const done = () => {
      if (hasProcess) {
        unit.mainPID = 0;
        unit.exitStatus = 15;
        this.#note(unit, 'stopped');
      }
      this.#say(unit, `${unit.name}: Deactivated successfully.`);
      this.#say(unit, `Stopped ${titleOf(unit)}.`);
      this.#become(unit, 'inactive', 'dead');
      if (unit.job?.type === 'stop') this.#finish(unit, 'done');
      else if (unit.job !== undefined) this.#begin(unit, unit.job);
    };
    if (wait === 0) done();
    else this.#plan(unit, wait, done);
  }

  #mayStart(unit: LoadedUnit): boolean {
    const { count, withinMs } = unit.settings.startLimit;
    if (withinMs === 0) return true;
    unit.starts = unit.starts.filter((at) => at > this.now - withinMs);
    if (unit.starts.length >= count) return false;
    unit.starts.push(this.now);
    return true;
  }

  #holds({ value }: UnitCondition): boolean {
    const isNegated = value.startsWith('!');
    const path = isNegated ? value.slice(1) : value;
    return (PATHS.has(path) || this.folders.has(path)) !== isNegated;
  }

  #programOf(unit: LoadedUnit): SimulatedProgram {
    const behaviour = this.#behaviours.get(unit.name);
    return behaviour === undefined ? unit.settings.program : PROGRAMS[behaviour];
  }

  #become(unit: LoadedUnit, active: LoadedUnit['active'], sub: string): void {
    unit.turn += 1;
    if (unit.active !== active || unit.sub !== sub) unit.changedAt = this.now;
    if (active === 'active' && !isUp(unit)) unit.activeAt = this.now;
    if (isUp(unit) && active !== 'active' && active !== 'reloading') unit.activeUntil = this.now;
    const [wasDown, isDown] = [DOWN.includes(unit.active), DOWN.includes(active)];
    if (isDown && unit.active !== active) unit.inactiveAt = this.now;
    if (wasDown && !isDown) unit.inactiveUntil = this.now;
    Object.assign(unit, { active, sub });
  }

  #finish(unit: LoadedUnit, result: JobResult): void {
    if (unit.job !== undefined) unit.job.result = result;
    unit.job = undefined;
  }

  /** What happens later, unless the unit changes before that. */
  #plan(unit: LoadedUnit, ms: number, run: () => void): void {
    const { turn } = unit;
    this.#events.after(ms, () => {
      if (unit.turn === turn) run();
    });
  }

  #note({ name }: LoadedUnit, what: 'started' | 'stopped'): void {
    this.#parts.history.add(name, { at: this.now, machineID: this.#parts.machineID, what });
  }

  #say({ name }: LoadedUnit, text: string): void {
    const { clock } = this.#parts;
    this.#messages.push({ unit: name, at: clock.wallTime() - (clock.now() - this.now), text });
    if (this.#messages.length > MAX_MESSAGES) this.#messages.shift();
  }

  #nextPID(): number {
    this.#lastPID += 5;
    return this.#lastPID;
  }
}

/** As PID 1 names a unit in its messages. */
function titleOf({ name, settings: { description } }: LoadedUnit): string {
  return description === undefined ? name : `${name} - ${description}`;
}

function upOf(name: string): string {
  return UP_BY_KIND[name.slice(name.lastIndexOf('.') + 1)] ?? 'active';
}

function newInvocation(): string {
  return randomUUID().replaceAll('-', '');
}

function finished(job: Job, result: JobResult): Job {
  job.result = result;
  return job;
}

function cancel(job: Job | undefined): void {
  if (job !== undefined) job.result = 'canceled';
}
