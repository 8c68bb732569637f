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

/** Keeps the service from taking requests for a while. */
export interface Flow {
  /** @param reason why, for people; shown by the gateway's /readyz */
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
  /** Further ways to callers, beside `reply_to`. */
  channels?: (flow: Flow) => readonly ReplyChannel[];
  /** A log that puts these fields into every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
}

/** Time for the broker to stop delivering. */
const STOP_MS = 5_000;
/** Time for replies that are settled to reach the broker at shutdown, and for aborted work to settle. */
const SETTLE_MS = 5_000;

/** Takes requests off the queue, has them run, and sees to it that each is answered and acknowledged. */
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

  /** Why no requests are taken right now; empty when they are. */
  notReady(): string[] {
    const full = 'a queue is full that messages are to be put into; the log says which';
    return [...this.#endpoint.notReady(), ...(this.#handler.isBlocked ? [full] : [])];
  }

  /** Publishes by the service's connection. */
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
   * Takes nothing more, requeues what has not begun, gives what runs the grace time to end, then stops it.
   * @returns whether everything was answered and acknowledged
   */
  async drain(graceMs: number): Promise<boolean> {
    // A broker that accepts no messages for now does not answer this either.
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
