import { hash, randomUUID } from 'node:crypto';
import { ANONYMOUS, type Caller } from '../api/caller.js';
import type { Call, Reply } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import type { Runner } from '../core/runner.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { BrokerConnection } from './broker-connection.js';
import { type Codec, DecodeError } from './codec/codec.js';
import type { Codecs } from './codec/codecs.js';
import type { Delivery } from './consumer.js';
import { type Envelope, InvalidMessage, NO_ENVELOPE, readEnvelope } from './envelope.js';
import type { PublishConfirmed } from './publisher.js';
import { errorQueueOf } from './queues.js';
import { RedeliveryMemory } from './redelivery-memory.js';
import type { Answerable, OutgoingReply, ReplyChannel, SendOutcome } from './reply-channel.js';
import { ReplyEncoder } from './reply-encoder.js';
import { Republisher } from './republisher.js';

export interface RpcHandlerOptions {
  queue: string;
  codecs: Codecs;
  runner: Pick<Runner, 'run'>;
  events: CallEventBus;
  /** The reply channels; a reply is sent by every channel that reaches its caller. */
  channels: readonly ReplyChannel[];
  publish: PublishConfirmed;
  /** The largest request that is read, and the largest reply that is sent. */
  maxMessageBytes: number;
  maxReplyBytes: number;
  clock: Clock;
  /** Gives a log that adds these fields to every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
}

/** A decoded request. */
interface Request extends Answerable {
  codec: Codec;
  id: string;
  /** Identifies this message when it is delivered again; undefined: it has no id. */
  key: string | undefined;
  channels: readonly ReplyChannel[];
}

/** What a request came to. */
interface Outcome {
  /** `none` when the caller does not wait for a reply. */
  outgoing: OutgoingReply | 'none';
  /** The call of this delivery, for the event `answered`; undefined when the reply was remembered. */
  settled: { call: Call; reply: Reply } | undefined;
}

/** A reply as plain data takes about twice as much memory as its bytes. */
const PLAIN_REPLY_FACTOR = 2;
/** Enough bytes of a message to recognise its encoding. */
const ENCODING_BYTES = 1_024;
const NO_CONTEXT: Call['context'] = Object.freeze({});

/**
 * Handles a delivered message from its bytes to its acknowledgement. It is acknowledged when its reply is confirmed, or when
 * it is requeued or dead-lettered, and never before: a worker that ends at any instant loses nothing.
 */
export class RpcHandler {
  readonly #options: RpcHandlerOptions;
  readonly #log: Logger;
  readonly #stopped = new AbortController();
  readonly #memory: RedeliveryMemory<OutgoingReply | 'none'>;
  readonly #encoder: ReplyEncoder;
  readonly #republisher: Republisher;
  /** The work in progress, with the connection of its message. */
  readonly #held = new Map<Promise<void>, BrokerConnection>();

