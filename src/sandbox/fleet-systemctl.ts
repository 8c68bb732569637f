import type { MachineSystemd } from './cluster.js';
import type { CommandSteps } from './command-steps.js';
import type { CommandResult } from './simulated-machine.js';
import { jobOutcome, printed, refused } from './systemd/systemctl-texts.js';

export interface FleetSystemctlContext {
  systemd: MachineSystemd;
  /** The process of a unit that runs: another one for each start. */
  mainPID: (unit: string) => number;
}

const LOOK_MS = 10;

/**
 * `systemctl` of systemd 229 on a machine of a simulated fleet cluster, as root, for what the service sends there: `show`, `restart`,
 * `reload` and `reset-failed` of one unit. 229 knows neither invocation ids nor counters of restarts.
 */
export function* fleetSystemctl(
  args: readonly string[],
  { systemd, mainPID }: FleetSystemctlContext,
): CommandSteps {
  const at = args.indexOf('--');
  const [verb = '', ...options] = args.slice(0, at < 0 ? 1 : at);
  const unit = args.at(-1) ?? '';
  const state = systemd.state(unit);
  if (verb === 'show') {
    const wanted = options.flatMap((option) => option.replace(/^--property=/, '').split(','));
    const lines = Object.entries(propertiesOf(unit, { systemd, mainPID }));
    return printed(
      lines
        .filter(([name]) => wanted.includes(name))
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    );
  }
  if (verb === 'reset-failed') {
    if (state === undefined)
      return refused(`Failed to reset failed state of unit ${unit}: Unit ${unit} is not loaded.`);
    systemd.resetFailed(unit);
    return { status: 0 };
  }
  if (verb !== 'restart' && verb !== 'reload')
    return refused(`sandbox: systemctl ${verb} is not simulated on machines of fleet`);
  if (state === undefined) return refused(`Failed to ${verb} ${unit}: Unit ${unit} not found.`, 5);
  if (verb === 'reload') {
    if (!canReload(systemd, unit))
      return refused(`Failed to reload ${unit}: Job type reload is not applicable for unit ${unit}.`, 3);
    return state[0] === 'active' ? { status: 0 } : refused(`${unit} is not active, cannot reload.`);
  }
  systemd.restart(unit);
  while (isChanging(systemd.state(unit))) {
    yield LOOK_MS;
    systemd.runDue();
  }
  const isFailedJob = systemd.state(unit)?.[0] === 'failed' && typeOf(systemd, unit) === 'oneshot';
  return isFailedJob ? jobOutcome(unit, 'failed') : ({ status: 0 } satisfies CommandResult);
}

function isChanging(state: readonly [active: string, sub: string] | undefined): boolean {
  return state?.[0] === 'deactivating' || state?.join() === 'activating,start';
}

function propertiesOf(unit: string, { systemd, mainPID }: FleetSystemctlContext): Record<string, string> {
  const state = systemd.state(unit);
  const [active, sub] = state ?? ['inactive', 'dead'];
  const isRunning = active === 'active' && sub === 'running';
  const hasFailed = active === 'failed';
  return {
    Type: state === undefined ? '' : typeOf(systemd, unit),
    RemainAfterExit: 'no',
    MainPID: isRunning ? String(mainPID(unit)) : '0',
    Result: hasFailed ? 'exit-code' : 'success',
    ExecMainStatus: hasFailed ? '1' : '0',
    LoadState: state === undefined ? 'not-found' : 'loaded',
    ActiveState: active,
    SubState: sub,
    // fleet links its units into /run/systemd/system.
    UnitFileState: state === undefined ? '' : 'linked-runtime',
    CanReload: state !== undefined && canReload(systemd, unit) ? 'yes' : 'no',
    NeedDaemonReload: 'no',
    ConditionResult: active === 'inactive' ? 'no' : 'yes',
    ConditionTimestampMonotonic: '0',
  };
}

function typeOf(systemd: MachineSystemd, unit: string): string {
  const type = systemd
    .options(unit)
    .findLast(({ section, name }) => section === 'Service' && name === 'Type');
  return type?.value ?? 'simple';
}

function canReload(systemd: MachineSystemd, unit: string): boolean {
  return systemd.options(unit).some(({ section, name }) => section === 'Service' && name === 'ExecReload');
}
