import { errorCodeInfo } from '../api/error-codes.js';
import { FleetManagerClient, FleetManagerError, type ManagerRouteOptions } from '../client/client.js';
import { errorBodyOf } from '../client/error-body.js';
import { HttpRoute } from '../client/http-route.js';
import type { Route } from '../client/route.js';
import { fieldsOf } from '../lib/fields-of.js';
import { traceHeadersIn } from '../lib/trace-context.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { isSandbox } from '../settings/is-sandbox.js';
import { readConfiguration } from '../settings/read-configuration.js';
import type { Configuration } from '../settings/settings.js';
import type { ActionDescription } from '../core/action-description.js';
import { parametersOf } from './parameter-values.js';
import { formatReply } from './format-reply.js';
import { printError, printUnchanged } from './output.js';
import { UsageError } from './usage-error.js';

export interface CallArguments {
  cluster?: string;
  param?: string[];
  params?: string;
  /** Print a reply that is a string unchanged, not as JSON. */
  raw?: boolean;
  idempotencyKey?: string;
  /** Seconds. */
  timeout: number;
}

/** Exit codes. They say whether the service or the caller caused the error. */
export const EXIT = { done: 0, service: 1, caller: 2 } as const;

/** A route to the service, with the descriptions of its actions. */
interface CallRoute extends Route {
  /**
   * The description of an action; undefined: it is not known here, but the service may have the action.
   * @throws UsageError when the service has no such action
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
    const reply = await route.request(action, {
      cluster: given.cluster,
      parameters: parametersOf(description, { params: given.params, param: given.param ?? [] }),
      timeoutMs: given.timeout * 1_000,
      idempotencyKey: given.idempotencyKey,
      resend: description && description.effect === 'read',
      // As programs hand a trace to the commands that they run.
      trace: traceHeadersIn({ traceparent: source.env.TRACEPARENT, tracestate: source.env.TRACESTATE }),
    });
    const { response_body: body } = reply;
    const details = reply.status === 'completed' ? reply.details : fieldsOf(body).details;
    for (const warning of warningsOf(details)) printError(`warning: ${warning}\n`);
    if (reply.status !== 'completed') {
      printUnchanged(formatReply(body, { raw: false, terminal: false }));
      return failure(body);
    }
    printUnchanged(formatReply(body, { raw: given.raw === true, terminal: process.stdout.isTTY }));
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof FleetManagerError)) throw error;
    return failure({ code: error.code, errors: [error.message] });
  } finally {
    await route.close();
  }
}

/** The warnings in the details of a reply. */
function warningsOf(details: unknown): string[] {
  const { warnings } = fieldsOf(details);
  return Array.isArray(warnings) ? warnings.map(String) : [];
}

function failure(body: unknown): number {
  const { code, message } = errorOf(body);
  const remedy = remedyOf(code, body);
  printError(`${code}: ${message}\n${remedy === undefined ? '' : `-> ${remedy}\n`}`);
  return errorCodeInfo(code).fault === 'caller' ? EXIT.caller : EXIT.service;
}

/** How to correct the command line; undefined: the message says enough. */
function remedyOf(code: string, body: unknown): string | undefined {
  const { fields, actions } = fieldsOf(fieldsOf(body).details);
  const wrong = Array.isArray(fields) ? fields.map((each) => String(fieldsOf(each).field)) : [];
  if (wrong.includes('request_body.etcd_token')) return 'give the etcd token of the cluster: --cluster TOKEN';
  if (code === 'invalid_parameters')
    return 'give one parameter as --param NAME=VALUE, or all parameters as --params JSON';
  if (code === 'unknown_action' && Array.isArray(actions))
    return `the actions of the service are ${actions.join(', ')}`;
  return undefined;
}

/** The code and the message of an error reply. Missing fields are replaced by defaults. */
function errorOf(body: unknown): { code: string; message: string } {
  const { code = 'internal', errors } = errorBodyOf(body);
  return { code, message: errors.length > 0 ? errors.join('; ') : 'the reply gives no reason' };
}

function overQueue({
  amqp,
  openaperture,
  rpc,
  plugins,
  environment,
  watchdogSeconds,
}: Pick<
  Configuration,
  'amqp' | 'openaperture' | 'rpc' | 'plugins' | 'environment' | 'watchdogSeconds'
>): CallRoute {
  const client = new FleetManagerClient({
    urls: amqp?.urls,
    tls: amqp?.tls,
    manager: managerOf(openaperture),
    queue: rpc.queue,
  });
  return {
    describe: async (action) => {
      // Imported only on this route: over the gateway the service describes its actions.
      const { describeActions } = await import('../composition.js');
      // The service may have plugins that are not installed on this machine.
      return (await describeActions({ plugins, environment, watchdogSeconds })).find(action)?.description;
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
    describe: async (action) => named(await route.describe(), action),
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
