import { number, object, string } from 'yup';
import {
  ActionError,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  type Machine,
  machineId,
  RemoteShell,
  unitName,
  withTimeLimit,
} from '../../src/plugin.js';
import { oldestFirst } from './journal-text.js';
import { journalTime, refusedTime } from './journal-time.js';

const MOST_LINES = 10_000;
const MOST_BYTES = 1024 * 1024;
/** The time for one machine: callers give up after 30 s, and one machine must not be the reason. */
const MACHINE_MS = 20_000;

export default defineAction({
  name: 'unit_logs',
  summary: 'Gives the last lines that a unit wrote to the journal, from every machine on which it runs.',
  target: 'cluster',
  effect: 'read',
  parameters: object({
    unit_name: unitName().required().meta({ description: 'The unit.' }),
    lines: number()
      .integer()
      .min(1)
      .max(MOST_LINES)
      .default(10)
      .meta({ description: 'How many of the last lines, from each machine.' }),
    since: journalTime().optional().meta({
      description: 'Only lines from then on: 2024-05-01 10:00, yesterday, -2h, 30 min ago, @1714500000.',
    }),
    until: journalTime().optional().meta({ description: 'Only lines up to then, in the same forms.' }),
    machine_id: machineId().optional().meta({ description: 'Only from this machine.' }),
  }),
  result: string().defined().meta({
    description: 'The lines as journalctl prints them; headed by its machine, when there are several.',
  }),
  inject: { fleet: FleetTransport, shell: RemoteShell, clock: Clock },

  async handle({ parameters, cluster, signal }, { fleet, shell, clock }) {
    const { unit_name: unit, machine_id: only } = parameters;
    const [ids, machines] = await Promise.all([
      machinesOf(fleet, cluster, unit, signal),
      fleet.machines(cluster, { signal }),
    ]);
    const wanted = only === undefined ? ids : ids.filter((id) => id === only);
    if (wanted.length === 0) {
      const where = only === undefined ? 'on any machine' : `on the machine ${only}`;
      throw new ActionError('unit_not_scheduled', `${unit} is not scheduled ${where}`, {
        details: { machines: ids },
      });
    }
    const read = async (id: string): Promise<string> => {
      const host = addressOf(machines, id);
      const message = `${host} did not answer within ${MACHINE_MS / 1_000} s`;
      return withTimeLimit({ ms: MACHINE_MS, message, clock, signal }, (limited) =>
        journalOf(host, parameters, { shell, signal: limited }),
      );
    };
    const [first, ...others] = wanted;
    if (first !== undefined && others.length === 0) return read(first);
    return together(wanted, await Promise.allSettled(wanted.map(read)), signal);
  },
});

/** The machines of a unit: its one machine; for a global unit every machine that has a state of it. */
async function machinesOf(
  fleet: FleetTransport,
  cluster: Cluster,
  name: string,
  signal: AbortSignal,
): Promise<string[]> {
  const [unit, states] = await Promise.all([
    fleet.unit(cluster, name, { signal }),
    fleet.unitStates(cluster, { unitName: name, signal }),
  ]);
  if (unit === undefined) throw new ActionError('unit_not_found', `The cluster has no unit ${name}`);
  if (unit.machineID !== null) return [unit.machineID];
  return [...new Set(states.map(({ machineID }) => machineID).filter((id) => id !== null))].toSorted();
}

function addressOf(machines: readonly Machine[], id: string): string {
  const machine = machines.find((each) => each.id === id);
  if (machine === undefined)
    throw new ActionError('machine_not_found', `The machine ${id} is no longer in the cluster`);
  if (machine.primaryIP !== null) return machine.primaryIP;
  throw new ActionError('host_unreachable', `fleet lists no address of the machine ${id}`, {
    details: { machine: id, reason: 'no_address' },
  });
}

interface What {
  unit_name: string;
  lines: number;
  since?: string;
  until?: string;
}

async function journalOf(
  host: string,
  what: What,
  { shell, signal }: { shell: RemoteShell; signal: AbortSignal },
): Promise<string> {
  const options = { signal, timeoutMs: MACHINE_MS, maxOutputBytes: MOST_BYTES };
  try {
    return oldestFirst({ ...(await shell.run(host, journalctl(what), options)), maxBytes: MOST_BYTES });
  } catch (error) {
    throw refusedTime(error, what) ?? error;
  }
}

function journalctl({ unit_name: unit, lines, since, until }: What): [string, ...string[]] {
  // Each option is one word: a unit's name may start with a dash (-.mount), and so may a time (-2h).
  return [
    'journalctl',
    `--unit=${unit}`,
    '--no-pager',
    `--lines=${lines}`,
    '--output=short',
    // Without --reverse journalctl gives the first lines after `since`, and none when the last ones are after `until`;
    // and of a too long output the newest lines would be lost.
    '--reverse',
    ...(since === undefined ? [] : [`--since=${since}`]),
    ...(until === undefined ? [] : [`--until=${until}`]),
  ];
}

function together(
  ids: readonly string[],
  parts: readonly PromiseSettledResult<string>[],
  signal: AbortSignal,
): string {
  signal.throwIfAborted();
  const failures = parts.flatMap((part) => (part.status === 'rejected' ? [part.reason as unknown] : []));
  // Nothing could be read, so there is no result. Errors that the caller can correct come first.
  if (failures.length === parts.length) throw failures.find(isCallersFault) ?? failures[0];
  return parts
    .map(
      (part, index) =>
        `==> ${ids[index]} <==\n${part.status === 'fulfilled' ? part.value : reasonOf(part.reason)}`,
    )
    .join('\n');
}

function reasonOf(error: unknown): string {
  if (error instanceof ActionError) return `[not read: ${error.code}: ${error.message}]\n`;
  throw error;
}

function isCallersFault(error: unknown): boolean {
  return error instanceof ActionError && error.code === 'invalid_parameters';
}
