import type { Logger } from '../lib/logger.js';
import type { BrokerConnection } from './broker-connection.js';
import { ConnectionManager, type ConnectionManagerOptions } from './connection-manager.js';
import { Consumer, type Delivery } from './consumer.js';
import { Publisher } from './publisher.js';
import { OwnUser } from './own-user.js';
import { type QueueDepth, QueueDepths } from './queue-depths.js';
import { ensureQueues, type QueueOptions, suspectsQueueOf } from './queues.js';
import type { SetUpStep } from './set-up-step.js';

export interface AmqpEndpointOptions {
  /** How to reach a broker. */
  connection: Omit<ConnectionManagerOptions, 'onConnected' | 'onReplaced'>;
  queue: string;
  makes?: QueueOptions['makes'];
  bindings?: QueueOptions['bindings'];
  /** The maximum number of unacknowledged messages on a new connection; `setPrefetch` changes it. */
  prefetch: number;
  onDelivery: (delivery: Delivery) => void;
  /** Called when a connection is lost; the broker delivers its unacknowledged messages again. */
  onLost?: () => void;
  /** Called when `slowReplies` changes. */
  onSlowReplies?: () => void;
  /** Called when a preferred connection replaces this one; resolves when its messages are done. */
  onReplaced: (connection: BrokerConnection) => Promise<void>;
}

/** The service's connection to the broker, as it is now. */
export interface BrokerState {
  /** Whether there is one that is ready for use. */
  connected: boolean;
  /** Whether it is to a preferred broker. */
  preferred: boolean;
  /** Whether the broker accepts no messages from it. */
  blocked: boolean;
}

/** What consumes on one connection: requests, and requests that another worker may have begun. */
interface Consumers {
  requests: Consumer;
  suspects: Consumer;
}

/**
 * The maximum number of unacknowledged messages from the queue of suspects. Changes among them may wait for a lost worker, which
 * must not keep the others out; but each of them may have to run once more, alone, when their process ends.
 */
const MAX_SUSPECTS = 30;

/** The service's queues, consumers and publisher on the broker; they are set up again on each new connection. */
export class AmqpEndpoint {
  readonly #options: AmqpEndpointOptions;
  readonly #log: Logger;
  readonly #connections: ConnectionManager;
  readonly #publisher: Publisher;
  readonly #ownUser: OwnUser;
  readonly #depths: QueueDepths;
  readonly #consumers = new WeakMap<BrokerConnection, Consumers>();
  /** Set while it is paused. */
  #pauseReason: string | undefined;
  #stopped = false;

