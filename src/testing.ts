/**
 * For the tests of action plugins, `fleet-manager/testing`: an action on a sandbox. CONTRIBUTING.md shows a test.
 */
import { Cluster } from './api/cluster.js';
import { partsOf } from './composition.js';
import { readConfiguration } from './settings/read-configuration.js';
import { Log } from './telemetry/log.js';
import type { Action } from './api/action.js';
import { Clock } from './api/clock.js';
import { EtcdResolver } from './api/etcd-resolver.js';
import { FleetTransport } from './api/fleet-transport.js';
import { RemoteShell } from './api/remote-shell.js';
import type { Logger } from './lib/logger.js';
import { ANONYMOUS } from './api/caller.js';
import type { ActionDescription } from './core/catalogue.js';
import { strictSchema } from './core/parameters.js';
import { prepareAction } from './core/prepare-action.js';
import { resultCheck } from './core/result-check.js';
import { WIRE_NAMES } from './rpc/field-names.js';
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
  /** The simulated world: units are added to `sandbox.cluster`, and what it was asked is read there, and faults are set. */
  readonly sandbox: Sandbox;
  /** The action as the catalogue describes it. */
  readonly description: ActionDescription;
  /** What the action has logged, oldest first. */
  readonly logged: readonly LoggedLine[];
  /**
   * Runs the action on the sandbox's first cluster, or the one whose token is given.
   * @param parameters its `action_parameters`, which are checked as the service does
   * @throws ActionError as callers get it: `invalid_parameters` before anything is run
   * @throws Error when the result is not what the action declares
   */
  readonly run: (
    parameters?: unknown,
    options?: { cluster?: string; signal?: AbortSignal },
  ) => Promise<unknown>;
  /** Closes everything; until then the sandbox keeps the process alive. */
  readonly stop: () => Promise<void>;
}

/**
 * Starts a sandbox and makes an action ready to run on it, with every part that it injects. Its machines answer by SSH
 * when the action injects `RemoteShell`.
 * @throws Error saying which field of the action is wrong
 */
export async function openAction(action: Action, options: SandboxOptions = {}): Promise<OpenAction> {
  const { clock = systemClock } = options;
  const usesShell = Object.values(action.inject ?? {}).includes(RemoteShell);
  const sandbox = await startSandbox({ ssh: usesShell, ...options });
  const nothingSet = readConfiguration({ env: {}, directory: '/nonexistent' });
  const parts = partsOf({
    clusters: clusterSettings(sandbox),
    ssh: sshSettings(sandbox) ?? nothingSet.ssh,
    hostname: nothingSet.hostname,
    log: Log.create({ level: 'error', format: 'text' }),
    clock,
  });
  const stop = async () => {
    if (usesShell) await parts.shell().close();
    await parts.close();
    await sandbox.stop();
  };
  const given = new Map<symbol, () => unknown>([
    [FleetTransport, parts.fleet],
    [EtcdResolver, parts.resolver],
    [RemoteShell, parts.shell],
    [Clock, () => clock],
  ]);
  const logged: LoggedLine[] = [];
  try {
    const served = prepareAction(action, (token) => partOf(given, token), {
      parametersName: WIRE_NAMES.parameters,
    });
    const problemsOf = resultCheck(strictSchema(action.result));
    return {
      sandbox,
      description: served.description,
      logged,
      stop,
      run: async (parameters, { cluster = sandbox.token, signal = new AbortController().signal } = {}) => {
        const result = await served.run({
          parameters: served.check(parameters),
          cluster: action.target === 'none' ? undefined : new Cluster(cluster),
          signal,
          deadline: clock.now() + served.description.timeout_ms,
          log: logInto(logged),
          id: 'test',
          caller: ANONYMOUS,
          repeated: false,
          authorize: () => true,
          emit: () => {},
        });
        const problems = problemsOf(result);
        if (problems.length === 0) return result;
        throw new Error(`the result is not what the action declares: ${problems.join('; ')}`);
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function partOf(given: ReadonlyMap<symbol, () => unknown>, token: symbol): unknown {
  const part = given.get(token);
  if (part === undefined) throw new Error(`there is no part ${String(token)} in the service`);
  return part();
}

function logInto(lines: LoggedLine[]): Logger {
  const at = (level: keyof Logger) => (message: string, fields?: Record<string, unknown>) => {
    lines.push({ level, message, fields });
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
