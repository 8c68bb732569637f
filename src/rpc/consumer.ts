import type { Channel, ConsumeMessage, MessageProperties } from 'amqplib';
import { UNREADABLE } from './amqp.js';
import type { LiveConnection } from './connection-manager.js';

/** A message as it was delivered, tied to the channel it came on. */
export class Delivery {
  readonly #message: ConsumeMessage;
  readonly #channel: Channel;
  readonly live: LiveConnection;

  constructor(message: ConsumeMessage, channel: Channel, live: LiveConnection) {
    this.#message = message;
    this.#channel = channel;
    this.live = live;
  }

  get content(): Buffer {
    return this.#message.content;
  }

  get properties(): MessageProperties {
    return this.#message.properties;
  }

  /** False: it has headers that nobody can read. */
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
   * Tells the broker that the message is dealt with. After the loss of its channel that is not possible any more (on
   * another channel the same tag is another message): nothing is sent, and the broker will deliver it again.
   */
  acknowledge(): void {
    if (this.live.lost.aborted) return;
    try {
      this.#channel.ack(this.#message);
    } catch (error) {
      this.live.lose(error);
    }
  }
}

export interface ConsumerOptions {
  queue: string;
  /** How many messages may be held unacknowledged. */
  prefetch: number;
  onDelivery: (delivery: Delivery) => void;
}

/** Takes messages off a queue, when it is told to; lives as long as its connection. */
export class Consumer {
  readonly #channel: Channel;
  readonly #live: LiveConnection;
  readonly #options: ConsumerOptions;
  #wanted = false;
  /** While it takes messages. */
  #tag: string | undefined;
  #changes: Promise<void> = Promise.resolve();

  static async open(live: LiveConnection, options: ConsumerOptions): Promise<Consumer> {
    const channel = await live.channel();
    await channel.prefetch(options.prefetch);
    return new Consumer(channel, live, options);
  }

  private constructor(channel: Channel, live: LiveConnection, options: ConsumerOptions) {
    this.#channel = channel;
    this.#live = live;
    this.#options = options;
  }

  /**
   * Takes messages from now on, or no more of them; what has been delivered can still be acknowledged. Of several wishes
   * that come while the broker is asked, the last one counts.
   * @returns whether it takes messages, when the broker has said so
   */
  async take(wanted: boolean): Promise<boolean> {
    this.#wanted = wanted;
    // One after the other: a consumer that is cancelled before it has begun would go on.
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
      // The broker says so when the queue was deleted; with everything rebuilt it is declared anew.
      if (message === null) return this.#live.lose(new Error(`the queue ${queue} was deleted`));
      // What the channel still brings after its loss will be delivered again.
      if (!this.#live.lost.aborted) onDelivery(new Delivery(message, this.#channel, this.#live));
    });
    this.#tag = consumerTag;
  }
}
