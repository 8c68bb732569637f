import { setMaxListeners } from 'node:events';
import type { Call, Reply } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import type { Runner } from '../core/runner.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { linkSignals } from '../lib/linked-signal.js';
import { whenAborted } from '../lib/when-aborted.js';
import type { BrokerConnection } from './broker-connection.js';
import { type Codec, DecodeError } from './codec/codec.js';
import type { Codecs } from './codec/codecs.js';
import type { Delivery } from './consumer.js';
import { memoryOf, memoryToDecode } from '../lib/decoded-memory.js';
import { InvalidMessage, NO_ENVELOPE } from './envelope.js';
import { MemoryBudget, type Share } from './memory-budget.js';
import type { PublishConfirmed } from './publisher.js';
import { RedeliveryMemory } from './redelivery-memory.js';
import type { ReplyContext, OutgoingReply, ReplyChannel, SendOutcome } from './reply-channel.js';
import { ReplyEncoder } from './reply-encoder.js';
import { ReplyRoom } from './reply-room.js';
import { callOf, isLarge, type Request, RequestReader } from './request.js';
import { checkRequest } from './request-check.js';
import { Republisher } from './republisher.js';

export interface RpcHandlerOptions {
  queue: string;
  codecs: Codecs;
  runner: Pick<Runner, 'run' | 'pause' | 'resume'>;
  events: CallEventBus;
  /** The reply channels; a reply is sent by every one that reaches its caller. */
  channels: readonly ReplyChannel[];
  publish: PublishConfirmed;
  /** The maximum size of a request, also when it is inflated. */
  maxMessageBytes: number;
  /** The maximum memory of all messages in progress and of the remembered replies, in bytes. */
  memoryBudgetBytes: number;
  /** The maximum size of a reply. */
  maxReplyBytes: number;
  clock: Clock;
  /** Creates a log with these fields in every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
}

/** How a request is answered. */
interface Answer {
  /** `none` when the caller does not wait for a reply. */
  outgoing: OutgoingReply | 'none';
  /** Why its message goes to the error queue, for people; undefined: it does not. */
  deadLetter: string | undefined;
}

/** The outcome of a call. */
interface Outcome extends Answer {
  /** The call that ran for this delivery, for the event `answered`; undefined when the reply was remembered. */
  settled: { call: Call; reply: Reply } | undefined;
}

/** The request must not run; `channels` reach its caller all the same. */
interface Refused {
  refused: string;
  channels: readonly ReplyChannel[];
}

/** A message is passed on to any worker. */
interface PassedOn {
  /** `released`: it has not begun here. `suspect`: a worker that may have begun it was lost. `alone`: the process ended that it shared here. */
  passedOn: 'released' | 'suspect' | 'alone';
  /** What whoever gets it must know too. */
  mustRunAlone: boolean;
}

/** A message in progress. */
interface Held {
  readonly connection: BrokerConnection;
  /** Settles when it is not in progress any more. */
  work: Promise<void> | undefined;
}

/** An answer as it is remembered. */
interface Remembered {
  /** Without its body. */
  outgoing: OutgoingReply | 'none';
  /** A small buffer is a part of a larger one, which it would keep in memory: then its bytes as Latin-1 text. */
  body: Buffer | string;
  deadLetter: string | undefined;
}

type Handled = Outcome | Refused | PassedOn;

/** What earlier deliveries of a request came to, as far as is known. */
interface History {
  /** Whether another worker may have begun it. */
  mayHaveBegun: boolean;
  /** Whether a process has ended that it shared. */
  mustRunAlone: boolean;
}

/** A reply as plain data takes about twice the memory of its encoded form. */
const PLAIN_REPLY_FACTOR = 2;
/** The share of the memory budget that remembered replies may take; they give way to messages. */
const REMEMBERED_SHARE = 0.25;
/**
 * A message from the queue of suspects is given up after this many lost workers. Far more than a request loses connections in its time:
 * plugins run in other processes, so a request rarely causes a loss.
 */
const MAX_LOST_WORKERS = 100;
/** A message that came back to a quorum queue this often is published anew, which the broker counts from 0. */
const MAX_RETURNS = 2;
const NO_BODY = Buffer.alloc(0);
/** How much of an invalid message is read to detect its encoding. */
const ENCODING_BYTES = 1_024;

/**
 * Handles a delivered message until it is acknowledged. A message is acknowledged only after its reply is confirmed, or
 * after it has been requeued or dead-lettered. So no message is lost when a worker crashes.
 */
export class RpcHandler {
  readonly #options: RpcHandlerOptions;
  readonly #reader: RequestReader;
  readonly #log: Logger;
  readonly #stopped = new AbortController();
  readonly #draining = new AbortController();
  readonly #memory: RedeliveryMemory<Remembered>;
  readonly #budget: MemoryBudget;
  readonly #replyRoom: ReplyRoom;
  readonly #encoder: ReplyEncoder;
  readonly #republisher: Republisher;
  /** The messages in progress. */
  readonly #held = new Set<Held>();
  #lastTurn: Promise<void> = Promise.resolve();

