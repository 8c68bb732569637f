import type { UnitOption } from '../api/fleet-transport.js';
import { systemdBoolean } from '../api/unit-booleans.js';

/**
 * How a unit reacts to a change of its desired state, if it does not simply follow it:
 * - `never-stops`: once up it stays up, in any desired state
 * - `never-starts`: launched, it stays `activating`
 * - `fails-at-start`: launched, it ends as `failed`; fleet still reports `launched`
 * - `never-scheduled`: it is not scheduled to any machine
 * - `flaps`: launched, it alternates between `active` and `activating`
 */
export type UnitBehaviour = 'never-stops' | 'never-starts' | 'fails-at-start' | 'never-scheduled' | 'flaps';

/** systemd's active state and sub state. */
export type SystemdState = readonly [active: string, sub: string];

export const STARTING: SystemdState = ['activating', 'start'];
export const RESTARTING: SystemdState = ['activating', 'auto-restart'];
export const STOPPING: SystemdState = ['deactivating', 'stop-sigterm'];
export const STOPPED: SystemdState = ['inactive', 'dead'];

const UP_BY_TYPE: Readonly<Record<string, SystemdState>> = {
  automount: ['active', 'waiting'],
  busname: ['active', 'listening'],
  device: ['active', 'plugged'],
  mount: ['active', 'mounted'],
  path: ['active', 'waiting'],
  scope: ['active', 'running'],
  service: ['active', 'running'],
  socket: ['active', 'listening'],
  timer: ['active', 'waiting'],
};

/** The final state of a launched unit; the sub state of a unit that is up depends on its type. */
export function launchedState(
  { name, options }: { name: string; options: readonly UnitOption[] },
  behaviour: UnitBehaviour | undefined,
): SystemdState {
  if (behaviour === 'fails-at-start') return ['failed', 'failed'];
  if (behaviour === 'never-starts') return STARTING;
  const type = options.findLast((option) => option.section === 'Service' && option.name === 'Type')?.value;
  if (type === 'oneshot')
    return systemdBoolean(options, 'Service', 'RemainAfterExit') ? ['active', 'exited'] : STOPPED;
  return UP_BY_TYPE[name.slice(name.lastIndexOf('.') + 1)] ?? ['active', 'active'];
}

/** Whether some process of the unit runs, or its mount or socket exists. */
export function isUp([active]: SystemdState): boolean {
  return active === 'active' || active === 'activating' || active === 'deactivating';
}
