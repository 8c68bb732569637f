import type { UnitChange, UnitCondition } from '../../src/plugin.js';
import { type Observation, rowOn, saysRunning } from './observation.js';
import type { Restarted } from './restart.js';

/** What a restart by fleet has done, for each machine on which the unit was or is. */
export function changesOf({ before, after }: Restarted, tookMs: number): UnitChange[] {
  const ids = new Set(
    [before.unit.machineID, after.unit.machineID].filter((id): id is string => id !== null),
  );
  return [...ids].map((id) => {
    const wasRunning = rowOn(before, id);
    const isHere = after.unit.machineID === id;
    const ran = wasRunning !== undefined && saysRunning(wasRunning);
    return {
      machine_id: id,
      host: null,
      did: isHere ? (ran ? 'restarted' : 'started') : 'stopped',
      before: conditionOn(before, id),
      after: conditionOn(after, id),
      took_ms: tookMs,
      error: null,
    };
  });
}

function conditionOn(seen: Observation, machineID: string): UnitCondition | null {
  const row = rowOn(seen, machineID);
  if (row === undefined) return null;
  return {
    load: row.systemdLoadState,
    active: row.systemdActiveState,
    sub: row.systemdSubState,
    result: null,
    invocation_id: null,
    main_pid: null,
    restarts: null,
    enabled: null,
    desired: seen.unit.desiredState,
  };
}

/** For people. */
export function textOf(unit: string, changes: readonly UnitChange[]): string {
  const lines = changes.map(({ machine_id: id, host, did, before, after, took_ms: ms }) => {
    const where = `machine ${id?.slice(0, 8) ?? 'unknown'}${host === null ? '' : ` (${host})`}`;
    return `${did} on ${where} in ${(ms / 1_000).toFixed(1)} s: ${stateOf(before)} before, ${stateOf(after)} after`;
  });
  return `${unit} was ${lines.join('; ')}`;
}

function stateOf(condition: UnitCondition | null): string {
  if (condition === null) return 'no state';
  const { active, sub, invocation_id: id } = condition;
  return `${active ?? 'unknown'}/${sub ?? 'unknown'}${id === null ? '' : ` (invocation ${id.slice(0, 8)})`}`;
}