  constructor(options: AmqpEndpointOptions) {
    this.#options = options;
    this.#log = options.connection.log;
    const { clock, tls } = options.connection;
    this.#ownUser = new OwnUser({ cert: tls?.cert, clock, log: this.#log });
    this.#connections = new ConnectionManager({
      ...options.connection,
      onConnected: async (connection, step) => this.#build(connection, step),
      onReplaced: async (connection) => {
        await this.#consumeOn(connection, false);
        await options.onReplaced(connection);
      },
    });
    this.#depths = new QueueDepths({
      queue: options.queue,
      current: () => this.#connections.current,
      clock: options.connection.clock,
    });
    this.#publisher = new Publisher({
      whenConnected: (signal) => this.#connections.whenConnected(signal),
      permissionChanged: () => void this.#permissionChanged(),
      slowRepliesChanged: options.onSlowReplies,
      clock,
      log: this.#log,
    });
  }

  start(): void {
    this.#connections.start();
  }

  get publish(): Publisher['publish'] {
    return this.#publisher.publish;
  }

  /** The reasons why no requests are consumed now; empty when they are. */
  notReady(): string[] {
    if (this.#stopped) return ['the service is shutting down'];
    if (this.#pauseReason !== undefined) return [this.#pauseReason];
    const { current, problem } = this.#connections;
    const refusal = current === undefined ? undefined : this.#publisher.refusalOn(current);
    const direct = current === undefined ? undefined : this.#publisher.directProblemOn(current);
    return [
      ...(direct === undefined ? [] : [direct]),
      ...(refusal === undefined ? [] : [`the broker refuses replies: ${refusal}`]),
      ...(problem === undefined ? [] : [problem]),
    ];
  }

  /** How many replies have waited for a second or longer to be confirmed. */
  get slowReplies(): number {
    return this.#publisher.slowReplies;
  }

  /** Whether the service is connected to a preferred broker. */
  get onPreferred(): boolean {
    return this.#connections.current?.preferred ?? true;
  }

  get broker(): BrokerState {
    const { current, blockedReason } = this.#connections;
    return {
      connected: current !== undefined,
      preferred: current?.preferred === true,
      blocked: current !== undefined && blockedReason !== undefined,
    };
  }

  /** How many messages are ready in the queues of the service; those of a queue that is not known now are left out. */
  async depths(): Promise<readonly QueueDepth[]> {
    return this.#depths.read();
  }

  /** Stops consuming. Messages that were delivered before can still be answered and acknowledged. */
  async stopConsuming(): Promise<void> {
    this.#stopped = true;
    const { current } = this.#connections;
    if (current !== undefined) await this.#consumeOn(current);
  }

  /** The maximum number of unacknowledged messages on the current connection. */
  get prefetch(): number {
    return this.#consumer?.prefetch ?? this.#options.prefetch;
  }

  /** Changes the maximum number of unacknowledged messages until the connection is lost. */
  setPrefetch(prefetch: number): void {
    const { current } = this.#connections;
    this.#consumer?.setPrefetch(prefetch).catch((error: unknown) => current?.lose(error));
  }

  /** Stops consuming until `resume`. */
  pause(reason: string): void {
    this.#pauseReason = reason;
    this.#apply();
  }

  resume(): void {
    this.#pauseReason = undefined;
    this.#apply();
  }

  async close(): Promise<void> {
    this.#stopped = true;
    await this.#connections.close();
  }

  get #consumer(): Consumer | undefined {
    const { current } = this.#connections;
    return current === undefined ? undefined : this.#consumers.get(current)?.requests;
  }

  async #permissionChanged(): Promise<void> {
    const { current } = this.#connections;
    // Without the permission to publish it could not be found out.
    if (
      current !== undefined &&
      current.user === undefined &&
      this.#publisher.refusalOn(current) === undefined
    )
      await this.#ownUser.learn(current).catch((error: unknown) => current.lose(error));
    this.#apply();
  }

  #apply(): void {
    const { current } = this.#connections;
    if (current !== undefined) void this.#consumeOn(current);
  }

  async #build(connection: BrokerConnection, step: SetUpStep): Promise<void> {
    const { queue, makes, bindings, prefetch, onDelivery, onLost } = this.#options;
    if (onLost !== undefined) connection.lost.addEventListener('abort', () => onLost());
    await ensureQueues(connection, { queue, makes, bindings, log: this.#log }, step);
    await step('open channels, and publish to the default exchange', async () =>
      this.#publisher.open(connection),
    );
    await step("publish in the user's name", async () => this.#ownUser.learn(connection));
    const channel = await step('open a channel', async () => connection.channel());
    this.#consumers.set(connection, {
      requests: new Consumer(channel, connection, { queue, prefetch, onDelivery }),
      suspects: new Consumer(channel, connection, {
        queue: suspectsQueueOf(queue),
        suspects: true,
        prefetch: Math.min(prefetch, MAX_SUSPECTS),
        onDelivery,
      }),
    });
    // Repeated when it should no longer consume, or should again, meanwhile: `#apply` does not know this connection yet.
    let consume: boolean;
    do {
      const next = this.#shouldConsumeOn(connection);
      await step(`consume from the queue ${queue}`, async () => this.#consumeOn(connection, next));
      consume = next;
    } while (!connection.lost.aborted && consume !== this.#shouldConsumeOn(connection));
  }

  #shouldConsumeOn(connection: BrokerConnection): boolean {
    if (this.#stopped || this.#pauseReason !== undefined) return false;
    // A request whose reply is refused would only be held.
    return this.#publisher.refusalOn(connection) === undefined;
  }

  /** Starts or stops consuming on this connection. */
  async #consumeOn(connection: BrokerConnection, consume = this.#shouldConsumeOn(connection)): Promise<void> {
    try {
      const consumers = this.#consumers.get(connection);
      if (consumers === undefined) return;
      const { requests, suspects } = consumers;
      // Requests end first: a broker that does not respond is told no more than that. They begin last: the embedded broker
      // takes the last prefetch for that of the channel.
      const inOrder = consume ? [suspects, requests] : [requests, suspects];
      const consuming = await Promise.all(inOrder.map(async (each) => each.setConsuming(consume)));
      if (consuming.every((each) => each))
        this.#log.info('accepting requests', { queue: this.#options.queue });
    } catch (error) {
      // The consumer's state is unknown now: give up the connection and set up a new one.
      connection.lose(error);
    }
  }
}
