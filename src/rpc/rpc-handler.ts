import { hash, randomUUID } from 'node:crypto';
import type { MessageProperties, Options } from 'amqplib';
import { OutageLog } from '../lib/outage-log.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { AnswerLedger } from './redelivery-memory.js';
import type { Answer, Dispatcher, Request } from '../core/runner.js';
import { type Codec, DecodeError } from './codec/codec.js';
import type { Codecs } from './codec/codecs.js';
import type { Delivery } from './consumer.js';
import {
  answerEnvelope,
  type Envelope,
  NO_ENVELOPE,
  NotARequest,
  readEnvelope,
  withoutRequest,
} from './envelope.js';
import type { EncodedAnswer, PublishSurely, ReplyChannel } from './reply-channel.js';
import type { LiveConnection } from './connection-manager.js';
import { errorQueueOf } from './queues.js';

export interface IntakeOptions {
  queue: string;
  codecs: Codecs;
  dispatcher: Dispatcher;
  ledger: AnswerLedger<Finished>;
  /** The ways an answer can go; it takes every one that reaches the caller. */
  replies: readonly ReplyChannel[];
  publish: PublishSurely;
  maxMessageBytes: number;
  maxAnswerBytes: number;
  clock: Clock;
  logFor: (fields: Record<string, unknown>) => Logger;
}

/** What comes of a request that has been dealt with; of one that nobody waits for there is no answer. */
export type Finished = EncodedAnswer | 'nobody-to-answer';

/** The same answer as plain data, which is kept beside its bytes, takes about twice as much again. */
const KEPT_PER_BYTE = 3;
/** How long until a full queue is tried again. */
const FULL_RETRY_MS = 1_000;

/** A message that has been read as a request. */
interface Received {
  delivery: Delivery;
  codec: Codec;
  envelope: Envelope;
  id: string;
  /** Names this very message when it is delivered again; undefined: nothing in it does. */
  key: string | undefined;
  replies: readonly ReplyChannel[];
  log: Logger;
}

/**
 * What becomes of a delivered message, from its bytes to its acknowledgement. It is acknowledged when its answer is
 * confirmed, when it has been put back or aside, and never before: a worker that ends at any instant loses nothing.
 */
