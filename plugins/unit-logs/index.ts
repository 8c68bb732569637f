import { number, object, string } from 'yup';
import {
  ActionError,
  type Cluster,
  defineAction,
  FleetTransport,
  type Machine,
  machineId,
  RemoteShell,
  unitName,
} from '../../src/plugin.js';

const MOST_LINES = 10_000;
const MOST_BYTES = 1024 * 1024;
const TIMEOUT_MS = 20_000;

const UNITS = 'us|ms|s|sec|seconds?|m|min|minutes?|h|hr|hours?|d|days?|w|weeks?|months?|y|years?';
const CLOCK = '([01]\\d|2[0-3]):[0-5]\\d(:[0-5]\\d)?';
/** The points in time that journalctl takes (systemd.time(7)), and no others: nothing else of a caller's reaches it. */
const JOURNAL_TIME = new RegExp(
  [
    `\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])( ${CLOCK})?( UTC)?`,
    CLOCK,
    'now|today|yesterday|tomorrow',
    '@\\d{1,11}',
    `[-+](\\d{1,9} ?(${UNITS}))( ?\\d{1,9} ?(${UNITS})){0,3}`,
    `(\\d{1,9} ?(${UNITS}))( ?\\d{1,9} ?(${UNITS})){0,3} ago`,
  ]
    .map((form) => `^(${form})$`)
    .join('|'),
);

const journalTime = (description: string) =>
  string()
    .max(64)
    .matches(
      JOURNAL_TIME,
      '${path} is not a time such as 2024-05-01 10:00, yesterday, -2h, 30 min ago or @1714500000',
    )
    .optional()
    .meta({ description });

export default defineAction({
  name: 'unit_logs',
  summary: 'Gives the last lines that a unit wrote to the journal, from every machine it runs on.',
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
    since: journalTime('Only lines from then on: 2024-05-01 10:00, yesterday, -2h, 30 min ago, @1714500000.'),
    until: journalTime('Only lines up to then, in the same forms.'),
    machine_id: machineId().optional().meta({ description: 'Only from this machine.' }),
  }),
  result: string().defined().meta({
    description: 'The lines as journalctl prints them; headed by its machine, when there are several.',
  }),
  inject: { fleet: FleetTransport, shell: RemoteShell },

  async handle({ parameters, cluster, signal }, { fleet, shell }) {
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
    const argv = journalctl(parameters);
    const read = async (id: string): Promise<string> => {
      const host = addressOf(machines, id);
      const options = { signal, timeoutMs: TIMEOUT_MS, maxOutputBytes: MOST_BYTES };
      const { stdout: printed, truncated } = await shell.run(host, argv, options);
      const stdout = argv.includes('--reverse') ? oldestFirst(printed) : printed;
      return truncated ? `${stdout}\n[cut: only the first ${MOST_BYTES} bytes]\n` : stdout;
    };
    const [first, ...others] = wanted;
    if (first !== undefined && others.length === 0) return read(first);
    return together(wanted, await Promise.allSettled(wanted.map(read)), signal);
  },
});

/** Where a unit runs: its machine; a global unit, every machine that has a state of it. */
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
  const address = machines.find((machine) => machine.id === id)?.primaryIP ?? undefined;
  if (address !== undefined) return address;
  throw new ActionError('machine_not_found', `The machine ${id} is no longer in the cluster`);
}

function journalctl({
  unit_name: unit,
  lines,
  since,
  until,
}: {
  unit_name: string;
  lines: number;
  since?: string;
  until?: string;
}): [string, ...string[]] {
  // Each option is one word: a unit's name may begin with a dash (-.mount), and so may a time (-2h).
  return [
    'journalctl',
    `--unit=${unit}`,
    '--no-pager',
    `--lines=${lines}`,
    '--output=short',
    ...(since === undefined ? [] : [`--since=${since}`]),
    ...(until === undefined ? [] : [`--until=${until}`]),
    // Forwards, journalctl gives the first lines after `since`, and none at all when the last ones are after `until`.
    ...(since === undefined && until === undefined ? [] : ['--reverse']),
  ];
}

/** Turns lines that are newest first around; the further lines of one entry are indented, and stay with it. */
function oldestFirst(printed: string): string {
  const entries = printed.split(/\n(?=\S)/).map((entry) => entry.replace(/\n$/, ''));
  return printed === '' ? '' : `${entries.toReversed().join('\n')}\n`;
}

function together(
  ids: readonly string[],
  parts: readonly PromiseSettledResult<string>[],
  signal: AbortSignal,
): string {
  signal.throwIfAborted();
  const failures = parts.flatMap((part) => (part.status === 'rejected' ? [part.reason as unknown] : []));
  // With nothing read at all there is no answer to give.
  if (failures.length === parts.length) throw failures[0];
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
