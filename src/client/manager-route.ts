import { ConfirmChannel } from '../rpc/confirm-channel.js';
import { jsonCodec } from '../rpc/codec/json.js';
import { MayHaveArrived, PublishRefused } from '../rpc/publish-errors.js';
import type { BrokerConnection } from '../rpc/broker-connection.js';
import { IDEMPOTENCY_KEY, idempotencyKeyHeader } from '../core/idempotency-key.js';
import { OwnUser } from '../rpc/own-user.js';
import { ConnectionManager, type ConnectionManagerOptions } from '../rpc/connection-manager.js';
import type { ManagerId } from '../openaperture/manager-responses.js';
import { ManagerClient } from '../openaperture/manager-client.js';
import { ManagerError } from '../openaperture/manager-error.js';
import { RecordCaller } from '../openaperture/record-caller.js';
import { requestTerm } from '../openaperture/request-term.js';
import { callerTopology, type Topology } from '../openaperture/topology.js';
import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { NO_TRACE, traceHeadersIn } from '../lib/trace-context.js';
import { untilAborted } from '../lib/until-aborted.js';
import {
  type AnswerEnvelope,
  type CallOptions,
  closedError,
  DEFAULT_TIMEOUT_MS,
  encoded,
  FleetManagerError,
  abandoned,
  refused,
  mayRunTwice,
  requestBodyOf,
  type BrokerRoute,
} from './route.js';

/** How to call a fleet-manager that is a module of an OpenAperture installation. */
export interface ManagerRouteOptions {
  managerUrl: string;
  oauth: { url: string; clientId: string; clientSecret: string };
  /** The caller's own exchange and broker. */
  exchangeId: number | bigint;
  brokerId: number | bigint;
  /** The exchange of the fleet-manager, when it differs from `exchangeId`. */
  destinationExchangeId?: number | bigint;
  /** How requests are encoded; by default `erlang`, as Elixir callers do. */
  encoding?: 'erlang' | 'json';
}

/** Time for a reply to be saved in its record and to be polled from there. */
const RECORD_MS = 3_000;
/** The time limit for deleting a record. The Manager removes remaining records after a day. */
const DELETE_MS = 3_000;

/** One call and its state. */
interface PendingCall {
  action: string;
  options: CallOptions;
  timeoutMs: number;
  /** The clock's time at which the service stops the action. */
  deadline: number;
  /** Whether the service may have the request. */
  sent: boolean;
  mayRunTwice: boolean;
}

/**
 * Requests whose replies come through the Manager: creates a record, publishes the request with the record's id, polls
 * until the record contains the reply, deletes the record.
 */
