import { errorCodeInfo } from '../api/error-codes.js';
import { FleetManagerClient, FleetManagerError, type ManagerRouteOptions } from '../client/client.js';
import { errorBodyOf } from '../client/error-body.js';
import { HttpRoute } from '../client/http-route.js';
import type { Route } from '../client/route.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { isSandbox } from '../settings/is-sandbox.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { Configuration } from '../settings/settings.js';
import type { ActionDescription } from '../core/catalogue.js';
import { parametersOf } from './parameter-values.js';
import { shownAnswer } from './shown-answer.js';
import { UsageError } from './usage-error.js';

export interface CallArguments {
  cluster?: string;
  param?: string[];
  params?: string;
  /** Prints a result that is a text as it is, not as JSON. */
  raw?: boolean;
  /** Seconds. */
  timeout: number;
}

/** Exit codes by who can correct the fault. */
export const EXIT = { done: 0, service: 1, caller: 2 } as const;

/** A route to the service, and what it knows of the actions. */
interface CallRoute extends Route {
  /**
   * The description of an action; undefined: only the service knows it.
   * @throws UsageError when there is no such action
   */
  describe(action: string): Promise<ActionDescription | undefined>;
}

/** Calls one action and prints the reply. @returns the exit code */
export async function call(
  action: string,
  given: CallArguments,
  source: ConfigurationSource,
): Promise<number> {
  const configuration = readConfiguration(source);
  const route = isSandbox(configuration) ? overGateway(configuration.http) : overQueue(configuration);
  try {
    const description = await route.describe(action);
    const answer = await route.request(action, {
      cluster: given.cluster,
      parameters: parametersOf(description, { params: given.params, param: given.param ?? [] }),
      timeoutMs: given.timeout * 1_000,
      resend: description && description.effect === 'read',
    });
    const { response_body: body } = answer;
    if (answer.status !== 'completed') {
      process.stdout.write(shownAnswer(body, { raw: false, terminal: false }));
      return failure(body);
    }
    process.stdout.write(shownAnswer(body, { raw: given.raw === true, terminal: process.stdout.isTTY }));
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof FleetManagerError)) throw error;
    return failure({ code: error.code, errors: [error.message] });
  } finally {
    await route.close();
  }
}

function failure(body: unknown): number {
  const { code, message } = problemOf(body);
  const remedy = remedyOf(code, body);
  process.stderr.write(`${code}: ${message}\n${remedy === undefined ? '' : `-> ${remedy}\n`}`);
  return errorCodeInfo(code).fault === 'caller' ? EXIT.caller : EXIT.service;
}

/** What to do about it on the command line; undefined: the message is enough. */
function remedyOf(code: string, body: unknown): string | undefined {
  const { fields, actions } = mapOf(mapOf(body).details);
  const wrong = Array.isArray(fields) ? fields.map((each) => String(mapOf(each).field)) : [];
  if (wrong.includes('request_body.etcd_token')) return 'name the cluster by its etcd token: --cluster TOKEN';
  if (code === 'invalid_parameters') return 'give parameters as --param NAME=VALUE, or all as --params JSON';
  if (code === 'unknown_action' && Array.isArray(actions)) return `the service has ${actions.join(', ')}`;
  return undefined;
}

/** The content of an error reply, of any form. */
function problemOf(body: unknown): { code: string; message: string } {
  const { code = 'internal', errors } = errorBodyOf(body);
  return { code, message: errors.length > 0 ? errors.join('; ') : 'the reply does not say why' };
}

function mapOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function overQueue({
  amqp,
  openaperture,
  rpc,
  plugins,
  environment,
}: Pick<Configuration, 'amqp' | 'openaperture' | 'rpc' | 'plugins' | 'environment'>): CallRoute {
  const client = new FleetManagerClient({
    urls: amqp?.urls,
    tls: amqp?.tls,
    manager: managerOf(openaperture),
    queue: rpc.queue,
  });
  return {
    describe: async (action) => {
      // Loaded only here: the gateway has its own list of actions.
      const { describeActions } = await import('../composition.js');
      // The service may have plugins that are not installed on this machine.
      return (await describeActions({ plugins, environment })).find(action)?.description;
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
    throw new UsageError('neither AMQP_URL is set nor is there a gateway (HTTP_PORT=off): set one of them');
  const route = new HttpRoute({ host: http.host, port: http.port, token: http.token });
  return {
    describe: async (action) => named(await route.describe(), action),
    request: (action, options) => route.request(action, options),
    close: () => route.close(),
  };
}

function named(actions: readonly ActionDescription[], action: string): ActionDescription {
  const found = actions.find(({ name }) => name === action);
  if (found !== undefined) return found;
  throw new UsageError(
    `there is no action '${action}'; there are ${actions.map(({ name }) => name).join(', ')}`,
  );
}