  constructor(options: RpcHandlerOptions) {
    const { queue, publish, runner, clock, logFor, maxReplyBytes, memoryBudgetBytes: limit } = options;
    this.#options = options;
    this.#reader = new RequestReader(options);
    // Node warns of a leak at the eleventh listener, but any number of messages may wait.
    setMaxListeners(0, this.#stopped.signal);
    this.#log = logFor({});
    this.#memory = new RedeliveryMemory(clock, { maxBytes: limit * REMEMBERED_SHARE });
    this.#budget = new MemoryBudget({ limit, reclaimable: this.#memory, clock, log: this.#log });
    this.#replyRoom = new ReplyRoom({ limit, runner, clock, log: this.#log });
    this.#encoder = new ReplyEncoder(maxReplyBytes);
    this.#republisher = new Republisher({
      queue,
      publish,
      stopped: this.#stopped.signal,
      clock,
      log: this.#log,
    });
  }

  /** Whether messages wait because their target queue is full. */
  get isBlocked(): boolean {
    return this.#republisher.isBlocked;
  }

  /** The number of unacknowledged messages. */
  get held(): number {
    return this.#held.size;
  }

  /** The bytes of the memory budget that are free; negative when it is exceeded. Remembered replies can give way. */
  get freeMemory(): number {
    return this.#budget.free;
  }

  /** Starts to handle a delivery; never throws. */
  receive(delivery: Delivery): void {
    const held: Held = { connection: delivery.connection, work: undefined };
    this.#held.add(held);
    held.work = this.#receive(delivery, held);
  }

  /** Never rejects. */
  async #receive(delivery: Delivery, held: Held): Promise<void> {
    const memory = this.#budget.take(delivery.content.length);
    try {
      await this.#handle(delivery, memory);
    } catch (error) {
      if (!this.#stopped.signal.aborted) await this.#giveUp(delivery, error);
    } finally {
      this.#budget.release(memory);
      this.#held.delete(held);
    }
  }

