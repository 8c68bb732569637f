import type { Clock } from '../lib/clock.js';
import type { Delivery } from './consumer.js';
import { isDirectReply } from './direct-replies.js';
import type { Envelope } from './envelope.js';
import { PublishRefused, UnpublishableError } from './publish-errors.js';
import { NotConfirmed } from './pending-replies.js';
import type { PublishOutcome } from './publish-channel.js';
import type { PublishConfirmed } from './publisher.js';
import type { ReplyContext, OutgoingReply, ReplyChannel, SendOutcome } from './reply-channel.js';
import { shrunk } from './reply-encoder.js';

/** The properties `type` and `app_id` of a reply. */
export const [REPLY_TYPE, APP_ID] = ['reply', 'fleet-manager'];

/** Replies to the queue that the request's `reply_to` names, with its `correlation_id`. */
export class ReplyToChannel implements ReplyChannel {
  readonly #publish: PublishConfirmed;
  readonly #clock: Pick<Clock, 'wallTime'>;
  readonly needsPlainReply = false;

  constructor(publish: PublishConfirmed, clock: Pick<Clock, 'wallTime'>) {
    this.#publish = publish;
    this.#clock = clock;
  }

  reaches(_envelope: Envelope, { properties }: Delivery): boolean {
    return typeof properties.replyTo === 'string' && properties.replyTo !== '';
  }

  send(reply: OutgoingReply, request: ReplyContext, signal: AbortSignal): Promise<SendOutcome> {
    return this.#publishTo(reply, request, signal).then(
      (outcome) => outcomeOf(outcome, request),
      (error: unknown) =>
        error instanceof PublishRefused && error.maxBytes !== undefined
          ? this.#sendShrunk(reply, request, signal, error)
          : notSent(error, request),
    );
  }

  async #sendShrunk(
    reply: OutgoingReply,
    request: ReplyContext,
    signal: AbortSignal,
    { maxBytes = 0, message: reason }: PublishRefused,
  ): Promise<SendOutcome> {
    const { body, replacement } = shrunk(reply.body, request, maxBytes);
    try {
      const outcome = outcomeOf(await this.#publishTo({ ...reply, body }, request, signal), request);
      if (replacement === undefined || outcome !== 'sent') return outcome;
      request.log.warn('reply replaced', { reason });
      return replacement;
    } catch (error) {
      return notSent(error, request);
    }
  }

  #publishTo(
    { body, contentType, headers }: OutgoingReply,
    { delivery: { connection, properties }, until }: ReplyContext,
    signal: AbortSignal,
  ): Promise<PublishOutcome> {
    const { replyTo, correlationId, deliveryMode } = properties;
    // A reply is persistent when its request is.
    const options = {
      contentType,
      correlationId,
      persistent: deliveryMode === 2,
      type: REPLY_TYPE,
      // AMQP counts seconds.
      timestamp: Math.floor(this.#clock.wallTime() / 1_000),
      appId: APP_ID,
      headers,
    };
    const to = { exchange: '', routingKey: String(replyTo) };
    return this.#publish(to, body, options, { signal, by: connection, until });
  }
}

function outcomeOf(outcome: PublishOutcome, request: ReplyContext): SendOutcome {
  // RabbitMQ returns every direct reply as unroutable, because it has no queue.
  if (outcome === 'routed' || (outcome === 'unroutable' && isDirect(request))) return 'sent';
  const problem = outcome === 'nacked' ? 'is full' : 'does not exist';
  return dropped(request, `the queue of its reply_to ${problem}`);
}

function isDirect({ delivery: { properties } }: ReplyContext): boolean {
  return isDirectReply({ exchange: '', routingKey: String(properties.replyTo) });
}

/** @throws the error, if it does not say that the caller can no longer be reached */
function notSent(error: unknown, request: ReplyContext): SendOutcome {
  if (error instanceof UnpublishableError)
    return dropped(request, `its reply_to or correlation_id cannot be used: ${error.message}`);
  if (error instanceof PublishRefused) return dropped(request, `the broker refuses it: ${error.message}`);
  if (error instanceof NotConfirmed) return dropped(request, error.message);
  throw error;
}

function dropped({ log }: ReplyContext, reason: string): SendOutcome {
  log.warn('reply dropped', { reason });
  return 'dropped';
}
