import type { Logger } from '../lib/logger.js';
import type { BrokerConnection } from './broker-connection.js';
import { ConnectionManager, type ConnectionManagerOptions } from './connection-manager.js';
import { Consumer, type Delivery } from './consumer.js';
import { Publisher } from './publisher.js';
import { ensureQueues, type QueueOptions } from './queues.js';

export interface AmqpEndpointOptions {
  /** How to reach a broker. */
  connection: Omit<ConnectionManagerOptions, 'onConnected' | 'onReplaced'>;
  queue: string;
  bindings?: QueueOptions['bindings'];
  /** How many messages may be held unacknowledged. */
  prefetch: number;
  onDelivery: (delivery: Delivery) => void;
  /** Called when a connection is lost; its messages will be delivered again. */
  onLost?: () => void;
  /** Called when a better connection replaces this one: resolves when the work of this one is finished. */
  onReplaced: (connection: BrokerConnection) => Promise<void>;
}

/** The service's place on the broker: its queues, its consumer and its publisher, made anew on each connection. */
export class AmqpEndpoint {
  readonly #options: AmqpEndpointOptions;
  readonly #log: Logger;
  readonly #connections: ConnectionManager;
  readonly #publisher: Publisher;
  readonly #consumers = new WeakMap<BrokerConnection, Consumer>();
  /** The reason for the pause. */
  #pausedBecause: string | undefined;
  #stopped = false;

  constructor(options: AmqpEndpointOptions) {
    this.#options = options;
    this.#log = options.connection.log;
    this.#connections = new ConnectionManager({
      ...options.connection,
      onConnected: async (connection) => this.#build(connection),
      onReplaced: async (connection) => {
        await this.#consumeOn(connection, false);
        await options.onReplaced(connection);
      },
    });
    this.#publisher = new Publisher({
      whenConnected: (signal) => this.#connections.whenConnected(signal),
      clock: options.connection.clock,
    });
  }

  start(): void {
    this.#connections.start();
  }

  get publish(): Publisher['publish'] {
    return this.#publisher.publish;
  }

  /** Why no requests are accepted right now; empty when they are. */
  notReady(): string[] {
    if (this.#stopped) return ['the service is shutting down'];
    if (this.#pausedBecause !== undefined) return [this.#pausedBecause];
    const { current, lastError, blockedBecause } = this.#connections;
    if (current === undefined) return [`no connection to a broker: ${lastError}`];
    return blockedBecause === undefined ? [] : [`the broker accepts no messages: ${blockedBecause}`];
  }

  /** Whether the service is connected to a preferred broker. */
  get onPreferred(): boolean {
    return this.#connections.current?.preferred ?? true;
  }

  /** Accepts no more messages. Messages that were accepted can still be answered and acknowledged. */
  async stopConsuming(): Promise<void> {
    this.#stopped = true;
    const { current } = this.#connections;
    if (current !== undefined) await this.#consumeOn(current);
  }

  /** Accepts no more messages until `resume`. */
  pause(reason: string): void {
    this.#pausedBecause = reason;
    this.#apply();
  }

  resume(): void {
    this.#pausedBecause = undefined;
    this.#apply();
  }

  async close(): Promise<void> {
    this.#stopped = true;
    await this.#connections.close();
  }

  #apply(): void {
    const { current } = this.#connections;
    if (current !== undefined) void this.#consumeOn(current);
  }

  async #build(connection: BrokerConnection): Promise<void> {
    const { queue, bindings, prefetch, onDelivery, onLost } = this.#options;
    if (onLost !== undefined) connection.lost.addEventListener('abort', () => onLost());
    await ensureQueues(connection, { queue, bindings, log: this.#log });
    await this.#publisher.open(connection);
    this.#consumers.set(connection, await Consumer.open(connection, { queue, prefetch, onDelivery }));
    // The service may have been stopped, paused or resumed meanwhile, when this connection was not known yet.
    let wanted: boolean;
    do {
      wanted = this.#wanted;
      await this.#consumeOn(connection, wanted);
    } while (!connection.lost.aborted && wanted !== this.#wanted);
  }

  get #wanted(): boolean {
    return !this.#stopped && this.#pausedBecause === undefined;
  }

  /** Starts or stops consuming on this connection, as it is wanted now. */
  async #consumeOn(connection: BrokerConnection, wanted = this.#wanted): Promise<void> {
    try {
      const taking = await this.#consumers.get(connection)?.take(wanted);
      if (taking) this.#log.info('taking requests', { queue: this.#options.queue });
    } catch (error) {
      // A failure leaves the consumer in an unknown state: the connection is rebuilt.
      connection.lose(error);
    }
  }
}
