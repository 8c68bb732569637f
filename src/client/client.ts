import { connect as amqpConnect } from '../rpc/patched-amqplib.js';
import type { BrokerAddress } from '../rpc/broker-address.js';
import type { Connect } from '../rpc/open-connection.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { systemClock } from '../lib/clock.js';
import { isIdempotencyKey, KEY_FORM } from '../core/idempotency-key.js';
import { activeTrace } from './active-trace.js';
import { AmqpRoute } from './amqp-route.js';
import { errorBodyOf } from './error-body.js';
import type { ServiceActions } from './action-types.js';
import { ManagerRoute, type ManagerRouteOptions } from './manager-route.js';
import { type AnswerEnvelope, type CallOptions, FleetManagerError, type BrokerRoute } from './route.js';

export { type AnswerEnvelope, type CallOptions, FleetManagerError, type ManagerRouteOptions };

/**
 * The parameters and results of actions, by name. `fleet-manager actions --types` writes a file that adds those of other plugins, by
 * declaration merging; so it is declared here, and not only exported.
 */
export interface KnownActions extends ServiceActions {}

/** Give one of `urls`, `brokers` and `manager`. */
export interface ClientOptions {
  /** Brokers to try in turn: `amqp://user:password@host:5672`. */
  urls?: readonly string[];
  /** Like `urls`, but called again before each round of connection attempts. */
  brokers?: () => Promise<readonly BrokerAddress[]>;
  /** An OpenAperture installation: brokers and replies come from its Manager. */
  manager?: ManagerRouteOptions;
  /** The queue of the service; `fleet_manager` by default. */
  queue?: string;
  /** Certificates for amqps, PEM. */
  tls?: { ca?: Buffer; cert?: Buffer; key?: Buffer };
  /** Gets a line when a connection is lost and when it is restored; no log by default. */
  log?: Logger;
  clock?: Clock;
  /** How to connect; amqplib's `connect` by default. */
  connect?: Connect;
}

type ParametersOf<A extends string> = A extends keyof KnownActions
  ? KnownActions[A]['parameters']
  : Record<string, unknown>;
type ResultOf<A extends string> = A extends keyof KnownActions ? KnownActions[A]['result'] : unknown;

const DAY_MS = 24 * 60 * 60_000;
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Calls the actions of a fleet-manager, over RabbitMQ with `reply_to` or through an OpenAperture Manager. One client can
 * make any number of calls at the same time.
 */
export class FleetManagerClient {
  readonly #route: BrokerRoute;

  /**
   * Connects in the background; calls wait for the connection.
   * @throws TypeError when `urls`, `brokers` and `manager` are all missing
   */
  constructor(options: ClientOptions) {
    if (options.brokers === undefined && options.manager === undefined && !options.urls?.length)
      throw new TypeError('a client needs urls, brokers or manager to reach the service');
    const { urls = [], manager, queue = 'fleet_manager', tls, log = SILENT, clock = systemClock } = options;
    const { connect = amqpConnect } = options;
    const { brokers = async () => urls.map((url) => ({ url })) } = options;
    const connection = { connect, brokers, tls, name: 'fleet-manager-client', clock, log };
    this.#route =
      manager === undefined ? new AmqpRoute(queue, connection) : new ManagerRoute(queue, manager, connection);
  }

  /**
   * Runs an action and returns its result; parameters and results of the service's own actions are typed.
   * @throws FleetManagerError with the service's code; `service_unavailable` when no service can be reached, `timeout`
   *   when no reply came in time, `outcome_unknown` when the action may or may not have run
   * @throws the signal's reason when that is aborted
   * @throws RangeError when `timeoutMs` is not from 1 ms to a day, `priority` not from 0 to 255, or `idempotencyKey` not 1 to 128
   *   printable ASCII characters
   */
  async call<A extends string>(
    action: A,
    options: Omit<CallOptions, 'parameters'> & { parameters?: ParametersOf<A> } = {},
  ): Promise<ResultOf<A>> {
    const { status, response_body: body } = await this.request(action, options);
    // The service's catalogue guarantees this shape.
    if (status === 'completed') return body as ResultOf<A>;
    const { errors, code = 'internal', details, traceId } = errorBodyOf(body);
    throw new FleetManagerError(code, errors.join('; '), details, traceId);
  }

  /** Runs an action and returns the reply, also an error reply; without a reply, throws as `call` does. */
  async request(action: string, options: CallOptions = {}): Promise<AnswerEnvelope> {
    const { timeoutMs, priority, idempotencyKey } = options;
    // Node's timers fire immediately when the delay exceeds 31 bits.
    if (timeoutMs !== undefined && !(timeoutMs >= 1 && timeoutMs <= DAY_MS))
      throw new RangeError(`timeoutMs must be a number from 1 to ${DAY_MS}, not ${timeoutMs}`);
    if (priority !== undefined && !(Number.isInteger(priority) && priority >= 0 && priority <= 255))
      throw new RangeError(`priority must be a whole number from 0 to 255, not ${priority}`);
    if (idempotencyKey !== undefined && !isIdempotencyKey(idempotencyKey))
      throw new RangeError(`idempotencyKey must be ${KEY_FORM}`);
    return this.#route.request(action, { ...options, trace: options.trace ?? activeTrace() });
  }

  /** Why no request can be sent now, with the broker's own text; undefined when it can. */
  get problem(): string | undefined {
    return this.#route.problem;
  }

  /**
   * Call it when `brokers` returns others than before: the client then leaves a broker that is not among them. Calls in
   * flight can still be answered there.
   */
  brokersChanged(): void {
    this.#route.brokersChanged?.();
  }

  /** Fails the calls in flight: with `outcome_unknown` when the change may still happen, else with `cancelled`. */
  async close(): Promise<void> {
    await this.#route.close();
  }
}
