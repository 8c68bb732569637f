import { randomUUID } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import restartUnit from '../../plugins/restart-unit/index.js';
import { Cluster } from '../../src/api/cluster.js';
import { Discovery } from '../../src/clusters/fleet/discovery.js';
import { FleetHttpTransport } from '../../src/clusters/fleet/fleet-http-transport.js';
import { UnitTurns } from '../../src/core/unit-turns.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { HostPolicy } from '../../src/network/connection-policy.js';
import { HttpClient } from '../../src/network/http-client.js';
import { ActionError, type ActionRequest, Clock, FleetTransport, UnitControl } from '../../src/plugin.js';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.js';
import { actionRequest } from '../support/action-request.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { logLines } from '../support/log-lines.js';
import { service, TWO_MACHINES } from '../support/open-sandbox.js';

export const UNIT = 'web.service';

const unreached = async () => {
  throw new ActionError('host_unreachable', 'no machine of this cluster is reached');
};
/** A fleet cluster whose machines are not reached. */
export const onlyFleet: UnitControl = {
  kindOf: () => 'fleet',
  change: unreached,
  put: unreached,
  destroy: unreached,
};

/** A cluster of two machines with one unit, and the action on it, with a clock that leaps over every wait. */
export async function world(
  t: ExecutionContext,
  fleetOptions: Record<string, string> = {},
  fleetHosts?: string[],
  /** Returns the URL of a proxy for fleet's API. */
  proxy?: (fleet: URL) => Promise<URL>,
) {
  const clock = new LeapingClock();
  const delays = { change: 1_500, report: 500, linger: 1_000 };
  const sandbox = await startSandbox({
    token: randomUUID(),
    clock,
    delays,
    machines: TWO_MACHINES,
    units: [],
    fleetHosts,
  });
  t.teardown(async () => sandbox.stop());
  sandbox.cluster.addUnits([{ name: UNIT, options: service('/bin/web', fleetOptions) }]);
  const policy = new HostPolicy(['127.0.0.0/8']);
  const http = [new HttpClient(), new HttpClient({ policy })] as const;
  t.teardown(async () => Promise.all(http.map(async (each) => each.close())));
  const { log, find } = logLines();
  const { discoveryUrl, fleetPort } = sandbox;
  const proxied = await proxy?.(new URL(`http://127.0.0.1:${fleetPort}`));
  const resolver = new Discovery({
    http: http[0],
    discoveryUrl,
    fleetPort,
    endpointsOf: (token) => (proxied && token === sandbox.token ? [proxied] : undefined),
    clock,
    log,
  });
  const parts = new Map<symbol, unknown>([
    [FleetTransport, new FleetHttpTransport({ http: http[1], resolver, policy, clock, log })],
    [Clock, clock],
    [UnitControl, onlyFleet],
  ]);
  const action = prepareAction(restartUnit, (token) => parts.get(token));
  const warnings: string[] = [];
  // As the service runs changes.
  const turns = new UnitTurns();
  const run = async (
    parameters: Record<string, unknown> = {},
    signal = new AbortController().signal,
    request: Partial<ActionRequest<unknown, Cluster>> = {},
  ) => {
    const given = requestOf(parameters, signal, request);
    return turns.run(given.cluster, action.unitsIn(given.parameters), signal, async () => action.run(given));
  };
  const requestOf = (
    parameters: Record<string, unknown>,
    signal: AbortSignal,
    request: Partial<ActionRequest<unknown, Cluster>> = {},
  ) =>
    actionRequest({
      parameters: action.check({ unit_name: UNIT, ...parameters }),
      cluster: new Cluster(sandbox.token),
      signal,
      log,
      warn: (text) => warnings.push(text),
      ...request,
    });
  /** Finds out what came of a restart whose worker has ended. */
  const probe = async (signal = new AbortController().signal) =>
    action.probe?.(requestOf({}, signal, { repeated: true }));
  return { sandbox, run, probe, clock, find, warnings };
}

export function puts({ cluster }: Sandbox): number {
  return cluster.requests.filter(({ method }) => method === 'PUT').length;
}

/** Waits until it is true. @throws Error when the restart ends before */
export async function during(restart: Promise<unknown>, isTrue: () => boolean): Promise<void> {
  let ended = false;
  const end = () => (ended = true);
  restart.then(end, end);
  while (!isTrue()) {
    if (ended) throw new Error('the restart ended too early', { cause: await restart });
    await new Promise(setImmediate);
  }
}

/** Advances the clock also while the action waits for fleet, ten seconds per second. @returns a function that ends it */
export function letTimePass(t: ExecutionContext, clock: LeapingClock): () => void {
  const timer = setInterval(() => void clock.sleep(100), 10);
  const end = () => clearInterval(timer);
  t.teardown(end);
  return end;
}

export const codeOf = (error: unknown) => (error instanceof ActionError ? error.code : String(error));
