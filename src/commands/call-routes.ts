import type { ActionDescription } from '../core/action-description.js';
import { FleetManagerClient, type ManagerRouteOptions } from '../client/client.js';
import { HttpRoute } from '../client/http-route.js';
import type { Route } from '../client/route.js';
import { isSandbox } from '../settings/is-sandbox.js';
import type { Configuration } from '../settings/settings.js';
import { UsageError } from './usage-error.js';

/** What is known of an action before it is called. */
export interface KnownAction {
  description: ActionDescription;
  /** The cluster to use when none is named: that of a sandbox. */
  cluster: string | undefined;
}

/** A route to the service, with the descriptions of its actions. */
export interface CallRoute extends Route {
  /** Whom it reaches, for people. */
  readonly to: string;
  /** Why no request can be sent now; undefined: one can, or it is not known. */
  readonly problem?: string | undefined;
  /**
   * What is known of an action; undefined: nothing here, but the service may have the action.
   * @throws UsageError when the service has no such action
   */
  describe(action: string): Promise<KnownAction | undefined>;
}

/** The way to the service that the settings name. @throws UsageError when they name none */
export function callRoute(configuration: Configuration): CallRoute {
  return isSandbox(configuration) ? overGateway(configuration.http) : overQueue(configuration);
}

type QueueSettings = Pick<
  Configuration,
  'amqp' | 'openaperture' | 'rpc' | 'plugins' | 'environment' | 'watchdogSeconds'
>;

function overQueue({
  amqp,
  openaperture,
  rpc,
  plugins,
  environment,
  watchdogSeconds,
}: QueueSettings): CallRoute {
  const client = new FleetManagerClient({
    urls: amqp?.urls,
    tls: amqp?.tls,
    manager: managerOf(openaperture),
    queue: rpc.queue,
  });
  return {
    to: `the queue ${rpc.queue}`,
    get problem() {
      return client.problem;
    },
    describe: async (action) => {
      // Imported only on this route: over the gateway the service describes its actions.
      const { describeActions } = await import('../composition.js');
      // The service may have plugins that are not installed on this machine.
      const known = (await describeActions({ plugins, environment, watchdogSeconds })).find(action);
      return known && { description: known.description, cluster: undefined };
    },
    request: (action, options) => client.request(action, options),
    close: () => client.close(),
  };
}

function managerOf(openaperture: Configuration['openaperture']): ManagerRouteOptions | undefined {
  if (openaperture === undefined) return undefined;
  const { managerUrl, oauth, exchangeId, brokerId } = openaperture;
  return { managerUrl, oauth, exchangeId, brokerId };
}

function overGateway(http: Configuration['http']): CallRoute {
  if (http === undefined)
    throw new UsageError(
      'AMQP_URL is not set and the gateway is disabled (HTTP_PORT=off): set AMQP_URL or HTTP_PORT',
    );
  const route = new HttpRoute({ host: http.host, port: http.port, token: http.token });
  return {
    to: `the gateway on port ${http.port}`,
    describe: async (action) => {
      const { actions, sandboxCluster } = await route.catalogue();
      return { description: named(actions, action), cluster: sandboxCluster };
    },
    request: (action, options) => route.request(action, options),
    close: () => route.close(),
  };
}

function named(actions: readonly ActionDescription[], action: string): ActionDescription {
  const found = actions.find(({ name }) => name === action);
  if (found !== undefined) return found;
  throw new UsageError(
    `unknown action '${action}'; the actions are ${actions.map(({ name }) => name).join(', ')}`,
  );
}
