import { number, object, string } from 'yup';
import {
  ActionError,
  Clock,
  type Cluster,
  defineAction,
  FleetTransport,
  type Machine,
  machineId,
  mapLimited,
  type RemoteOutput,
  RemoteShell,
  timeForParts,
  unitName,
  withTimeLimit,
} from '../../src/plugin.js';
import { stderrOf } from './failed-command.js';
import { hasEntries, isForbidden, oldestFirst } from './journal-text.js';
import { journalTime, refusedTime } from './journal-time.js';
import { type MachineFailure, noMachineRead, someNotRead } from './machine-failures.js';
import { readableLine } from './readable-text.js';

const MOST_LINES = 10_000;
/** The number of machines read at the same time. */
const CONCURRENCY = 32;
/** The limit for one machine, in bytes. */
const MOST_BYTES = { min: 16 * 1024, max: 1024 * 1024 };
/** The limit for all machines together, so that the reply can be sent. It is divided equally between them. */
const MOST_BYTES_OF_ALL = 8 * 1024 * 1024;
/** The most machines of one request: with the smallest share for each, all together are within their limit. */
const MOST_MACHINES = MOST_BYTES_OF_ALL / MOST_BYTES.min;
/**
 * The time limit for one machine: a caller times out after 30 s, and one slow machine must not cause that. When machines wait for
 * their turn, it is short enough for two turns.
 */
const MACHINE_MS = { alone: 20_000, inTurns: 12_000 };
/** The time limit for all machines. */
const ALL_MACHINES_MS = 25_000;
/** journalctl has so much less time than its machine, so that the error says what hung: journalctl, or the login shell. */
const MARGIN_MS = 2_000;

export default defineAction({
  name: 'unit_logs',
  summary: 'Returns the last lines that a unit wrote to the journal, from every machine it runs on.',
  target: 'cluster',
  effect: 'read',
  parameters: object({
    unit_name: unitName().required().meta({ description: 'The unit.' }),
    lines: number()
      .integer()
      .min(1)
      .max(MOST_LINES)
      .default(10)
      .meta({ description: 'The number of last lines from each machine.' }),
    since: journalTime().optional().meta({
      description: 'Only lines from this time on: 2024-05-01 10:00, yesterday, -2h, 30 min ago, @1714500000.',
    }),
    until: journalTime().optional().meta({ description: 'Only lines up to this time, in the same formats.' }),
    machine_id: machineId().optional().meta({ description: 'Only from this machine.' }),
  }),
  result: string().defined().meta({
    description:
      'The lines as journalctl prints them; with several machines, each part has a header with the machine id.',
  }),
  inject: { fleet: FleetTransport, shell: RemoteShell, clock: Clock },

  async handle({ parameters, cluster, signal, deadline, warn }, { fleet, shell, clock }) {
    const { unit_name: unit, machine_id: only } = parameters;
    const timeMs = Math.min(ALL_MACHINES_MS, timeForParts(deadline - clock.now()));
    const endsAt = clock.now() + timeMs;
    let flaw: string | undefined;
    const warnOfRows = (text: string) => {
      flaw = text;
      warn(text);
    };
    const [ids, machines] = await Promise.all([
      machinesOf(fleet, cluster, unit, { signal, warn: warnOfRows }),
      fleet.machines(cluster, { signal, warn: warnOfRows }),
    ]);
    const wanted = only === undefined ? ids : ids.filter((id) => id === only);
    if (wanted.length === 0) {
      const where = only === undefined ? 'on any machine' : `on the machine ${only}`;
      const details = { machines: ids };
      if (flaw !== undefined)
        throw new ActionError('cluster_incomplete', `fleet does not show ${unit} ${where}. ${flaw}`, {
          details,
        });
      throw new ActionError('unit_not_scheduled', `${unit} is not scheduled ${where}`, { details });
    }
    const maxBytes = bytesForEach(wanted.length);
    const byId = new Map(machines.map((machine) => [machine.id, machine]));
    const unlisted = wanted.some((id) => !byId.has(id));
    const incompleteness = unlisted ? (flaw ?? (await fleet.incompleteness(cluster, { signal }))) : undefined;
    const mostMs = wanted.length > CONCURRENCY ? MACHINE_MS.inTurns : MACHINE_MS.alone;
    const read = async (id: string): Promise<string> => {
      const host = addressOf(byId, id, incompleteness);
      const ms = Math.min(mostMs, endsAt - clock.now());
      if (ms <= 0) throw notItsTurn(timeMs);
      // Not 'did not respond': its command may have waited for those of other requests.
      const message = `${host} was not read within ${Math.ceil(ms / 1_000)} s`;
      const timeoutMs = Math.floor(ms - Math.min(MARGIN_MS, ms / 4));
      return withTimeLimit({ ms, message, clock, signal }, (limited) =>
        journalOf(host, { ...parameters, maxBytes }, { shell, timeoutMs, signal: limited }),
      );
    };
    const [first, ...others] = wanted;
    if (first !== undefined && others.length === 0) return read(first);
    const asked = wanted.slice(0, MOST_MACHINES);
    const parts = await mapLimited(asked, CONCURRENCY, async (id) => {
      const [part] = await Promise.allSettled([read(id)]);
      return part;
    });
    signal.throwIfAborted();
    const [failure, ...failures] = failuresOf(asked, parts);
    if (failure !== undefined) {
      const all = [failure, ...failures] as const;
      if (all.length === parts.length) throw noMachineRead([...all]);
      warn(someNotRead(all, parts.length));
    }
    const text = combined(asked, parts);
    if (asked.length === wanted.length) return text;
    const tooMany = `${wanted.length - asked.length} more machines were not read: a request reads at most ${MOST_MACHINES}; name one with machine_id`;
    warn(tooMany);
    return `${text}\n[${tooMany}]\n`;
  },
});