export class RequestIntake {
  readonly #options: IntakeOptions;
  readonly #stopped = new AbortController();
  readonly #log: Logger;
  readonly #full: OutageLog;
  #stuck = 0;
  /** What is under way, with the connection it came by. */
  readonly #held = new Map<Promise<void>, LiveConnection>();

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#log = options.logFor({});
    this.#full = new OutageLog(this.#log, options.clock, {
      began: 'queue full',
      ended: 'queue takes messages again',
    });
  }

  /** Whether messages are kept because the queue that they are to go to is full. */
  get isStuck(): boolean {
    return this.#stuck > 0;
  }

  /** How many messages are held unacknowledged. */
  get held(): number {
    return this.#held.size;
  }

  /** Takes a delivery; never throws. */
  take(delivery: Delivery): void {
    const work = this.#take(delivery)
      .catch(async (error: unknown) => {
        if (this.#stopped.signal.aborted) return;
        this.#log.error('a message could not be dealt with', { error });
        await this.#setAside(delivery, 'the service failed on it; its log says why');
      })
      // Not acknowledged: it will be delivered again, to this worker or to another.
      .catch((error: unknown) => this.#log.error('a message could not be put aside', { error }))
      .finally(() => this.#held.delete(work));
    this.#held.set(work, delivery.live);
  }

  /** Resolves when nothing is held any more; with a connection, nothing that came by it. */
  async settled(by?: LiveConnection): Promise<void> {
    for (;;) {
      const held = [...this.#held].filter(([, live]) => by === undefined || live === by);
      if (held.length === 0) return;
      await Promise.all(held.map(([work]) => work));
    }
  }

  /** Gives up on answers that still wait for a broker; their requests stay unacknowledged. */
  stop(): void {
    this.#stopped.abort(new Error('the service has stopped'));
  }

  async #take(delivery: Delivery): Promise<void> {
    let request: Received;
    try {
      request = this.#read(delivery);
    } catch (error) {
      if (!(error instanceof NotARequest) && !(error instanceof DecodeError)) throw error;
      await this.#refuse(delivery, error);
      return this.#setAside(delivery, error.message);
    }
    const outcome = await this.#outcome(request);
    if (outcome === 'not-begun') return this.#putBack(delivery);
    if (outcome !== 'nobody-to-answer') await this.#send(outcome, request, request.replies);
    delivery.acknowledge();
  }

  /** @throws NotARequest, DecodeError */
  #read(delivery: Delivery): Received {
    const { codecs, maxMessageBytes, logFor } = this.#options;
    const { content, properties } = delivery;
    if (content.length > maxMessageBytes) {
      throw new NotARequest(`${content.length} bytes, and MAX_MESSAGE_BYTES is ${maxMessageBytes}`);
    }
    if (!delivery.isReadable) throw new NotARequest('its headers cannot be read');
    const replyTo: unknown = properties.replyTo;
    if (this.#isOwnQueue(replyTo)) throw new NotARequest('its reply_to names our own queue');
    const codec = codecs.of(content, properties.contentType);
    const envelope = readEnvelope(codec.decode(content));
    const name = envelope.recordId ?? properties.messageId;
    const id = String(name ?? randomUUID()).slice(0, 128);
    return {
      delivery,
      codec,
      envelope,
      id,
      key: name === undefined ? undefined : keyOf(name, replyTo, content),
      replies: this.#repliesTo(envelope, delivery),
      log: logFor({ request: id }),
    };
  }

  #repliesTo(envelope: Envelope, delivery: Delivery): ReplyChannel[] {
    return this.#options.replies.filter((reply) => reply.reaches(envelope, delivery));
  }

  #isOwnQueue(replyTo: unknown): boolean {
    const { queue } = this.#options;
    return replyTo === queue || replyTo === errorQueueOf(queue);
  }

  /** Answers a message that is no request, where it names somebody to answer. */
  async #refuse(delivery: Delivery, reason: NotARequest | DecodeError): Promise<void> {
    const { content, properties } = delivery;
    if (this.#isOwnQueue(properties.replyTo)) return;
    const envelope = reason instanceof NotARequest ? reason.envelope : NO_ENVELOPE;
    const replies = this.#repliesTo(envelope, delivery);
    if (replies.length === 0) return;
    // The first bytes tell the encoding; what follows may be too much to look at.
    const codec = this.#options.codecs.ofAnswer(content.subarray(0, 1_024), properties.contentType);
    const request = { delivery, codec, envelope, log: this.#log };
    const answer: Answer = {
      status: 'error',
      body: { errors: [`The message is not a request: ${reason.message}`], code: 'invalid_request' },
    };
    await this.#send(this.#encode(request, answer)[1], request, replies);
  }

  async #send(
    answer: EncodedAnswer,
    request: Pick<Received, 'delivery' | 'envelope' | 'log'>,
    replies: readonly ReplyChannel[],
  ): Promise<void> {
    await Promise.all(replies.map((reply) => reply.send(answer, request, this.#stopped.signal)));
  }

  async #outcome(request: Received): Promise<Finished | 'not-begun'> {
    const { delivery, key, log } = request;
    let mayHaveBegun = delivery.redelivered;
    if (delivery.redelivered && key !== undefined) {
      const known = this.#options.ledger.recall(key);
      const finished =
        known.state === 'finished' || known.state === 'running' ? await known.answer : undefined;
      if (finished !== undefined) {
        log.info('request was delivered again; answered with what was found before');
        return finished;
      }
      mayHaveBegun = known.state === 'unknown';
    }
    const outcome = this.#dispatch(request, mayHaveBegun);
    if (key !== undefined) {
      const finished = outcome.then((each) => (each === 'not-begun' ? undefined : each));
      this.#options.ledger.track(key, finished, (each) =>
        typeof each === 'string' ? 0 : each.body.length * KEPT_PER_BYTE,
      );
    }
    return outcome;
  }

  async #dispatch(request: Received, mayHaveBegun: boolean): Promise<Finished | 'not-begun'> {
    const { delivery, envelope, id, replies } = request;
    let encoded: EncodedAnswer | undefined;
    const asked: Request = {
      id,
      action: envelope.action,
      etcdToken: envelope.etcdToken,
      parameters: envelope.parameters,
      unknownKeys: envelope.unknownKeys,
      timeoutMs: delivery.properties.headers?.['timeout-ms'],
      answerable: replies.length > 0,
      mayHaveBegun,
      origin: delivery.live,
      finish: (answer) => {
        if (replies.length === 0) return answer;
        const [sent, encoding] = this.#encode(request, answer);
        encoded = encoding;
        return sent;
      },
    };
    const outcome = await this.#options.dispatcher.dispatch(asked);
    if (outcome.kind === 'not-begun') return 'not-begun';
    return encoded ?? 'nobody-to-answer';
  }

  /** @returns the answer, or the one that takes its place when it cannot be sent, with its encoding */
  #encode(
    { codec, envelope, log }: Pick<Received, 'codec' | 'envelope' | 'log'>,
    answer: Answer,
  ): [Answer, EncodedAnswer] {
    const { maxAnswerBytes } = this.#options;
    const encode = (each: Answer, asked: Envelope): EncodedAnswer => {
      const plain = answerEnvelope(asked, each);
      return { body: codec.encode(plain), contentType: codec.contentType, envelope: plain };
    };
    // A request may be larger than an answer can be, and what came of a change is not to be lost for it.
    const encoded = (each: Answer): EncodedAnswer => {
      const whole = encode(each, envelope);
      return whole.body.length <= maxAnswerBytes ? whole : encode(each, withoutRequest(envelope));
    };
    const instead = (code: string, message: string): [Answer, EncodedAnswer] => {
      const failure: Answer = { status: 'error', body: { errors: [message], code } };
      return [failure, encoded(failure)];
    };
    try {
      const found = encoded(answer);
      if (found.body.length <= maxAnswerBytes) return [answer, found];
      return instead(
        'answer_too_large',
        `The answer has ${found.body.length} bytes, and at most ${maxAnswerBytes} are sent; ask for less`,
      );
    } catch (error) {
      log.error('the answer cannot be encoded', { error });
      return instead('internal', "The answer cannot be encoded; the service's log has the reason");
    }
  }

  /** Publishes the message anew, so that it does not come back marked as delivered before. */
  async #putBack(delivery: Delivery): Promise<void> {
    // What came by a lost connection is back in its queue already.
    if (delivery.live.lost.aborted) return;
    const { expiration } = delivery.properties;
    await this.#republish(delivery, this.#options.queue, { expiration });
  }

  async #setAside(delivery: Delivery, reason: string): Promise<void> {
    const queue = errorQueueOf(this.#options.queue);
    this.#log.warn(`a message that is no request was put into ${queue}`, { reason });
    await this.#republish(delivery, queue, { headers: { 'x-reason': reason } });
  }

  async #republish(delivery: Delivery, queue: string, more: Options.Publish): Promise<void> {
    const carried = carriedOver(delivery.properties);
    const headers = { ...carried.headers, ...more.headers };
    const options = { ...carried, ...more, headers, persistent: true };
    const within = { signal: this.#stopped.signal, by: delivery.live };
    const publish = async () =>
      this.#options.publish({ exchange: '', routingKey: queue }, delivery.content, options, within);
    let outcome = await publish();
    if (outcome === 'refused') {
      this.#stuck++;
      this.#full.failed({ queue });
      try {
        while (outcome === 'refused') {
          await this.#options.clock.sleep(FULL_RETRY_MS, within);
          // Back in its queue already: what is delivered anew is dealt with anew.
          if (delivery.live.lost.aborted) return;
          outcome = await publish();
        }
      } finally {
        if (--this.#stuck === 0) this.#full.works();
      }
    }
    // Everything is rebuilt then, the queue too, and the message comes again.
    if (outcome === 'unroutable') return delivery.live.lose(new Error(`the queue ${queue} is gone`));
    delivery.acknowledge();
  }
}

