import { randomUUID } from 'node:crypto';
import type { Options } from 'amqplib';
import { Semaphore } from '../lib/semaphore.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerConnection } from './broker-connection.js';
import { type Destination, type Message, PublishChannel, type PublishOutcome } from './publish-channel.js';
import { MayHaveArrived, PublishRefused } from './publish-errors.js';

/**
 * How a message may be published. A message that the broker may refuse has a channel of its own, see `ConfirmChannel`. The
 * others share a channel, which the broker may close over one of them:
 * - `again`: the message is then published again on a channel of its own, so it may arrive twice;
 * - `once`: it then fails with `MayHaveArrived`;
 * - `alone`: it always has a channel of its own, so its outcome is certain and it never arrives twice. Such messages arrive
 *   in the order in which they were published.
 */
export type Sharing = 'again' | 'once' | 'alone';

/** How many channels are kept for the next messages that need one of their own. */
const MAX_SPARE = 4;

/**
 * Publishes with confirms on one connection. The broker refuses a message by closing its channel, and then all that the
 * channel still carries is lost or of unknown fate. So a message shares a channel with others only when the broker has
 * accepted one that was as large, to the same exchange, on this connection. Any other message has a channel of its own.
 */
export class ConfirmChannel {
  readonly #connection: BrokerConnection;
  /** One for each message that may have a channel of its own. */
  readonly #alone: Semaphore;
  /** Held until the broker has accepted a message, so that messages on different channels arrive in order. */
  readonly #inOrder = new Semaphore(1);
  /** Open channels that carry nothing. */
  readonly #spare: PublishChannel[];
  readonly #prefix = randomUUID();
  #sent = 0;
  /** How many channels are open, or being opened, besides the shared one. */
  #own = 1;
  #shared: PublishChannel;
  #replacing = false;
  readonly #acceptedExchanges = new Set<string>();
  #acceptedBytes = 0;
  /** The largest body that the broker accepts, in bytes. Nothing but a refusal says it. */
  #maxBytes = Infinity;

  static async open(connection: BrokerConnection): Promise<ConfirmChannel> {
    const [shared, spare] = [await PublishChannel.open(connection), await PublishChannel.open(connection)];
    return new ConfirmChannel(connection, shared, spare);
  }