function bytesForEach(machines: number): number {
  return Math.max(MOST_BYTES.min, Math.min(MOST_BYTES.max, Math.floor(MOST_BYTES_OF_ALL / machines)));
}

/** The ids of the machines that a unit runs on; for a global unit, all machines that have a state of it. */
async function machinesOf(
  fleet: FleetTransport,
  cluster: Cluster,
  name: string,
  { signal, warn }: { signal: AbortSignal; warn: (text: string) => void },
): Promise<string[]> {
  const [unit, states] = await Promise.all([
    fleet.unit(cluster, name, { signal }),
    fleet.unitStates(cluster, { unitName: name, signal, warn }),
  ]);
  if (unit === undefined) throw new ActionError('unit_not_found', `The cluster has no unit ${name}`);
  if (unit.machineID !== null) return [unit.machineID];
  return [...new Set(states.map(({ machineID }) => machineID).filter((id) => id !== null))].toSorted();
}

/** @param incompleteness what is known to be missing among the machines */
function addressOf(
  machines: ReadonlyMap<string, Machine>,
  id: string,
  incompleteness: string | undefined,
): string {
  const machine = machines.get(id);
  if (machine === undefined && incompleteness !== undefined)
    throw new ActionError('cluster_incomplete', `The machine ${id} is not listed. ${incompleteness}`);
  if (machine === undefined)
    throw new ActionError('machine_not_found', `The machine ${id} is no longer in the cluster`);
  if (machine.primaryIP !== null) return machine.primaryIP;
  throw new ActionError('host_unreachable', `fleet lists no address of the machine ${id}`, {
    details: { machine: id, reason: 'no_address' },
  });
}

function notItsTurn(timeMs: number): ActionError {
  const limit = `${Math.ceil(timeMs / 1_000)} s`;
  return new ActionError(
    'timeout',
    `it was not read within ${limit}, because of too many slow machines; name it with machine_id`,
  );
}

