import { createHash } from 'node:crypto';

export const OPERATIONS = ['restart', 'start', 'stop', 'reload', 'put'] as const;
export type Operation = (typeof OPERATIONS)[number];

/** A unit on a machine; of a fleet cluster the unit as a whole. */
export interface Target {
  unit: string;
  /** Null: a global unit, or one that is on no machine. */
  machineID: string | null;
  /** systemd's states of it, each once, sorted; a global unit may have several. None: it is not there, or not known. */
  states: readonly string[];
  /** The hash of its file. */
  hash: string | null;
}

export interface PlannedTarget extends Target {
  /** Counted from 1; 0: nothing is to be done with it. */
  batch: number;
}

export interface Plan {
  /** In the order in which they are tried; those with nothing to be done are last. */
  targets: readonly PlannedTarget[];
  batches: number;
  /** Of the operation, the targets, their states and their files. */
  hash: string;
}

const UP: ReadonlySet<string> = new Set(['active', 'reloading', 'refreshing']);
const DOWN: ReadonlySet<string> = new Set(['inactive', 'failed']);

/** Whether a unit in this state of systemd runs. */
export function isUp(active: string | null | undefined): boolean {
  return UP.has(active ?? '');
}

/** Whether something is to be done: a restart starts no unit that somebody has stopped. */
const IS_TO_DO: Readonly<Record<Operation, (states: readonly string[]) => boolean>> = {
  restart: (states) => states.some((active) => active !== 'inactive'),
  start: (states) => states.length === 0 || !states.every(isUp),
  stop: (states) => states.some((active) => !DOWN.has(active)),
  reload: (states) => states.some(isUp),
  put: () => true,
};

/**
 * The order of a rollout: first each unit on its first machine, then each on its second one, so that a batch has a unit on several
 * machines only when fewer units than its size are left.
 * @param batch how many targets at the same time: a number, or a part such as 25%
 * @param text of the unit file, for `put`
 */
export function planOf(
  operation: Operation,
  targets: readonly Target[],
  batch: string,
  text: string | undefined,
): Plan {
  const [skipped, due] = [false, true].map((isDue) =>
    ranked(targets.filter(({ states }) => IS_TO_DO[operation](states) === isDue)),
  ) as [Target[], Target[]];
  const size = sizeOf(batch, due.length);
  const planned = [
    ...due.map((target, index) => ({ ...target, batch: Math.floor(index / size) + 1 })),
    ...skipped.map((target) => ({ ...target, batch: 0 })),
  ];
  const facts = planned.map(({ unit, machineID, states, hash, batch: number }) => [
    unit,
    machineID,
    states,
    hash,
    number,
  ]);
  return {
    targets: planned,
    batches: Math.ceil(due.length / size),
    hash: createHash('sha256')
      .update(JSON.stringify([operation, text ?? null, facts]))
      .digest('hex'),
  };
}

/** By the place of the machine among those of the unit, then by unit. */
function ranked(targets: readonly Target[]): Target[] {
  const ordered = targets.toSorted(
    (one, other) => compare(one.unit, other.unit) || compare(one.machineID ?? '', other.machineID ?? ''),
  );
  const counts = new Map<string, number>();
  const ranks = ordered.map((target) => {
    const rank = counts.get(target.unit) ?? 0;
    counts.set(target.unit, rank + 1);
    return { target, rank };
  });
  return ranks.toSorted((one, other) => one.rank - other.rank).map(({ target }) => target);
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** A part is rounded up, and at least one. */
function sizeOf(batch: string, count: number): number {
  const size = batch.endsWith('%') ? Math.ceil((count * Number(batch.slice(0, -1))) / 100) : Number(batch);
  return Math.max(1, size);
}