  /** Never rejects. */
  async #giveUp(delivery: Delivery, error: unknown): Promise<void> {
    try {
      this.#log.error('message handling failed', { error });
      await this.#deadLetter(delivery, "the service failed to handle it; the service's log has the reason");
    } catch (problem) {
      this.#log.error('message dead-lettering failed', { error: problem });
      // It stays unacknowledged, and so counts as held, until the broker delivers it again.
      await whenAborted(delivery.connection.lost);
    }
  }

  /** Resolves when no message is in progress, or none of this connection. */
  async idle(by?: BrokerConnection): Promise<void> {
    for (;;) {
      const held = [...this.#held].filter(({ connection }) => by === undefined || connection === by);
      if (held.length === 0) return;
      await Promise.all(held.map(async ({ work }) => work));
    }
  }

  /** Requeues the messages that wait for memory or for the check of a reply channel, also those that arrive later. */
  drain(): void {
    this.#draining.abort(new Error('the service is shutting down'));
  }

  /** Stops sending replies; requests whose replies are not confirmed stay unacknowledged. */
  stop(): void {
    this.#stopped.abort(new Error('the service has stopped'));
  }

  async #handle(delivery: Delivery, memory: Share): Promise<void> {
    const arrivedAt = this.#options.clock.now();
    const { length } = delivery.content;
    let request: Request;
    try {
      const codec = this.#reader.codecOf(delivery);
      const mayDecode =
        this.#mayDecodeNow(delivery, codec, memory) || (await this.#mayDecode(delivery, codec, memory));
      if (!mayDecode)
        return void (await this.#release(delivery, arrivedAt, {
          mayHaveBegun: delivery.mayHaveBegun,
          mustRunAlone: mustRunAlone(delivery),
        }));
      request = this.#reader.read(delivery, codec, arrivedAt);
    } catch (error) {
      if (!(error instanceof InvalidMessage) && !(error instanceof DecodeError)) throw error;
      this.#budget.giveRoomBack(memory, length);
      await this.#refuse(delivery, error);
      return this.#deadLetter(delivery, error.message);
    }
    const { id, queueName, requestBody } = request.envelope;
    this.#budget.resize(memory, length + memoryOf([id, queueName, requestBody]));
    const outcome = await this.#outcome(request);
    if ('passedOn' in outcome) {
      const isGone = await this.#passOn(request, outcome);
      // Whoever takes it now may begin it.
      if (isGone && request.key !== undefined) this.#memory.forget(request.key);
      return;
    }
    if ('refused' in outcome) {
      await this.#sendRefusal(outcome.refused, request, outcome.channels);
      return this.#deadLetter(delivery, outcome.refused);
    }
    const replyBytes = sizeOf(outcome.outgoing);
    this.#budget.resize(memory, memory.bytes + replyBytes);
    await this.#replyRoom.during(replyBytes, () => this.#answer(request, outcome));
    if (outcome.deadLetter === undefined) delivery.acknowledge();
    else await this.#deadLetter(delivery, outcome.deadLetter);
  }

  /** @returns whether it was published again, and acknowledged */
  async #passOn(
    { delivery, arrivedAt, log }: Request,
    { passedOn, mustRunAlone: alone }: PassedOn,
  ): Promise<boolean> {
    if (passedOn === 'released')
      return this.#release(delivery, arrivedAt, { mayHaveBegun: false, mustRunAlone: alone });
    const lostWorkers = lostWorkersIn(delivery, passedOn === 'suspect');
    log.info('request moved to the queue of suspects', {
      lost_workers: lostWorkers,
      alone: passedOn === 'alone',
    });
    return this.#republisher.moveToSuspects(delivery, { lostWorkers, mustRunAlone: alone });
  }

  /**
   * Gives a message that has not begun here to any worker, which must know whether another one may have begun it.
   * @returns whether it was published again, and acknowledged
   */
  async #release(
    delivery: Delivery,
    arrivedAt: number,
    { mayHaveBegun, mustRunAlone: alone }: History,
  ): Promise<boolean> {
    if (delivery.suspect !== undefined || alone)
      return this.#republisher.moveToSuspects(delivery, {
        lostWorkers: lostWorkersIn(delivery, mayHaveBegun),
        mustRunAlone: alone,
      });
    if (mayHaveBegun) {
      delivery.giveBack();
      return false;
    }
    return this.#republisher.requeue(delivery, arrivedAt);
  }

  /** @returns false when it may have to wait, which `mayDecode` does */
  #mayDecodeNow({ content }: Delivery, codec: Codec, memory: Share): boolean {
    return !isLarge(codec, content) && this.#budget.tryGrow(memory, memoryToDecode(codec.plainSize(content)));
  }

  /** Waits until there is memory to decode the message. @returns false when it must be requeued instead */
  async #mayDecode({ content, connection }: Delivery, codec: Codec, memory: Share): Promise<boolean> {
    const needed = memoryToDecode(codec.plainSize(content));
    if (!this.#budget.tryGrow(memory, needed)) {
      const { signal, unlink } = linkSignals(connection.lost, this.#draining.signal);
      try {
        await this.#budget.grow(memory, needed, signal);
      } catch (error) {
        if (signal.aborted) return false;
        throw error;
      } finally {
        unlink();
      }
    }
    if (isLarge(codec, content)) await this.#ownTurn();
    return true;
  }

  /** Waits for a turn of the event loop that no other large message uses, so that timers and sockets get theirs. */
  async #ownTurn(): Promise<void> {
    this.#lastTurn = this.#lastTurn.then(async () => new Promise((resolve) => setImmediate(resolve)));
    return this.#lastTurn;
  }

  /** The remembered reply of a request that was delivered before, or else the outcome of a run. */
  async #outcome(request: Request): Promise<Handled> {
    const { delivery, key } = request;
    let { mayHaveBegun } = delivery;
    let alone = mustRunAlone(delivery);
    let isKnown = false;
    if (delivery.mayBeCopy && key !== undefined) {
      let known = this.#memory.recall(key);
      // Again after each wait: of several messages that wait for the same one, only the first may run.
      while (known.state === 'running') {
        const reply = await known.reply;
        known = reply === undefined ? this.#memory.recall(key) : { state: 'settled', reply };
      }
      if (known.state === 'settled') {
        request.log.info('remembered reply reused');
        return recalled(known.reply);
      }
      // A worker that was lost after this one released it may have begun it: its message would be in another place now.
      if (known.state === 'released') {
        isKnown = lostWorkersOf(delivery) === 0 || known.places.has(placeOf(delivery));
        mayHaveBegun = !isKnown || known.mayHaveBegun;
        alone ||= known.mustRunAlone;
      }
    }
    if (mayHaveBegun && delivery.redelivered && !isKnown) {
      if (lostWorkersOf(delivery) < MAX_LOST_WORKERS) return { passedOn: 'suspect', mustRunAlone: alone };
      return this.#answered(request, workerLost(MAX_LOST_WORKERS));
    }
    // A quorum queue with a delivery limit counts also the deliveries after which a request has not begun.
    if (delivery.redelivered && delivery.returns >= MAX_RETURNS)
      return { passedOn: 'released', mustRunAlone: alone };
    const outcome = this.#checkAndRun(request, { mayHaveBegun, mustRunAlone: alone });
    if (key !== undefined) {
      const answer = outcome.then((each) => {
        if ('passedOn' in each) alone = each.mustRunAlone;
        return 'passedOn' in each || 'refused' in each ? undefined : remembered(each);
      });
      const source = { place: placeOf(delivery), mayHaveBegun, mustRunAlone: () => alone };
      this.#memory.track(key, answer, sizeOfRemembered, source);
    }
    return outcome;
  }

  async #checkAndRun(request: Request, history: History): Promise<Handled> {
    const { channels, delivery, arrivedAt, timeoutMs } = request;
    const { clock, runner } = this.#options;
    let waitedMs = request.waitedMs + clock.now() - arrivedAt;
    if (channels.some((channel) => channel.refusal !== undefined)) {
      const signals = [this.#stopped.signal, this.#draining.signal, delivery.connection.lost];
      const checked = await checkRequest(request, { channels, timeoutMs, waitedMs, signals, clock });
      if (checked.state === 'released') return { passedOn: 'released', mustRunAlone: history.mustRunAlone };
      if (checked.state === 'refused') return { refused: checked.reason, channels: checked.channels };
      // The runner does not begin a late one.
      waitedMs = checked.state === 'late' ? checked.waitedMs : request.waitedMs + clock.now() - arrivedAt;
    }
    const { mayHaveBegun, mustRunAlone: alone } = history;
    const call = callOf(request, { mayHaveBegun, mustRunAlone: alone, waitedMs });
    const settled = await runner.run(call);
    if (settled.status === 'released')
      return settled.mustRunAlone === true
        ? { passedOn: 'alone', mustRunAlone: true }
        : { passedOn: 'released', mustRunAlone: call.mustRunAlone === true };
    if (request.isLarge) await this.#ownTurn();
    return this.#answered(request, settled, call);
  }

  /** @param call the call that ran, if one did */
  #answered(request: Request, settled: Reply, call?: Call): Outcome {
    const lost = settled.status === 'error' && settled.body.code === 'worker_lost';
    const deadLetter = lost ? settled.body.errors.join(' ') : undefined;
    const told = (reply: Reply) => call && { call, reply };
    if (request.channels.length === 0) return { outgoing: 'none', deadLetter, settled: told(settled) };
    const { outgoing, reply } = this.#encoded(settled, request);
    return { outgoing, deadLetter, settled: told(reply) };
  }

  #encoded(settled: Reply, request: Request): { outgoing: OutgoingReply; reply: Reply } {
    const { codec, channels } = request;
    const { reply, body } = this.#encoder.encode(settled, request);
    const plain = channels.some((channel) => channel.needsPlainReply) ? reply : undefined;
    return { outgoing: { body, contentType: codec.contentType, plain }, reply };
  }

  async #answer(request: Request, { outgoing, settled }: Outcome): Promise<void> {
    const { events, clock } = this.#options;
    let sent: SendOutcome[] = [];
    try {
      const { channels } = request;
      const [first] = channels;
      if (outgoing !== 'none' && first !== undefined)
        sent =
          channels.length === 1
            ? [await first.send(outgoing, request, this.#stopped.signal)]
            : await this.#send(outgoing, request, channels);
    } catch (error) {
      if (settled !== undefined) events.emit('unanswered', { call: settled.call, at: clock.now() });
      throw error;
    }
    if (settled === undefined) return;
    const replacement = sent.find((each) => typeof each === 'object');
    events.emit('answered', {
      call: settled.call,
      reply: replacement ?? settled.reply,
      dropped: sent.every((each) => each === 'dropped'),
      at: clock.now(),
    });
  }

  #send(
    reply: OutgoingReply,
    request: ReplyContext,
    channels: readonly ReplyChannel[],
  ): Promise<SendOutcome[]> {
    const { signal } = this.#stopped;
    return Promise.all(channels.map(async (channel) => channel.send(reply, request, signal)));
  }

  /** Sends an error reply to an invalid message, if it has a `reply_to` or a record id. */
  async #refuse(delivery: Delivery, reason: InvalidMessage | DecodeError): Promise<void> {
    const { content, properties } = delivery;
    if (this.#reader.isOwnQueue(properties.replyTo)) return;
    const envelope = reason instanceof InvalidMessage ? reason.envelope : NO_ENVELOPE;
    const channels = this.#reader.channelsTo(envelope, delivery);
    if (channels.length === 0) return;
    // Only the first bytes: the message may be too large to read.
    const codec = this.#options.codecs.ofReply(content.subarray(0, ENCODING_BYTES), properties.contentType);
    const until = this.#options.clock.now();
    await this.#sendRefusal(reason.message, { delivery, codec, envelope, until, log: this.#log }, channels);
  }

  async #sendRefusal(
    reason: string,
    request: ReplyContext,
    channels: readonly ReplyChannel[],
  ): Promise<void> {
    if (channels.length === 0) return;
    const { reply, body } = this.#encoder.encode(
      { status: 'error', body: { errors: [`Invalid message: ${reason}`], code: 'invalid_request' } },
      request,
    );
    await this.#send({ body, contentType: request.codec.contentType, plain: reply }, request, channels);
  }

  async #deadLetter(delivery: Delivery, reason: string): Promise<void> {
    const { events, clock } = this.#options;
    const done = await this.#republisher.deadLetter(delivery, reason);
    if (done) events.emit('deadLettered', { reason, at: clock.now() });
  }
}

