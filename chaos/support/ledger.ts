import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ERROR_CODES, errorCodeInfo } from '../../src/api/error-codes.js';
import type { Run } from '../scenario.js';

/** A request, and what came of it. */
export interface Entry {
  readonly id: string;
  readonly action: string;
  /** The idempotency key; undefined: it has none. */
  readonly key?: string | undefined;
  /**
   * `confirmed`: the broker has it for certain. `uncertain`: it may have never arrived, or there was no queue for it, so nobody
   * owes a reply.
   */
  sending: 'sent' | 'confirmed' | 'uncertain';
  replies: ReplySeen[];
  /** The reasons with which it was dead-lettered. */
  deadLetters: string[];
}

export interface ReplySeen {
  /** `completed`, or the code of the error. */
  outcome: string;
  /** The result or the error, as JSON. */
  body: string;
}

/** A line that an action wrote to the ledger's file. */
export interface Effect {
  /** The id of its request. */
  id: string;
  /** `end`: it was made. `stop`: its handler ended without that. */
  phase: 'begin' | 'end' | 'stop';
  /** The unit that it changes. */
  unit?: string;
  /** The process that wrote it: a worker, or a handler process. */
  pid: number;
  /** The parent of that process. */
  parent: number;
  /** Wall time in milliseconds. */
  at: number;
}

/** The outcomes that the requests of each action may have besides `completed`; of an action that is not named: none. */
export type Allowed = Readonly<Record<string, readonly string[]>>;

export interface Expected {
  allows?: Allowed;
  /** Whether the workers agree on changes in a claim store. */
  claims?: boolean;
}

/** What the ledger shows. All but the last three should be 0. Requests with the same idempotency key are one change. */
export interface Audit {
  /** No reply, and not dead-lettered. */
  lost: number;
  /** Changes that began more than once. */
  doneTwice: number;
  /** Changes that began, whose reply is an error that says that nothing was done. */
  doneToldFailed: number;
  /** Changes that did not end, whose reply says that they did. */
  notDoneToldDone: number;
  /** Changes with two replies that differ. Without claims one of them may be `outcome_unknown`. */
  contradictory: number;
  /** Changes that began while another one of the same unit ran. */
  overlapping: number;
  /** Requests with more than one reply. */
  repliedTwice: number;
  unknown: number;
  completed: number;
}

/** The action of chaos/plugins/change. */
export const CHANGE = 'chaos_change';
/** The action of chaos/plugins/unit-change, which has a probe. */
export const UNIT_CHANGE = 'chaos_unit_change';
/** The action of plugins/restart-unit, whose effects the suite notes. */
export const RESTART = 'restart_unit';
const CHANGES: ReadonlySet<string> = new Set([CHANGE, UNIT_CHANGE, RESTART]);
/** The outcome of a request that is in the error queue. */
export const DEAD_LETTERED = 'dead-lettered';
/** With these codes a caller may not assume that nothing was done. */
const MAY_BE_DONE = new Set([
  'completed',
  'answer_too_large',
  'outcome_unknown',
  'internal',
  'worker_lost',
  'unit_did_not_stop',
  'unit_stopped',
  'unit_not_started',
  'unit_changed_meanwhile',
  'unit_failed',
  'unit_flaps',
]);

/** The requests that were sent, the replies that came, and the effects that actions wrote down. */
export class Ledger {
  readonly entries = new Map<string, Entry>();
  readonly #file: string;
  readonly #noted: Effect[] = [];
  readonly #allows: Allowed;
  readonly #claims: boolean;

  /** Its file goes with the run. */
  constructor(run: Pick<Run, 'teardown'>, { allows = {}, claims = false }: Expected = {}) {
    this.#allows = allows;
    this.#claims = claims;
    const folder = mkdtempSync(join(tmpdir(), 'chaos-ledger-'));
    run.teardown(() => rmSync(folder, { recursive: true, force: true }));
    this.#file = join(folder, 'effects');
  }