  constructor(options: RpcHandlerOptions) {
    const { queue, publish, clock, logFor, maxReplyBytes } = options;
    this.#options = options;
    this.#log = logFor({});
    this.#memory = new RedeliveryMemory(clock);
    this.#encoder = new ReplyEncoder(maxReplyBytes);
    this.#republisher = new Republisher({
      queue,
      publish,
      stopped: this.#stopped.signal,
      clock,
      log: this.#log,
    });
  }

  /** Whether messages wait because their queue is full. */
  get isBlocked(): boolean {
    return this.#republisher.isBlocked;
  }

  /** How many messages are held unacknowledged. */
  get held(): number {
    return this.#held.size;
  }

  /** Handles a delivery in the background; never throws. */
  take(delivery: Delivery): void {
    const work = this.#handle(delivery)
      .catch(async (error: unknown) => {
        if (this.#stopped.signal.aborted) return;
        this.#log.error('message handling failed', { error });
        await this.#deadLetter(delivery, 'the service failed on it; its log says why');
      })
      // Not acknowledged: it is delivered again, to this worker or to another.
      .catch((error: unknown) => this.#log.error('message dead-lettering failed', { error }))
      .finally(() => this.#held.delete(work));
    this.#held.set(work, delivery.connection);
  }

  /** Resolves when no message is held any more; with a connection, no message of that connection. */
  async idle(by?: BrokerConnection): Promise<void> {
    for (;;) {
      const held = [...this.#held].filter(([, connection]) => by === undefined || connection === by);
      if (held.length === 0) return;
      await Promise.all(held.map(([work]) => work));
    }
  }

  /** Stops sending replies that wait for a broker; their requests stay unacknowledged. */
  stop(): void {
    this.#stopped.abort(new Error('the service has stopped'));
  }

  async #handle(delivery: Delivery): Promise<void> {
    let request: Request;
    try {
      request = this.#read(delivery);
    } catch (error) {
      if (!(error instanceof InvalidMessage) && !(error instanceof DecodeError)) throw error;
      await this.#refuse(delivery, error);
      return this.#deadLetter(delivery, error.message);
    }
    const outcome = await this.#outcome(request);
    if (outcome === 'released') return this.#republisher.requeue(delivery);
    await this.#answer(request, outcome);
    delivery.acknowledge();
  }

  /** @throws InvalidMessage, DecodeError */
  #read(delivery: Delivery): Request {
    const { codecs, maxMessageBytes, logFor } = this.#options;
    const { content, properties } = delivery;
    if (content.length > maxMessageBytes)
      throw new InvalidMessage(`${content.length} bytes, and MAX_MESSAGE_BYTES is ${maxMessageBytes}`);
    if (!delivery.isReadable) throw new InvalidMessage('its headers cannot be read');
    const replyTo: unknown = properties.replyTo;
    if (this.#isOwnQueue(replyTo)) throw new InvalidMessage('its reply_to names our own queue');
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
      channels: this.#channelsTo(envelope, delivery),
      log: logFor({ request: id }),
    };
  }

  #channelsTo(envelope: Envelope, delivery: Delivery): ReplyChannel[] {
    return this.#options.channels.filter((channel) => channel.reaches(envelope, delivery));
  }

  #isOwnQueue(replyTo: unknown): boolean {
    const { queue } = this.#options;
    return replyTo === queue || replyTo === errorQueueOf(queue);
  }

  /** The remembered reply of a repeated delivery, or that of a run. */
  async #outcome(request: Request): Promise<Outcome | 'released'> {
    const { delivery, key, log } = request;
    let mayHaveBegun = delivery.redelivered;
    if (delivery.redelivered && key !== undefined) {
      const known = this.#memory.recall(key);
      const remembered =
        known.state === 'settled' || known.state === 'running' ? await known.reply : undefined;
      if (remembered !== undefined) {
        log.info('request delivered again: sending its remembered reply');
        return { outgoing: remembered, settled: undefined };
      }
      mayHaveBegun = known.state === 'unknown';
    }
    const outcome = this.#run(request, callOf(request, mayHaveBegun));
    if (key !== undefined) {
      const reply = outcome.then((each) => (each === 'released' ? undefined : each.outgoing));
      this.#memory.track(key, reply, sizeOf);
    }
    return outcome;
  }

  async #run(request: Request, call: Call): Promise<Outcome | 'released'> {
    const settled = await this.#options.runner.run(call);
    if (settled.status === 'released') return 'released';
    const { codec, channels } = request;
    if (channels.length === 0) return { outgoing: 'none', settled: { call, reply: settled } };
    const { reply, body } = this.#encoder.encode(settled, request);
    const plain = channels.some((each) => each.needsPlainReply) ? reply : undefined;
    return { outgoing: { body, contentType: codec.contentType, plain }, settled: { call, reply } };
  }

  async #answer(request: Request, { outgoing, settled }: Outcome): Promise<void> {
    const { events, clock } = this.#options;
    let outcomes: SendOutcome[] = [];
    try {
      if (outgoing !== 'none') outcomes = await this.#send(outgoing, request, request.channels);
    } catch (error) {
      if (settled !== undefined) events.emit('unanswered', { call: settled.call, at: clock.now() });
      throw error;
    }
    if (settled === undefined) return;
    const replacement = outcomes.find((each) => typeof each === 'object');
    events.emit('answered', {
      call: settled.call,
      reply: replacement ?? settled.reply,
      dropped: outcomes.every((each) => each === 'dropped'),
      at: clock.now(),
    });
  }

  async #send(
    reply: OutgoingReply,
    request: Answerable,
    channels: readonly ReplyChannel[],
  ): Promise<SendOutcome[]> {
    return Promise.all(channels.map(async (each) => each.send(reply, request, this.#stopped.signal)));
  }

  /** Replies to an invalid message, when it names a way to reply. */
  async #refuse(delivery: Delivery, reason: InvalidMessage | DecodeError): Promise<void> {
    const { content, properties } = delivery;
    if (this.#isOwnQueue(properties.replyTo)) return;
    const envelope = reason instanceof InvalidMessage ? reason.envelope : NO_ENVELOPE;
    const channels = this.#channelsTo(envelope, delivery);
    if (channels.length === 0) return;
    // The rest may be too large to look at.
    const codec = this.#options.codecs.ofReply(content.subarray(0, ENCODING_BYTES), properties.contentType);
    const request = { delivery, codec, envelope, log: this.#log };
    const { reply, body } = this.#encoder.encode(
      {
        status: 'error',
        body: { errors: [`The message is not a request: ${reason.message}`], code: 'invalid_request' },
      },
      request,
    );
    await this.#send({ body, contentType: codec.contentType, plain: reply }, request, channels);
  }

  async #deadLetter(delivery: Delivery, reason: string): Promise<void> {
    const { events, clock } = this.#options;
    events.emit('deadLettered', { reason, at: clock.now() });
    await this.#republisher.deadLetter(delivery, reason);
  }
}

function callOf({ id, envelope, delivery, channels }: Request, mayHaveBegun: boolean): Call {
  const { headers = {}, userId } = delivery.properties;
  return {
    id,
    action: envelope.action,
    target: envelope.etcdToken,
    parameters: envelope.parameters,
    timeoutMs: headers['timeout-ms'],
    malformed: envelope.problem,
    caller: callerOf(userId),
    context: contextOf(headers),
    delivery: mayHaveBegun ? 'repeated' : 'first',
    wantsReply: channels.length > 0,
    wantsParts: false,
    signal: delivery.connection.lost,
  };
}

function callerOf(userId: unknown): Caller {
  return typeof userId === 'string' && userId !== '' ? { name: userId, verifiedBy: 'broker' } : ANONYMOUS;
}

/** The caller's trace context (W3C Trace Context). */
function contextOf({ traceparent, tracestate }: Record<string, unknown>): Call['context'] {
  if (typeof traceparent !== 'string') return NO_CONTEXT;
  return typeof tracestate === 'string' ? { traceparent, tracestate } : { traceparent };
}

function sizeOf(reply: OutgoingReply | 'none'): number {
  if (reply === 'none') return 0;
  return reply.body.length * (reply.plain === undefined ? 1 : 1 + PLAIN_REPLY_FACTOR);
}

function keyOf(name: unknown, replyTo: unknown, body: Buffer): string {
  return JSON.stringify([String(name), replyTo ?? null, hash('sha256', body, 'base64')]);
}
