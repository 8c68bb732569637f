import type { Options } from 'amqplib';
import { type Destination, type PublishOutcome, UnpublishableError } from './publisher.js';
import type { Envelope } from './envelope.js';
import type { Delivery } from './consumer.js';
import type { LiveConnection } from './connection-manager.js';
import type { Logger } from '../lib/logger.js';

/** An answer as it goes out. */
export interface EncodedAnswer {
  /** The whole envelope in the request's encoding. */
  body: Buffer;
  contentType: string;
  /** The same envelope as plain data, for ways that have an encoding of their own. */
  envelope: Record<string, unknown>;
}

/** A way for an answer to reach its caller. */
export interface ReplyChannel {
  /** Whether this request can be answered this way. */
  reaches(envelope: Envelope, delivery: Delivery): boolean;
  /**
   * Resolves when the answer is safe with whoever keeps it for the caller, or when the caller is known to be gone.
   * Rejects only when the signal is aborted.
   */
  send(
    answer: EncodedAnswer,
    request: { envelope: Envelope; delivery: Delivery; log: Logger },
    signal: AbortSignal,
  ): Promise<void>;
}

/**
 * Publishes a message until a broker has confirmed it: by the connection that is given while it lives (what it came by
 * may be on another broker than the service is on by now), else by the current one, again after each that is lost.
 */
export type PublishSurely = (
  to: Destination,
  content: Buffer,
  options: Options.Publish,
  within: { signal: AbortSignal; by?: LiveConnection },
) => Promise<PublishOutcome>;

/** Whether this goes to a caller that uses RabbitMQ's direct reply-to, which has no queue. */
export function isDirectReply({ exchange, routingKey }: Destination): boolean {
  return exchange === '' && routingKey.startsWith('amq.rabbitmq.reply-to.');
}

/** Answers to the queue that the request's `reply_to` names, with its `correlation_id`. */
export class ReplyToChannel implements ReplyChannel {
  readonly #publish: PublishSurely;

  constructor(publish: PublishSurely) {
    this.#publish = publish;
  }

  reaches(_envelope: Envelope, { properties }: Delivery): boolean {
    return typeof properties.replyTo === 'string' && properties.replyTo !== '';
  }

  async send(
    { body, contentType }: EncodedAnswer,
    { delivery, log }: { delivery: Delivery; log: Logger },
    signal: AbortSignal,
  ): Promise<void> {
    const { replyTo, correlationId, deliveryMode } = delivery.properties;
    // An answer is as lasting as its request.
    const options = { contentType, correlationId, persistent: deliveryMode === 2 };
    try {
      const to = { exchange: '', routingKey: String(replyTo) };
      const outcome = await this.#publish(to, body, options, { signal, by: delivery.live });
      // RabbitMQ says "unroutable" of every direct reply, for no queue takes it.
      if (outcome === 'unroutable' && !isDirectReply(to))
        log.warn('answer dropped: the queue of its reply_to is gone');
      if (outcome === 'refused') log.warn('answer dropped: the queue of its reply_to is full');
    } catch (error) {
      if (!(error instanceof UnpublishableError)) throw error;
      log.warn('answer dropped: its reply_to or correlation_id cannot be sent back', {
        reason: error.message,
      });
    }
  }
}
