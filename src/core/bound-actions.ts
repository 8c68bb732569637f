import { hash } from 'node:crypto';
import { ActionError } from '../api/action-error.js';
import { ActionCallError, type Actions, type NestedCallOptions } from '../api/actions.js';
import type { ActionDescription } from '../api/action-description.js';
import { ANONYMOUS } from '../api/caller.js';
import { withoutRowList } from '../api/row-list.js';
import { canonicalText } from '../lib/canonical-text.js';
import type { Clock } from '../lib/clock.js';
import { LazyAbort } from '../lib/lazy-abort.js';
import { untilAborted } from '../lib/until-aborted.js';
import { actionRequest, type HandlerRun } from './action-request.js';
import { bodyOf } from './call-errors.js';
import type { Catalogue } from './catalogue.js';
import type { NestedAuthority } from './nested-authority.js';
import type { PreparedAction } from './prepare-action.js';

/** The longest parameters of a call that can be named, as canonical text. */
const MAX_KEYED_CHARACTERS = 4 * 1024 * 1024;

/** How deep actions may call each other. */
export const MAX_DEPTH = 4;

export interface BoundActionsOptions {
  catalogue: Pick<Catalogue, 'find' | 'describe'>;
  authority: NestedAuthority;
  clock: Clock;
}

/** What the runs within one request share. */
interface Shared extends BoundActionsOptions {
  /** The number of runs so far. */
  runs: number;
}

/** The port `Actions` of one run. */
export class BoundActions implements Actions {
  readonly #shared: Shared;
  readonly #run: Caller;
  readonly #level: number;
  /** The actions that call each other, the one of the request first. */
  readonly #names: readonly string[];
  /** What stops the runs that have not ended. */
  readonly #running = new Set<LazyAbort>();
  /** Those runs, and what comes before and after them. */
  readonly #calls = new Set<Promise<unknown>>();
  #hasEnded = false;
  /** How often each action was called with each parameters. */
  readonly #callCounts = new Map<string, number>();

  static of(options: BoundActionsOptions, run: Caller): BoundActions {
    return new BoundActions({ ...options, runs: 0 }, { run, level: 0, names: [run.action] });
  }

  private constructor(
    shared: Shared,
    { run, level, names }: { run: Caller; level: number; names: readonly string[] },
  ) {
    this.#shared = shared;
    this.#run = run;
    this.#level = level;
    this.#names = names;
  }

  describe(): readonly ActionDescription[] {
    return this.#shared.catalogue.describe();
  }

  // The type of the result is that of the caller's choice.
  async call<Result = unknown>(
    name: string,
    parameters: object = {},
    options: NestedCallOptions = {},
  ): Promise<Result> {
    const running = this.#call(name, parameters, options);
    this.#calls.add(running);
    try {
      const result: unknown = await running;
      return result as Result;
    } finally {
      this.#calls.delete(running);
    }
  }

