import { randomUUID } from 'node:crypto';
import { connect as amqpConnect } from 'amqplib';
import { type ErrorCodeInfo, errorCodeInfo } from '../action-error.js';
import { Codecs } from '../messaging/codec/codecs.js';
import { jsonCodec } from '../messaging/codec/json.js';
import { Publisher } from '../messaging/publisher.js';
import { type Connect, type LiveConnection, Session } from '../messaging/session.js';
import type { Clock, RequestLog } from '../plugin.js';
import { systemClock } from '../runtime/system-clock.js';

export interface ClientOptions {
  /** Brokers to try in turn: `amqp://user:password@host:5672`. */
  urls: readonly string[];
  /** The queue of the service; `fleet_manager` by default. */
  queue?: string;
  /** Certificates for amqps, PEM. */
  tls?: { ca?: Buffer; cert?: Buffer; key?: Buffer };
  /** Told about lost and regained connections; nothing by default. */
  log?: RequestLog;
  clock?: Clock;
  /** How to connect; amqplib's `connect` by default. */
  connect?: Connect;
}

export interface CallOptions {
  /** The etcd token of the cluster, for actions that need one. */
  cluster?: string;
  parameters?: Record<string, unknown>;
  /** How long to wait for the answer, in milliseconds; the service stops its work then too. 30 s by default. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /**
   * Whether the request may be sent again when the connection was lost before the broker confirmed it, and so may be
   * run twice. Set it for reads. Otherwise such a request fails with `outcome_unknown`.
   */
  resend?: boolean;
}

/** An answer as the service sent it. */
export interface AnswerEnvelope {
  status: 'completed' | 'error';
  response_body: unknown;
  [key: string]: unknown;
}

/** A request that brought no result; `code` is one of the error codes of the service (docs/errors.md). */
export class FleetManagerError extends Error {
  override readonly name = 'FleetManagerError';
  readonly code: string;
  readonly details: unknown;
  /** `caller`: the request is to be mended; `service`: it is not the caller's fault. */
  readonly fault: ErrorCodeInfo['fault'];
  readonly retryable: boolean;

  constructor(code: string, message: string, details?: unknown) {
    super(message);
    this.code = code;
    this.details = details;
    ({ fault: this.fault, retryable: this.retryable } = errorCodeInfo(code));
  }
}

interface Pending {
  answered: (envelope: AnswerEnvelope) => void;
  failed: (error: unknown) => void;
}

/** Time for the service's own word of a passed deadline to arrive. */
const TRANSPORT_MS = 2_000;
/** A reply queue that nobody consumes from for this long is removed by the broker. */
const REPLY_QUEUE_EXPIRES_MS = 10 * 60_000;
const SILENT: RequestLog = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Calls the actions of a fleet-manager over RabbitMQ. One client serves any number of calls at once. Its reply queue
 * outlives a lost connection, so answers that were sent meanwhile are not lost.
 */
export class FleetManagerClient {
  readonly #queue: string;
  readonly #clock: Clock;
  readonly #session: Session;
  readonly #replyQueue = `fleet_manager.reply.${randomUUID()}`;
  readonly #codecs = new Codecs([jsonCodec]);
  readonly #pending = new Map<string, Pending>();
  readonly #publishers = new WeakMap<LiveConnection, Publisher>();
  readonly #closed = new AbortController();