function mustRunAlone({ suspect }: Delivery): boolean {
  return suspect?.mustRunAlone === true;
}

/** How many workers were lost while they had a message from the queue of suspects, this delivery's included. */
function lostWorkersOf({ suspect, redelivered }: Delivery): number {
  if (suspect === undefined) return 0;
  return suspect.lostWorkers + (redelivered ? 1 : 0);
}

/** How many of them another worker is told of. @param isLoss whether this delivery shows one more */
function lostWorkersIn(delivery: Delivery, isLoss: boolean): number {
  return isLoss ? lostWorkersOf(delivery) : (delivery.suspect?.lostWorkers ?? 0);
}

/** Where a message is; a worker that takes it from the queue of suspects after the loss of another one puts it elsewhere. */
function placeOf({ suspect }: Delivery): string {
  return suspect === undefined ? 'requests' : `suspects ${suspect.lostWorkers}`;
}

function workerLost(times: number): Reply {
  const text = `${times} workers were lost while they had this request: it is not tried again; the logs of the service may say why they ended`;
  return { status: 'error', body: { errors: [text], code: 'worker_lost' } };
}

/** Without the call, whose parameters would be kept as long. */
function remembered({ outgoing, deadLetter }: Answer): Remembered {
  if (outgoing === 'none') return { outgoing, body: '', deadLetter };
  const { body } = outgoing;
  const isWhole = body.length === body.buffer.byteLength;
  return {
    outgoing: { ...outgoing, body: NO_BODY },
    body: isWhole ? body : body.toString('latin1'),
    deadLetter,
  };
}

function recalled({ outgoing, body, deadLetter }: Remembered): Outcome {
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : body;
  return {
    outgoing: outgoing === 'none' ? outgoing : { ...outgoing, body: bytes },
    deadLetter,
    settled: undefined,
  };
}

function sizeOf(reply: OutgoingReply | 'none'): number {
  return reply === 'none' ? 0 : memoryOfReply(reply.body.length, reply.plain);
}

function sizeOfRemembered({ outgoing, body }: Remembered): number {
  return outgoing === 'none' ? 0 : memoryOfReply(body.length, outgoing.plain);
}

function memoryOfReply(bodyBytes: number, plain: Reply | undefined): number {
  return bodyBytes * (plain === undefined ? 1 : 1 + PLAIN_REPLY_FACTOR);
}
