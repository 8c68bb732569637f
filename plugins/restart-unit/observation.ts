import type { Unit, UnitState } from '../../src/plugin.js';

/** The states of a unit in fleet and systemd at one time. */
export interface Observation {
  unit: Unit | undefined;
  /** A unit that is not global has at most one, apart from old ones that remain for a few seconds. */
  state: UnitState | undefined;
}

/** Certainly stopped: in fleet it is loaded or inactive, and in systemd inactive, failed or unknown. */
export function isStopped({ unit, state }: Observation): boolean {
  if (unit?.currentState !== 'loaded' && unit?.currentState !== 'inactive') return false;
  const active = state?.systemdActiveState ?? 'inactive';
  return active === 'inactive' || active === 'failed';
}

/** fleet's `launched` alone is not enough: it only says that fleet tried to start the unit. */
export function isUp({ unit, state }: Observation): boolean {
  return unit?.currentState === 'launched' && state?.systemdActiveState === 'active';
}

export function hasFailed({ unit, state }: Observation): boolean {
  return unit?.currentState === 'launched' && state?.systemdActiveState === 'failed';
}

/** A string for people: `launched, active/running, hash 0a1b2c3d on machine 4f8b02ce`. */
export function describeState({ unit, state }: Observation): string {
  if (unit === undefined) return 'not in the cluster';
  const systemd = state === undefined ? 'no state' : `${state.systemdActiveState}/${state.systemdSubState}`;
  const hash = (state?.hash ?? null) === null ? '' : `, hash ${state?.hash}`;
  const machine = unit.machineID === null ? ', on no machine' : ` on machine ${unit.machineID}`;
  return `${unit.currentState ?? 'unknown'}, ${systemd}${hash}${machine}`;
}
