import type { Channel, ConsumeMessage, MessageProperties } from 'amqplib';
import type { LiveConnection } from './session.js';

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

/** Takes messages off a queue; lives as long as its connection. */
export class Consumer {
  readonly #channel: Channel;
  readonly #tag: string;

  /** @param prefetch how many messages may be held unacknowledged */
  static async start(
    live: LiveConnection,
    options: { queue: string; prefetch: number; onDelivery: (delivery: Delivery) => void },
  ): Promise<Consumer> {
    const channel = await live.channel();
    await channel.prefetch(options.prefetch);
    const { consumerTag } = await channel.consume(options.queue, (message) => {
      // The broker says so when the queue was deleted; with everything rebuilt it is declared anew.
      if (message === null) return live.lose(new Error(`the queue ${options.queue} was deleted`));
      options.onDelivery(new Delivery(message, channel, live));
    });
    return new Consumer(channel, consumerTag);
  }

  private constructor(channel: Channel, tag: string) {
    this.#channel = channel;
    this.#tag = tag;
  }

  /** Takes no more messages; what has been delivered can still be acknowledged. */
  async stop(): Promise<void> {
    await this.#channel.cancel(this.#tag);
  }
}