  /** Connects in the background; calls wait for the connection. */
  constructor(options: ClientOptions) {
    const {
      urls,
      queue = 'fleet_manager',
      tls,
      log = SILENT,
      clock = systemClock,
      connect = (url, settings) => amqpConnect(url, settings),
    } = options;
    this.#queue = queue;
    this.#clock = clock;
    this.#session = new Session({
      connect,
      brokers: async () => urls.map((url) => ({ url })),
      tls,
      name: 'fleet-manager-client',
      onLive: async (live) => this.#listen(live),
      clock,
      log,
    });
    this.#session.start();
  }

  /**
   * Runs an action and gives its result.
   * @throws FleetManagerError with the service's code; `service_unavailable` when no service can be reached, `timeout`
   *   when no answer came in time, `outcome_unknown` when the request may or may not have arrived
   * @throws the signal's reason when that is aborted
   */
  async call(action: string, options: CallOptions = {}): Promise<unknown> {
    const { status, response_body: body } = await this.request(action, options);
    if (status === 'completed') return body;
    const { errors, code, details } = errorBodyOf(body);
    throw new FleetManagerError(code, errors.join('; '), details);
  }

  /** Runs an action and gives its answer, an error answer too; throws as `call` does when there is none. */
  async request(action: string, options: CallOptions = {}): Promise<AnswerEnvelope> {
    const { timeoutMs = 30_000, signal } = options;
    signal?.throwIfAborted();
    if (this.#closed.signal.aborted) throw closedError();
    const id = randomUUID();
    const deadline = this.#clock.now() + timeoutMs;
    const done = new AbortController();
    const answer = new Promise<AnswerEnvelope>((answered, failed) => {
      // Registered before anything is sent: an answer can be faster than the confirmation of its request.
      this.#pending.set(id, { answered, failed });
    });
    const cancelTimeout = this.#clock.after(timeoutMs + TRANSPORT_MS, () =>
      this.#pending.get(id)?.failed(this.#late(timeoutMs)),
    );
    const stop = () => this.#pending.get(id)?.failed(signal?.reason);
    signal?.addEventListener('abort', stop, { once: true });
    this.#send(id, action, options, deadline, done.signal).catch((error: unknown) =>
      this.#pending.get(id)?.failed(error),
    );
    try {
      return await answer;
    } finally {
      this.#pending.delete(id);
      cancelTimeout();
      signal?.removeEventListener('abort', stop);
      done.abort(new Error('the call has ended'));
    }
  }

  /** Fails what is still waiting with `cancelled`, and removes the reply queue. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    for (const call of this.#pending.values()) call.failed(closedError());
    await this.#session.live?.probe(async (channel) => channel.deleteQueue(this.#replyQueue)).catch(() => {});
    await this.#session.close();
  }

  async #listen(live: LiveConnection): Promise<void> {
    this.#publishers.set(live, await Publisher.open(live));
    const channel = await live.channel();
    await channel.assertQueue(this.#replyQueue, { durable: true, expires: REPLY_QUEUE_EXPIRES_MS });
    await channel.consume(
      this.#replyQueue,
      (message) => {
        if (message !== null) this.#take(message.content, message.properties);
        else if (!this.#closed.signal.aborted) live.lose(new Error('the reply queue was deleted'));
      },
      { noAck: true },
    );
  }

  #take(
    content: Buffer,
    { correlationId, contentType }: { correlationId?: unknown; contentType?: unknown },
  ): void {
    // Nobody waits for it (any more): the answer of a call that was cancelled, or one that came twice.
    const pending = this.#pending.get(String(correlationId));
    if (pending === undefined) return;
    try {
      const envelope = this.#codecs.of(content, contentType).decode(content);
      if (!isAnswer(envelope)) throw new Error('its status is neither completed nor error');
      pending.answered(envelope);
    } catch (error) {
      pending.failed(new FleetManagerError('internal', `the answer cannot be read: ${String(error)}`));
    }
  }

  async #send(
    id: string,
    action: string,
    options: CallOptions,
    deadline: number,
    ended: AbortSignal,
  ): Promise<void> {
    const requestBody = {
      ...(options.cluster !== undefined && { etcd_token: options.cluster }),
      action,
      action_parameters: options.parameters ?? null,
    };
    const content = jsonCodec.encode({
      queue_name: '',
      id: null,
      status: 'not_started',
      request_body: requestBody,
      response_body: null,
    });
    for (;;) {
      const live = await this.#session.whenLive(ended);
      const left = Math.max(1, Math.ceil(deadline - this.#clock.now()));
      const message = {
        contentType: jsonCodec.contentType,
        messageId: id,
        correlationId: id,
        replyTo: this.#replyQueue,
        persistent: true,
        headers: { 'timeout-ms': left },
      };
      try {
        const outcome = await this.#publishers
          .get(live)
          ?.publish({ exchange: '', routingKey: this.#queue }, content, message);
        if (outcome === 'routed') return;
        throw new FleetManagerError(
          'service_unavailable',
          `there is no queue ${this.#queue}: is a fleet-manager running on this broker?`,
        );
      } catch (error) {
        if (!live.lost.aborted || error instanceof FleetManagerError) throw error;
        if (!options.resend) {
          throw new FleetManagerError(
            'outcome_unknown',
            'the connection was lost before the broker confirmed the request',
          );
        }
      }
    }
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

function isAnswer(value: unknown): value is AnswerEnvelope {
  if (typeof value !== 'object' || value === null || !('status' in value)) return false;
  return value.status === 'completed' || value.status === 'error';
}

function errorBodyOf(body: unknown): { errors: string[]; code: string; details: unknown } {
  const map: Record<string, unknown> = typeof body === 'object' && body !== null ? { ...body } : {};
  const errors = Array.isArray(map.errors) ? map.errors.map(String) : [];
  // The original FleetManager sends no code.
  return { errors, code: typeof map.code === 'string' ? map.code : 'internal', details: map.details };
}

function closedError(): FleetManagerError {
  return new FleetManagerError('cancelled', 'the client was closed');
}
