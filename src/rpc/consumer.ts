import type { Channel, ConsumeMessage, MessageProperties } from 'amqplib';
import { UNREADABLE } from './patched-amqplib.js';
import type { BrokerConnection } from './broker-connection.js';
import { readSender, type Sender } from './sender.js';
import { isBelievedCopy, isPublishedAgain, MAX_LOST_WORKERS, readSuspect, type Suspect } from './suspect.js';

/** Where a delivered message comes from. */
export interface DeliverySource {
  channel: Channel;
  connection: BrokerConnection;
  /** True: from the queue of suspects. */
  suspects: boolean;
}

/** A delivered message and where it comes from. */
export class Delivery {
  readonly #message: ConsumeMessage;
  readonly #channel: Channel;
  readonly connection: BrokerConnection;
  readonly sender: Sender;
  /** Set when it comes from the queue of suspects. */
  readonly suspect: Suspect | undefined;

  constructor(message: ConsumeMessage, { channel, connection, suspects }: DeliverySource) {
    const { content, properties } = message;
    // amqplib cuts small bodies out of what it has read at once: without a copy, each would keep all of that in memory. A copy of a
    // small one would keep a whole pool of Node's.
    const isPart = content.buffer.byteLength > Math.max(content.length, Buffer.poolSize);
    this.#message = isPart ? { ...message, content: Buffer.from(content) } : message;
    this.#channel = channel;
    this.connection = connection;
    this.sender = readSender(properties, connection.user, isPublishedAgain(properties));
    this.suspect = suspects ? readSuspect(properties) : undefined;
  }

  get content(): Buffer {
    return this.#message.content;
  }

  get properties(): MessageProperties {
    return this.#message.properties;
  }

  /** How often it came back to its queue; only quorum queues count that. */
  get returns(): number {
    const count: unknown = this.properties.headers?.['x-delivery-count'];
    return typeof count === 'number' ? count : 0;
  }

  /** False: its headers cannot be read. */
  get isReadable(): boolean {
    return (
      this.#message.properties.headers === undefined || !(UNREADABLE in this.#message.properties.headers)
    );
  }

  get redelivered(): boolean {
    // The embedded broker leaves it undefined on a first delivery.
    const redelivered: unknown = this.#message.fields.redelivered;
    return redelivered === true;
  }

  /** Whether another worker, or this one, may have begun it. */
  get mayHaveBegun(): boolean {
    return this.redelivered || this.suspect !== undefined;
  }

  /** How many workers have had it at most, this one included, as far as is known; anybody may have written what it says of itself. */
  get attempt(): number {
    return Math.min(this.suspect?.lostWorkers ?? 0, MAX_LOST_WORKERS) + (this.redelivered ? 2 : 1);
  }

  /** Whether it may be a second copy: a worker that requeued it may have lost its connection before it acknowledged it. */
  get mayBeCopy(): boolean {
    return this.mayHaveBegun || isBelievedCopy(this.properties, this.connection.user);
  }

  /**
   * Acknowledges the message. Does nothing after the loss of the connection: the broker delivers the message again, and
   * on another channel the same delivery tag is another message.
   */
  acknowledge(): void {
    this.#settle(() => this.#channel.ack(this.#message));
  }

  /** Puts the message back into the queue; it then counts as delivered before. */
  giveBack(): void {
    this.#settle(() => this.#channel.nack(this.#message, false, true));
  }

  #settle(send: () => void): void {
    if (this.connection.lost.aborted) return;
    try {
      send();
    } catch (error) {
      this.connection.lose(error);
    }
  }
}

export interface ConsumerOptions {
  queue: string;
  /** Whether it is the queue of suspects. */
  suspects?: boolean;
  /** The maximum number of unacknowledged messages. */
  prefetch: number;
  onDelivery: (delivery: Delivery) => void;
}

/** A consumer on the broker, with a prefetch of its own. */
interface Part {
  tag: string;
  prefetch: number;
}

/**
 * Consumes messages from a queue on one connection; `setConsuming` starts and stops it. Its prefetch can be changed while it
 * consumes: as a consumer on the broker keeps the prefetch with which it was made, others are added to the first one.
 */
export class Consumer {
  readonly #channel: Channel;
  readonly #connection: BrokerConnection;
  readonly #options: ConsumerOptions;
  #shouldConsume = false;
  #prefetch: number;
  /** The consumers on the broker; none while it does not consume. */
  readonly #parts: Part[] = [];
  #changes: Promise<void> = Promise.resolve();

  /** @param channel other consumers may use it too */
  constructor(channel: Channel, connection: BrokerConnection, options: ConsumerOptions) {
    this.#channel = channel;
    this.#connection = connection;
    this.#options = options;
    this.#prefetch = options.prefetch;
  }

  /** The maximum number of unacknowledged messages. */
  get prefetch(): number {
    return this.#prefetch;
  }

  /** Changes the maximum number of unacknowledged messages, at least roughly. */
  async setPrefetch(prefetch: number): Promise<void> {
    this.#prefetch = prefetch;
    await this.#change();
  }

  /**
   * Starts or stops consuming; delivered messages can still be acknowledged. When it is called again before the broker
   * has responded, the last call counts.
   * @returns whether it consumes, after the broker has responded
   */
  async setConsuming(consume: boolean): Promise<boolean> {
    this.#shouldConsume = consume;
    await this.#change();
    return this.#parts.length > 0;
  }

  /** One change at a time: a consumer has no tag to cancel until the broker has confirmed it. */
  async #change(): Promise<void> {
    const change = this.#changes.then(async () => this.#apply());
    this.#changes = change.catch(() => {});
    await change;
  }

  async #apply(): Promise<void> {
    const wanted = this.#shouldConsume ? this.#prefetch : 0;
    let open = this.#parts.reduce((sum, { prefetch }) => sum + prefetch, 0);
    for (let last = this.#parts.at(-1); last !== undefined; last = this.#parts.at(-1)) {
      // The first one stays, although the others together may be too large without it.
      if (wanted > 0 && (this.#parts.length === 1 || open - last.prefetch < wanted)) break;
      this.#parts.pop();
      open -= last.prefetch;
      await this.#channel.cancel(last.tag);
    }
    if (open < wanted) this.#parts.push(await this.#consume(wanted - open));
  }

  async #consume(prefetch: number): Promise<Part> {
    const { queue, suspects = false, onDelivery } = this.#options;
    const source = { channel: this.#channel, connection: this.#connection, suspects };
    // Both at once: the prefetch is that of the consumers made after it, and the channel may get others too.
    const [, { consumerTag }] = await Promise.all([
      this.#channel.prefetch(prefetch),
      this.#channel.consume(queue, (message) => {
        // The queue was deleted; a new connection declares it again.
        if (message === null) return this.#connection.lose(new Error(`the queue ${queue} was deleted`));
        // The broker delivers the messages of a lost connection again.
        if (!this.#connection.lost.aborted) onDelivery(new Delivery(message, source));
      }),
    ]);
    return { tag: consumerTag, prefetch };
  }
}