interface JournalQuery {
  unit_name: string;
  lines: number;
  since?: string;
  until?: string;
  maxBytes: number;
}

async function journalOf(
  host: string,
  query: JournalQuery,
  { shell, signal, timeoutMs }: { shell: RemoteShell; signal: AbortSignal; timeoutMs: number },
): Promise<string> {
  const options = { signal, timeoutMs, maxOutputBytes: query.maxBytes, partial: true };
  try {
    const printed = await shell.run(host, journalctl(query), options);
    if (isForbidden(printed)) throw journalForbidden(host);
    if (printed.truncated && !hasEntries(printed)) throw nothingRead(host, query.maxBytes, printed.stderr);
    return textOf(printed, query.maxBytes);
  } catch (error) {
    if (isForbidden({ stdout: '', stderr: stderrOf(error) })) throw journalForbidden(host, error);
    throw refusedTime(error, query) ?? error;
  }
}

/** The newest lines that a journalctl printed before its time limit are shown, without the last one, which may be incomplete. */
function textOf({ failure, ...printed }: RemoteOutput, maxBytes: number): string {
  if (failure === undefined) return oldestFirst(printed, maxBytes);
  const stdout = printed.stdout.slice(0, printed.stdout.lastIndexOf('\n') + 1);
  if (stdout === '') throw failure;
  return `[older lines may be missing: ${readableLine(failure.message)}]\n${oldestFirst({ ...printed, stdout }, maxBytes)}`;
}

function journalForbidden(host: string, cause?: unknown): ActionError {
  const message = `the login user may not read the journal of ${host}: add the user to the group systemd-journal there, which takes effect within 30 s, or set SSH_SUDO=true`;
  return new ActionError('command_failed', message, {
    details: { host, reason: 'journal_forbidden' },
    cause,
  });
}

/** journalctl was stopped before it printed an entry, so it is not known whether the journal has any. */
function nothingRead(host: string, maxBytes: number, stderr: string): ActionError {
  const said = readableLine(stderr.trimStart().split('\n', 1)[0] ?? '').slice(0, 200);
  const reason = said === '' ? '' : `: ${said}`;
  const message = `journalctl on ${host} was stopped: it wrote more than ${maxBytes} bytes, and no line of the journal${reason}`;
  return new ActionError('command_failed', message, { details: { host, reason: 'no_journal_lines' } });
}

function journalctl({ unit_name: unit, lines, since, until }: JournalQuery): [string, ...string[]] {
  // Each option is one word: a unit's name may begin with a dash (-.mount), and so may a time (-2h).
  return [
    'journalctl',
    `--unit=${unit}`,
    '--no-pager',
    `--lines=${lines}`,
    '--output=short',
    // Else a message with a character that is not printable is shown as `[19B blob data]`.
    '--all',
    // Without --reverse, journalctl prints the first lines after `since`, and none when the last lines are after `until`.
    // If the output is truncated, the newest lines would be lost.
    '--reverse',
    ...(since === undefined ? [] : [`--since=${since}`]),
    ...(until === undefined ? [] : [`--until=${until}`]),
  ];
}

function failuresOf(
  ids: readonly string[],
  parts: readonly PromiseSettledResult<string>[],
): MachineFailure[] {
  return parts.flatMap((part, index) => {
    if (part.status === 'fulfilled') return [];
    const error: unknown = part.reason;
    if (!(error instanceof ActionError)) throw error;
    return [{ machine: ids[index] ?? '', error }];
  });
}

function combined(ids: readonly string[], parts: readonly PromiseSettledResult<string>[]): string {
  return parts
    .map((part, index) => {
      const text = part.status === 'fulfilled' ? part.value : failureText(part.reason);
      return `==> ${readableLine(ids[index] ?? '')} <==\n${text}`;
    })
    .join('\n');
}

function failureText({ code, message }: ActionError): string {
  return `[not read: ${readableLine(`${code}: ${message}`)}]\n`;
}
