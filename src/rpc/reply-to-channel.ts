import { UnpublishableError } from './confirm-channel.js';
import type { Delivery } from './consumer.js';
import { isDirectReply } from './direct-replies.js';
import type { Envelope } from './envelope.js';
import type { PublishConfirmed } from './publisher.js';
import type { ReplyContext, OutgoingReply, ReplyChannel, SendOutcome } from './reply-channel.js';

/** Replies to the queue that the request's `reply_to` names, with its `correlation_id`. */
export class ReplyToChannel implements ReplyChannel {
  readonly #publish: PublishConfirmed;
  readonly needsPlainReply = false;

  constructor(publish: PublishConfirmed) {
    this.#publish = publish;
  }

  reaches(_envelope: Envelope, { properties }: Delivery): boolean {
    return typeof properties.replyTo === 'string' && properties.replyTo !== '';
  }

  async send(
    { body, contentType }: OutgoingReply,
    { delivery, log }: Pick<ReplyContext, 'delivery' | 'log'>,
    signal: AbortSignal,
  ): Promise<SendOutcome> {
    const { replyTo, correlationId, deliveryMode } = delivery.properties;
    // A reply is persistent when its request is.
    const options = { contentType, correlationId, persistent: deliveryMode === 2 };
    const to = { exchange: '', routingKey: String(replyTo) };
    try {
      const outcome = await this.#publish(to, body, options, { signal, by: delivery.connection });
      // RabbitMQ returns every direct reply as unroutable, because it has no queue.
      if (outcome === 'routed' || (outcome === 'unroutable' && isDirectReply(to))) return 'sent';
      const problem = outcome === 'nacked' ? 'is full' : 'does not exist';
      log.warn('reply dropped', { reason: `the queue of its reply_to ${problem}` });
    } catch (error) {
      if (!(error instanceof UnpublishableError)) throw error;
      log.warn('reply dropped', {
        reason: `its reply_to or correlation_id cannot be used: ${error.message}`,
      });
    }
    return 'dropped';
  }
}
