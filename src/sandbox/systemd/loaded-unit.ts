import type { UnitFolders } from './unit-folders.js';
import { type UnitSettings, unitSettings } from './unit-settings.js';

/** How a job ended; systemctl makes its message and its exit status of it. */
export type JobResult = 'done' | 'failed' | 'timeout' | 'canceled' | 'dependency' | 'assert' | 'limit';

/** An order to PID 1, which goes on when the client is gone. */
export interface Job {
  readonly type: 'start' | 'stop' | 'restart' | 'reload';
  /** Undefined: it is not finished. */
  result: JobResult | undefined;
}

/** A unit as PID 1 has loaded it. */
export interface LoadedUnit {
  readonly name: string;
  settings: UnitSettings;
  /** The path of its file and the text that PID 1 has read; undefined: there was no file. */
  path: string | undefined;
  text: string | undefined;
  dropIns: readonly string[];
  /** The text with which it was started. */
  startedText: string | undefined;
  active: 'active' | 'reloading' | 'inactive' | 'failed' | 'activating' | 'deactivating';
  sub: string;
  /** How it ended last. */
  result: string;
  /** Empty: it was never started since it was loaded. */
  invocationID: string;
  mainPID: number;
  /** The exit status of its program. */
  exitStatus: number;
  /** The process that it had last. */
  lastPID: number;
  restarts: number;
  conditionHolds: boolean;
  /** Times are in milliseconds of the clock; undefined: never. */
  conditionAt: number | undefined;
  startedAt: number | undefined;
  changedAt: number | undefined;
  activeAt: number | undefined;
  /** When it was active last, and when it was down last. */
  activeUntil: number | undefined;
  inactiveUntil: number | undefined;
  inactiveAt: number | undefined;
  /** When it was started, within the interval of its limit. */
  starts: number[];
  job: Job | undefined;
  /** A number of the last change: what was planned before it no longer happens. */
  turn: number;
  /** A unit of the distribution that is loaded whether or not something needs it. */
  isKept: boolean;
}

/** A unit as PID 1 finds it in the folders: never started. */
export function freshUnit(name: string, folders: UnitFolders): LoadedUnit {
  return {
    name,
    ...readUnit(name, folders),
    startedText: undefined,
    active: 'inactive',
    sub: 'dead',
    result: 'success',
    invocationID: '',
    mainPID: 0,
    exitStatus: 0,
    lastPID: 0,
    restarts: 0,
    conditionHolds: false,
    conditionAt: undefined,
    startedAt: undefined,
    changedAt: undefined,
    activeAt: undefined,
    activeUntil: undefined,
    inactiveUntil: undefined,
    inactiveAt: undefined,
    starts: [],
    job: undefined,
    turn: 0,
    isKept: false,
  };
}

/** What the folders have of a unit now. */
export function readUnit(
  name: string,
  folders: UnitFolders,
): Pick<LoadedUnit, 'settings' | 'path' | 'text' | 'dropIns'> {
  const fragment = folders.fragmentOf(name);
  return {
    settings: unitSettings(name, fragment),
    path: fragment?.path,
    text: fragment?.text,
    dropIns: fragment?.dropIns ?? [],
  };
}

/** Whether it is neither down nor about to be. */
export function isUp({ active }: Pick<LoadedUnit, 'active'>): boolean {
  return active === 'active' || active === 'reloading';
}
