import type { Channel, ConsumeMessage, MessageProperties } from 'amqplib';
import { UNREADABLE } from './patched-amqplib.js';
import type { BrokerConnection } from './broker-connection.js';

/** A delivered message and the channel that delivered it. */
export class Delivery {
  readonly #message: ConsumeMessage;
  readonly #channel: Channel;
  readonly connection: BrokerConnection;

  constructor(message: ConsumeMessage, channel: Channel, connection: BrokerConnection) {
    const { content } = message;
    // amqplib cuts small bodies out of what it has read at once: without a copy, each would keep all of that in memory.
    this.#message =
      content.buffer.byteLength > content.length ? { ...message, content: Buffer.from(content) } : message;
    this.#channel = channel;
    this.connection = connection;
  }

  get content(): Buffer {
    return this.#message.content;
  }

  get properties(): MessageProperties {
    return this.#message.properties;
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

  /**
   * Acknowledges the message. Does nothing after the loss of the connection: the broker delivers the message again, and
   * on another channel the same delivery tag is another message.
   */
  acknowledge(): void {
    if (this.connection.lost.aborted) return;
    try {
      this.#channel.ack(this.#message);
    } catch (error) {
      this.connection.lose(error);
    }
  }
}

export interface ConsumerOptions {
  queue: string;
  /** The maximum number of unacknowledged messages. */
  prefetch: number;
  onDelivery: (delivery: Delivery) => void;
}

/** Consumes messages from a queue on one connection; `setConsuming` starts and stops it. */
export class Consumer {
  readonly #channel: Channel;
  readonly #connection: BrokerConnection;
  readonly #options: ConsumerOptions;
  #shouldConsume = false;
  /** The consumer tag; set while it consumes. */
  #tag: string | undefined;
  #changes: Promise<void> = Promise.resolve();

  static async open(connection: BrokerConnection, options: ConsumerOptions): Promise<Consumer> {
    const channel = await connection.channel();
    await channel.prefetch(options.prefetch);
    return new Consumer(channel, connection, options);
  }

  private constructor(channel: Channel, connection: BrokerConnection, options: ConsumerOptions) {
    this.#channel = channel;
    this.#connection = connection;
    this.#options = options;
  }

  /**
   * Starts or stops consuming; delivered messages can still be acknowledged. When it is called again before the broker
   * has responded, the last call counts.
   * @returns whether it consumes, after the broker has responded
   */
  async setConsuming(consume: boolean): Promise<boolean> {
    this.#shouldConsume = consume;
    // One change at a time: a consumer has no tag to cancel until the broker has confirmed it.
    const change = this.#changes.then(async () => this.#apply());
    this.#changes = change.catch(() => {});
    await change;
    return this.#tag !== undefined;
  }

  async #apply(): Promise<void> {
    const tag = this.#tag;
    if (this.#shouldConsume === (tag !== undefined)) return;
    if (tag !== undefined) {
      this.#tag = undefined;
      await this.#channel.cancel(tag);
      return;
    }
    const { queue, onDelivery } = this.#options;
    const { consumerTag } = await this.#channel.consume(queue, (message) => {
      // The queue was deleted; a new connection declares it again.
      if (message === null) return this.#connection.lose(new Error(`the queue ${queue} was deleted`));
      // The broker delivers the messages of a lost connection again.
      if (!this.#connection.lost.aborted) onDelivery(new Delivery(message, this.#channel, this.#connection));
    });
    this.#tag = consumerTag;
  }
}