  /** The setting with which the workers' actions write to it. */
  get env(): Record<string, string> {
    return { CHAOS_LEDGER: this.#file };
  }

  /** Those that have neither a reply nor been dead-lettered, although the broker may have them. */
  owed(): Entry[] {
    return [...this.entries.values()].filter((each) => each.sending !== 'uncertain' && isOpen(each));
  }

  /** Resolves when nothing is owed, at the latest after this time: what is owed then is lost. */
  async settled(ms = 60_000): Promise<void> {
    const end = performance.now() + ms;
    while (this.owed().length > 0 && performance.now() < end) await sleep(50);
  }

  /** Waits until these have been answered or dead-lettered. @returns those that still are not after this time */
  async unanswered(entries: readonly Entry[], ms: number): Promise<Entry[]> {
    const end = performance.now() + ms;
    while (entries.some(isOpen) && performance.now() < end) await sleep(50);
    return entries.filter(isOpen);
  }

  /** Adds effects that no action of the suite writes down. */
  note(effects: readonly Effect[]): void {
    this.#noted.push(...effects);
  }

  effects(): Effect[] {
    let text = '';
    try {
      text = readFileSync(this.#file, 'utf8');
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOENT') throw error;
    }
    const written = text
      .split('\n')
      .filter((line) => line !== '')
      .map((line): Effect => JSON.parse(line));
    return [...written, ...this.#noted];
  }

  /** The changes that these workers, or their handler processes, began. */
  begunBy(workers: readonly { pid: number }[]): Entry[] {
    const pids = new Set(workers.map(({ pid }) => pid));
    const begun = this.effects().filter(
      ({ phase, pid, parent }) => phase === 'begin' && (pids.has(pid) || pids.has(parent)),
    );
    return [...new Set(begun.map(({ id }) => id))].flatMap((id) => this.entries.get(id) ?? []);
  }

  /** The changes that one process began, and another one finished. */
  finishedByAnother(): Entry[] {
    const effects = this.effects();
    const begun = new Map(effects.filter(({ phase }) => phase === 'begin').map(({ id, pid }) => [id, pid]));
    const finished = effects.filter(({ id, phase, pid }) => phase === 'end' && begun.get(id) !== pid);
    return [...new Set(finished.map(({ id }) => id))].flatMap((id) => this.entries.get(id) ?? []);
  }

  audit(): Audit {
    const begun = new Map<string, number>();
    const ended = new Set<string>();
    const effects = this.effects();
    for (const { id, phase } of effects) {
      if (phase === 'begin') begun.set(id, (begun.get(id) ?? 0) + 1);
      if (phase === 'end') ended.add(id);
    }
    const all = [...this.entries.values()];
    const changes = all.filter(({ action }) => CHANGES.has(action));
    const groups = grouped(changes);
    const runsOf = (group: readonly Entry[]) => group.reduce((sum, { id }) => sum + (begun.get(id) ?? 0), 0);
    const wasMade = (group: readonly Entry[]) => group.some(({ id }) => ended.has(id));
    const replied = (entry: Entry, fits: (outcome: string) => boolean) =>
      entry.replies.some(({ outcome }) => fits(outcome));
    const saysNotDone = (outcome: string) => outcome in ERROR_CODES && !MAY_BE_DONE.has(outcome);
    const saysDone = (outcome: string) => outcome === 'completed';
    return {
      lost: this.owed().length,
      doneTwice: groups.filter((group) => runsOf(group) > 1).length,
      doneToldFailed: changes.filter((each) => begun.has(each.id) && replied(each, saysNotDone)).length,
      notDoneToldDone: groups.filter(
        (group) => !wasMade(group) && group.some((each) => replied(each, saysDone)),
      ).length,
      contradictory: groups.filter((group) => this.#contradict(repliesOf(group))).length,
      overlapping: overlapping(effects),
      repliedTwice: all.filter(({ replies }) => replies.length > 1).length,
      unknown: changes.filter((each) => replied(each, (outcome) => outcome === 'outcome_unknown')).length,
      completed: all.filter((each) => replied(each, saysDone)).length,
    };
  }

  /** @returns a sentence for each guarantee that was broken, and for each outcome that no request of its action may have */
  misses(audit: Audit): string[] {
    const others = new Map<string, { count: number; first: string }>();
    for (const { action, replies, deadLetters } of this.entries.values()) {
      const allowed = new Set(['completed', ...(this.#allows[action] ?? [])]);
      const told = replies.map(({ outcome, body }): [string, string] => [outcome, body]);
      const found = new Map([
        ...deadLetters.map((reason): [string, string] => [DEAD_LETTERED, reason]),
        ...told,
      ]);
      for (const [outcome, text] of found) {
        if (allowed.has(outcome)) continue;
        const what = `${action} became ${outcome}`;
        const { count, first } = others.get(what) ?? { count: 0, first: text };
        others.set(what, { count: count + 1, first });
      }
    }
    return [
      ...brokenPromises(audit),
      ...[...others].map(([what, { count, first }]) => `${count} requests of ${what}: ${first}`),
    ];
  }

  #contradict(replies: readonly ReplySeen[]): boolean {
    const counted = this.#claims ? replies : replies.filter(({ outcome }) => outcome !== 'outcome_unknown');
    return new Set(counted.map(({ outcome, body }) => `${outcome} ${body}`)).size > 1;
  }

  /** How many last replies had each outcome, but for `completed`. */
  errors(): string {
    const counts = new Map<string, number>();
    for (const { replies } of this.entries.values()) {
      const outcome = replies.at(-1)?.outcome;
      if (outcome !== undefined && outcome !== 'completed')
        counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    }
    return [...counts].map(([outcome, count]) => `${count} ${outcome}`).join(' + ') || 'none';
  }
}

/** The requests of each change: those with one key, and each one without a key. */
function grouped(entries: readonly Entry[]): Entry[][] {
  const groups = new Map<string, Entry[]>();
  for (const entry of entries) {
    const name = entry.key ?? entry.id;
    groups.set(name, [...(groups.get(name) ?? []), entry]);
  }
  return [...groups.values()];
}

/** Of several requests with one key, one may be refused while another one is made. */
function repliesOf(group: readonly Entry[]): readonly ReplySeen[] {
  const [only, ...others] = group;
  if (only !== undefined && others.length === 0) return only.replies;
  return group.flatMap(({ replies }) => replies.filter(({ outcome }) => !errorCodeInfo(outcome).retryable));
}

function isOpen({ replies, deadLetters }: Entry): boolean {
  return replies.length + deadLetters.length === 0;
}

/**
 * How many changes began while another one of their unit ran.
 * @param effects in the order in which they were written
 */
function overlapping(effects: readonly Effect[]): number {
  const runOf = ({ id, pid }: Effect) => `${id} ${pid}`;
  // A run without an end was that of a worker that was killed at an unknown time.
  const ends = new Set(effects.filter(({ phase }) => phase !== 'begin').map(runOf));
  const running = new Map<string, Set<string>>();
  let count = 0;
  for (const effect of effects) {
    const { unit, phase } = effect;
    if (unit === undefined) continue;
    const run = runOf(effect);
    const others = running.get(unit) ?? new Set();
    running.set(unit, others);
    if (phase !== 'begin') others.delete(run);
    else {
      if (others.size > 0) count++;
      if (ends.has(run)) others.add(run);
    }
  }
  return count;
}

/** The guarantees that every scenario expects. @returns a sentence for each that was broken */
function brokenPromises(audit: Audit): string[] {
  const promises: [keyof Audit, string][] = [
    ['lost', 'requests were lost'],
    ['doneTwice', 'changes were done twice'],
    ['doneToldFailed', 'changes were done, and their callers were told that nothing was'],
    ['notDoneToldDone', 'changes were not done, and their callers were told that they were'],
    ['contradictory', 'changes got replies that contradict each other'],
    ['overlapping', 'changes began while another one of their unit ran'],
  ];
  return promises
    .filter(([promise]) => audit[promise] > 0)
    .map(([promise, text]) => `${audit[promise]} ${text}`);
}
