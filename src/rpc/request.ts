import { hash, randomUUID } from 'node:crypto';
import type { Caller } from '../api/caller.js';
import type { Call, FieldProblem } from '../core/call.js';
import { callerTimeout } from '../core/caller-timeout.js';
import { IDEMPOTENCY_KEY, namedChange, readIdempotencyKey, type SentKey } from '../core/idempotency-key.js';
import { isRequestId, REQUEST_ID } from '../core/request-id.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { traceHeadersIn, tracePointOf } from '../lib/trace-context.js';
import type { Codec } from './codec/codec.js';
import type { Codecs } from './codec/codecs.js';
import type { Delivery } from './consumer.js';
import { type Envelope, InvalidMessage, readEnvelope } from './envelope.js';
import { auditStreamOf, queuesOf } from './queues.js';
import type { ReplyChannel, ReplyContext } from './reply-channel.js';
import { callerOf } from './sender.js';
import { replaysOf, timeLeft } from './suspect.js';

/** A decoded and valid request message. */
export interface Request extends ReplyContext {
  /** As the log shows it. */
  id: string;
  /** When it was delivered, in the clock's milliseconds. */
  arrivedAt: number;
  /** The caller's time limit as sent, in milliseconds. */
  timeoutMs: unknown;
  /** How much of its time had passed when it was delivered, in milliseconds. */
  waitedMs: number;
  /** Identifies this message when it is delivered again to any worker; undefined when it has no id. */
  key: string | undefined;
  /** The queue of the service. */
  queue: string;
  /** What the caller has sent as its idempotency key; undefined: nothing. */
  idempotencyKey: SentKey | undefined;
  channels: readonly ReplyChannel[];
  /** Whether it takes long to decode it, and to encode its copy in the reply. */
  isLarge: boolean;
}

export interface RequestReaderOptions {
  queue: string;
  codecs: Codecs;
  channels: readonly ReplyChannel[];
  /** The maximum size of a request, also when it is inflated. */
  maxMessageBytes: number;
  clock: Clock;
  logFor: (fields: Record<string, unknown>) => Logger;
}

/** A larger message is decoded, and its reply encoded, in a turn of the event loop of its own. */
const LARGE_BYTES = 64 * 1024;
const SMALL_BYTES = 4 * 1024;

/** Reads the requests in deliveries. */
export class RequestReader {
  readonly #options: RequestReaderOptions;

  constructor(options: RequestReaderOptions) {
    this.#options = options;
  }

  /**
   * The codec of a message that may be decoded as far as its size and properties tell.
   * @throws InvalidMessage, DecodeError
   */
  codecOf({ content, properties }: Pick<Delivery, 'content' | 'properties'>): Codec {
    const { codecs, maxMessageBytes } = this.#options;
    const limit = `MAX_MESSAGE_BYTES is ${maxMessageBytes}`;
    if (content.length > maxMessageBytes)
      throw new InvalidMessage(`it has ${content.length} bytes, and ${limit}`);
    if (this.isOwnQueue(properties.replyTo))
      throw new InvalidMessage('its reply_to names a queue of this service');
    const codec = codecs.of(content, properties.contentType);
    const plainBytes = codec.plainSize(content);
    if (plainBytes > maxMessageBytes)
      throw new InvalidMessage(`it has ${plainBytes} bytes when it is decompressed, and ${limit}`);
    return codec;
  }

