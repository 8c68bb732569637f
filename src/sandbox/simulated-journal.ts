import type { Unit, UnitState } from '../api/fleet-transport.js';
import type { ClusterState } from './cluster.js';
import { parseJournalTime } from './journal-time.js';
import type { CommandResult, SimulatedMachine } from './simulated-machine.js';
import { hashNumber, seedOf } from './hash-number.js';

/** The data from which the journal is generated. */
export type JournalSource = Pick<ClusterState, 'unit' | 'states' | 'flaps'> & {
  /** What systemd has really written about a unit, oldest first; undefined: that is not known. */
  messages?(name: string): readonly { at: number; text: string }[];
};

interface Entry {
  /** Milliseconds since the epoch. */
  at: number;
  /** The program that wrote it, such as `docker[1234]`. */
  from: string;
  text: string;
}

/** How often a running unit writes an entry. */
const SLOT_MS = 30_000;
const HOUR = 3_600_000;
const SYSTEMD = 'systemd[1]';

/**
 * Simulates journalctl of systemd 252, for the options `--unit=`, `--no-pager`, `--lines=`, `--output=short`, `--all`,
 * `--since=`, `--until=` and `--reverse`. Undefined for other options, or without a unit.
 *
 * As in systemd, `--lines` counts forwards from `since`. Without `since` it counts backwards from the end, and `until`
 * then removes entries from those. With `--reverse` it counts backwards from `until`.
 */
export function runJournalctl(
  args: readonly string[],
  machine: SimulatedMachine,
  { source, now }: { source: JournalSource; now: number },
): CommandResult | undefined {
  const options = readOptions(args);
  const unit = options?.get('unit');
  if (options === undefined || unit === undefined) return undefined;

  const lines = options.get('lines') ?? String(Number.MAX_SAFE_INTEGER);
  if (!/^\d+$/.test(lines)) return refused(`Failed to parse lines '${lines}'`);
  const bounds = new Map<string, number>();
  for (const name of ['since', 'until']) {
    const text = options.get(name);
    const at = text === undefined ? undefined : parseJournalTime(text, now);
    if (text !== undefined && at === undefined) return refused(`Failed to parse timestamp: ${text}`);
    if (at !== undefined) bounds.set(name, at);
  }
  const since = bounds.get('since');
  const until = bounds.get('until') ?? Infinity;
  if (since !== undefined && since > until) return refused('--since= must be before --until=.');

  const reverse = options.has('reverse');
  const entries = select(newestFirst(unit, machine, source, now), {
    since,
    until,
    count: Number(lines),
    reverse,
  });
  if (entries.length === 0) return { status: 0, stdout: '-- No entries --\n' };
  return { status: 0, stdout: entries.map((entry) => shortLine(entry, machine.hostName)).join('') };
}

/** The options with their values; undefined when one is unknown or repeated. */
function readOptions(args: readonly string[]): Map<string, string> | undefined {
  const options = new Map<string, string>();
  for (const arg of args) {
    const [, name, value = ''] = /^--(unit|lines|since|until)=(.*)$/s.exec(arg) ?? [];
    if (name === undefined && !FLAGS.includes(arg)) return undefined;
    const key = name ?? arg.slice(2);
    if (options.has(key)) return undefined;
    options.set(key, value);
  }
  return options;
}

const FLAGS: readonly string[] = ['--no-pager', '--reverse', '--output=short', '--all'];

function refused(reason: string): CommandResult {
  return { status: 1, stderr: `${reason}\n` };
}

function select(
  entries: Iterable<Entry>,
  {
    since = -Infinity,
    until,
    count,
    reverse,
  }: { since: number | undefined; until: number; count: number; reverse: boolean },
): Entry[] {
  const newest: Entry[] = [];
  // Forwards from `since` the oldest entries count, and those come last here.
  const limit = since === -Infinity || reverse ? count : Infinity;
  let counted = 0;
  for (const entry of entries) {
    if (counted >= limit || entry.at < since) break;
    const inTime = entry.at <= until;
    if (inTime) newest.push(entry);
    if (inTime || !reverse) counted += 1;
  }
  return reverse ? newest : newest.toReversed().slice(0, count);
}

/** The entries of a unit on a machine, newest first. Repeated calls give the same entries, plus newer ones. */
function* newestFirst(
  name: string,
  machine: SimulatedMachine,
  source: JournalSource,
  now: number,
): Generator<Entry> {
  if (name === 'systemd-journald.service') {
    yield { at: machine.bootedAt, from: 'systemd-journald[18]', text: 'Journal started' };
    return;
  }
  const said = source.messages?.(name).map(({ at, text }) => ({ at, from: SYSTEMD, text })) ?? [];
  for (const entry of generated(name, machine, source, now)) {
    while (said.length > 0 && (said.at(-1)?.at ?? 0) > entry.at) yield* said.splice(-1);
    yield entry;
  }
  yield* said.toReversed();
}

/** The entries that a unit in its state would have, newest first. */
function* generated(
  name: string,
  machine: SimulatedMachine,
  source: JournalSource,
  now: number,
): Generator<Entry> {
  const row = source.states().find((state) => state.name === name && state.machineID === machine.id);
  if (row === undefined) return;
  const { first, work, workUntil, last } = historyOf(name, row, machine, { source, now });
  yield* last.toReversed();
  const from = machine.bootedAt + HOUR;
  for (let slot = Math.floor(workUntil / SLOT_MS) - 1; slot * SLOT_MS >= from; slot--) {
    yield* work(slot).toReversed();
  }
  yield* first.toReversed();
}