/** The longest short string of AMQP 0-9-1, in bytes. */
const SHORT_STRING_BYTES = 255;
/** amqplib encodes the properties of a message into 64 KiB. */
const HEADER_BYTES = 48 * 1024;

/**
 * What a message keeps when it is published anew: all that amqplib can encode again. Not `user_id`, which the broker takes
 * only from its own user, and not the headers CC and BCC, by which RabbitMQ would send copies to other queues once more.
 */
function carriedOver(properties: MessageProperties): Options.Publish {
  const {
    timestamp,
    priority,
    contentType,
    contentEncoding,
    correlationId,
    replyTo,
    messageId,
    type,
    appId,
  } = properties;
  const texts = { contentType, contentEncoding, correlationId, replyTo, messageId, type, appId };
  return {
    ...Object.fromEntries(Object.entries(texts).filter(([, value]) => isShortString(value))),
    ...(Number.isSafeInteger(timestamp) && { timestamp }),
    priority,
    headers: headersToKeep(properties.headers ?? {}),
  };
}

function headersToKeep(headers: Record<string, unknown>): Record<string, unknown> {
  let bytes = 0;
  // The deadline first, should there be too many others.
  const inOrder = Object.entries(headers).toSorted(
    ([a], [b]) => Number(b === 'timeout-ms') - Number(a === 'timeout-ms'),
  );
  const kept = inOrder.filter(([name, value]) => {
    if (/^b?cc$/i.test(name) || !isShortString(name)) return false;
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') return false;
    bytes += Buffer.byteLength(name) + (typeof value === 'string' ? Buffer.byteLength(value) : 8) + 8;
    return bytes <= HEADER_BYTES;
  });
  return Object.fromEntries(kept);
}

function isShortString(value: unknown): boolean {
  return typeof value === 'string' && Buffer.byteLength(value) <= SHORT_STRING_BYTES;
}

function keyOf(name: unknown, replyTo: unknown, body: Buffer): string {
  return JSON.stringify([String(name), replyTo ?? null, hash('sha256', body, 'base64')]);
}