  /** @throws InvalidMessage, DecodeError */
  read(delivery: Delivery, codec: Codec, arrivedAt: number): Request {
    const { content, properties } = delivery;
    const { headers = {} } = properties as { headers?: Record<string, unknown> };
    const envelope = readEnvelope(codec.decode(content));
    // After its envelope, which may name the record in which its caller waits for a reply.
    if (!delivery.isReadable) throw new InvalidMessage('its headers cannot be read', envelope);
    // Some client libraries send an empty id when they are given none.
    const name = envelope.recordId ?? (properties.messageId === '' ? undefined : properties.messageId);
    const given: unknown = headers[REQUEST_ID];
    // A name for the log alone: what is done once only, is known by its message id.
    const named = envelope.recordId === undefined && isRequestId(given) ? given : name;
    const id = String(named ?? randomUUID()).slice(0, 128);
    const timeoutMs = headers['timeout-ms'];
    const limitMs = callerTimeout(timeoutMs) ?? 0;
    const leftMs = delivery.mayHaveBegun
      ? Math.min(timeLeft(delivery, this.#options.clock), limitMs)
      : limitMs;
    const { queue, logFor } = this.#options;
    const read = {
      delivery,
      arrivedAt,
      timeoutMs,
      codec,
      envelope,
      id,
      key: name === undefined ? undefined : keyOf(queue, String(name), delivery),
      queue,
      idempotencyKey: sentKeyIn(headers),
      leftMs,
      limitMs,
      channels: this.channelsTo(envelope, delivery),
    };
    return new ReadRequest(read, logFor);
  }

  /** The channels that reach the caller of this request. */
  channelsTo(envelope: Envelope, delivery: Delivery): ReplyChannel[] {
    return this.#options.channels.filter((channel) => channel.reaches(envelope, delivery));
  }

  /** Whether a reply to this address would come back as a request. */
  isOwnQueue(replyTo: unknown): boolean {
    const { queue } = this.#options;
    return replyTo === auditStreamOf(queue) || queuesOf(queue).some((own) => replyTo === own);
  }
}

interface Read
  extends Pick<
    Request,
    | 'delivery'
    | 'arrivedAt'
    | 'timeoutMs'
    | 'codec'
    | 'envelope'
    | 'id'
    | 'key'
    | 'queue'
    | 'idempotencyKey'
    | 'channels'
  > {
  /** The time limit, and what is left of it, in milliseconds. */
  limitMs: number;
  leftMs: number;
}

/** Makes its log only when it is read, which few requests need. */
class ReadRequest implements Request {
  readonly #logFor: RequestReaderOptions['logFor'];
  #log: Logger | undefined;
  readonly delivery: Delivery;
  readonly arrivedAt: number;
  readonly timeoutMs: unknown;
  readonly codec: Codec;
  readonly envelope: Envelope;
  readonly id: string;
  readonly until: number;
  readonly waitedMs: number;
  readonly key: string | undefined;
  readonly queue: string;
  readonly idempotencyKey: SentKey | undefined;
  readonly channels: readonly ReplyChannel[];
  readonly isLarge: boolean;

  constructor(read: Read, logFor: RequestReaderOptions['logFor']) {
    const { delivery, arrivedAt, codec, leftMs } = read;
    this.#logFor = logFor;
    this.delivery = delivery;
    this.arrivedAt = arrivedAt;
    this.timeoutMs = read.timeoutMs;
    this.codec = codec;
    this.envelope = read.envelope;
    this.id = read.id;
    this.until = arrivedAt + leftMs;
    this.waitedMs = read.limitMs - leftMs;
    this.key = read.key;
    this.queue = read.queue;
    this.idempotencyKey = read.idempotencyKey;
    this.channels = read.channels;
    this.isLarge = isLarge(codec, delivery.content);
  }

  get log(): Logger {
    this.#log ??= this.#logFor(this.#fields());
    return this.#log;
  }

  #fields(): Record<string, unknown> {
    const { headers = {} } = this.delivery.properties;
    const trace = tracePointOf(headers.traceparent);
    return trace === undefined ? { request: this.id } : { request: this.id, trace_id: trace.traceId };
  }
}

/** In any case of letters, as over HTTP: a key that is overlooked would be a change that is made twice. */
function sentKeyIn(headers: Record<string, unknown>): SentKey | undefined {
  let sent = headers[IDEMPOTENCY_KEY];
  if (sent === undefined)
    for (const name of Object.keys(headers))
      if (name.length === IDEMPOTENCY_KEY.length && name.toLowerCase() === IDEMPOTENCY_KEY)
        sent = headers[name];
  return sent === undefined || sent === null ? undefined : readIdempotencyKey(sent);
}

function keyOf(queue: string, name: string, { sender, content, properties: { replyTo } }: Delivery): string {
  const parts = `${lengthened(queue)}${lengthened(sender.name)}${lengthened(name)}${lengthened(replyTo)}`;
  // One hash of everything is faster, unless all of a large body is copied for it.
  const body =
    content.length <= SMALL_BYTES
      ? `=${content.toString('latin1')}`
      : `#${hash('sha256', content, 'base64')}`;
  return hash('sha256', parts + body, 'base64url');
}

/** With its length, so that different texts do not become the same one when they are put together. */
function lengthened(text: unknown): string {
  return typeof text === 'string' ? `${text.length}:${text}` : '-';
}

/** Whether it takes long to decode a message. */
export function isLarge(codec: Codec, content: Buffer): boolean {
  return codec.plainSize(content) > LARGE_BYTES;
}

function problemOf({ problem: message }: { problem: string }): FieldProblem {
  return { field: IDEMPOTENCY_KEY, message };
}

/** The call that a request asks for. */
export function callOf(
  { id, key, queue, idempotencyKey: sent, codec, envelope, delivery, channels, timeoutMs }: Request,
  {
    mayHaveBegun,
    mustRunAlone,
    waitedMs,
    vouchedFor,
  }: { mayHaveBegun: boolean; mustRunAlone: boolean; waitedMs: number; vouchedFor: Caller | undefined },
): Call {
  const { headers = {}, priority } = delivery.properties;
  const { sender } = delivery;
  // Who is named by the broker or the gateway is named more exactly than by a reply channel.
  const caller = sender.verifiedBy === undefined && vouchedFor !== undefined ? vouchedFor : callerOf(sender);
  return {
    id,
    key,
    idempotencyKey: sent !== undefined && 'key' in sent ? namedChange(queue, caller, sent.key) : undefined,
    action: envelope.action,
    target: envelope.etcdToken,
    parameters: envelope.parameters,
    timeoutMs,
    priority: typeof priority === 'number' ? priority : undefined,
    waitedMs,
    malformed: envelope.problem ?? (sent !== undefined && 'problem' in sent ? problemOf(sent) : undefined),
    caller,
    door: sender.door ?? (channels.some((channel) => channel.check !== undefined) ? 'manager' : 'amqp'),
    encoding: codec.name,
    attempt: delivery.attempt,
    replays: replaysOf(headers),
    context: traceHeadersIn(headers),
    // Set later, but a property from the start: an object that gets one later costs more.
    traceId: undefined,
    delivery: mayHaveBegun ? 'repeated' : 'first',
    mayBeCopy: delivery.mayBeCopy,
    mustRunAlone,
    wantsReply: channels.length > 0,
    wantsParts: false,
    signal: delivery.connection.lost,
  };
}
