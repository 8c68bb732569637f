import { type Action, CONTRACT_VERSION, contractVersionOf } from '../api/action.js';
import { Actions } from '../api/actions.js';
import { withoutRowList } from '../api/row-list.js';
import { closestMatch } from '../lib/closest-match.js';
import { deepFrozen } from '../lib/deep-frozen.js';
import type { ActionDescription } from './action-description.js';
import { MAX_TIMEOUT_MS } from './caller-timeout.js';
import { jsonSchemaOf } from './json-schema.js';
import { parameterCheck, strictSchema } from './parameters.js';
import { type DeclaredSettings, declaredSettings, NO_VALUES, type SettingValues } from './plugin-settings.js';
import type { PluginWatch } from './plugin-watch.js';
import { resultCheck } from './result-check.js';
import { type UnitMarks, unitMarks, unitParameters } from './unit-parameters.js';
import { watchedAction } from './watched-action.js';
import { reasonOf } from '../lib/errors.js';

/** An action that is ready to run: its definition is checked and its dependencies are resolved. */
export interface PreparedAction {
  readonly description: ActionDescription;
  /** Whether equal calls share runs. */
  readonly coalesces?: boolean;
  /** The tokens that it injects. */
  readonly injects: ReadonlySet<symbol>;
  /** Returns the parameters with defaults filled in, or throws `invalid_parameters`. */
  readonly check: (sent: unknown) => unknown;
  readonly run: (request: Parameters<Action['handle']>[0], actions?: Actions) => Promise<unknown>;
  /** Whether it injects `Actions`: each run then needs its own. */
  readonly callsOthers: boolean;
  /** Finds out what came of an earlier run; gives undefined when that cannot be known. Undefined: the action cannot. */
  readonly probe: PreparedAction['run'] | undefined;
  /** The units that checked parameters name, in alphabetical order. */
  readonly unitsIn: (parameters: unknown) => readonly string[];
  /** Whether its parameters can name units. */
  readonly unitMarks: UnitMarks;
  /** The settings that it declares. */
  readonly declaredSettings: DeclaredSettings;
  /** Their values, once they are read. */
  readonly settings: SettingValues;
  readonly dispose: () => void | Promise<void>;
}

const NAME = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/;
const MAX_NAME = 64;

/** Whether an action may have this name. */
export function isActionName(name: unknown): boolean {
  return typeof name === 'string' && name.length <= MAX_NAME && NAME.test(name);
}

export interface PrepareOptions {
  /** The name that callers use for the parameters, for error messages; `parameters` by default. */
  parametersName?: string;
  /** Logs a warning for each result that does not match the action's schema. */
  checkResults?: boolean;
  /** Is told when code of the action runs. */
  watch?: PluginWatch;
}

/**
 * Checks the definition of an action and makes it ready to run.
 * @param resolve returns the dependency for a token; throws when there is none
 * @throws Error that names the invalid field of the definition
 */
export function prepareAction(
  action: Action,
  resolve: (token: symbol) => unknown,
  { parametersName = 'parameters', checkResults = false, watch }: PrepareOptions = {},
): PreparedAction {
  checkContract(action);
  checkFields(action);
  const timeoutMs = action.timeoutMs ?? MAX_TIMEOUT_MS;
  const parameters = inField('parameters', () => strictSchema(action.parameters));
  const result = inField('result', () => strictSchema(action.result));
  // A copy, which nobody can change: actions can read it, and whether one may change something is decided by it.
  const description: ActionDescription = deepFrozen(
    structuredClone({
      name: action.name,
      summary: action.summary,
      target: action.target,
      effect: action.effect,
      redelivery: action.redelivery ?? (action.effect === 'read' ? 'run-again' : 'refuse'),
      timeout_ms: timeoutMs,
      parameters: inField('parameters', () => jsonSchemaOf(parameters)),
      result: inField('result', () => jsonSchemaOf(result)),
    } satisfies ActionDescription),
  );
  const injected: Record<string, unknown> = {};
  const ofActions: string[] = [];
  for (const [name, token] of Object.entries(action.inject ?? {})) {
    if (token === Actions) ofActions.push(name);
    else injected[name] = inField(`inject.${name}`, () => resolve(token));
  }
  const callsOthers = ofActions.length > 0;
  // Each run has its own.
  const injectedWith = (actions: Actions | undefined) =>
    callsOthers ? { ...injected, ...Object.fromEntries(ofActions.map((name) => [name, actions])) } : injected;
  const check: Checking = checkResults ? withResultCheck(resultCheck(result)) : (run) => run;
  const prepared: PreparedAction = {
    description,
    coalesces: action.coalesce === true,
    injects: new Set(Object.values(action.inject ?? {})),
    check: parameterCheck(parameters, parametersName),
    run: check((request, actions) => action.handle(request, injectedWith(actions))),
    callsOthers,
    probe:
      action.probe && check(async (request, actions) => action.probe?.(request, injectedWith(actions)), true),
    unitsIn: unitParameters(parameters),
    unitMarks: unitMarks(parameters),
    declaredSettings: inField('settings', () => declaredSettings(action)),
    settings: NO_VALUES,
    dispose: () => action.dispose?.(),
  };
  return watch === undefined ? prepared : watchedAction(prepared, watch.action(action.name));
}

