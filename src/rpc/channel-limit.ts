import { refusalOf } from './broker-refusal.js';

/** How many messages may have a channel of their own at the same time, on a broker without a limit. */
const MOST = 64;
/** The channels of a connection besides: one that consumes, one that messages share, and one for a single operation. */
const OTHERS = 3;
/** AMQP's reply code for what the broker's configuration prohibits. */
const NOT_ALLOWED = 530;

/**
 * How many channels a connection may open for messages that each need one of their own. The channels of one connection are
 * limited when it is opened (`channel_max`). Those of all connections of a user may be limited too (`max-channels`): nothing
 * says so before RabbitMQ closes a connection for one more channel. So what one connection has learned counts for the next.
 */
export class ChannelLimit {
  #most = MOST;

  /** At least 1. @param channelMax how many channels the connection may have */
  within(channelMax: number): number {
    return Math.max(1, Math.min(this.#most, channelMax - OTHERS));
  }

  /**
   * Halves the limit when a connection was lost because the channels of its user are limited.
   * @param cause why it was lost
   * @param used how many channels it had for messages that need one of their own
   */
  learn(cause: unknown, used: number): void {
    const refusal = refusalOf(cause);
    if (refusal?.code !== NOT_ALLOWED || !refusal.text.includes('number of channels opened')) return;
    this.#most = Math.max(1, Math.floor(Math.min(this.#most, used) / 2));
  }
}