  /**
   * Call it when the handler has ended: what it has not waited for is stopped, and no more can be called. Resolves when nothing runs any
   * more: until then the request must keep its units, as a change that is stopped may still be at work.
   */
  async end(): Promise<void> {
    this.#hasEnded = true;
    for (const abort of this.#running)
      abort.abort(new ActionError('cancelled', `The action ${this.#run.action}, which called it, has ended`));
    await Promise.allSettled(this.#calls);
  }

  async #call(name: string, parameters: object, options: NestedCallOptions): Promise<unknown> {
    const run = this.#run;
    const action = this.#callable(name);
    if (run.abort.aborted) throw run.abort.reason;
    const checked = checkedParameters(action, parameters);
    checkOptions(name, options);
    const { clock } = this.#shared;
    const limitMs = Math.min(options.timeoutMs ?? Number.POSITIVE_INFINITY, action.description.timeout_ms);
    const deadline = Math.min(run.deadline, clock.now() + limitMs);
    const abort = new LazyAbort();
    const late = () =>
      abort.abort(new ActionError('timeout', `The action ${name} has not ended within ${limitMs} ms`));
    const undo = [
      run.abort.onAbort(() => abort.abort(run.abort.reason)),
      deadline < run.deadline ? clock.after(limitMs, late) : () => {},
      onAborted(options.signal, abort),
    ];
    this.#running.add(abort);
    try {
      return await this.#entered(action, checked, { abort, deadline });
    } catch (error) {
      throw asDefect(error, name);
    } finally {
      this.#running.delete(abort);
      for (const each of undo) each();
    }
  }

  /** The same whenever the request is delivered, as long as the action makes the same calls. */
  #keyOf(name: string, parameters: unknown): string | undefined {
    const { key } = this.#run;
    const text = canonicalText(parameters, MAX_KEYED_CHARACTERS);
    if (key === undefined || text === undefined) return undefined;
    const asked = hash('sha256', `${name} ${text}`, 'base64url');
    const count = (this.#callCounts.get(asked) ?? 0) + 1;
    this.#callCounts.set(asked, count);
    return hash('sha256', `${key} ${asked} ${count}`, 'base64url');
  }

  /** @throws ActionCallError */
  #callable(name: string): PreparedAction {
    const { action: caller, cluster } = this.#run;
    if (this.#hasEnded)
      throw new ActionCallError('invalid_request', `${caller} has ended, and called ${name} after that`);
    if (this.#names.length > MAX_DEPTH) {
      const chain = [...this.#names, name].join(' > ');
      throw new ActionCallError(
        'invalid_request',
        `actions call each other more than ${MAX_DEPTH} deep: ${chain}`,
      );
    }
    const { catalogue } = this.#shared;
    const action = catalogue.find(name);
    if (action === undefined)
      throw new ActionCallError(
        'unknown_action',
        `${caller} called ${name}, which this service does not serve`,
      );
    const { effect, target } = action.description;
    if (effect === 'change' && catalogue.find(caller)?.description.effect !== 'change')
      throw new ActionCallError(
        'invalid_request',
        `${caller} is a read, and called ${name}, which is a change`,
      );
    if (target === 'cluster' && cluster === undefined)
      throw new ActionCallError(
        'invalid_request',
        `${caller} called ${name}, which runs against a cluster, for a request without one`,
      );
    return action;
  }

  async #entered(
    action: PreparedAction,
    parameters: unknown,
    { abort, deadline }: { abort: LazyAbort; deadline: number },
  ): Promise<unknown> {
    const { authority } = this.#shared;
    const { name } = action.description;
    const run = ++this.#shared.runs;
    const entering = authority.enter({ run, within: this.#level, action: name, parameters });
    const { units } = await untilAborted(entering, abort.signal).catch((error: unknown) => {
      void entering.then(
        async () => authority.leave(run, 'cancelled'),
        () => {},
      );
      throw error;
    });
    let outcome = 'internal';
    try {
      const result = await this.#handled(action, { run, parameters, units, abort, deadline });
      outcome = 'completed';
      return withoutRowList(result);
    } catch (error) {
      outcome = bodyOf(error)?.code ?? outcome;
      throw error;
    } finally {
      await authority.leave(run, outcome);
    }
  }

  async #handled(
    action: PreparedAction,
    nested: Pick<HandlerRun, 'parameters' | 'units' | 'abort' | 'deadline'> & { run: number },
  ): Promise<unknown> {
    const { id, cluster, caller, traceId, repeated, drain, warn, logFor } = this.#run;
    const { run: level, parameters, abort } = nested;
    const { name, target, effect } = action.description;
    const run: HandlerRun = {
      id,
      key: this.#keyOf(name, parameters),
      action: name,
      cluster: target === 'none' ? undefined : cluster,
      settings: action.settings,
      caller: action.coalesces === true ? ANONYMOUS : caller,
      traceId,
      repeated,
      drain,
      warn,
      logFor,
      unitNames: action.unitsIn(parameters),
      parameters,
      abort,
      units: nested.units,
      deadline: nested.deadline,
    };
    const names = [...this.#names, name];
    const actions = action.callsOthers ? new BoundActions(this.#shared, { run, level, names }) : undefined;
    const handling = (async () => action.run(actionRequest(run), actions))();
    try {
      // A change has time to report what it has done; the request that it is part of is ended after that.
      return await (effect === 'read' ? untilAborted(handling, abort.signal) : handling);
    } catch (error) {
      if (!abort.aborted || (bodyOf(error) !== undefined && error !== abort.reason)) throw error;
      throw effect === 'read' ? abort.reason : outcomeUnknown(name, abort.reason);
    } finally {
      await actions?.end();
    }
  }
}

/** What a run that calls others gives to them. */
type Caller = Pick<
  HandlerRun,
  | 'id'
  | 'key'
  | 'action'
  | 'cluster'
  | 'caller'
  | 'traceId'
  | 'repeated'
  | 'deadline'
  | 'drain'
  | 'abort'
  | 'warn'
  | 'logFor'
>;

function checkedParameters(action: PreparedAction, parameters: object): unknown {
  try {
    return action.check(parameters);
  } catch (error) {
    throw asDefect(error, action.description.name);
  }
}

/** @throws ActionCallError: a plugin in JavaScript may give any value */
function checkOptions(name: string, { timeoutMs, signal }: NestedCallOptions): void {
  const wrong =
    timeoutMs !== undefined && !(typeof timeoutMs === 'number' && timeoutMs >= 1)
      ? 'timeoutMs must be a number of milliseconds, at least 1'
      : signal !== undefined && !(signal instanceof AbortSignal)
        ? 'signal must be an AbortSignal'
        : undefined;
  if (wrong !== undefined)
    throw new ActionCallError('invalid_request', `${name} was called with wrong options: ${wrong}`);
}

/** What the caller of the request could not mend is a defect of the action that called. */
function asDefect(error: unknown, name: string): unknown {
  const body = bodyOf(error);
  if (body?.code !== 'invalid_parameters' && body?.code !== 'unknown_action') return error;
  return new ActionCallError(
    body.code,
    `the action ${name} was called in a way that it does not accept: ${body.errors.join('; ')}`,
    body.details,
  );
}

function onAborted(signal: AbortSignal | undefined, abort: LazyAbort): () => void {
  if (signal === undefined) return () => {};
  const stop = () => abort.abort(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  return () => signal.removeEventListener('abort', stop);
}

function outcomeUnknown(name: string, reason: unknown): ActionError {
  const known = bodyOf(reason);
  return new ActionError(
    'outcome_unknown',
    `The change ${name} was stopped and did not report its outcome: ${known?.errors.join() ?? String(reason)}`,
    known && { details: { stopped_by: known.code } },
  );
}
