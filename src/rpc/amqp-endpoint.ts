import type { Options } from 'amqplib';
import type { Logger } from '../lib/logger.js';
import { Consumer, type Delivery } from './consumer.js';
import { type Destination, Publisher, type PublishOutcome, UnpublishableError } from './publisher.js';
import { isDirectReply, type PublishSurely } from './reply-channel.js';
import { type LiveConnection, Session, type SessionOptions } from './connection-manager.js';
import { ensureQueues, type QueueOptions, requireExchange } from './queues.js';

export interface RequestServerOptions extends Omit<SessionOptions, 'onLive' | 'onRetire'>, QueueOptions {
  log: Logger;
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
  readonly #log: Logger;
  readonly #session: Session;
  readonly #publishers = new WeakMap<LiveConnection, Publisher>();
  readonly #consumers = new WeakMap<LiveConnection, Consumer>();
  /** The connections for direct replies, beside each connection that needed one. */
  readonly #siblings = new WeakMap<LiveConnection, Promise<Publisher>>();
  #paused = false;
  #stopped = false;

  constructor(options: RequestServerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#session = new Session({
      ...options,
      onLive: async (live) => this.#build(live),
      onRetire: async (live) => {
        await this.#consumeOn(live, false);
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
    const { live, lastError, blockedBecause } = this.#session;
    if (live === undefined) return [`no connection to a broker: ${lastError}`];
    return blockedBecause === undefined ? [] : [`the broker accepts no messages: ${blockedBecause}`];
  }

  /** Whether the service is on the broker that is wanted, not on one that stands in for it. */
  get onPreferred(): boolean {
    return this.#session.live?.preferred ?? true;
  }

  readonly publish: PublishSurely = async (to, content, options, { signal, by }) => {
    for (;;) {
      const live = by?.lost.aborted === false ? by : await this.#session.whenLive(signal);
      try {
        if (isDirectReply(to)) return await this.#publishDirectReply(live, to, content, options);
        const publisher = this.#publishers.get(live);
        if (to.exchange !== '') await requireExchange(live, to.exchange);
        if (publisher !== undefined) return await publisher.publish(to, content, options);
      } catch (error) {
        if (!live.lost.aborted) throw error;
      }
    }
  };

  /**
   * Publishes by a connection apart, for an invented name in this form costs the connection (RabbitMQ 3.10: 541
   * INTERNAL_ERROR): first by one that all direct replies share, then by one of its own, so that nobody else's answer
   * goes down with it twice.
   * @throws UnpublishableError when the broker gives up both
   */
  async #publishDirectReply(
    live: LiveConnection,
    to: Destination,
    content: Buffer,
    options: Options.Publish,
  ): Promise<PublishOutcome> {
    try {
      return await (await this.#directReplies(live)).publish(to, content, options);
    } catch (error) {
      if (error instanceof UnpublishableError || live.lost.aborted) throw error;
    }
    let own: LiveConnection | undefined;
    try {
      own = await live.sibling();
      return await (await Publisher.open(own)).publish(to, content, options);
    } catch (error) {
      if (live.lost.aborted) throw error;
      throw new UnpublishableError(`the broker does not take it: ${String(error)}`, { cause: error });
    } finally {
      void own?.close(this.#options.clock);
    }
  }

  /** Publishes by the connection that all direct replies of a connection share; made when the first one needs it. */
  #directReplies(live: LiveConnection): Promise<Publisher> {
    const opened = this.#siblings.get(live);
    if (opened !== undefined) return opened;
    const opening = (async () => {
      const sibling = await live.sibling();
      const close = () => void sibling.close(this.#options.clock);
      live.lost.addEventListener('abort', close);
      sibling.lost.addEventListener('abort', () => {
        live.lost.removeEventListener('abort', close);
        this.#siblings.delete(live);
      });
      if (live.lost.aborted) close();
      return Publisher.open(sibling);
    })();
    this.#siblings.set(live, opening);
    opening.catch(() => this.#siblings.delete(live));
    return opening;
  }

  /** Takes no more messages. What has been taken can still be answered and acknowledged. */
  async stopConsuming(): Promise<void> {
    this.#stopped = true;
    const { live } = this.#session;
    if (live !== undefined) await this.#consumeOn(live);
  }

  /** Takes no more messages until `resume`. */
  pause(): void {
    this.#paused = true;
    this.#change();
  }

  resume(): void {
    this.#paused = false;
    this.#change();
  }

  #change(): void {
    const { live } = this.#session;
    if (live !== undefined) void this.#consumeOn(live);
  }

  async close(): Promise<void> {
    this.#stopped = true;
    await this.#session.close();
  }

  async #build(live: LiveConnection): Promise<void> {
    const { queue, prefetch, onDelivery, onLost } = this.#options;
    live.lost.addEventListener('abort', () => onLost(live));
    await ensureQueues(live, this.#options);
    this.#publishers.set(live, await Publisher.open(live));
    this.#consumers.set(live, await Consumer.open(live, { queue, prefetch, onDelivery }));
    // Told to stop, to pause or to resume while the broker was asked: nobody else knows of this connection yet.
    let wanted: boolean;
    do {
      wanted = this.#wanted;
      await this.#consumeOn(live, wanted);
    } while (!live.lost.aborted && wanted !== this.#wanted);
  }

  get #wanted(): boolean {
    return !this.#stopped && !this.#paused;
  }

  /** Takes messages by this connection, or none, as it is wanted now. */
  async #consumeOn(live: LiveConnection, wanted = this.#wanted): Promise<void> {
    try {
      const taking = await this.#consumers.get(live)?.take(wanted);
      if (taking) this.#log.info('taking requests', { queue: this.#options.queue });
    } catch (error) {
      // Cannot be undone half: what fails here costs the connection, and all is built anew.
      live.lose(error);
    }
  }
}