/** The entries of a unit in three phases: its start, its regular work, its end. */
interface UnitHistory {
  first: readonly Entry[];
  /** The entries of one time slot. */
  work: (slot: number) => readonly Entry[];
  workUntil: number;
  last: readonly Entry[];
}

function historyOf(
  name: string,
  { systemdActiveState: active }: UnitState,
  machine: SimulatedMachine,
  { source, now }: { source: JournalSource; now: number },
): UnitHistory {
  const unit = source.unit(name);
  const options = typeof unit === 'object' ? unit.options : [];
  const seed = seedOf(machine.id, name);
  const description = describe(name, options);
  const writer = `${programOf(options)}[${mainPid(name, machine)}]`;
  const begin = startedAt(name, machine);

  const systemd = (at: number, text: string): Entry => ({ at, from: SYSTEMD, text });
  const crash = (at: number): Entry[] => [
    { at, from: writer, text: 'fatal: cannot reach the backend: connection refused' },
    systemd(at + 40, `${name}: Main process exited, code=exited, status=1/FAILURE`),
    systemd(at + 41, `${name}: Unit entered failed state.`),
    systemd(at + 41, `${name}: Failed with result 'exit-code'.`),
  ];
  const starting = systemd(begin, `Starting ${description}...`);
  const up = systemd(
    begin + 300,
    `${VERBS[name.slice(name.lastIndexOf('.') + 1)] ?? 'Started'} ${description}.`,
  );
  const idle: UnitHistory = { first: [starting, up], work: () => [], workUntil: now, last: [] };

  if (source.flaps(name)) {
    const again = (slot: number) => [
      systemd(slot * SLOT_MS, `Started ${description}.`),
      ...crash(slot * SLOT_MS + 2_000),
      systemd(slot * SLOT_MS + 12_000, `${name}: Service hold-off time over, scheduling restart.`),
      systemd(slot * SLOT_MS + 12_010, `Stopped ${description}.`),
    ];
    return { ...idle, work: again };
  }
  if (active === 'failed') return { ...idle, last: crash(begin + 5_000) };
  if (active === 'activating') return { ...idle, first: [starting] };
  if (!name.endsWith('.service')) return idle;
  const work = (slot: number): Entry[] => {
    const number = hashNumber(seed ^ slot);
    const text = WORK[number % WORK.length]?.(number >>> 4) ?? '';
    return [{ at: slot * SLOT_MS + (number % SLOT_MS), from: writer, text }];
  };
  if (active === 'active') return { ...idle, work };
  const stopped = machine.bootedAt + 2 * HOUR;
  return {
    ...idle,
    work,
    workUntil: stopped,
    last: [systemd(stopped, `Stopping ${description}...`), systemd(stopped + 500, `Stopped ${description}.`)],
  };
}

/** The process id of a unit's program. @param starts how often it was started since the sandbox was */
export function mainPid(name: string, { id }: SimulatedMachine, starts = 0): number {
  return 1_000 + (seedOf(id, name) % 20_000) + 7 * starts;
}

/** When a unit was started after the machine was booted, in milliseconds since the epoch. */
export function startedAt(name: string, { id, bootedAt }: SimulatedMachine): number {
  return bootedAt + 20_000 + (seedOf(id, name) % 20_000);
}

/** The verb that systemd logs when a unit is up, by its type; `Started` for all others. */
const VERBS: Readonly<Record<string, string>> = {
  automount: 'Set up automount',
  mount: 'Mounted',
  socket: 'Listening on',
  target: 'Reached target',
};

const WORK: readonly ((number: number) => string)[] = [
  (number) => `GET /healthz 200 ${(number % 9) + 1} ms`,
  (number) => `accepted connection from 10.0.${number % 4}.${(number % 250) + 1}`,
  (number) => `${(number % 900) + 20} requests in the last minute, slowest ${(number % 700) + 30} ms`,
  (number) => `cache: ${number % 100}% hits`,
  (number) => `job ${number % 100_000} done in ${(number % 4_000) + 12} ms`,
];

/** A unit's description with the most common specifiers replaced (systemd.unit(5)). */
function describe(name: string, options: Unit['options']): string {
  const description = options.find(
    (option) => option.section === 'Unit' && option.name === 'Description',
  )?.value;
  const prefix = name.slice(0, name.lastIndexOf('.'));
  const at = prefix.indexOf('@');
  const values: Record<string, string> = {
    '%n': name,
    '%p': at < 0 ? prefix : prefix.slice(0, at),
    '%i': at < 0 ? '' : prefix.slice(at + 1),
  };
  return (description ?? name).replace(/%[nip]/g, (specifier) => values[specifier] ?? '');
}

/** The program of a service, as the journal shows it. */
function programOf(options: Unit['options']): string {
  const command =
    options.find(({ section, name }) => section === 'Service' && name === 'ExecStart')?.value ?? '';
  const [path = ''] = command.split(' ');
  return path.slice(path.lastIndexOf('/') + 1) || 'sh';
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

function shortLine({ at, from, text }: Entry, hostName: string): string {
  const date = new Date(at);
  const day = String(date.getUTCDate()).padStart(2, '0');
  const time = date.toISOString().slice(11, 19);
  return `${MONTHS[date.getUTCMonth()]} ${day} ${time} ${hostName} ${from}: ${text}\n`;
}
