import type { DesiredState, Machine, Unit, UnitState } from '../../api/fleet-transport.js';
import { systemdBoolean } from '../../api/unit-booleans.js';
import type { UnitCondition } from '../../api/unit-control.js';
import { unitFileHash } from '../../api/unit-file.js';
import { isGlobalUnit, machinesMeeting } from '../../api/unit-requirements.js';

/** What fleet shows of a unit at one time. */
export interface Shown {
  unit: Unit;
  rows: readonly UnitState[];
}

/** fleet shows a change after up to 7 s: what it shows for longer is not from before. In milliseconds. */
const STALE_MS = 8_000;

/** Whether a unit in this state of systemd may have processes. */
export function mayRun(active: string | null): boolean {
  return active !== null && active !== 'inactive' && active !== 'failed';
}

/** What fleet shows of the unit on one machine; null: nothing. */
export function conditionOn({ unit, rows }: Shown, machineID: string | null): UnitCondition | null {
  const row = rows.find((each) => each.machineID === machineID);
  if (row === undefined && machineID !== null) return null;
  return {
    load: row?.systemdLoadState ?? null,
    active: row?.systemdActiveState ?? null,
    sub: row?.systemdSubState ?? null,
    result: null,
    invocation_id: null,
    main_pid: null,
    restarts: null,
    enabled: null,
    desired: unit.desiredState,
  };
}

/**
 * Whether the cluster shows that it has carried out an order.
 * - `launched`: the unit is active on its machine, or on all that a global one needs. One that does its work once and ends is so when it
 *   is inactive, and that is no state of before.
 * - `loaded`: it is on a machine, and each machine on which it ran says that it has stopped. That a machine reports nothing proves nothing.
 * - `inactive`: it is on no machine, and none says that it runs.
 */
export function hasArrived(
  seen: Shown,
  {
    state,
    before,
    machines,
    sinceMs,
  }: { state: DesiredState; before: Shown; machines: readonly Machine[]; sinceMs: number },
): 'yes' | 'no' | 'failed' {
  if (seen.unit.desiredState !== state) return 'no';
  const current = seen.rows.filter((row) => isOfPresentFile(row, seen));
  const isOld = sinceMs < STALE_MS;
  if (state === 'launched') {
    const needed = isGlobalUnit(seen.unit)
      ? machinesMeeting(seen.unit, machines).map(({ id }) => id)
      : seen.unit.machineID === null
        ? []
        : [seen.unit.machineID];
    if (needed.length === 0) return 'no';
    const states = needed.map((id) => ({ id, active: activeOn(current, id) }));
    if (
      states.some(
        ({ id, active }) =>
          active === 'failed' && !(isOld && activeOn(before.rows, id) === 'failed') && isLaunched(seen),
      )
    )
      return 'failed';
    const isUp = (active: string | null) =>
      active === 'active' || (active === 'inactive' && endsByItself(seen) && !isOld);
    return isLaunched(seen) && states.every(({ active }) => isUp(active)) ? 'yes' : 'no';
  }
  const stillRuns = current.some(({ systemdActiveState }) => mayRun(systemdActiveState));
  if (stillRuns) return 'no';
  if (state === 'inactive') return isOrder(seen, 'inactive') ? 'yes' : 'no';
  const ran = before.rows.filter(({ systemdActiveState }) => mayRun(systemdActiveState));
  const haveStopped = ran.every(
    ({ machineID }) => machineID !== null && activeOn(seen.rows, machineID) !== null,
  );
  return haveStopped && isOrder(seen, 'loaded') ? 'yes' : 'no';
}

/** fleet says nothing of the current state of a global unit. */
function isLaunched(seen: Shown): boolean {
  return isOrder(seen, 'launched');
}

function isOrder({ unit }: Shown, state: DesiredState): boolean {
  return isGlobalUnit(unit) || unit.currentState === state;
}

function activeOn(rows: readonly UnitState[], machineID: string): string | null {
  return rows.find((row) => row.machineID === machineID)?.systemdActiveState ?? null;
}

function isOfPresentFile(row: UnitState, { unit }: Shown): boolean {
  return row.hash === null || row.hash === unitFileHash(unit.options);
}

function endsByItself({ unit: { options } }: Shown): boolean {
  const type = options
    .findLast(({ section, name }) => section === 'Service' && name === 'Type')
    ?.value.trim();
  return type === 'oneshot' && !systemdBoolean(options, 'Service', 'RemainAfterExit');
}
