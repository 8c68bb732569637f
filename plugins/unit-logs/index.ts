import { number, object, string } from 'yup';
import {
  ActionError,
  Clock,
  defineAction,
  FleetTransport,
  type Machine,
  machineId,
  mapLimited,
  readableLine,
  RemoteShell,
  timeForParts,
  unitName,
  withTimeLimit,
} from '../../src/plugin.js';
import { journalTime } from './journal-time.js';
import { journalOf, type MachineJournal } from './machine-journal.js';
import {
  type MachineFailure,
  type MachineGaps,
  noMachineRead,
  someIncomplete,
  someNotRead,
} from './machine-failures.js';
import { machinesToRead } from './machines-to-read.js';

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
    const timeMs = Math.min(ALL_MACHINES_MS, timeForParts(deadline - clock.now()));
    const endsAt = clock.now() + timeMs;
    const target = { unit: parameters.unit_name, only: parameters.machine_id, cluster, signal, warn };
    const { ids, listed, incompleteness, mayBeMore } = await machinesToRead(fleet, target);
    const maxBytes = bytesForEach(ids.length);
    const mostMs = ids.length > CONCURRENCY ? MACHINE_MS.inTurns : MACHINE_MS.alone;
    const read = async (id: string): Promise<MachineJournal> => {
      const host = addressOf(listed, id, incompleteness);
      const ms = Math.min(mostMs, endsAt - clock.now());
      if (ms <= 0) throw notItsTurn(timeMs);
      // Not 'did not respond': its command may have waited for those of other requests.
      const message = `${host} was not read within ${Math.ceil(ms / 1_000)} s`;
      const timeoutMs = Math.floor(ms - Math.min(MARGIN_MS, ms / 4));
      return withTimeLimit({ ms, message, clock, signal }, (limited) =>
        journalOf(host, { ...parameters, maxBytes }, { shell, timeoutMs, signal: limited }),
      );
    };
    const asked = ids.slice(0, MOST_MACHINES);
    const notes: string[] = [];
    if (asked.length < ids.length) notes.push(tooMany(ids.length - asked.length));
    if (mayBeMore && incompleteness !== undefined)
      notes.push(`more machines may have lines: ${incompleteness}`);
    const text = await textOf(asked, read, { signal, warn });
    for (const note of notes) warn(note);
    return [text, ...notes.map((note) => `[${readableLine(note)}]\n`)].join('\n');
  },
});

/** The lines of one machine, or of several, each with a header; the lines of some may be missing, with a warning. */
async function textOf(
  ids: readonly string[],
  read: (id: string) => Promise<MachineJournal>,
  { signal, warn }: { signal: AbortSignal; warn: (text: string) => void },
): Promise<string> {
  const [first, ...others] = ids;
  if (first !== undefined && others.length === 0) {
    const { text, gaps } = await read(first);
    for (const gap of gaps) warn(`Lines may be missing: ${gap}`);
    return text;
  }
  const parts = await mapLimited(ids, CONCURRENCY, async (id) => {
    const [part] = await Promise.allSettled([read(id)]);
    return part;
  });
  signal.throwIfAborted();
  const [failure, ...failures] = failuresOf(ids, parts);
  if (failure !== undefined) {
    const all = [failure, ...failures] as const;
    if (all.length === parts.length) throw noMachineRead([...all]);
    warn(someNotRead(all, parts.length));
  }
  const gaps = gapsOf(ids, parts);
  if (gaps.length > 0) warn(someIncomplete(gaps, parts.length));
  return combined(ids, parts);
}

function bytesForEach(machines: number): number {
  return Math.max(MOST_BYTES.min, Math.min(MOST_BYTES.max, Math.floor(MOST_BYTES_OF_ALL / machines)));
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

function tooMany(notRead: number): string {
  return `${notRead} more machines were not read: a request reads at most ${MOST_MACHINES}; name one with machine_id`;
}

function notItsTurn(timeMs: number): ActionError {
  const limit = `${Math.ceil(timeMs / 1_000)} s`;
  return new ActionError(
    'timeout',
    `it was not read within ${limit}, because of too many slow machines; name it with machine_id`,
  );
}

function failuresOf(
  ids: readonly string[],
  parts: readonly PromiseSettledResult<MachineJournal>[],
): MachineFailure[] {
  return parts.flatMap((part, index) => {
    if (part.status === 'fulfilled') return [];
    const error: unknown = part.reason;
    if (!(error instanceof ActionError)) throw error;
    return [{ machine: ids[index] ?? '', error }];
  });
}

function gapsOf(
  ids: readonly string[],
  parts: readonly PromiseSettledResult<MachineJournal>[],
): MachineGaps[] {
  return parts.flatMap((part, index) =>
    part.status === 'fulfilled' && part.value.gaps.length > 0
      ? [{ machine: ids[index] ?? '', gaps: part.value.gaps }]
      : [],
  );
}

function combined(ids: readonly string[], parts: readonly PromiseSettledResult<MachineJournal>[]): string {
  return parts
    .map((part, index) => {
      const text = part.status === 'fulfilled' ? part.value.text : failureText(part.reason);
      return `==> ${readableLine(ids[index] ?? '')} <==\n${text}`;
    })
    .join('\n');
}

function failureText({ code, message }: ActionError): string {
  return `[not read: ${readableLine(`${code}: ${message}`)}]\n`;
}
