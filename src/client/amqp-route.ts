import { randomUUID } from 'node:crypto';
import type { Options } from 'amqplib';
import { Codecs } from '../rpc/codec/codecs.js';
import { jsonCodec } from '../rpc/codec/json.js';
import { connect as amqpConnect } from '../rpc/patched-amqplib.js';
import { ConfirmChannel } from '../rpc/confirm-channel.js';
import { MayHaveArrived, PublishRefused } from '../rpc/publish-errors.js';
import type { PublishOutcome } from '../rpc/publish-channel.js';
import type { BrokerConnection } from '../rpc/broker-connection.js';
import { ConnectionManager, type ConnectionManagerOptions } from '../rpc/connection-manager.js';
import { OwnUser } from '../rpc/own-user.js';
import { handedOn, senderOf } from '../rpc/sender.js';
import type { SetUpStep } from '../rpc/set-up-step.js';
import { linkSignals } from '../lib/linked-signal.js';
import { IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, idempotencyKeyHeader } from '../core/idempotency-key.js';
import { REQUEST_ID } from '../core/request-id.js';
import { isAccessRefused, WritePermission } from '../rpc/write-permission.js';
import type { Clock } from '../lib/clock.js';
import { OutageLog } from '../lib/outage-log.js';
import { settledWithin } from '../lib/settled-within.js';
import { NO_TRACE, traceHeadersIn } from '../lib/trace-context.js';
import { untilAborted } from '../lib/until-aborted.js';
import {
  type AnswerEnvelope,
  closedError,
  DEFAULT_TIMEOUT_MS,
  encoded,
  FleetManagerError,
  abandoned,
  refused,
  mayRunTwice,
  requestBodyOf,
  type BrokerRoute,
  type RouteOptions,
} from './route.js';

interface Pending {
  answered: (envelope: AnswerEnvelope) => void;
  failed: (error: unknown) => void;
  /** Whether the service may have the request. */
  sent: boolean;
  mayRunTwice: boolean;
}

export interface AmqpRouteOptions
  extends Omit<ConnectionManagerOptions, 'connect' | 'onConnected' | 'onReplaced'>,
    Partial<Pick<ConnectionManagerOptions, 'connect'>> {}

/** How requests are published on a connection. */
interface Outlet {
  publisher: ConfirmChannel;
  permission: WritePermission;
}

/** How the name of each reply queue begins. */
export const REPLY_QUEUE = 'fleet_manager.reply.';
/** Time for the service's own `timeout` reply to arrive after the deadline. */
const TRANSPORT_MS = 2_000;
/** Time for the broker to remove the reply queue. */
const CLOSE_MS = 1_000;
/** After this time without a confirm the queue of the service counts as one that hangs. */
const UNCONFIRMED_MS = 10_000;
/** How often at most `probe` publishes. */
const PROBE_MS = 5_000;
/** The broker removes the reply queue when it has had no consumer for this long. */
const REPLY_QUEUE_EXPIRES_MS = 10 * 60_000;

/** The time of a request has passed before it could be written. */
class TimeIsUp extends Error {
  override readonly name = 'TimeIsUp';
}

/** Requests with `reply_to`. The reply queue survives a lost connection, so replies that arrive in between are kept. */
export class AmqpRoute implements BrokerRoute {
  readonly #queue: string;
  readonly #clock: Clock;
  readonly #connections: ConnectionManager;
  readonly #replyQueue = `${REPLY_QUEUE}${randomUUID()}`;
  readonly #codecs = new Codecs([jsonCodec]);
  readonly #pending = new Map<string, Pending>();
  readonly #calls = new Set<Promise<AnswerEnvelope>>();
  readonly #outlets = new WeakMap<BrokerConnection, Outlet>();
  /** When each request that the broker has not confirmed was given to it, the oldest first; also those of calls that have ended. */
  readonly #unconfirmed = new Set<{ since: number }>();
  readonly #refused: OutageLog;
  #probing = false;
  #probedAt = -Infinity;
  readonly #ownUser: OwnUser;
  /** Whether the permission to send requests was ever missing; then each new connection is checked for it. */
  #hasBeenRefused = false;
  readonly #closed = new AbortController();