export class ManagerRoute implements BrokerRoute {
  readonly #queue: string;
  readonly #encoding: 'erlang' | 'json';
  readonly #clock: Clock;
  readonly #manager: ManagerClient;
  readonly #records: RecordCaller;
  readonly #topology: Topology;
  readonly #connections: ConnectionManager;
  readonly #publishers = new WeakMap<BrokerConnection, ConfirmChannel>();
  readonly #closed = new AbortController();
  readonly #calls = new Set<Promise<unknown>>();
  readonly #publishing = new Set<Promise<unknown>>();
  /** Deletions of records in flight; no caller waits for them. */
  readonly #deleting = new Set<Promise<unknown>>();

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
    options: Omit<ConnectionManagerOptions, 'onConnected' | 'onReplaced' | 'brokers'>,
  ) {
    const { clock, log, tls } = options;
    const ownUser = new OwnUser({ cert: tls?.cert, clock, log });
    this.#queue = queue;
    this.#encoding = encoding;
    this.#clock = clock;
    this.#manager = new ManagerClient({ url: managerUrl, oauth, clock });
    this.#records = new RecordCaller({ manager: this.#manager, clock });
    const source = { exchangeId, brokerId };
    this.#topology = callerTopology({ manager: this.#manager, source, destinationExchangeId, clock, log });
    this.#connections = new ConnectionManager({
      ...options,
      brokers: async () => this.#topology.brokers({ signal: this.#closed.signal }),
      onConnected: async (connection, step) => {
        connection.lost.addEventListener('abort', () => this.#topology.refresh());
        const publisher = await step('open channels', async () => ConfirmChannel.open(connection));
        this.#publishers.set(connection, publisher);
        await step("publish in the user's name", async () => ownUser.learn(connection));
      },
      // Waits for the confirms of the connection that is being replaced.
      onReplaced: async () => void (await Promise.allSettled(this.#publishing)),
    });
    this.#connections.start();
  }

  async request(action: string, options: CallOptions): Promise<AnswerEnvelope> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    signal?.throwIfAborted();
    if (this.#closed.signal.aborted) throw closedError();
    const deadline = this.#clock.now() + timeoutMs;
    const call: PendingCall = {
      action,
      options,
      timeoutMs,
      deadline,
      sent: false,
      mayRunTwice: mayRunTwice(action, options),
    };
    const limit = {
      ms: timeoutMs + RECORD_MS,
      clock: this.#clock,
      reason: () => this.#timedOut(call),
      signal: [this.#closed.signal, ...(signal === undefined ? [] : [signal])],
    };
    try {
      const reply = runWithin(limit, (limited) => this.#callThroughRecord(call, limited));
      return await tracked(this.#calls, reply);
    } catch (error) {
      if (this.#closed.signal.aborted && error === this.#closed.signal.reason)
        throw abandoned(call, closedError());
      throw error instanceof ManagerError ? abandoned(call, unavailable(error.message)) : error;
    }
  }

  get problem(): string | undefined {
    return this.#connections.problem;
  }

  async close(): Promise<void> {
    this.#closed.abort(closedError());
    await Promise.allSettled(this.#calls);
    await Promise.allSettled(this.#deleting);
    await this.#connections.close();
    await this.#manager.close();
  }

  async #callThroughRecord(call: PendingCall, signal: AbortSignal): Promise<AnswerEnvelope> {
    // Before the record is created: a request that cannot be encoded must not leave a record behind.
    this.#encoded(0, call);
    const id = await this.#records.create(requestBodyOf(call.action, call.options), { signal });
    try {
      await tracked(this.#publishing, this.#publish(this.#encoded(id, call), call, signal));
      const { status, responseBody: body } = await this.#records.poll(id, { signal });
      return { id, status, response_body: body };
    } finally {
      void tracked(this.#deleting, this.#delete(id));
    }
  }

  async #publish(content: Buffer, call: PendingCall, signal: AbortSignal): Promise<void> {
    const { trace, idempotencyKey } = call.options;
    for (;;) {
      const connection = await this.#connections.whenConnected(signal);
      try {
        const to = await this.#topology.destination(this.#queue, { preferred: connection.preferred, signal });
        // The broker would read the request only when it accepts messages again, however late that is.
        await connection.whenUnblocked(signal);
        const sending = () => {
          signal.throwIfAborted();
          const remainingMs = Math.ceil(call.deadline - this.#clock.now());
          if (remainingMs < 1) throw this.#timedOut(call);
          call.sent = true;
          return {
            headers: {
              ...traceHeadersIn(trace ?? NO_TRACE),
              'timeout-ms': remainingMs,
              ...(idempotencyKey !== undefined && {
                [IDEMPOTENCY_KEY]: idempotencyKeyHeader(idempotencyKey),
              }),
            },
          };
        };
        const sharing = call.mayRunTwice ? 'again' : 'once';
        const publishing = this.#publishers
          .get(connection)
          ?.publish(
            to,
            content,
            { persistent: true, priority: call.options.priority, userId: connection.user },
            { sharing, sending },
          );
        const outcome = await untilAborted(Promise.resolve(publishing), signal);
        // Of several queues that are bound there, another one may have refused it: then a reply will be saved in the record.
        if (outcome === 'routed' || (outcome === 'nacked' && !call.mayRunTwice)) return;
        throw unavailable(
          outcome === 'nacked'
            ? `a queue of the exchange ${to.exchange} is full, or has failed: ${this.#queue}, or another with its routing key`
            : `no queue is bound to ${to.exchange} with the routing key ${to.routingKey}`,
        );
      } catch (error) {
        // The service may have it: then its reply will be saved in the record.
        if (error instanceof MayHaveArrived) return;
        if (error instanceof PublishRefused) throw refused(error);
        if (!connection.lost.aborted || signal.aborted || error instanceof FleetManagerError) throw error;
        // The broker may have the request: then its reply will be saved in the record.
        if (call.sent && !call.mayRunTwice) return;
      }
    }
  }

  /** Never rejects, and ends within `DELETE_MS`. */
  async #delete(id: ManagerId): Promise<void> {
    const reason = () => new Error(`the record was not deleted within ${DELETE_MS} ms`);
    const limit = { ms: DELETE_MS, clock: this.#clock, reason };
    await runWithin(limit, (signal) => this.#records.delete(id, { signal })).catch(() => {});
  }

  /** @throws FleetManagerError `invalid_request` */
  #encoded(id: ManagerId, { action, options }: PendingCall): Buffer {
    const body = requestBodyOf(action, options);
    if (this.#encoding === 'erlang') return encoded(() => requestTerm(id, body));
    const envelope = { queue_name: '', id, status: 'not_started', request_body: body, response_body: null };
    return encoded(() => jsonCodec.encode(envelope));
  }

  #timedOut(call: PendingCall): FleetManagerError {
    const { timeoutMs } = call;
    if (call.sent)
      return abandoned(call, new FleetManagerError('timeout', `no reply within ${timeoutMs} ms`));
    const { problem } = this;
    if (problem !== undefined) return unavailable(problem);
    return new FleetManagerError('timeout', `the request could not be sent within ${timeoutMs} ms`);
  }
}

function unavailable(reason: string): FleetManagerError {
  return new FleetManagerError('service_unavailable', reason);
}

/** Adds a promise to a set until it settles. */
async function tracked<T>(inFlight: Set<Promise<unknown>>, work: Promise<T>): Promise<T> {
  inFlight.add(work);
  try {
    return await work;
  } finally {
    inFlight.delete(work);
  }
}
