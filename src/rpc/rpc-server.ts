import type { CallEventBus } from '../core/call-events.js';
import type { Runner } from '../core/runner.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { settledWithin } from '../lib/settled-within.js';
import { AmqpEndpoint, type AmqpEndpointOptions } from './amqp-endpoint.js';
import type { Codecs } from './codec/codecs.js';
import type { PublishConfirmed } from './publisher.js';
import type { ReplyChannel } from './reply-channel.js';
import { ReplyToChannel } from './reply-to-channel.js';
import { RpcHandler } from './rpc-handler.js';

/** Pauses and resumes the service. */
export interface Flow {
  /** @param reason for people; the gateway's /readyz shows it */
  pause: (reason: string) => void;
  resume: () => void;
}

export interface RpcServerOptions extends Omit<AmqpEndpointOptions, 'onDelivery' | 'onReplaced'> {
  runner: Pick<Runner, 'run' | 'drain'>;
  events: CallEventBus;
  codecs: Codecs;
  /** The largest request that is read, and the largest reply that is sent, in bytes. */
  maxMessageBytes: number;
  maxReplyBytes: number;
  /** Further reply channels, beside `reply_to`. */
  channels?: (flow: Flow) => readonly ReplyChannel[];
  /** Gives a log that adds these fields to every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
}

/** How long the broker may take to stop delivering. */
const STOP_MS = 5_000;
/** How long replies may take to reach the broker at shutdown, and stopped actions to settle. */
const SETTLE_MS = 5_000;

/** Takes requests off the queue, runs them, and ensures that each is answered and acknowledged. */
export class RpcServer {
  readonly #clock: Clock;
  readonly #runner: Pick<Runner, 'drain'>;
  readonly #endpoint: AmqpEndpoint;
  readonly #handler: RpcHandler;

  constructor(options: RpcServerOptions) {
    const { connection, queue, bindings, prefetch, onLost, runner, events, codecs } = options;
    const { maxMessageBytes, maxReplyBytes, logFor } = options;
    const { clock } = connection;
    this.#clock = clock;
    this.#runner = runner;
    this.#endpoint = new AmqpEndpoint({
      connection,
      queue,
      bindings,
      prefetch,
      onLost,
      onDelivery: (delivery) => this.#handler.take(delivery),
      onReplaced: async (replaced) => this.#handler.idle(replaced),
    });
    const { publish } = this.#endpoint;
    const flow: Flow = {
      pause: (reason) => this.#endpoint.pause(reason),
      resume: () => this.#endpoint.resume(),
    };
    this.#handler = new RpcHandler({
      queue,
      codecs,
      runner,
      events,
      channels: [new ReplyToChannel(publish), ...(options.channels?.(flow) ?? [])],
      publish,
      maxMessageBytes,
      maxReplyBytes,
      clock,
      logFor,
    });
  }

  start(): void {
    this.#endpoint.start();
  }

  /** Why no requests are accepted right now; empty when they are. */
  notReady(): string[] {
    const full = 'the queue for requeued or dead-lettered messages is full; the log names it';
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

  /** How many messages are held unacknowledged. */
  get held(): number {
    return this.#handler.held;
  }

  /**
   * Accepts nothing more, requeues what has not begun, gives running actions the grace time to end, then stops them.
   * @returns whether everything was answered and acknowledged
   */
  async drain(graceMs: number): Promise<boolean> {
    // A broker that is blocked does not answer this either.
    await settledWithin(STOP_MS, this.#clock, this.#endpoint.stopConsuming());
    await this.#runner.drain(graceMs);
    const settled = await settledWithin(SETTLE_MS, this.#clock, this.#handler.idle());
    this.#handler.stop();
    return settled;
  }

  async close(): Promise<void> {
    await this.#endpoint.close();
  }
}
