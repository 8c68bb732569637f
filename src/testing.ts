/**
 * `fleet-manager/testing`: runs an action on a sandbox, for the tests of plugins. CONTRIBUTING.md shows a test.
 */
import { Policy } from './access/policy.js';
import type { Action, ActionWithResult } from './api/action.js';
import { ActionError } from './api/action-error.js';
import { Actions } from './api/actions.js';
import { ANONYMOUS, type Caller } from './api/caller.js';
import { RemoteShell } from './api/remote-shell.js';
import { UnitControl } from './api/unit-control.js';
import { UnitFiles } from './api/unit-files.js';
import { withoutRowList } from './api/row-list.js';
import type { UnreachableHost } from './api/warn.js';
import { componentsOf, OWN_PLUGINS } from './composition.js';
import type { ActionDescription } from './core/action-description.js';
import type { AccessPolicy } from './core/access-policy.js';
import type { Call, Settled } from './core/call.js';
import { CallEventBus } from './core/call-events.js';
import { Catalogue } from './core/catalogue.js';
import { strictSchema } from './core/parameters.js';
import { loadPlugins } from './core/plugin-loader.js';
import { checkedSetting, type DeclaredSettings, type SettingValues } from './core/plugin-settings.js';
import { prepareAction, type PreparedAction } from './core/prepare-action.js';
import { resultCheck } from './core/result-check.js';
import { Runner } from './core/runner.js';
import { unreachableIn } from './core/warnings.js';
import { systemClock } from './lib/clock.js';
import { stringifyExactly } from './lib/exact-json.js';
import { fieldsOf } from './lib/fields-of.js';
import type { Logger } from './lib/logger.js';
import { FIELD_NAMES } from './rpc/field-names.js';
import { tooLarge } from './rpc/reply-encoder.js';
import { clusterSettings, sshSettings } from './sandbox/sandbox-settings.js';
import {
  type Sandbox,
  type SandboxOptions,
  type SandboxSsh,
  type SandboxSystemd,
  startSandbox,
} from './sandbox/sandbox.js';
import type {
  CommandAnswer,
  CommandMatcher,
  CommandScript,
  MachineCommand,
} from './sandbox/scripted-commands.js';
import { readConfiguration } from './settings/read-configuration.js';
import { Log } from './telemetry/log.js';

export type {
  ActionDescription,
  CommandAnswer,
  CommandMatcher,
  CommandScript,
  MachineCommand,
  Sandbox,
  SandboxOptions,
  SandboxSsh,
  SandboxSystemd,
  UnreachableHost,
};

/** A line that an action has logged. */
export interface LoggedLine {
  level: keyof Logger;
  message: string;
  fields: Record<string, unknown> | undefined;
}

/** How `run` calls the action. */
export interface RunOptions {
  /**
   * The etcd token or the name of the cluster, such as `sandbox.systemd.name`; null: the call names none. By default the sandbox's first
   * cluster.
   */
  cluster?: string | null;
  /** Aborted: the caller no longer waits, and the call ends with `cancelled`. */
  signal?: AbortSignal;
  /** How long the caller waits, in milliseconds; by default as long as the action may take. */
  timeoutMs?: number;
  /** The patterns of the units that the policy allows the caller; by default there is no policy. */
  units?: readonly string[];
  /** Who calls; by default nobody has verified a name. */
  caller?: Caller;
  /** Whether another worker may have begun the same request; false by default. */
  repeated?: boolean;
}

type Reachable = Sandbox & { readonly ssh: SandboxSsh; readonly systemd: SandboxSystemd };

export interface OpenAction<Result = unknown> {
  /**
   * The simulated cluster: `sandbox.cluster` adds units, reads the received requests and sets faults; `sandbox.ssh` answers
   * commands; `sandbox.systemd` is a cluster of plain systemd hosts. To read one of these two throws when the machines have no SSH: when
   * the action injects none of `RemoteShell`, `UnitControl` and `Actions`, and the option `ssh` is not true.
   */
  readonly sandbox: Reachable;
  /** The description of the action in the catalogue. */
  readonly description: ActionDescription;
  /** The lines that the action has logged, oldest first. */
  readonly logged: readonly LoggedLine[];
  /** The warnings that callers have got, oldest first. */
  readonly warnings: readonly string[];
  /** The machines and hosts of which callers were told that they did not answer. */
  readonly unreachable: readonly UnreachableHost[];
  /**
   * Calls the action as a worker of the service does: with its checks, its deadline, its turns of changes, and what it makes of
   * errors and results.
   * @param parameters its `action_parameters`
   * @throws ActionError with the code, message and details that callers get; `cause` is what the action threw
   * @throws Error when the result does not match the schema that the action declares
   */
  readonly run: (parameters?: unknown, options?: RunOptions) => Promise<Result>;
  /** Ends the runs, stops the sandbox and closes all connections. Until then the sandbox keeps the process alive. */
  readonly stop: () => Promise<void>;
}

