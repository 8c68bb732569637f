import type { Unit, UnitState } from '../../src/plugin.js';

/** What fleet and systemd said of a unit at one moment. */
export interface Observation {
  unit: Unit | undefined;
  /** Of a unit that is not global there is at most one; old ones linger for a few seconds. */
  state: UnitState | undefined;
}

/** Down for certain: fleet keeps it loaded only, and systemd has it inactive, failed, or not at all. */
export function isStopped({ unit, state }: Observation): boolean {
  if (unit?.currentState !== 'loaded' && unit?.currentState !== 'inactive') return false;
  const active = state?.systemdActiveState ?? 'inactive';
  return active === 'inactive' || active === 'failed';
}

/** `launched` alone says only that fleet has tried. */
export function isUp({ unit, state }: Observation): boolean {
  return unit?.currentState === 'launched' && state?.systemdActiveState === 'active';
}

export function hasFailed({ unit, state }: Observation): boolean {
  return unit?.currentState === 'launched' && state?.systemdActiveState === 'failed';
}

/** For people: `launched, active/running, hash 0a1b2c3d on machine 4f8b02ce`. */
export function told({ unit, state }: Observation): string {
  if (unit === undefined) return 'not in the cluster';
  const systemd = state === undefined ? 'no state' : `${state.systemdActiveState}/${state.systemdSubState}`;
  const hash = (state?.hash ?? null) === null ? '' : `, hash ${state?.hash}`;
  const machine = unit.machineID === null ? ', on no machine' : ` on machine ${unit.machineID}`;
  return `${unit.currentState ?? 'unknown'}, ${systemd}${hash}${machine}`;
}
