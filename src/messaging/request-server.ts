import type { RequestLog } from '../plugin.js';
import { Consumer, type Delivery } from './consumer.js';
import { Publisher } from './publisher.js';
import type { PublishSurely } from './reply-channel.js';
import { type LiveConnection, Session, type SessionOptions } from './session.js';
import { ensureQueues, type QueueOptions, requireExchange } from './queues.js';

export interface RequestServerOptions extends Omit<SessionOptions, 'onLive' | 'onRetire'>, QueueOptions {
  log: RequestLog;
  /** How many messages may be held unacknowledged. */
  prefetch: number;
  onDelivery: (delivery: Delivery) => void;
  /** The connection is gone, and what came by it will be delivered again. */
  onLost: (live: LiveConnection) => void;
  /** The service has moved to another broker: resolves when what came by this connection is dealt with. */
  onRetire: (live: LiveConnection) => Promise<void>;
}

/** Consumes requests on a session: queues, publisher and consumer are made anew on each connection. */
export class RequestServer {
  readonly #options: RequestServerOptions;
  readonly #log: RequestLog;
  readonly #session: Session;
  readonly #publishers = new WeakMap<LiveConnection, Publisher>();
  readonly #consumers = new WeakMap<LiveConnection, Consumer>();
  #paused = false;
  #stopped = false;

  constructor(options: RequestServerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#session = new Session({
      ...options,
      onLive: async (live) => this.#build(live),
      onRetire: async (live) => {
        await this.#stopOn(live);
        await options.onRetire(live);
      },
    });
  }

  start(): void {
    this.#session.start();
  }

  /** Why no requests are taken right now; empty when they are. */
  notReady(): string[] {
    if (this.#stopped) return ['the service is shutting down'];
    if (this.#paused) return ['answers wait for the Manager'];
    return this.#session.live === undefined ? [`no connection to a broker: ${this.#session.lastError}`] : [];
  }

  /** Whether the service is on the broker that is wanted, not on one that stands in for it. */
  get onPreferred(): boolean {
    return this.#session.live?.preferred ?? true;
  }

  readonly publish: PublishSurely = async (to, content, options, { signal, by }) => {
    for (;;) {
      const live = by?.lost.aborted === false ? by : await this.#session.whenLive(signal);
      try {
        const publisher = this.#publishers.get(live);
        if (to.exchange !== '') await requireExchange(live, to.exchange);
        if (publisher !== undefined) return await publisher.publish(to, content, options);
      } catch (error) {
        if (!live.lost.aborted) throw error;
      }
    }
  };

  /** Takes no more messages. What has been taken can still be answered and acknowledged. */
  async stopConsuming(): Promise<void> {
    this.#stopped = true;
    const { live } = this.#session;
    if (live !== undefined) await this.#stopOn(live);
  }

  /** Takes no more messages until `resume`. */
  pause(): void {
    this.#paused = true;
    const { live } = this.#session;
    if (live !== undefined) void this.#stopOn(live);
  }

  resume(): void {
    this.#paused = false;
    const { live } = this.#session;
    // Cannot be undone half: what fails here costs the connection, and all is built anew.
    if (live !== undefined) this.#consumeOn(live).catch((error: unknown) => live.lose(error));
  }

  async close(): Promise<void> {
    this.#stopped = true;
    await this.#session.close();
  }

  async #stopOn(live: LiveConnection): Promise<void> {
    // On a connection that is being lost there is nothing left to stop.
    await this.#consumers
      .get(live)
      ?.stop()
      .catch(() => {});
  }

  async #build(live: LiveConnection): Promise<void> {
    const { onLost } = this.#options;
    live.lost.addEventListener('abort', () => onLost(live));
    await ensureQueues(live, this.#options);
    this.#publishers.set(live, await Publisher.open(live));
    await this.#consumeOn(live);
  }

  async #consumeOn(live: LiveConnection): Promise<void> {
    const { queue, prefetch, onDelivery } = this.#options;
    if (this.#stopped || this.#paused) return;
    this.#consumers.set(live, await Consumer.start(live, { queue, prefetch, onDelivery }));
    // Told to stop or to pause while it was starting.
    if (this.#stopped || this.#paused) return this.#stopOn(live);
    this.#log.info('taking requests', { queue });
  }
}
