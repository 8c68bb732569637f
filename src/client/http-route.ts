import ky, { type KyInstance, type Options } from 'ky';
import type { ActionDescription } from '../core/action-description.js';
import { IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, idempotencyKeyHeader } from '../core/idempotency-key.js';
import { parseExactly, stringifyExactly } from '../lib/exact-json.js';
import { fieldsOf } from '../lib/fields-of.js';
import { linkSignals } from '../lib/linked-signal.js';
import { isNotSent } from '../lib/not-sent.js';
import { NO_TRACE, traceHeadersIn } from '../lib/trace-context.js';
import { untilAborted } from '../lib/until-aborted.js';
import { errorBodyOf } from './error-body.js';
import {
  type AnswerEnvelope,
  type CallOptions,
  closedError,
  DEFAULT_TIMEOUT_MS,
  encoded,
  FleetManagerError,
  abandoned,
  mayRunTwice,
  type Route,
} from './route.js';

export interface HttpRouteOptions {
  host: string;
  port: number;
  /** The gateway's HTTP_TOKEN; undefined: it has none. */
  token: string | undefined;
}

/** What `GET /v1/actions` tells. */
export interface GatewayCatalogue {
  actions: ActionDescription[];
  /** The etcd token of the simulated cluster; undefined: the service is no sandbox. */
  sandboxCluster: string | undefined;
}

/** Time for the service's reply to arrive after the deadline. */
const TRANSPORT_MS = 5_000;

/** Requests through the HTTP gateway of the service. */
export class HttpRoute implements Route {
  readonly #url: string;
  readonly #gateway: KyInstance;
  readonly #closed = new AbortController();

  constructor({ host, port, token }: HttpRouteOptions) {
    this.#url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
    this.#gateway = ky.create({
      prefixUrl: this.#url,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      retry: 0,
      throwHttpErrors: false,
    });
  }

  /**
   * The actions that the service serves, and the cluster of a service that is a sandbox.
   * @throws FleetManagerError with the gateway's code; `service_unavailable` when no gateway responds
   */
  async catalogue(): Promise<GatewayCatalogue> {
    const response = await this.#fetch('v1/actions', {}).catch((error: unknown) => {
      throw this.#noResponse(error);
    });
    const { actions, sandbox_cluster: cluster, response_body: refusal } = fieldsOf(response);
    // The service guarantees this shape.
    if (Array.isArray(actions))
      return {
        actions: actions as ActionDescription[],
        sandboxCluster: typeof cluster === 'string' ? cluster : undefined,
      };
    const { code = 'internal', errors } = errorBodyOf(refusal);
    const reason = errors.length > 0 ? errors.join('; ') : 'its response has no reason';
    throw new FleetManagerError(
      code,
      `the gateway does not list its actions (${reason}): is it a fleet-manager, and is HTTP_TOKEN one of the gateway's tokens?`,
    );
  }

  async request(action: string, options: CallOptions): Promise<AnswerEnvelope> {
    const { cluster, parameters, timeoutMs = DEFAULT_TIMEOUT_MS, signal, trace, idempotencyKey } = options;
    signal?.throwIfAborted();
    if (this.#closed.signal.aborted) throw closedError();
    const body = encoded(() =>
      Buffer.from(stringifyExactly({ etcd_token: cluster, action_parameters: parameters })),
    );
    const link = linkSignals(this.#closed.signal, ...(signal === undefined ? [] : [signal]));
    try {
      const reply = this.#fetch(`v1/actions/${encodeURIComponent(action)}`, {
        method: 'post',
        body,
        headers: {
          ...traceHeadersIn(trace ?? NO_TRACE),
          'content-type': 'application/json',
          'timeout-ms': String(timeoutMs),
          ...(idempotencyKey !== undefined && { [IDEMPOTENCY_KEY]: idempotencyKeyHeader(idempotencyKey) }),
        },
        timeout: timeoutMs + TRANSPORT_MS,
        signal: link.signal,
      });
      return (await untilAborted(reply, link.signal)) as AnswerEnvelope;
    } catch (error) {
      signal?.throwIfAborted();
      const sent = !(error instanceof Error && isNotSent(error.cause));
      const reason = this.#closed.signal.aborted ? closedError() : this.#noResponse(error);
      throw abandoned({ sent, mayRunTwice: mayRunTwice(action, options) }, reason);
    } finally {
      link.unlink();
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
  }

  /** @throws the error of `fetch`; SyntaxError for a response that is not JSON */
  async #fetch(path: string, options: Options): Promise<unknown> {
    const response = await this.#gateway(path, options);
    const reply = parseExactly(await response.text());
    return response.headers.get(IDEMPOTENCY_REPLAYED) === 'true'
      ? { ...fieldsOf(reply), replayed: true }
      : reply;
  }

  #noResponse(error: unknown): FleetManagerError {
    return new FleetManagerError(
      'service_unavailable',
      `no gateway responds at ${this.#url}: is fleet-manager running there? ` +
        `Set HTTP_HOST and HTTP_PORT to where it listens, or AMQP_URL to call over RabbitMQ (${String(error)})`,
    );
  }
}
