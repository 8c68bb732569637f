import {
  ActionError,
  type Clock,
  type ClockOffset,
  clockOffset,
  type LoadedUnit,
  mapLimited,
  type RemoteOutput,
  type RemoteShell,
  runTogether,
  UNIT_CHECK_SCRIPT,
  withTimeLimit,
} from '../../src/plugin.js';
import { DISK_PATHS, type FileSystem, fileSystemsIn } from './file-systems.js';
import { clusterUnitsIn, fleetFilesIn, type ShownUnit, shownUnitsIn } from './machine-units.js';

/** A machine that is asked by SSH. */
export interface MachineToAsk {
  /** As fleet lists it; null: it does not, or the cluster has no fleet. */
  id: string | null;
  host: string;
}

/** What a machine says of itself; undefined where it could not be read. */
export interface MachineReport extends MachineToAsk {
  /** Of /etc/machine-id. */
  ownID: string | undefined;
  /** Every unit that PID 1 has loaded, by name. */
  loaded: ReadonlyMap<string, LoadedUnit> | undefined;
  /** More of those that are the operator's. */
  shown: readonly ShownUnit[];
  /** The unit files that fleet has written there. */
  fleetFiles: readonly string[];
  fileSystems: readonly FileSystem[];
  clock: ClockOffset | undefined;
  /** Why parts could not be read. */
  problems: readonly { part: string; reason: string }[];
}

/** A machine that could not be asked, and why. */
export interface SilentMachine extends MachineToAsk {
  error: ActionError;
}

/** What came of asking machines. */
export interface AskedMachines {
  reports: readonly MachineReport[];
  silent: readonly SilentMachine[];
}

export interface AskContext {
  shell: RemoteShell;
  clock: Clock;
  signal: AbortSignal;
  /** The clock's time until which machines are asked. */
  endsAt: number;
}

/** How many machines are asked at the same time. */
const AT_ONCE = 64;
/** How long one machine has to answer, with the time to connect. */
const MACHINE_MS = 15_000;
/** How long one program may take. */
const PROGRAM_MS = 8_000;
/** Of each program: some thousands of units. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
/** Between the two looks at units that systemd has restarted. */
const BETWEEN_LOOKS_SECONDS = 3;

/** Asks machines, each in one round trip. One that does not answer costs the others nothing. @throws the signal's reason */
export async function askMachines(
  machines: readonly MachineToAsk[],
  context: AskContext,
): Promise<AskedMachines> {
  const answers = await mapLimited(machines, AT_ONCE, async (machine) => {
    try {
      return { report: await askWithin(machine, context), silent: undefined };
    } catch (error) {
      context.signal.throwIfAborted();
      if (error instanceof ActionError) return { report: undefined, silent: { ...machine, error } };
      throw error;
    }
  });
  return {
    reports: answers.flatMap(({ report }) => report ?? []),
    silent: answers.flatMap(({ silent }) => silent ?? []),
  };
}

async function askWithin(machine: MachineToAsk, { clock, endsAt, ...context }: AskContext) {
  const ms = Math.min(MACHINE_MS, endsAt - clock.now());
  if (ms <= 0)
    throw new ActionError('timeout', `${machine.host} was not asked, as the time of the request was over`);
  const message = `${machine.host} did not answer within ${Math.ceil(ms / 1_000)} s`;
  return withTimeLimit({ ms, message, clock, signal: context.signal }, async (signal) =>
    ask(machine, { ...context, clock, signal, looksAgain: ms === MACHINE_MS }),
  );
}

async function ask(
  machine: MachineToAsk,
  { shell, clock, signal, looksAgain }: Omit<AskContext, 'endsAt'> & { looksAgain: boolean },
): Promise<MachineReport> {
  const seconds = looksAgain ? BETWEEN_LOOKS_SECONDS : 0;
  const askedAt = clock.wallTime();
  const { outputs, began, ended } = await runTogether(
    shell,
    machine.host,
    [
      ['cat', '/etc/machine-id'],
      ['ls', '-A', '/run/fleet/units'],
      ['systemctl', 'list-units', '--all', '--full', '--plain', '--no-legend', '--no-pager'],
      ['sh', '-c', UNIT_CHECK_SCRIPT, 'sh', String(seconds)],
      ['cat', '/proc/mounts'],
      // What may hang is last.
      ['df', '-P', '-k', ...DISK_PATHS],
      ['df', '-P', '-i', ...DISK_PATHS],
    ],
    { signal, timeoutMs: PROGRAM_MS, maxOutputBytes: MAX_OUTPUT_BYTES },
  );
  const [id, fleetFiles, loaded, shown, mounts, blocks, inodes] = outputs;
  const problems: { part: string; reason: string }[] = [];
  const read = <Part>(part: string, output: RemoteOutput, parse: (text: string) => Part | undefined) => {
    const parsed = output.truncated ? undefined : parse(output.stdout);
    if (parsed === undefined)
      problems.push({ part, reason: output.failure?.message ?? 'it is too long, or not what it should be' });
    return parsed;
  };
  const unitList = read('its units', loaded, clusterUnitsIn);
  return {
    ...machine,
    ownID: /^[0-9a-f]{32}$/.exec(id.stdout.trim())?.[0],
    loaded: unitList,
    // Without systemd that has been said once.
    shown: (unitList && read('the properties of its units', shown, ifWell(shown, shownUnitsIn))) ?? [],
    fleetFiles: fleetFilesIn(fleetFiles.stdout),
    fileSystems: read('its disks', blocks, (text) => fileSystemsIn(text, inodes.stdout, mounts.stdout)) ?? [],
    clock: clockOffset({ began, ended, askedAt, answeredAt: clock.wallTime() }),
    problems,
  };
}

/** Of a program that has failed, what it has written may lack something. */
function ifWell<Part>({ failure }: RemoteOutput, parse: (text: string) => Part) {
  return (text: string) => (failure === undefined ? parse(text) : undefined);
}