  /** Connects in the background; requests wait for the connection. */
  constructor(queue: string, options: AmqpRouteOptions) {
    this.#queue = queue;
    const { clock, log, tls } = options;
    this.#clock = clock;
    this.#ownUser = new OwnUser({ cert: tls?.cert, clock, log });
    this.#refused = new OutageLog(log, clock, {
      began: 'requests refused',
      ended: 'requests no longer refused',
    });
    this.#connections = new ConnectionManager({
      ...options,
      connect: options.connect ?? amqpConnect,
      onConnected: async (connection, step) => this.#listen(connection, step),
      onReplaced: async () => this.#whilePending(),
    });
    this.#connections.start();
  }

  async request(action: string, options: RouteOptions): Promise<AnswerEnvelope> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    signal?.throwIfAborted();
    if (this.#closed.signal.aborted) throw closedError();
    const id = randomUUID();
    const deadline = this.#clock.now() + timeoutMs;
    const link = linkSignals(...(signal === undefined ? [] : [signal]));
    const reply = new Promise<AnswerEnvelope>((answered, failed) => {
      // Registered before the request is sent: the reply can arrive before the broker's confirm.
      this.#pending.set(id, { answered, failed, sent: false, mayRunTwice: mayRunTwice(action, options) });
    });
    const cancelTimeout = this.#clock.after(timeoutMs + TRANSPORT_MS, () => this.#late(id, timeoutMs));
    this.#send(id, action, options, deadline, link.signal).catch((error: unknown) =>
      this.#pending.get(id)?.failed(error),
    );
    const call = untilAborted(reply, link.signal);
    this.#calls.add(call);
    try {
      return await call;
    } finally {
      this.#calls.delete(call);
      this.#pending.delete(id);
      cancelTimeout();
      link.unlink();
      link.abort(new Error('the call has ended'));
    }
  }

  brokersChanged(): void {
    this.#connections.brokersChanged();
  }

  get problem(): string | undefined {
    const { current, problem } = this.#connections;
    const refusal = current === undefined ? undefined : this.#outlets.get(current)?.permission.refusal;
    if (refusal !== undefined) return `the broker refuses requests: ${refusal}`;
    return problem ?? this.#hanging;
  }

  /**
   * Finds out in the background whether requests can be sent, with a message that reaches nobody: the broker tells a connection
   * that it is blocked, or has lost its permission, only when that publishes. Then `problem` says so.
   */
  probe(): void {
    const { current, problem } = this.#connections;
    const outlet = current === undefined ? undefined : this.#outlets.get(current);
    const isDue = this.#clock.now() - this.#probedAt >= PROBE_MS;
    if (outlet === undefined || problem !== undefined || this.#probing || !isDue) return;
    const { permission } = outlet;
    // Then it is tried already.
    if (permission.refusal !== undefined) return;
    this.#probing = true;
    this.#probedAt = this.#clock.now();
    void permission
      .check()
      .then(() => (this.#hasBeenRefused ||= permission.refusal !== undefined))
      // The connection is lost, which `problem` says.
      .catch(() => undefined)
      .finally(() => (this.#probing = false));
  }

  /** Why requests wait for the queue of the service, such as a quorum queue without its majority. */
  get #hanging(): string | undefined {
    const [oldest] = this.#unconfirmed;
    const ms = oldest === undefined ? 0 : this.#clock.now() - oldest.since;
    if (ms < UNCONFIRMED_MS) return undefined;
    return `the broker confirms no requests: look for the queue ${this.#queue}`;
  }

  /** Also removes the reply queue. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    for (const call of this.#pending.values()) call.failed(abandoned(call, closedError()));
    const removed = this.#connections.current?.probe(async (channel) =>
      channel.deleteQueue(this.#replyQueue),
    );
    // A broker that blocks publishers does not answer this either.
    if (removed !== undefined) await settledWithin(CLOSE_MS, this.#clock, removed);
    await this.#connections.close();
  }

  /** Waits for the calls in flight: their replies may arrive on the connection that is being replaced. */
  async #whilePending(): Promise<void> {
    await Promise.allSettled(this.#calls);
  }

  async #listen(connection: BrokerConnection, step: SetUpStep): Promise<void> {
    const publisher = await step('open channels', async () => ConfirmChannel.open(connection));
    const permission = new WritePermission(connection, publisher, {
      clock: this.#clock,
      outage: this.#refused,
      changed: () => void this.#permissionChanged(connection),
    });
    this.#outlets.set(connection, { publisher, permission });
    if (this.#hasBeenRefused) await step('publish to the default exchange', async () => permission.check());
    await step(`consume from the reply queue ${this.#replyQueue}`, async () => this.#consume(connection));
    // Not earlier: a broker that accepts no messages answers this only when it does again, and replies must not wait for that.
    await step("publish in the user's name", async () => this.#ownUser.learn(connection));
  }

  async #permissionChanged(connection: BrokerConnection): Promise<void> {
    const refusal = this.#outlets.get(connection)?.permission.refusal;
    // Without the permission to publish it could not be found out.
    if (connection.user === undefined && refusal === undefined)
      await this.#ownUser.learn(connection).catch((error: unknown) => connection.lose(error));
  }

  async #consume(connection: BrokerConnection): Promise<void> {
    const channel = await connection.channel();
    await channel.assertQueue(this.#replyQueue, { durable: true, expires: REPLY_QUEUE_EXPIRES_MS });
    await channel.consume(this.#replyQueue, (message) => {
      if (message === null) {
        if (!this.#closed.signal.aborted) connection.lose(new Error('the reply queue was deleted'));
      } else if (!connection.lost.aborted) {
        this.#take(message.content, message.properties);
        // Not earlier: after a loss, the next connection delivers an unacknowledged reply again.
        channel.ack(message);
      }
    });
  }

  #take(
    content: Buffer,
    {
      correlationId,
      contentType,
      headers,
    }: { correlationId?: unknown; contentType?: unknown; headers?: Record<string, unknown> | undefined },
  ): void {
    // The reply to a call that was cancelled, or a duplicate.
    const pending = this.#pending.get(String(correlationId));
    if (pending === undefined) return;
    try {
      const envelope = this.#codecs.of(content, contentType).decode(content);
      if (!isReply(envelope)) throw new Error('its status is neither completed nor error');
      if (headers?.[IDEMPOTENCY_REPLAYED] === true) envelope.replayed = true;
      pending.answered(envelope);
    } catch (error) {
      pending.failed(new FleetManagerError('internal', `the reply cannot be read: ${String(error)}`));
    }
  }

  async #send(
    id: string,
    action: string,
    options: RouteOptions,
    deadline: number,
    ended: AbortSignal,
  ): Promise<void> {
    const envelope = {
      queue_name: '',
      id: null,
      status: 'not_started',
      request_body: requestBodyOf(action, options),
      response_body: null,
    };
    const content = encoded(() => jsonCodec.encode(envelope));
    for (;;) {
      const connection = await this.#connections.whenConnected(ended);
      // The broker would read the request only when it accepts messages again, however late that is.
      await connection.whenUnblocked(ended);
      // It may have been left meanwhile.
      if (connection !== this.#connections.current) continue;
      const { userId, headers } = originOf(options, connection.user);
      const message = {
        userId,
        contentType: jsonCodec.contentType,
        messageId: id,
        correlationId: id,
        replyTo: this.#replyQueue,
        persistent: true,
        priority: options.priority,
      };
      const pending = this.#pending.get(id);
      if (pending === undefined) return;
      const sending = () => {
        // The call may have ended while the message waited for its channel.
        ended.throwIfAborted();
        const remainingMs = Math.ceil(deadline - this.#clock.now());
        if (remainingMs < 1) throw new TimeIsUp();
        pending.sent = true;
        // The broker drops the request when no service has taken it within that time.
        return {
          expiration: String(remainingMs),
          headers: { ...traceHeadersIn(options.trace ?? NO_TRACE), 'timeout-ms': remainingMs, ...headers },
        };
      };
      const outlet = this.#outlets.get(connection);
      const sharing = pending.mayRunTwice ? 'again' : 'once';
      const waiting = { since: this.#clock.now() };
      this.#unconfirmed.add(waiting);
      try {
        const outcome = await outlet?.publisher.publish(
          { exchange: '', routingKey: this.#queue },
          content,
          message,
          { sharing, sending },
        );
        if (outcome === 'routed') return;
        const refusal = new FleetManagerError('service_unavailable', this.#notRouted(outcome));
        throw outcome === 'nacked' ? abandoned(pending, refusal) : refusal;
      } catch (error) {
        // Not sent any more; `#late` ends the call.
        if (error instanceof TimeIsUp) return;
        // The service may have it: then its reply will arrive.
        if (error instanceof MayHaveArrived) return;
        if (isAccessRefused(error)) {
          this.#hasBeenRefused = true;
          outlet?.permission.missing(error);
        }
        if (error instanceof PublishRefused) throw refused(error);
        if (!connection.lost.aborted || error instanceof FleetManagerError) throw error;
        // The broker may have the request: then its reply will arrive in the reply queue.
        if (pending.sent && !pending.mayRunTwice) return;
      } finally {
        this.#unconfirmed.delete(waiting);
      }
    }
  }

  #notRouted(outcome: PublishOutcome | undefined): string {
    return outcome === 'nacked'
      ? `the queue ${this.#queue} is full, or has failed`
      : `there is no queue ${this.#queue}: is a fleet-manager running on this broker?`;
  }

  #late(id: string, timeoutMs: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    const { problem = `the request could not be sent within ${timeoutMs} ms` } = this;
    const late = pending.sent
      ? new FleetManagerError('timeout', `no reply within ${timeoutMs} ms`)
      : new FleetManagerError('service_unavailable', problem);
    pending.failed(abandoned(pending, late));
  }
}

/** The properties that say who asks, and what the request is called. @param user that of the connection */
function originOf(
  { from, requestId, idempotencyKey }: RouteOptions,
  user: string | undefined,
): Pick<Options.Publish, 'userId' | 'headers'> {
  const { userId, headers } = from === undefined ? { userId: user } : handedOn(senderOf(from), user);
  const named = requestId === undefined ? headers : { [REQUEST_ID]: requestId, ...headers };
  if (idempotencyKey === undefined) return { userId, headers: named };
  return { userId, headers: { [IDEMPOTENCY_KEY]: idempotencyKeyHeader(idempotencyKey), ...named } };
}

function isReply(value: unknown): value is AnswerEnvelope {
  if (typeof value !== 'object' || value === null || !('status' in value)) return false;
  return value.status === 'completed' || value.status === 'error';
}
