import type { ConfirmChannel as AmqpConfirmChannel, Options } from 'amqplib';
import { LinkedList, type Place } from '../lib/linked-list.js';
import type { BrokerConnection } from './broker-connection.js';
import { type BrokerRefusal, refusalOf } from './broker-refusal.js';
import { MayHaveArrived, PublishRefused, UnpublishableError } from './publish-errors.js';

/** Where a message goes. */
export interface Destination {
  /** `''` is the default exchange, which routes to the queue with the name of the routing key. */
  exchange: string;
  routingKey: string;
}

/**
 * The outcome of publishing a message. `unroutable`: no queue receives it. `nacked`: a queue is full (RabbitMQ, "Queue
 * Length Limit", `reject-publish`), or has failed. Another queue, or this one before it failed, may have received it.
 */
export type PublishOutcome = 'routed' | 'unroutable' | 'nacked';

/** A message to publish; its message id identifies it on its channel, unless it is the only one there. */
export interface Message {
  to: Destination;
  content: Buffer;
  /** With `mandatory`, so that the broker returns what it cannot route. */
  options: Options.Publish;
  /**
   * Called immediately before it is written: until then, the broker cannot have it. Returns the properties that are known
   * only then, such as the time that is left. When it throws, the message is not written.
   */
  sending: (() => Options.Publish) | undefined;
  /** When its signal is aborted, nobody waits for the message any more. Read only when it is needed: it may be created then. */
  stop: { readonly signal: AbortSignal } | undefined;
}

/** A message that the broker has neither confirmed nor refused. */
class Unconfirmed {
  /** Among those of its channel. */
  place: Place | undefined;
  readonly id: string | undefined;
  readonly resolve: (outcome: PublishOutcome) => void;
  readonly reject: (error: unknown) => void;

  constructor(
    id: string | undefined,
    resolve: (outcome: PublishOutcome) => void,
    reject: (error: unknown) => void,
  ) {
    this.id = id;
    this.resolve = resolve;
    this.reject = reject;
  }
}

/**
 * One confirm channel, until the broker closes it. When the broker refuses a message, it closes the channel without
 * saying which message it was; the connection and its other channels are not affected.
 */
export class PublishChannel {
  readonly #channel: AmqpConfirmChannel;
  readonly #connection: BrokerConnection;
  readonly #pending = new LinkedList<Unconfirmed>();
  readonly #returned = new Set<string>();
  #refusal: BrokerRefusal | undefined;
  #closed = false;

  static async open(connection: BrokerConnection): Promise<PublishChannel> {
    const channel = await connection.confirmChannel();
    connection.lost.throwIfAborted();
    return new PublishChannel(connection, channel);
  }

  private constructor(connection: BrokerConnection, channel: AmqpConfirmChannel) {
    this.#connection = connection;
    this.#channel = channel;
    // The broker returns an unroutable message before it confirms it (RabbitMQ, "Publisher confirms").
    channel.on('return', ({ properties }) => this.#returned.add(String(properties.messageId)));
    channel.on('error', (error: unknown) => {
      this.#refusal ??= refusalOf(error);
      this.#end();
    });
    channel.on('close', this.#end);
    connection.lost.addEventListener('abort', this.#end);
  }

  /** Whether messages can be published on it. */
  get isOpen(): boolean {
    return !this.#closed;
  }

  /** Whether it is open and carries nothing. */
  get isIdle(): boolean {
    return this.isOpen && this.#pending.size === 0;
  }

  /**
   * Resolves when the broker has confirmed the message.
   * @throws what `sending` throws
   * @throws UnpublishableError when AMQP cannot encode the message
   * @throws PublishRefused when the broker closed the channel while it carried this message only
   * @throws MayHaveArrived when the broker closed the channel while it carried other messages too
   * @throws ConnectionLost: the message may or may not have arrived
   */
  publish({ to, content, options, sending }: Message): Promise<PublishOutcome> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#reason(false));
      const latest = sending && { ...options, ...sending() };
      const message = new Unconfirmed(options.messageId, resolve, reject);
      const confirmed = (error: unknown) => {
        // Another error says that the channel is closed, which has its own event.
        if (error && !isNack(error)) return;
        const returned = this.#settle(message);
        message.resolve(error ? 'nacked' : returned ? 'unroutable' : 'routed');
      };
      message.place = this.#pending.add(message);
      try {
        this.#channel.publish(to.exchange, to.routingKey, content, latest ?? options, confirmed);
      } catch (error) {
        this.#fail(message, new UnpublishableError(String(error), { cause: error }));
      }
    });
  }

  /** @returns whether the broker has returned it */
  #settle(message: Unconfirmed): boolean {
    message.place?.leave();
    return this.#returned.size > 0 && this.#returned.delete(String(message.id));
  }

  #fail(message: Unconfirmed, error: unknown): void {
    this.#settle(message);
    message.reject(error);
  }

  /**
   * Resolves when the broker has accepted everything that was published before, perhaps without having confirmed it: the
   * broker handles what comes on a channel in order. Rejects when the channel is closed first.
   */
  async accepted(): Promise<void> {
    // Any operation with a response does. The prefetch of a channel without consumers has no effect.
    await this.#channel.prefetch(1);
  }

  /** Messages that the broker has not confirmed fail with `MayHaveArrived`. */
  async close(): Promise<void> {
    if (this.#closed) return;
    for (const message of this.#pending) this.#fail(message, new MayHaveArrived('its channel was closed'));
    await this.#channel.close();
  }

  readonly #end = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.lost.removeEventListener('abort', this.#end);
    const sole = this.#pending.size === 1;
    const failAll = () => {
      for (const message of this.#pending) this.#fail(message, this.#reason(sole));
    };
    // A lost connection closes its channels before it says why.
    if (this.#refusal === undefined) queueMicrotask(failAll);
    else failAll();
  };

  #reason(sole: boolean): unknown {
    if (this.#refusal === undefined) {
      // Not refused, so the connection is lost.
      this.#connection.lose(new Error('a channel was closed'));
      return this.#connection.lost.reason;
    }
    return sole ? new PublishRefused(this.#refusal) : new MayHaveArrived(this.#refusal.text);
  }
}

/** amqplib also reports an error when the channel closes before the confirm; only the text distinguishes the two. */
function isNack(error: unknown): boolean {
  return error instanceof Error && error.message === 'message nacked';
}
