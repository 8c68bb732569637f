import { array, number, object } from 'yup';
import {
  ActionError,
  Clock,
  defineAction,
  FleetTransport,
  isTemplateName,
  machineId,
  mapLimited,
  RemoteShell,
  timeForParts,
  UnitControl,
  unitName,
} from '../../src/plugin.js';
import { askMachine } from './ask-machine.js';
import { machinesToAsk } from './machines-to-ask.js';
import { type MachineStatus, statusResult } from './status-result.js';

const MOST_LINES = 200;
/** The most machines of one request. */
const MOST_MACHINES = 512;
/** The number of machines asked at the same time. */
const CONCURRENCY = 32;
/** The limit for the log of one machine, in bytes. */
const LOG_BYTES = 256 * 1024;
/** The limit for the logs of all machines together, so that the reply can be sent. It is divided equally between them. */
const LOG_BYTES_OF_ALL = 4 * 1024 * 1024;
/** The time limit for one machine; when machines wait for their turn, short enough for two turns. */
const MACHINE_MS = { alone: 20_000, inTurns: 12_000 };
/** The time limit for all machines. */
const ALL_MACHINES_MS = 25_000;

export default defineAction({
  name: 'unit_status',
  summary: 'Returns what systemd says of a unit on each machine that has it, with the last lines of its log.',
  target: 'cluster',
  effect: 'read',
  parameters: object({
    unit_name: unitName()
      .required()
      .test(
        'no-template',
        '${path} is a template: only its instances run, such as web@1.service',
        (value) => value === undefined || !isTemplateName(value),
      )
      .meta({ description: 'The unit; not a template.' }),
    machine_ids: array(machineId().required())
      .min(1)
      .max(MOST_MACHINES)
      .optional()
      .meta({ description: 'Only these machines, also when the cluster does not list the unit there.' }),
    lines: number()
      .integer()
      .min(0)
      .max(MOST_LINES)
      .default(10)
      .meta({ description: 'The number of last lines of its log from each machine.' }),
  }),
  result: statusResult,
  inject: { fleet: FleetTransport, shell: RemoteShell, units: UnitControl, clock: Clock },

  async handle({ parameters, cluster, signal, deadline, warn }, { fleet, shell, units, clock }) {
    const { unit_name: unit, machine_ids: only, lines } = parameters;
    const endsAt = clock.now() + Math.min(ALL_MACHINES_MS, timeForParts(deadline - clock.now()));
    const searches = units.kindOf(cluster) === 'systemd';
    const found = await machinesToAsk(fleet, { unit, only, searches, cluster, signal, warn });
    const machines = found.machines.slice(0, MOST_MACHINES);
    if (machines.length < found.machines.length) warn(tooMany(found.machines.length - machines.length));

    const logBytes = Math.min(LOG_BYTES, Math.floor(LOG_BYTES_OF_ALL / Math.max(1, machines.length)));
    const mostMs = machines.length > CONCURRENCY ? MACHINE_MS.inTurns : MACHINE_MS.alone;
    const statuses = await mapLimited(machines, CONCURRENCY, async (machine) => {
      const ms = Math.min(mostMs, endsAt - clock.now());
      return askMachine(machine, { unit, lines, logBytes, ms, shell, clock, signal });
    });
    const having = found.isListed ? statuses : statuses.filter(mayHaveIt);
    if (!found.isListed) requireSome(having, unit, found.failure);
    return { unit, desired_state: found.unit?.desiredState ?? null, machines: having };
  },
});

/** Whether systemd knows the unit there: a unit whose file is gone may run on. */
function mayHaveIt({ load, active }: MachineStatus): boolean {
  return load !== 'not-found' || active !== 'inactive';
}

/** @throws ActionError when no machine knows a unit that the cluster does not list */
function requireSome(
  statuses: readonly MachineStatus[],
  unit: string,
  failure: ActionError | undefined,
): void {
  if (statuses.some(({ load }) => load !== null)) return;
  if (failure !== undefined) throw failure;
  if (statuses.length === 0) throw new ActionError('unit_not_found', `The cluster has no unit ${unit}`);
}

function tooMany(notAsked: number): string {
  return `${notAsked} more machines were not asked: a request asks at most ${MOST_MACHINES}; name them with machine_ids`;
}
