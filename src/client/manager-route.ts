import { Publisher } from '../messaging/publisher.js';
import { jsonCodec } from '../messaging/codec/json.js';
import { atom, atomKeys } from '../messaging/codec/erlang-atom.js';
import { encodeTerm } from '../messaging/codec/erlang-encode.js';
import { requireExchange } from '../messaging/topology.js';
import { type LiveConnection, Session, type SessionOptions } from '../messaging/session.js';
import { ManagerClient } from '../openaperture/manager-client.js';
import { ManagerError } from '../openaperture/manager-error.js';
import { RecordCaller } from '../openaperture/record-caller.js';
import { callerTopology, type Topology } from '../openaperture/topology.js';
import type { Clock } from '../plugin.js';
import {
  type AnswerEnvelope,
  type CallOptions,
  closedError,
  DEFAULT_TIMEOUT_MS,
  FleetManagerError,
  lostError,
  requestBodyOf,
  type Route,
} from './route.js';

/** How to call a fleet-manager that is a module of an OpenAperture installation. */
export interface ManagerRouteOptions {
  managerUrl: string;
  oauth: { url: string; clientId: string; clientSecret: string };
  /** The exchange and the broker where the caller is at home. */
  exchangeId: number | bigint;
  brokerId: number | bigint;
  /** The exchange of the fleet-manager, when it is another. */
  destinationExchangeId?: number | bigint;
  /** How requests are encoded: `erlang`, as Elixir callers do, by default. */
  encoding?: 'erlang' | 'json';
}

/** Time for an answer to get into its record and to be seen there. */
const RECORD_MS = 3_000;

/**
 * Requests that are answered through the Manager: makes a record, publishes the request with its id, polls until the
 * record holds the answer, deletes it.
 */
export class ManagerRoute implements Route {
  readonly #queue: string;
  readonly #encoding: 'erlang' | 'json';
  readonly #clock: Clock;
  readonly #manager: ManagerClient;
  readonly #records: RecordCaller;
  readonly #topology: Topology;
  readonly #session: Session;
  readonly #publishers = new WeakMap<LiveConnection, Publisher>();
  readonly #closed = new AbortController();

  /** Connects in the background; requests wait for the connection. */
  constructor(
    queue: string,
    {
      managerUrl,
      oauth,
      exchangeId,
      brokerId,
      destinationExchangeId = exchangeId,
      encoding = 'erlang',
    }: ManagerRouteOptions,
    session: Omit<SessionOptions, 'onLive' | 'onRetire' | 'brokers'>,
  ) {
    const { clock, log } = session;
    this.#queue = queue;
    this.#encoding = encoding;
    this.#clock = clock;
    this.#manager = new ManagerClient({ url: managerUrl, oauth, clock });
    this.#records = new RecordCaller({ manager: this.#manager, clock });
    const source = { exchangeId, brokerId };
    this.#topology = callerTopology({ manager: this.#manager, source, destinationExchangeId, clock, log });
    this.#session = new Session({
      ...session,
      brokers: async () => this.#topology.brokers({ signal: this.#closed.signal }),
      onLive: async (live) => {
        live.lost.addEventListener('abort', () => this.#topology.refresh());
        this.#publishers.set(live, await Publisher.open(live));
      },
    });
    this.#session.start();
  }

  async request(action: string, options: CallOptions): Promise<AnswerEnvelope> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    signal?.throwIfAborted();
    if (this.#closed.signal.aborted) throw closedError();
    const end = new AbortController();
    const stop = () => end.abort(signal?.reason);
    const close = () => end.abort(closedError());
    const cancel = this.#clock.after(timeoutMs + RECORD_MS, () => end.abort(this.#late(timeoutMs)));
    signal?.addEventListener('abort', stop, { once: true });
    this.#closed.signal.addEventListener('abort', close, { once: true });
    try {
      return await this.#throughRecord(action, options, timeoutMs, end.signal);
    } catch (error) {
      throw error instanceof ManagerError
        ? new FleetManagerError('service_unavailable', error.message)
        : error;
    } finally {
      cancel();
      signal?.removeEventListener('abort', stop);
      this.#closed.signal.removeEventListener('abort', close);
    }
  }

  async close(): Promise<void> {
    this.#closed.abort(closedError());
    await this.#session.close();
    await this.#manager.close();
  }

  async #throughRecord(
    action: string,
    options: CallOptions,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<AnswerEnvelope> {
    const id = await this.#records.create(requestBodyOf(action, options), { signal });
    try {
      await this.#publish(this.#encoded(id, action, options), timeoutMs, options.resend === true, signal);
      const { status, responseBody: body } = await this.#records.poll(id, { signal });
      return { id, status, response_body: body };
    } finally {
      // What is left over the Manager removes after a day.
      await this.#records.delete(id, { signal: AbortSignal.timeout(RECORD_MS) }).catch(() => {});
    }
  }

  async #publish(content: Buffer, timeoutMs: number, resend: boolean, signal: AbortSignal): Promise<void> {
    for (;;) {
      const live = await this.#session.whenLive(signal);
      try {
        const to = await this.#topology.destination(this.#queue, { preferred: live.preferred, signal });
        await requireExchange(live, to.exchange);
        const headers = { 'timeout-ms': timeoutMs };
        const outcome = await this.#publishers.get(live)?.publish(to, content, { persistent: true, headers });
        if (outcome === 'routed') return;
        throw new FleetManagerError(
          'service_unavailable',
          `no queue is bound to ${to.exchange} by ${to.routingKey}`,
        );
      } catch (error) {
        if (!live.lost.aborted || error instanceof FleetManagerError) throw error;
        if (!resend) throw lostError();
      }
    }
  }

  #encoded(id: number | bigint, action: string, options: CallOptions): Buffer {
    const envelope = { queue_name: '', id, status: 'not_started', response_body: null };
    const body = requestBodyOf(action, options);
    if (this.#encoding === 'json') return jsonCodec.encode({ ...envelope, request_body: body });
    // As Elixir's RpcRequest is: every key and every enumerated value is an atom.
    const parameters = options.parameters === undefined ? null : atomKeys(options.parameters);
    return encodeTerm(
      atomKeys({
        ...envelope,
        status: atom('not_started'),
        request_body: atomKeys({ ...body, action: atom(action), action_parameters: parameters }),
      }),
    );
  }

  #late(timeoutMs: number): FleetManagerError {
    if (this.#session.live === undefined) {
      return new FleetManagerError(
        'service_unavailable',
        `no connection to a broker: ${this.#session.lastError}`,
      );
    }
    return new FleetManagerError('timeout', `no answer within ${timeoutMs} ms`);
  }
}
