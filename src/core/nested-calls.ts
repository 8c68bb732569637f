import type { Cluster } from '../api/cluster.js';
import { ActionError } from '../api/action-error.js';
import { errorCodeInfo } from '../api/error-codes.js';
import type { LazyAbort } from '../lib/lazy-abort.js';
import type { Admission, Admitted } from './admission.js';
import type { BeforeNestedChange } from './before-change.js';
import type { Call } from './call.js';
import type { CallEventBus } from './call-events.js';
import type { TakeUnit } from './change-gate.js';
import { MAX_DEPTH } from './bound-actions.js';
import type { NestedAuthority, NestedCall, NestedScope } from './nested-authority.js';
import type { PreparedAction } from './prepare-action.js';

export interface NestedCallsOptions {
  admission: Pick<Admission, 'admitNested'>;
  /** Called before each change; undefined: nothing is. */
  beforeNested: BeforeNestedChange | undefined;
  events: Pick<CallEventBus, 'emit'>;
}

/** The run of a request that calls other actions. */
export interface CallingRun {
  readonly call: Call;
  readonly admitted: Admitted;
  readonly abort: LazyAbort;
  /** Takes a unit that is free; undefined: the request is a read, and changes nothing. */
  readonly takeUnit: TakeUnit | undefined;
}

/** A run of an action that calls others, or could. */
interface Level {
  readonly action: PreparedAction;
  readonly depth: number;
  readonly caller: Level | undefined;
  /** The units that it has, by key, and whether an action that it calls uses each at the moment. */
  readonly units: Map<string, { isLent: boolean }>;
  /** To be done at its end. */
  readonly ends: ((outcome: string) => void | Promise<void>)[];
}

/** Decides on the actions that one request calls: the policy, the audit, and the turns of units. */
export class NestedCalls implements NestedAuthority {
  readonly #options: NestedCallsOptions;
  readonly #run: CallingRun;
  readonly #levels = new Map<number, Level>();
  readonly #changed = new Set<string>();

  constructor(options: NestedCallsOptions, run: CallingRun) {
    this.#options = options;
    this.#run = run;
    const { action, cluster, unitNames } = run.admitted;
    const units = new Map(unitNames.map((unit) => [keyOf(cluster, unit), { isLent: false }]));
    this.#levels.set(0, { action, depth: 0, caller: undefined, units, ends: [] });
  }

  /** The names of the changes that it has called, and that have changed something or may have. */
  get changed(): readonly string[] {
    const running = [...this.#levels].filter(([run, { action }]) => run > 0 && isChange(action));
    return [...new Set([...this.#changed, ...running.map(([, { action }]) => action.description.name)])];
  }

  async enter({ run, within, action: name, parameters }: NestedCall): Promise<NestedScope> {
    const { admission, beforeNested, events } = this.#options;
    const { call, admitted, abort } = this.#run;
    const caller = this.#levels.get(within);
    if (caller === undefined) throw new Error('the run that calls this action has ended');
    const nested: Call = { ...call, action: name, parameters };
    const { action, cluster, unitNames, units, rule } = admission.admitNested(nested, admitted.cluster);
    const { description } = action;
    const level: Level = { action, depth: caller.depth + 1, caller, units: new Map(), ends: [] };
    // A handler process is asked to see to that, and not trusted to.
    if (level.depth > MAX_DEPTH || (isChange(action) && !isChange(caller.action)))
      throw new Error(`${caller.action.description.name} must not call ${name}`);
    try {
      if (isChange(action)) {
        for (const unit of unitNames) await this.#take(level, cluster, unit);
        if (beforeNested !== undefined) {
          const change = {
            call: nested,
            description,
            action: name,
            cluster,
            units: unitNames,
            parameters,
            rule,
            work: 'run',
          } as const;
          level.ends.push(await beforeNested(change, abort.signal));
        }
      }
      if (abort.aborted) throw abort.reason;
    } catch (error) {
      await end(level, 'cancelled');
      throw error;
    }
    this.#levels.set(run, level);
    if (isChange(action)) events.emit('nestedBegan', { call, action: name, cluster, units: unitNames });
    return { units };
  }

  async leave(run: number, outcome: string): Promise<void> {
    const level = this.#levels.get(run);
    this.#levels.delete(run);
    if (level === undefined) return;
    // Such an error says that nothing was changed.
    if (isChange(level.action) && !errorCodeInfo(outcome).retryable)
      this.#changed.add(level.action.description.name);
    await end(level, outcome);
  }

  /** Ends what has not ended: the process in which it ran has. */
  async close(): Promise<void> {
    for (const run of [...this.#levels.keys()].toReversed()) await this.leave(run, 'unknown');
  }

  /** Shares a unit that a caller has, or takes one that is free: to wait while others are held could last for ever. */
  async #take(level: Level, cluster: Cluster | undefined, unit: string): Promise<void> {
    const key = keyOf(cluster, unit);
    let owner = level.caller;
    while (owner !== undefined && !owner.units.has(key)) owner = owner.caller;
    const shared = owner?.units.get(key);
    if (shared?.isLent) throw inUse(unit);
    if (shared !== undefined) {
      shared.isLent = true;
      level.ends.push(() => void (shared.isLent = false));
    } else {
      const leave = await this.#run.takeUnit?.(cluster, unit, this.#run.abort.signal);
      if (leave === undefined) throw inUse(unit);
      level.ends.push(leave);
    }
    level.units.set(key, { isLent: false });
  }
}

/** In reverse order: the units are free when its end is noted. Never rejects. */
async function end({ ends }: Level, outcome: string): Promise<void> {
  for (const each of ends.splice(0).toReversed()) await each(outcome);
}

function isChange({ description }: PreparedAction): boolean {
  return description.effect === 'change';
}

function keyOf(cluster: Cluster | undefined, unit: string): string {
  return `${cluster?.key ?? ''} ${unit}`;
}

/** When to try again, in milliseconds: a change of a unit takes some seconds. */
const BUSY_MS = 10_000;

function inUse(unit: string): ActionError {
  return new ActionError(
    'cluster_busy',
    `${unit} was not changed: another change of it runs or waits, and a change within another one does not wait for it`,
    { details: { retry_after_ms: BUSY_MS } },
  );
}
