import type { Channel, ConsumeMessage, MessageProperties } from 'amqplib';
import { UNREADABLE } from './amqp.js';
import type { BrokerConnection } from './broker-connection.js';

/** A delivered message, tied to the channel that it came by. */
export class Delivery {
  readonly #message: ConsumeMessage;
  readonly #channel: Channel;
  readonly connection: BrokerConnection;

  constructor(message: ConsumeMessage, channel: Channel, connection: BrokerConnection) {
    this.#message = message;
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
   * Tells the broker to forget the message. After the loss of the connection nothing is sent: the broker delivers the
   * message again, and on another channel the same tag means another message.
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
  /** How many messages may be held unacknowledged. */
  prefetch: number;
  onDelivery: (delivery: Delivery) => void;
}

/** Takes messages off a queue after `take(true)`, as long as its connection lives. */
export class Consumer {
  readonly #channel: Channel;
  readonly #connection: BrokerConnection;
  readonly #options: ConsumerOptions;
  #wanted = false;
  /** Set while it takes messages. */
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
   * Starts or stops taking messages; delivered messages can still be acknowledged. Of several calls that come while the
   * broker is asked, the last one counts.
   * @returns whether it takes messages, when the broker has answered
   */
  async take(wanted: boolean): Promise<boolean> {
    this.#wanted = wanted;
    // One after the other: a consumer that is cancelled before it has started would go on.
    const change = this.#changes.then(async () => this.#apply());
    this.#changes = change.catch(() => {});
    await change;
    return this.#tag !== undefined;
  }

  async #apply(): Promise<void> {
    const tag = this.#tag;
    if (this.#wanted === (tag !== undefined)) return;
    if (tag !== undefined) {
      this.#tag = undefined;
      await this.#channel.cancel(tag);
      return;
    }
    const { queue, onDelivery } = this.#options;
    const { consumerTag } = await this.#channel.consume(queue, (message) => {
      // The queue was deleted. It is declared again when everything is rebuilt.
      if (message === null) return this.#connection.lose(new Error(`the queue ${queue} was deleted`));
      // Messages that the channel still brings after its loss will be delivered again.
      if (!this.#connection.lost.aborted) onDelivery(new Delivery(message, this.#channel, this.#connection));
    });
    this.#tag = consumerTag;
  }
}