/** @param mayBeNothing whether it may give undefined: a probe does that when it knows nothing */
type Checking = (run: PreparedAction['run'], mayBeNothing?: boolean) => PreparedAction['run'];

/** An invalid result is still sent to the caller; the warning is for the plugin's author. */
function withResultCheck(check: (result: unknown) => string[]): Checking {
  return (run, mayBeNothing = false) =>
    async (request, actions) => {
      const result = await run(request, actions);
      const problems = mayBeNothing && result === undefined ? [] : check(withoutRowList(result));
      if (problems.length > 0) request.log.warn('result does not match its schema', { problems });
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
  coalesce: true,
  parameters: true,
  result: true,
  settings: true,
  timeoutMs: true,
  inject: true,
  contract: true,
  handle: true,
  probe: true,
  dispose: true,
} satisfies Record<keyof Action, true>);

/** Call this before `checkFields`: another contract version may have other fields. */
function checkContract(action: Action): void {
  const { contract = CONTRACT_VERSION } = action;
  requireField(Number.isSafeInteger(contract) && contract > 0, 'contract', 'a whole number, at least 1');
  const version = contractVersionOf(action);
  if (version === CONTRACT_VERSION) return;
  const remedy =
    version > CONTRACT_VERSION
      ? `update the service, or use a release of the plugin for version ${CONTRACT_VERSION}`
      : 'update the plugin';
  throw new Error(
    `was written for version ${version} of the plugin contract, but this service has version ${CONTRACT_VERSION}: ${remedy}`,
  );
}

function checkFields(action: Action): void {
  const unknown = Object.keys(action).find((key) => !FIELDS.includes(key));
  if (unknown !== undefined) {
    const meant = closestMatch(unknown, FIELDS);
    throw new Error(
      `unknown field '${unknown}': ${meant === undefined ? `the fields are ${FIELDS.join(', ')}` : `did you mean '${meant}'?`}`,
    );
  }
  const { name, summary, target, effect, redelivery, coalesce, timeoutMs, inject } = action;
  requireField(isActionName(name), 'name', `snake_case, at most ${MAX_NAME} characters`);
  requireField(typeof summary === 'string' && summary.trim() !== '', 'summary', 'one sentence');
  requireField(['cluster', 'optional', 'none'].includes(target), 'target', "'cluster', 'optional' or 'none'");
  requireField(['read', 'change'].includes(effect), 'effect', "'read' or 'change'");
  requireField(
    redelivery === undefined || ['run-again', 'refuse'].includes(redelivery),
    'redelivery',
    "'run-again' or 'refuse'",
  );
  requireField(
    coalesce === undefined || (typeof coalesce === 'boolean' && (!coalesce || effect === 'read')),
    'coalesce',
    'true or false, and true only of a read: each change is made for itself',
  );
  requireField(
    timeoutMs === undefined ||
      (Number.isSafeInteger(timeoutMs) && timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS),
    'timeoutMs',
    `a whole number of milliseconds, at most ${MAX_TIMEOUT_MS}`,
  );
  requireField(
    isSchema(action.parameters) && action.parameters.type === 'object',
    'parameters',
    'a yup object schema',
  );
  requireField(isSchema(action.result), 'result', 'a yup schema');
  requireField(
    action.settings === undefined || (isSchema(action.settings) && action.settings.type === 'object'),
    'settings',
    'a yup object schema',
  );
  requireField(
    inject === undefined || (typeof inject === 'object' && inject !== null),
    'inject',
    'a record of tokens',
  );
  for (const [key, token] of Object.entries(inject ?? {}))
    requireField(
      typeof token === 'symbol',
      `inject.${key}`,
      'a token: FleetTransport, EtcdResolver, RemoteShell, Clusters, Clock or Actions of fleet-manager/plugin',
    );
  requireField(
    coalesce !== true || !Object.values(inject ?? {}).includes(Actions),
    'coalesce',
    'false: the action calls others, for a caller, and a shared run has none',
  );
  requireField(typeof action.handle === 'function', 'handle', 'a function');
  requireField(
    action.probe === undefined || (typeof action.probe === 'function' && effect === 'change'),
    'probe',
    'a function, and only that of a change',
  );
  requireField(action.dispose === undefined || typeof action.dispose === 'function', 'dispose', 'a function');
}

function requireField(condition: boolean, field: string, what: string): void {
  if (!condition) throw new Error(`its field '${field}' must be ${what}`);
}

function isSchema(value: unknown): value is { type: string } {
  return typeof value === 'object' && value !== null && '__isYupSchema__' in value;
}

function inField<T>(field: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new Error(`its field '${field}': ${reasonOf(cause)}`, {
      cause,
    });
  }
}