  private constructor(connection: BrokerConnection, shared: PublishChannel, spare: PublishChannel) {
    this.#connection = connection;
    this.#shared = shared;
    this.#spare = [spare];
    const { channelLimit, channelMax, lost } = connection;
    this.#alone = new Semaphore(channelLimit.within(channelMax));
    lost.addEventListener('abort', () => channelLimit.learn(lost.reason, this.#own));
  }

  /**
   * Resolves when the broker has confirmed the message.
   * @param how `sending` is called immediately before the message is written, each time: see `Message`. When `stop` is aborted,
   *   nobody waits for the message any more: it does not keep a channel of its own, and is not published again
   * @throws what `sending` throws
   * @throws UnpublishableError when AMQP cannot encode the message
   * @throws PublishRefused when the broker does not accept it, or has said before that it accepts none of this size
   * @throws MayHaveArrived only with `once`
   * @throws ConnectionLost: the message may or may not have arrived
   */
  publish(
    to: Destination,
    content: Buffer,
    options: Options.Publish,
    {
      sharing = 'again',
      sending,
      stop,
    }: { sharing?: Sharing; sending?: Message['sending']; stop?: Message['stop'] } = {},
  ): Promise<PublishOutcome> {
    if (content.length > this.#maxBytes)
      return Promise.reject(PublishRefused.tooLarge(content.length, this.#maxBytes));
    // A returned message has no delivery tag, so it is identified by its message id. One that is alone on its channel needs none,
    // and gets none: a request that is published again without an id must not become one that has an id.
    const { messageId = sharing === 'alone' ? undefined : `${this.#prefix}-${++this.#sent}` } = options;
    // In this order: V8 keeps memory for each object that gets more properties after those of another one.
    const sent: Options.Publish = { messageId, mandatory: true, ...options };
    sent.messageId = messageId;
    const message = { to, content, options: sent, sending, stop };
    if (!this.#mayShare(message, sharing)) return this.#publishAlone(message, sharing);
    return this.#shared
      .publish(message)
      .catch((error: unknown) => this.#sharedFailed(error, message, sharing));
  }

  async #sharedFailed(error: unknown, message: Message, sharing: Sharing): Promise<PublishOutcome> {
    if (error instanceof PublishRefused) throw this.#refused(error);
    if (!(error instanceof MayHaveArrived)) throw error;
    void this.#replaceShared();
    if (sharing === 'once' || message.stop?.signal.aborted) throw error;
    return this.#publishAlone(message, 'alone');
  }

  #mayShare({ to, content }: Message, sharing: Sharing): boolean {
    if (sharing === 'alone' || content.length > this.#acceptedBytes) return false;
    return this.#shared.isOpen && this.#acceptedExchanges.has(to.exchange);
  }

  async #publishAlone(message: Message, sharing: Sharing): Promise<PublishOutcome> {
    const { lost } = this.#connection;
    const release = await this.#alone.acquire(lost);
    let next = () => {};
    try {
      message.stop?.signal.throwIfAborted();
      if (sharing === 'alone') next = await this.#inOrder.acquire(lost);
      const { to, content, options, sending, stop } = message;
      if (this.#mayShare(message, sharing) || content.length > this.#maxBytes) {
        // The broker has accepted or refused a message like this one meanwhile.
        release();
        return await this.publish(to, content, options, { sharing, sending, stop });
      }
      return await this.#onOwnChannel(message, () => {
        this.#acceptedExchanges.add(to.exchange);
        this.#acceptedBytes = Math.max(this.#acceptedBytes, content.length);
        next();
      });
    } finally {
      next();
      release();
    }
  }

  /** @param accepted is called when the broker has accepted the message; it may not have confirmed it yet */
  async #onOwnChannel(message: Message, accepted: () => void): Promise<PublishOutcome> {
    const signal = message.stop?.signal;
    // Not until the loss of the connection: the outcome may be known at the same moment, and counts.
    const waited = async <T>(outcome: Promise<T>) =>
      signal === undefined ? outcome : untilAborted(outcome, signal);
    const channel = this.#spare.pop() ?? (await this.#openOwn());
    try {
      const published = channel.publish(message);
      await waited(Promise.race([published, channel.accepted().catch(async () => published)]));
      accepted();
      return await waited(published);
    } catch (error) {
      throw error instanceof PublishRefused ? this.#refused(error) : error;
    } finally {
      await this.#giveBack(channel);
    }
  }

  async #openOwn(): Promise<PublishChannel> {
    this.#own++;
    return this.#open();
  }

  async #giveBack(channel: PublishChannel): Promise<void> {
    if (channel.isIdle && this.#spare.length < MAX_SPARE) {
      this.#spare.push(channel);
      return;
    }
    // Until then it counts for the broker. amqplib's close() never settles when the connection is lost meanwhile.
    await untilAborted(channel.close(), this.#connection.lost).catch(() => {});
    if (!this.#connection.lost.aborted) this.#own--;
  }

  #refused(error: PublishRefused): PublishRefused {
    if (error.maxBytes !== undefined) this.#maxBytes = error.maxBytes;
    void this.#replaceShared();
    return error;
  }

  /**
   * Opens the shared channel again if the broker has closed it. Meanwhile each message has a channel of its own.
   * Never rejects.
   */
  async #replaceShared(): Promise<void> {
    if (this.#shared.isOpen || this.#replacing || this.#connection.lost.aborted) return;
    this.#replacing = true;
    try {
      this.#shared = await this.#open();
    } catch {
      // The connection is lost, and has the reason.
    } finally {
      this.#replacing = false;
    }
  }

  /** @throws ConnectionLost */
  async #open(): Promise<PublishChannel> {
    const { lost } = this.#connection;
    try {
      return await PublishChannel.open(this.#connection);
    } catch (error) {
      this.#connection.lose(error);
      throw lost.reason;
    }
  }
}