export interface OpenActionOptions extends SandboxOptions {
  /** The settings of the action, by field, checked as in the service; none by default. */
  settings?: Readonly<Record<string, unknown>>;
  /**
   * Other actions, which the action may call by `Actions`, besides those of the service itself; one with the same name takes its
   * place. They have no settings but defaults.
   */
  actions?: readonly Action[];
}

/**
 * Starts a sandbox and prepares an action to run on it, with every port that it injects. The machines have SSH servers
 * when the action injects `RemoteShell`.
 * @throws Error that names the invalid field of the action, or a setting that is wrong or missing
 */
export async function openAction<Result = unknown>(
  action: ActionWithResult<Result>,
  options: OpenActionOptions = {},
): Promise<OpenAction<Result>> {
  const { clock = systemClock, settings = {}, actions: others = [] } = options;
  const injects = (token: symbol) =>
    [action, ...others].some(({ inject }) => Object.values(inject ?? {}).includes(token));
  const callsOthers = injects(Actions);
  const usesShell = callsOthers || injects(RemoteShell) || injects(UnitControl) || injects(UnitFiles);
  const sandbox = await startSandbox({ ssh: usesShell, ...options });
  const defaults = readConfiguration({ env: {}, directory: '/nonexistent' });
  const components = componentsOf({
    clusters: clusterSettings(sandbox),
    ssh: sshSettings(sandbox) ?? defaults.ssh,
    hostname: defaults.hostname,
    log: Log.create({ level: 'error', format: 'text' }),
    clock,
  });
  const close = async () => {
    if (usesShell) await components.shell().close();
    await components.close();
    await sandbox.stop();
  };
  const logged: LoggedLine[] = [];
  const warnings: string[] = [];
  const unreachable: UnreachableHost[] = [];
  try {
    const prepare = (each: Action, given: Readonly<Record<string, unknown>>) => {
      const prepared = prepareAction(each, components.port, {
        parametersName: FIELD_NAMES.parameters,
      });
      return { ...prepared, settings: settingsOf(prepared.declaredSettings, given) };
    };
    const served = prepare(action, settings);
    const problemsOf = resultCheck(strictSchema(action.result));
    const log = logInto(logged);
    const thrown = new Map<string, unknown>();
    const scopes = new WeakMap<Caller, AccessPolicy>();
    const { prefetch, concurrency, clusterConcurrency } = defaults.rpc;
    const own = callsOthers ? await ownActions(components.port) : [];
    const runner = new Runner({
      // The last one with a name stays.
      catalogue: new Catalogue([...own, ...others.map((each) => prepare(each, {})), noting(thrown, served)]),
      events: new CallEventBus(log),
      names: FIELD_NAMES,
      clock,
      logFor: () => log,
      maxCalls: prefetch,
      concurrency,
      clusterConcurrency,
      policy: { decide: (question) => scopes.get(question.caller)?.decide(question) ?? EVERYTHING },
    });
    let runs = 0;
    return {
      sandbox: withSsh(sandbox),
      description: served.description,
      logged,
      warnings,
      unreachable,
      stop: async () => {
        // Not awaited: with a clock that the test advances it may never end.
        void runner.drain(0);
        await close();
      },
      run: async (parameters, given = {}) => {
        requireRunOptions(given);
        const { units, ...runOptions } = given;
        const id = `test-${++runs}`;
        const call = callOf(served.description, id, {
          parameters,
          cluster: action.target === 'none' ? null : sandbox.token,
          ...runOptions,
        });
        if (units !== undefined) scopes.set(call.caller, policyFor(units));
        const settled = await runner.run(call);
        const details = detailsOf(settled);
        warnings.push(...warningsIn(details));
        unreachable.push(...unreachableIn(details));
        if (settled.status !== 'completed') throw failureOf(settled, thrown.get(id));
        const result = withoutRowList(settled.body);
        requireSize(result, defaults.rpc.maxReplyBytes);
        const problems = problemsOf(result);
        // As the action declares it, which has just been checked.
        if (problems.length === 0) return result as Result;
        throw new Error(`the result does not match the declared schema: ${problems.join('; ')}`);
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @throws ActionError `answer_too_large`, as callers get it */
function requireSize(result: unknown, maxBytes: number): void {
  const bytes = Buffer.byteLength(stringifyExactly(result) ?? '');
  if (bytes > maxBytes) throw failureOf(tooLarge(bytes, maxBytes, 'the limit'), undefined);
}

const RUN_OPTIONS = Object.keys({
  cluster: true,
  signal: true,
  timeoutMs: true,
  units: true,
  caller: true,
  repeated: true,
} satisfies Record<keyof RunOptions, true>);

/** A test in JavaScript may give any value. */
function requireRunOptions(options: RunOptions): void {
  const unknown = Object.keys(options).find((key) => !RUN_OPTIONS.includes(key));
  if (unknown !== undefined)
    throw new TypeError(`run has no option '${unknown}': its options are ${RUN_OPTIONS.join(', ')}`);
  if (options.units !== undefined && !Array.isArray(options.units))
    throw new TypeError('units is a list of patterns');
}

/** The actions of the service itself. */
async function ownActions(resolve: (token: symbol) => unknown): Promise<PreparedAction[]> {
  const catalogue = await loadPlugins({
    directories: [OWN_PLUGINS],
    parametersName: FIELD_NAMES.parameters,
    resolve,
    clock: systemClock,
  });
  return catalogue.describe().flatMap(({ name }) => catalogue.find(name) ?? []);
}

function withSsh(sandbox: Sandbox): Reachable {
  const { ssh, systemd } = sandbox;
  if (ssh !== undefined && systemd !== undefined) return { ...sandbox, ssh, systemd };
  const noSsh = () =>
    new TypeError(
      'the action does not inject RemoteShell, so the machines of its sandbox accept no SSH: open it with the option ssh: true',
    );
  return {
    ...sandbox,
    get ssh(): SandboxSsh {
      throw noSsh();
    },
    get systemd(): SandboxSystemd {
      throw noSsh();
    },
  };
}

/** Without a policy. */
const EVERYTHING = Object.freeze({ allowed: true, rule: 'test', units: undefined });

function policyFor(units: readonly string[]): AccessPolicy {
  return new Policy({ rules: [{ callers: ['*', 'anonymous', 'manager'], actions: ['*'], units }] });
}

/** The action, which notes what its handler throws, by the id of the call: callers do not get it. */
function noting(thrown: Map<string, unknown>, action: PreparedAction): PreparedAction {
  return {
    ...action,
    run: async (...given) => {
      try {
        return await action.run(...given);
      } catch (error) {
        thrown.set(given[0].id, error);
        throw error;
      }
    },
  };
}

function callOf(
  { name, timeout_ms: longest }: ActionDescription,
  id: string,
  {
    parameters,
    cluster,
    signal = new AbortController().signal,
    timeoutMs = longest,
    caller = ANONYMOUS,
    repeated = false,
  }: Omit<RunOptions, 'units'> & { parameters: unknown },
): Call {
  return {
    id,
    key: id,
    action: name,
    target: cluster,
    parameters,
    timeoutMs,
    waitedMs: 0,
    // A copy: each call may have another scope.
    caller: { ...caller },
    door: 'amqp',
    encoding: 'json',
    attempt: repeated ? 2 : 1,
    context: {},
    delivery: repeated ? 'repeated' : 'first',
    mayBeCopy: repeated,
    wantsReply: true,
    wantsParts: false,
    signal,
  };
}

/** What callers are told beside a result, and in an error. */
function detailsOf(settled: Settled): unknown {
  if (settled.status === 'released') return undefined;
  return settled.status === 'completed' ? settled.details : settled.body.details;
}

function warningsIn(details: unknown): string[] {
  const { warnings } = fieldsOf(details);
  return Array.isArray(warnings) ? warnings.map(String) : [];
}

/** @param thrown what the action threw, if it did */
function failureOf(settled: Exclude<Settled, { status: 'completed' }>, thrown: unknown): Error {
  if (settled.status === 'released') return new Error('the sandbox was stopped before the action began');
  const { code, errors, details } = settled.body;
  return new ActionError(code, errors.join('; '), { details, cause: thrown ?? settled.cause });
}

/** @throws Error with every setting that is wrong, missing, or not declared */
function settingsOf(declared: DeclaredSettings, given: Readonly<Record<string, unknown>>): SettingValues {
  const fields = declared.all.map(({ field }) => field);
  const unknown = Object.keys(given).filter((field) => !fields.includes(field));
  const problems = unknown.map((field) => `the action declares no setting '${field}'`);
  const values = new Map<string, unknown>();
  for (const setting of declared.all) {
    const checked = checkedSetting(setting, given[setting.field]);
    if ('problems' in checked) problems.push(...checked.problems);
    else if (checked.value !== undefined) values.set(setting.field, checked.value);
  }
  const made = problems.length > 0 ? { problems } : declared.valuesOf(values);
  if ('problems' in made) throw new Error(`the settings are wrong: ${made.problems.join('; ')}`);
  return made.values;
}

function logInto(lines: LoggedLine[]): Logger {
  const at = (level: keyof Logger) => (message: string, fields?: Record<string, unknown>) => {
    lines.push({ level, message, fields });
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
