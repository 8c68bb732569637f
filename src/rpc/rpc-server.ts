import type { CallEventBus } from '../core/call-events.js';
import type { Runner } from '../core/runner.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { settledWithin } from '../lib/settled-within.js';
import { AmqpEndpoint, type AmqpEndpointOptions, type BrokerState } from './amqp-endpoint.js';
import type { Codecs } from './codec/codecs.js';
import type { Delivery } from './consumer.js';
import type { PublishConfirmed } from './publisher.js';
import type { QueueDepth } from './queue-depths.js';
import type { ReplyChannel } from './reply-channel.js';
import { DeliveryWindow } from './delivery-window.js';
import { ReplyToChannel } from './reply-to-channel.js';
import { RpcHandler, type RpcHandlerOptions } from './rpc-handler.js';

/** Pauses and resumes the consumption of requests. */
export interface Flow {
  /** @param reason for people; the gateway's /readyz shows it */
  pause: (reason: string) => void;
  resume: () => void;
}

export interface RpcServerOptions
  extends Omit<AmqpEndpointOptions, 'prefetch' | 'onDelivery' | 'onSlowReplies' | 'onReplaced'> {
  /** The maximum number of unacknowledged messages, without those that wait for a cluster or a reply queue that does not respond. */
  prefetch: number;
  runner: Pick<Runner, 'run' | 'drain' | 'pause' | 'resume'>;
  events: CallEventBus;
  codecs: Codecs;
  /** The maximum size of a request, also when it is inflated, in bytes. */
  maxMessageBytes: number;
  /** The maximum memory of all requests in progress and of the remembered replies, in bytes. */
  memoryBudgetBytes: number;
  /** The maximum size of a reply, in bytes. */
  maxReplyBytes: number;
  /** Additional reply channels, besides `reply_to`. */
  channels?: (flow: Flow) => readonly ReplyChannel[];
  /** Called with each delivery before it is handled; it must not throw. */
  onDelivery?: ((delivery: Pick<Delivery, 'suspect' | 'redelivered'>) => void) | undefined;
  /** Creates a log with these fields in every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
  /** Sends the reply to a call in the context of that call; undefined: there is none. */
  inContextOf?: RpcHandlerOptions['inContextOf'];
}

/** How long the broker may take to cancel the consumer at shutdown, in milliseconds. */
const STOP_MS = 500;
/** How long replies may take to be confirmed at shutdown, in milliseconds. */
const REPLIES_MS = 5_000;
/** The same when the grace time is over: a supervisor may kill the process soon. */
const LATE_REPLIES_MS = 1_000;

/** Consumes requests from the queue, runs them, and ensures that each is answered and acknowledged. */
export class RpcServer {
  readonly #clock: Clock;
  readonly #runner: Pick<Runner, 'drain'>;
  readonly #endpoint: AmqpEndpoint;
  readonly #handler: RpcHandler;

  constructor(options: RpcServerOptions) {
    const { connection, queue, makes, bindings, prefetch, onLost, runner, events, codecs } = options;
    const { maxMessageBytes, memoryBudgetBytes, maxReplyBytes, onDelivery, logFor } = options;
    const { clock } = connection;
    this.#clock = clock;
    this.#runner = runner;
    const window = new DeliveryWindow({
      prefetch,
      fits: Math.floor(memoryBudgetBytes / maxMessageBytes),
      room: () => this.#handler.freeMemory / maxMessageBytes,
      held: () => this.#handler.held,
    });
    const adjustWindow = () => {
      const { prefetch: size } = this.#endpoint;
      const next = window.next(size);
      if (next !== size) this.#endpoint.setPrefetch(next);
    };
    events.on('withoutResponse', ({ calls }) => {
      window.setWithoutResponse(calls);
      adjustWindow();
    });
    this.#endpoint = new AmqpEndpoint({
      connection,
      queue,
      makes,
      bindings,
      prefetch: window.initial,
      onLost,
      onDelivery: (delivery) => {
        onDelivery?.(delivery);
        this.#handler.receive(delivery);
        adjustWindow();
      },
      onSlowReplies: () => {
        window.setSlowReplies(this.#endpoint.slowReplies);
        adjustWindow();
      },
      onReplaced: async (replaced) => this.#handler.idle(replaced),
    });
    const { publish } = this.#endpoint;
    const flow: Flow = {
      pause: (reason) => this.#endpoint.pause(reason),
      resume: () => this.#endpoint.resume(),
    };
    this.#handler = new RpcHandler({
      queue,
      makes,
      codecs,
      runner,
      events,
      channels: [new ReplyToChannel(publish, clock), ...(options.channels?.(flow) ?? [])],
      publish,
      maxMessageBytes,
      memoryBudgetBytes,
      maxReplyBytes,
      clock,
      logFor,
      inContextOf: options.inContextOf,
    });
  }

  start(): void {
    this.#endpoint.start();
  }

  /** The reasons why no requests are consumed now; empty when they are. */
  notReady(): string[] {
    const full =
      'messages wait to be requeued or dead-lettered because a queue is full; the log has its name';
    return [...this.#endpoint.notReady(), ...(this.#handler.isBlocked ? [full] : [])];
  }

  /** Publishes on the service's connection. */
  get publish(): PublishConfirmed {
    return this.#endpoint.publish;
  }

  /** Whether the service is connected to a preferred broker. */
  get onPreferred(): boolean {
    return this.#endpoint.onPreferred;
  }

  /** The state of the service's connection. */
  get broker(): BrokerState {
    return this.#endpoint.broker;
  }

  /** How many messages are ready in the queues of the service; those of a queue that is not known now are left out. */
  async depths(): Promise<readonly QueueDepth[]> {
    return this.#endpoint.depths();
  }

  /** The number of unacknowledged messages. */
  get held(): number {
    return this.#handler.held;
  }

  /**
   * Stops consuming, requeues the requests that have not begun, waits up to `graceMs` milliseconds for the running
   * ones, then stops them.
   * @returns whether every request was answered, or requeued before it began; the broker delivers the others again
   */
  async drain(graceMs: number): Promise<boolean> {
    const clock = this.#clock;
    const graceEnds = clock.now() + graceMs;
    // With a time limit: a broker that blocks the connection does not confirm the cancellation.
    await settledWithin(STOP_MS, clock, this.#endpoint.stopConsuming());
    this.#handler.drain();
    await this.#runner.drain(Math.max(0, graceEnds - clock.now()));
    const left = Math.max(0, graceEnds - clock.now()) + LATE_REPLIES_MS;
    const settled = await settledWithin(Math.min(REPLIES_MS, left), clock, this.#handler.idle());
    this.#handler.stop();
    return settled;
  }

  async close(): Promise<void> {
    await this.#endpoint.close();
  }
}
