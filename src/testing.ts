/**
 * `fleet-manager/testing`: runs an action on a sandbox, for the tests of plugins. CONTRIBUTING.md shows a test.
 */
import { Cluster } from './api/cluster.js';
import { componentsOf } from './composition.js';
import { readConfiguration } from './settings/read-configuration.js';
import { Log } from './telemetry/log.js';
import type { Action } from './api/action.js';
import { Clock } from './api/clock.js';
import { EtcdResolver } from './api/etcd-resolver.js';
import { FleetTransport } from './api/fleet-transport.js';
import { globMatcher } from './api/grammar.js';
import { RemoteShell } from './api/remote-shell.js';
import { withoutRowList } from './api/row-list.js';
import type { Logger } from './lib/logger.js';
import { ANONYMOUS } from './api/caller.js';
import type { ActionDescription } from './core/action-description.js';
import { BoundActions } from './core/bound-actions.js';
import { Catalogue } from './core/catalogue.js';
import { LazyAbort } from './lib/lazy-abort.js';
import { strictSchema } from './core/parameters.js';
import { checkedSetting, type DeclaredSettings, type SettingValues } from './core/plugin-settings.js';
import { prepareAction } from './core/prepare-action.js';
import { resultCheck } from './core/result-check.js';
import { unsendableIn } from './core/unsendable.js';
import { FIELD_NAMES } from './rpc/field-names.js';
import { clusterSettings, sshSettings } from './sandbox/sandbox-settings.js';
import { type Sandbox, type SandboxOptions, startSandbox } from './sandbox/sandbox.js';
import { systemClock } from './lib/clock.js';

export type { ActionDescription, Sandbox, SandboxOptions };

/** A line that an action has logged. */
export interface LoggedLine {
  level: keyof Logger;
  message: string;
  fields: Record<string, unknown> | undefined;
}

export interface OpenAction {
  /** The simulated cluster: use `sandbox.cluster` to add units, to read the received requests and to set faults. */
  readonly sandbox: Sandbox;
  /** The description of the action in the catalogue. */
  readonly description: ActionDescription;
  /** The lines that the action has logged, oldest first. */
  readonly logged: readonly LoggedLine[];
  /** The warnings for callers, oldest first. */
  readonly warnings: readonly string[];
  /**
   * Runs the action on the first cluster of the sandbox, or on the cluster with the token `cluster`.
   * @param parameters its `action_parameters`, checked as in the service
   * @param options `timeoutMs` sets the deadline that the action sees; the caller aborts the signal. `units` are the patterns of the
   *   units that `authorize` allows; all by default
   * @throws ActionError as callers get it: `invalid_parameters` before the action runs
   * @throws Error when the result does not match the schema that the action declares
   */
  readonly run: (
    parameters?: unknown,
    options?: { cluster?: string; signal?: AbortSignal; timeoutMs?: number; units?: readonly string[] },
  ) => Promise<unknown>;
  /** Stops the sandbox and closes all connections. Until then the sandbox keeps the process alive. */
  readonly stop: () => Promise<void>;
}

export interface OpenActionOptions extends SandboxOptions {
  /** The settings of the action, by field, checked as in the service; none by default. */
  settings?: Readonly<Record<string, unknown>>;
  /** Other actions, which the action may call by `Actions`; none by default. They have no settings but defaults. */
  actions?: readonly Action[];
}

/**
 * Starts a sandbox and prepares an action to run on it, with every port that it injects. The machines have SSH servers
 * when the action injects `RemoteShell`.
 * @throws Error that names the invalid field of the action, or a setting that is wrong or missing
 */
export async function openAction(action: Action, options: OpenActionOptions = {}): Promise<OpenAction> {
  const { clock = systemClock, settings = {}, actions: others = [] } = options;
  const usesShell = [action, ...others].some(({ inject }) =>
    Object.values(inject ?? {}).includes(RemoteShell),
  );
  const sandbox = await startSandbox({ ssh: usesShell, ...options });
  const defaults = readConfiguration({ env: {}, directory: '/nonexistent' });
  const components = componentsOf({
    clusters: clusterSettings(sandbox),
    ssh: sshSettings(sandbox) ?? defaults.ssh,
    hostname: defaults.hostname,
    log: Log.create({ level: 'error', format: 'text' }),
    clock,
  });
  const stop = async () => {
    if (usesShell) await components.shell().close();
    await components.close();
    await sandbox.stop();
  };
  const ports = new Map<symbol, () => unknown>([
    [FleetTransport, components.fleet],
    [EtcdResolver, components.resolver],
    [RemoteShell, components.shell],
    [Clock, () => clock],
  ]);
  const logged: LoggedLine[] = [];
  const warnings: string[] = [];
  try {
    const prepare = (each: Action, given: Readonly<Record<string, unknown>>) => {
      const prepared = prepareAction(each, (token) => portOf(ports, token), {
        parametersName: FIELD_NAMES.parameters,
      });
      return { ...prepared, settings: settingsOf(prepared.declaredSettings, given) };
    };
    const served = prepare(action, settings);
    const catalogue = new Catalogue([served, ...others.map((each) => prepare(each, {}))]);
    const problemsOf = resultCheck(strictSchema(action.result));
    return {
      sandbox,
      description: served.description,
      logged,
      warnings,
      stop,
      run: async (
        parameters,
        { cluster = sandbox.token, signal = new AbortController().signal, timeoutMs, units } = {},
      ) => {
        const scope = units?.map(globMatcher);
        const run = {
          cluster: action.target === 'none' ? undefined : new Cluster(cluster),
          deadline: clock.now() + (timeoutMs ?? served.description.timeout_ms),
          id: 'test',
          caller: ANONYMOUS,
          repeated: false,
          warn: (text: string) => void warnings.push(text),
        };
        const abort = new LazyAbort();
        const stopped = () => abort.abort(signal.reason);
        if (signal.aborted) stopped();
        else signal.addEventListener('abort', stopped, { once: true });
        // Everything may be called, by this caller.
        const authority = { enter: async () => ({ units }), leave: async () => {} };
        const logFor = () => logInto(logged);
        const bound = BoundActions.of(
          { catalogue, authority, clock },
          { ...run, action: action.name, traceId: undefined, abort, logFor },
        );
        const request = {
          ...run,
          parameters: served.check(parameters),
          settings: served.settings,
          signal,
          log: logInto(logged),
          authorize: (unit: string) => scope === undefined || scope.some((matches) => matches(unit)),
          authorizesAll: scope === undefined,
          emit: () => {},
        };
        const returned = await served.run(request, bound).finally(() => bound.end());
        const result = withoutRowList(returned);
        const unsendable = unsendableIn(result, 'result');
        if (unsendable !== undefined) throw new Error(`the result cannot be sent: ${unsendable}`);
        const problems = problemsOf(result);
        if (problems.length === 0) return result;
        throw new Error(`the result does not match the declared schema: ${problems.join('; ')}`);
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
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

function portOf(ports: ReadonlyMap<symbol, () => unknown>, token: symbol): unknown {
  const create = ports.get(token);
  if (create === undefined) throw new Error(`the service has no dependency ${String(token)}`);
  return create();
}

function logInto(lines: LoggedLine[]): Logger {
  const at = (level: keyof Logger) => (message: string, fields?: Record<string, unknown>) => {
    lines.push({ level, message, fields });
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
