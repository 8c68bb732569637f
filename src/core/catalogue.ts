import type { Action } from '../api/action.js';
import type { Clock } from '../lib/clock.js';
import { settledWithin } from '../lib/settled-within.js';
import { type JsonSchema, jsonSchemaOf } from './json-schema.js';
import { nearest } from '../lib/nearest.js';
import { closed, parameterCheck } from './parameters.js';
import { resultCheck } from './result-check.js';

/** The longest that any request may run, in milliseconds. */
export const MAX_TIMEOUT_MS = 5 * 60_000;

/** What the catalogue tells people and programs of an action. */
export interface ActionDescription {
  name: string;
  summary: string;
  target: Action['target'];
  effect: Action['effect'];
  redelivery: 'run-again' | 'refuse';
  timeout_ms: number;
  parameters: JsonSchema;
  result: JsonSchema;
}

/** An action ready to run: checked, described, its parts resolved. */
export interface ServedAction {
  readonly description: ActionDescription;
  /** The tokens of the parts that it injects. */
  readonly injects: ReadonlySet<symbol>;
  /** Gives the parameters with defaults, or throws `invalid_parameters`. */
  readonly check: (sent: unknown) => unknown;
  readonly run: (request: Parameters<Action['handle']>[0]) => Promise<unknown>;
  readonly dispose: () => void | Promise<void>;
}

const NAME = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/;

/**
 * Makes an action ready to run.
 * @param resolve gives the part of the service that a token names; throws when there is none
 * @param checkResults whether the log names each result that is not what the action declares
 * @throws Error saying which field of the definition is wrong
 */
export function prepareAction(
  action: Action,
  resolve: (token: symbol) => unknown,
  { checkResults = false } = {},
): ServedAction {
  checkFields(action);
  const timeoutMs = action.timeoutMs ?? MAX_TIMEOUT_MS;
  const parameters = within('parameters', () => closed(action.parameters));
  const result = within('result', () => closed(action.result));
  const description: ActionDescription = {
    name: action.name,
    summary: action.summary,
    target: action.target,
    effect: action.effect,
    redelivery: action.redelivery ?? (action.effect === 'read' ? 'run-again' : 'refuse'),
    timeout_ms: timeoutMs,
    parameters: within('parameters', () => jsonSchemaOf(parameters)),
    result: within('result', () => jsonSchemaOf(result)),
  };
  const injected: Record<string, unknown> = {};
  for (const [name, token] of Object.entries(action.inject ?? {})) {
    injected[name] = within(`inject.${name}`, () => resolve(token));
  }
  const run: ServedAction['run'] = (request) => action.handle(request, injected);
  return {
    description,
    injects: new Set(Object.values(action.inject ?? {})),
    check: parameterCheck(parameters),
    run: checkResults ? tellingOf(resultCheck(result), run) : run,
    dispose: () => action.dispose?.(),
  };
}

/** Callers get a wrong result all the same: the check is there for the author, who reads the log. */
function tellingOf(check: (result: unknown) => string[], run: ServedAction['run']): ServedAction['run'] {
  return async (request) => {
    const result = await run(request);
    const problems = check(result);
    if (problems.length > 0) request.log.warn('the result is not what the action declares', { problems });
    return result;
  };
}

/** Every field that a definition may have. */
const FIELDS = Object.keys({
  name: true,
  summary: true,
  target: true,
  effect: true,
  redelivery: true,
  parameters: true,
  result: true,
  timeoutMs: true,
  inject: true,
  contract: true,
  handle: true,
  dispose: true,
} satisfies Record<keyof Action, true>);

function checkFields(action: Action): void {
  const unknown = Object.keys(action).find((key) => !FIELDS.includes(key));
  if (unknown !== undefined) {
    const meant = nearest(unknown, FIELDS);
    throw new Error(
      `no action has a field '${unknown}': ${meant === undefined ? `there are ${FIELDS.join(', ')}` : `did you mean '${meant}'?`}`,
    );
  }
  const must = (holds: boolean, field: string, what: string) => {
    if (!holds) throw new Error(`its field '${field}' must be ${what}`);
  };
  const { name, summary, target, effect, redelivery, timeoutMs, inject } = action;
  must(
    typeof name === 'string' && name.length <= 64 && NAME.test(name),
    'name',
    'snake_case, at most 64 characters',
  );
  must(typeof summary === 'string' && summary.trim() !== '', 'summary', 'one sentence');
  must(['cluster', 'optional', 'none'].includes(target), 'target', "'cluster', 'optional' or 'none'");
  must(['read', 'change'].includes(effect), 'effect', "'read' or 'change'");
  must(
    redelivery === undefined || ['run-again', 'refuse'].includes(redelivery),
    'redelivery',
    "'run-again' or 'refuse'",
  );
  must(
    timeoutMs === undefined ||
      (Number.isSafeInteger(timeoutMs) && timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS),
    'timeoutMs',
    `a whole number of milliseconds, at most ${MAX_TIMEOUT_MS}`,
  );
  must(
    isSchema(action.parameters) && action.parameters.type === 'object',
    'parameters',
    'a yup object schema',
  );
  must(isSchema(action.result), 'result', 'a yup schema');
  must(
    inject === undefined || (typeof inject === 'object' && inject !== null),
    'inject',
    'a record of tokens',
  );
  for (const [key, token] of Object.entries(inject ?? {}))
    must(
      typeof token === 'symbol',
      `inject.${key}`,
      'a token: FleetTransport, EtcdResolver, RemoteShell or Clock of fleet-manager/plugin',
    );
  must(typeof action.handle === 'function', 'handle', 'a function');
  must(action.dispose === undefined || typeof action.dispose === 'function', 'dispose', 'a function');
}

function isSchema(value: unknown): value is { type: string } {
  return typeof value === 'object' && value !== null && '__isYupSchema__' in value;
}

function within<T>(field: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new Error(`its field '${field}': ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  }
}

/** The actions that are served, by name. */
export class Catalogue {
  readonly #actions: ReadonlyMap<string, ServedAction>;

  constructor(actions: readonly ServedAction[]) {
    this.#actions = new Map(actions.map((each) => [each.description.name, each]));
  }

  find(name: string): ServedAction | undefined {
    return this.#actions.get(name);
  }

  /** All of them, by name in alphabetical order. */
  describe(): ActionDescription[] {
    return [...this.#actions.values()]
      .map(({ description }) => description)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The names of the actions that inject the part which a token names, in alphabetical order. */
  injecting(token: symbol): string[] {
    return this.describe()
      .map(({ name }) => name)
      .filter((name) => this.#actions.get(name)?.injects.has(token));
  }

  /**
   * Lets every action clean up; one that fails, or takes longer than so many milliseconds, does not keep the others from it.
   * @throws AggregateError that names those that failed
   */
  async dispose(withinMs: number, clock: Clock): Promise<void> {
    const failures: Error[] = [];
    const cleanUp = async ({ description: { name }, dispose }: ServedAction) => {
      const work = (async () => dispose())().catch((cause: unknown) => {
        failures.push(new Error(`the action ${name} failed to clean up`, { cause }));
      });
      if (!(await settledWithin(withinMs, clock, work)))
        failures.push(new Error(`the action ${name} has not cleaned up within ${withinMs} ms`));
    };
    await Promise.all([...this.#actions.values()].map(cleanUp));
    if (failures.length > 0) throw new AggregateError(failures, 'actions failed to clean up');
  }
}
