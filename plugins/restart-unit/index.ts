import { mixed, object, string } from 'yup';
import {
  ActionError,
  type ActionRequest,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  machinesOfChange,
  runnableUnit,
  settleSeconds,
  type UnitChange,
  UnitControl,
  waitSeconds,
} from '../../src/plugin.js';
import { changesOf, textOf } from './changes.js';
import { leftBehind } from './left-behind.js';
import { restart } from './restart.js';

/** The answer with `format: structured`. */
interface Structured {
  unit: string;
  changes: UnitChange[];
  /** What the answer is without it. */
  text: string;
}

export default defineAction({
  name: 'restart_unit',
  summary: 'Restarts a unit, and checks that it really stopped and is up again.',
  target: 'cluster',
  effect: 'change',
  // Machines know what they have done for a request. What fleet was asked for by a lost worker is for `probe`.
  redelivery: 'run-again',
  parameters: object({
    unit_name: runnableUnit().required().meta({ description: 'The unit; not a template.' }),
    wait_seconds: waitSeconds('The time limit for stopping and starting together, in seconds.', {
      seconds: 25,
    }),
    machine_ids: machinesOfChange(),
    settle_seconds: settleSeconds(
      'How long it must stay active, by the same start, in seconds; fleet watches it for 7.',
    ),
    format: string()
      .oneOf(['text', 'structured'] as const)
      .default('text')
      .meta({ description: 'text: a string for people; structured: { unit, changes, text }.' }),
  }),
  result: mixed((value): value is string | Structured => value !== undefined)
    .defined()
    .meta({
      type: ['string', 'object'],
      description:
        'A string for people: the states before and after, and how long it took. With format structured the object { unit, changes, text }, where changes has what was done on each machine.',
    }),
  inject: { fleet: FleetTransport, units: UnitControl, clock: Clock },

  async handle(request, { fleet, units, clock }) {
    const { unit_name: unit } = request.parameters;
    if (isForMachines(request, units)) return onMachines(request, units);
    if (request.repeated) throw deliveredBefore(unit);
    try {
      return await byFleet(request, { fleet, clock });
    } catch (error) {
      // fleet cannot say when such a unit is up again; its machines can.
      if (error instanceof ActionError && error.code === 'unit_is_global') return onMachines(request, units);
      throw request.signal.aborted && error === request.signal.reason ? notChanged(unit, error) : error;
    }
  },

  // A unit that is set to be up was restarted, or was never stopped: which one cannot be known.
  async probe(request, { fleet, units, clock }) {
    const { parameters, cluster, signal, log } = request;
    const { unit_name: unit } = parameters;
    if (isForMachines(request, units)) return onMachines(request, units);
    const left = await leftBehind(unit, { fleet, cluster, signal, log });
    if (left === 'stopped') return byFleet({ ...request, repeated: true }, { fleet, clock });
    // Whichever host lags behind, it must be up in the end.
    if (left === 'unclear') await fleet.setDesiredState(cluster, unit, 'launched', { signal });
    return undefined;
  },
});

interface Parameters {
  unit_name: string;
  wait_seconds: number;
  machine_ids?: string[] | undefined;
  settle_seconds: number;
  format: 'text' | 'structured';
}

type Request = ActionRequest<Parameters, Cluster>;

/** Whether the machines are told themselves; else fleet is. */
function isForMachines({ parameters, cluster }: Request, units: UnitControl): boolean {
  return parameters.machine_ids !== undefined || units.kindOf(cluster) === 'systemd';
}

async function onMachines(request: Request, units: UnitControl): Promise<string | Structured> {
  const { unit_name: unit, wait_seconds, settle_seconds, machine_ids: machines } = request.parameters;
  const times = { timeoutMs: wait_seconds * 1_000, settleMs: settle_seconds * 1_000 };
  const order = { unit, verb: 'restart', machines, ...times } as const;
  const changes = await units.change(request, order);
  return answer(request, changes, textOf(unit, changes));
}

async function byFleet(
  request: Request,
  { fleet, clock }: { fleet: FleetTransport; clock: Clock },
): Promise<string | Structured> {
  const { parameters, cluster, signal, log, repeated, warn } = request;
  const { unit_name: unit, wait_seconds: wait } = parameters;
  const begun = clock.now();
  const parts = { fleet, clock, cluster, signal, log, repeated, warn };
  const restarted = await restart(unit, wait * 1_000, parts);
  return answer(request, changesOf(restarted, clock.now() - begun), restarted.text);
}

function answer({ parameters }: Request, changes: UnitChange[], text: string): string | Structured {
  return parameters.format === 'structured' ? { unit: parameters.unit_name, changes, text } : text;
}

/** The error of a request that ended before it changed anything: it can be sent again. */
function notChanged(unit: string, reason: unknown): ActionError {
  const [code, why] =
    reason instanceof ActionError ? [reason.code, reason.message] : ['cancelled', String(reason)];
  return new ActionError(code, `${unit} was not changed: ${why}`, { cause: reason });
}

/** The error of a request that another worker may have begun, where fleet cannot tell what came of it. */
function deliveredBefore(unit: string): ActionError {
  return new ActionError(
    'outcome_unknown',
    `This request was delivered before, so ${unit} may have been restarted already. It is not restarted again`,
  );
}
