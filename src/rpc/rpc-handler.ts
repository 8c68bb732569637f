import { setMaxListeners } from 'node:events';
import type { Caller } from '../api/caller.js';
import type { Call, Ended, ErrorBody, Reply, Settled } from '../core/call.js';
import type { CallEventBus, DeadLetterKind } from '../core/call-events.js';
import { IDEMPOTENCY_REPLAYED } from '../core/idempotency-key.js';
import type { Runner } from '../core/runner.js';
import { traceIdOf } from '../core/trace-id.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { LinkedList, type Place } from '../lib/linked-list.js';
import { linkSignals } from '../lib/linked-signal.js';
import { OwnTurns } from '../lib/own-turns.js';
import { tracePointOf } from '../lib/trace-context.js';
import { whenAborted } from '../lib/when-aborted.js';
import type { BrokerConnection } from './broker-connection.js';
import { type Codec, DecodeError } from './codec/codec.js';
import type { Codecs } from './codec/codecs.js';
import type { Delivery } from './consumer.js';
import { memoryOf, memoryToDecode } from '../lib/decoded-memory.js';
import { InvalidMessage, NO_ENVELOPE } from './envelope.js';
import { MemoryBudget, type Share } from './memory-budget.js';
import type { PublishConfirmed } from './publisher.js';
import type { NewQueues } from './queues.js';
import { RedeliveryMemory, type RunningRequest } from './redelivery-memory.js';
import type { ReplyContext, OutgoingReply, ReplyChannel, SendOutcome } from './reply-channel.js';
import { hasRows, ReplyEncoder } from './reply-encoder.js';
import { ReplyRoom } from './reply-room.js';
import { callOf, isLarge, type Request, RequestReader } from './request.js';
import { checkRequest } from './request-check.js';
import { Republisher } from './republisher.js';
import { callerOf } from './sender.js';
import { MAX_LOST_WORKERS } from './suspect.js';

export interface RpcHandlerOptions {
  queue: string;
  /** What its queues are like when they must be made again. */
  makes?: NewQueues | undefined;
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
  /** Sends the reply to a call in the context of that call; undefined: there is none. */
  inContextOf?: (<T>(call: Call, run: () => T) => T) | undefined;
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
/** A message that came back to a quorum queue this often is published anew, which the broker counts from 0. */
const MAX_RETURNS = 2;
/** Within how many milliseconds such a message is read, at random: a multiple of the time that it takes to publish others again. */
const READ_WITHIN_MS = 250;
const NO_BODY = Buffer.alloc(0);
/** The headers of a reply that is that of an earlier request. */
const REPLAYED = Object.freeze({ [IDEMPOTENCY_REPLAYED]: true });
/** The outcome when the caller waits for no reply. */
const DROPPED: Promise<SendOutcome> = Promise.resolve('dropped');
/** The history of a request that was not delivered before. */
const NEW: History = { mayHaveBegun: false, mustRunAlone: false };
/** How much of the id of a message is logged. */
const MAX_ID = 128;
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
  readonly #held = new LinkedList<Held>();
  /** Large messages are decoded, and their replies encoded, one in each turn of the event loop. */
  readonly #turns = new OwnTurns();

  constructor(options: RpcHandlerOptions) {
    const { queue, makes, publish, runner, clock, logFor, maxReplyBytes, memoryBudgetBytes: limit } = options;
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
      makes,
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
    const place = this.#held.add(held);
    held.work = this.#receive(delivery, place);
  }

  /**
   * Never rejects. The only async function that every request passes, because each one costs as much as a large part of a request:
   * the other ones here are only for what is rare.
   */
  async #receive(delivery: Delivery, place: Place): Promise<void> {
    const memory = this.#budget.take(delivery.content.length);
    try {
      const arrivedAt = this.#options.clock.now();
      const request =
        this.#readNow(delivery, memory, arrivedAt) ?? (await this.#read(delivery, memory, arrivedAt));
      if (request === undefined) return;
      const handled = await (delivery.mayBeCopy ? this.#runUnlessKnown(request) : this.#run(request, NEW));
      if (!('outgoing' in handled)) return await this.#leave(request, handled);
      const replyBytes = sizeOf(handled.outgoing);
      this.#budget.resize(memory, memory.bytes + replyBytes);
      await this.#replyRoom.during(replyBytes, () => this.#answer(request, handled));
      if (handled.deadLetter === undefined) delivery.acknowledge();
      else await this.#deadLetter(delivery, handled.deadLetter, 'worker_lost');
    } catch (error) {
      await this.#fail(delivery, memory, error);
    } finally {
      this.#budget.release(memory);
      place.leave();
    }
  }

  /** Never rejects. */
  async #fail(delivery: Delivery, memory: Share, error: unknown): Promise<void> {
    try {
      if (!(error instanceof InvalidMessage) && !(error instanceof DecodeError)) throw error;
      this.#budget.giveRoomBack(memory, delivery.content.length);
      await this.#refuse(delivery, error);
      await this.#deadLetter(delivery, error.message, 'invalid');
    } catch (reason) {
      if (!this.#stopped.signal.aborted) await this.#giveUp(delivery, reason);
    }
  }

  /** Never rejects. */
  async #giveUp(delivery: Delivery, error: unknown): Promise<void> {
    try {
      this.#log.error('message handling failed', { error });
      const reason = "the service failed to handle it; the service's log has the reason";
      await this.#deadLetter(delivery, reason, 'defect');
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

  /** @returns undefined when the message may have to wait until it is read */
  #readNow(delivery: Delivery, memory: Share, arrivedAt: number): Request | undefined {
    const { content } = delivery;
    if (keepsReturning(delivery)) return undefined;
    const codec = this.#reader.codecOf(delivery);
    if (isLarge(codec, content) || !this.#budget.tryGrow(memory, memoryToDecode(codec.plainSize(content))))
      return undefined;
    return this.#decoded(delivery, codec, memory, arrivedAt);
  }

  /** Waits until there is memory to decode the message. @returns undefined when it was requeued instead */
  async #read(delivery: Delivery, memory: Share, arrivedAt: number): Promise<Request | undefined> {
    if (keepsReturning(delivery) && !(await this.#waitAtRandom(delivery))) return undefined;
    const codec = this.#reader.codecOf(delivery);
    if (await this.#mayDecode(delivery, codec, memory))
      return this.#decoded(delivery, codec, memory, arrivedAt);
    const { mayHaveBegun } = delivery;
    await this.#release(delivery, arrivedAt, { mayHaveBegun, mustRunAlone: mustRunAlone(delivery) });
    return undefined;
  }

  /** @throws InvalidMessage, DecodeError */
  #decoded(delivery: Delivery, codec: Codec, memory: Share, arrivedAt: number): Request {
    const request = this.#reader.read(delivery, codec, arrivedAt);
    const { id, queueName, requestBody } = request.envelope;
    this.#budget.resize(memory, delivery.content.length + memoryOf([id, queueName, requestBody]));
    return request;
  }

  /** Handles a request that has not run, or must not. */
  async #leave(request: Request, handled: PassedOn | Refused): Promise<void> {
    if ('refused' in handled) {
      await this.#sendRefusal(handled.refused, request, handled.channels);
      return this.#deadLetter(request.delivery, handled.refused, 'invalid');
    }
    const forget = request.key === undefined ? undefined : this.#memory.forgetting(request.key);
    const isGone = await this.#passOn(request, handled);
    // Whoever takes it now may begin it.
    if (isGone) forget?.();
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

  /**
   * Waits before a message is read that may be what ends workers. At random: those that came back with it, and are read before it, are
   * published again meanwhile, and so its end is not theirs each time.
   * @returns false when the broker delivers the message again instead
   */
  async #waitAtRandom({ connection }: Delivery): Promise<boolean> {
    const ms = Math.random() * READ_WITHIN_MS;
    await this.#options.clock.sleep(ms, { signal: connection.lost }).catch(() => {});
    return !connection.lost.aborted;
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
    if (isLarge(codec, content)) await this.#turns.next();
    return true;
  }

  /** The remembered reply of a request that was delivered before, or else the outcome of a run. */
  async #runUnlessKnown(request: Request): Promise<Handled> {
    const { delivery, key } = request;
    let { mayHaveBegun } = delivery;
    let alone = mustRunAlone(delivery);
    let isKnown = false;
    if (key !== undefined) {
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
    if (keepsReturning(delivery)) return { passedOn: 'released', mustRunAlone: alone };
    return this.#run(request, { mayHaveBegun, mustRunAlone: alone });
  }

  /** Runs a request, and remembers it from now on. */
  #run(request: Request, history: History): Promise<Handled> {
    const { delivery, key } = request;
    const { mayHaveBegun } = history;
    const running =
      key === undefined ? undefined : this.#memory.begin(key, { place: placeOf(delivery), mayHaveBegun });
    const isChecked = request.channels.some((channel) => channel.check !== undefined);
    if (isChecked) return this.#checkAndRun(request, history, running);
    return this.#call(request, { history, waitedMs: this.#waited(request) }, running);
  }

  /** How much of the request's time has passed, in milliseconds. */
  #waited({ waitedMs, arrivedAt }: Request): number {
    return waitedMs + this.#options.clock.now() - arrivedAt;
  }

  async #checkAndRun(
    request: Request,
    history: History,
    running: RunningRequest<Remembered> | undefined,
  ): Promise<Handled> {
    const { channels, delivery, timeoutMs } = request;
    const signals = [this.#stopped.signal, this.#draining.signal, delivery.connection.lost];
    const { clock } = this.#options;
    const waitedMs = this.#waited(request);
    const release = () => {
      if (running !== undefined) this.#memory.released(running, history.mustRunAlone);
    };
    const check = { channels, timeoutMs, waitedMs, signals, clock };
    const checked = await checkRequest(request, check).catch((error: unknown) => {
      release();
      throw error;
    });
    if (checked.state === 'accepted') {
      const { vouchedFor } = checked;
      return this.#call(request, { history, waitedMs: this.#waited(request), vouchedFor }, running);
    }
    // The runner does not begin a late one.
    if (checked.state === 'late')
      return this.#call(request, { history, waitedMs: checked.waitedMs }, running);
    release();
    return checked.state === 'released'
      ? { passedOn: 'released', mustRunAlone: history.mustRunAlone }
      : { refused: checked.reason, channels: checked.channels };
  }

  #call(
    request: Request,
    {
      history,
      waitedMs,
      vouchedFor,
    }: { history: History; waitedMs: number; vouchedFor?: Caller | undefined },
    running: RunningRequest<Remembered> | undefined,
  ): Promise<Handled> {
    const { mayHaveBegun, mustRunAlone: alone } = history;
    const call = callOf(request, { mayHaveBegun, mustRunAlone: alone, waitedMs, vouchedFor });
    return this.#options.runner.run(call).then(
      (settled) =>
        request.isLarge || hasRows(settled)
          ? this.#settledInTurns(request, call, settled, running)
          : this.#settled(request, call, settled, running),
      (error: unknown) => this.#failed(running, error),
    );
  }

  /** As `#settled`, for what is large: other work gets turns of the event loop meanwhile. */
  async #settledInTurns(
    request: Request,
    call: Call,
    settled: Settled,
    running: RunningRequest<Remembered> | undefined,
  ): Promise<Handled> {
    const sendable = hasRows(settled) ? await this.#encoder.encodeRows(settled, request) : settled;
    if (request.isLarge && settled.status !== 'released') await this.#turns.next();
    return this.#settled(request, call, sendable, running);
  }

  #settled(
    request: Request,
    call: Call,
    settled: Settled,
    running: RunningRequest<Remembered> | undefined,
  ): Handled {
    if (settled.status !== 'released') {
      try {
        const answered = this.#answered(request, settled, call);
        if (running !== undefined) {
          const kept = remembered(answered);
          this.#memory.settled(running, kept, sizeOfRemembered(kept));
        }
        return answered;
      } catch (error) {
        return this.#failed(running, error);
      }
    }
    const alone = settled.mustRunAlone === true;
    const passedOn: PassedOn = {
      passedOn: alone ? 'alone' : 'released',
      mustRunAlone: alone || call.mustRunAlone === true,
    };
    if (running !== undefined) this.#memory.released(running, passedOn.mustRunAlone);
    return passedOn;
  }

  /** Lets no copy of a request wait for a reply that cannot come, because of a defect. @throws the error */
  #failed(running: RunningRequest<Remembered> | undefined, error: unknown): never {
    if (running !== undefined) this.#memory.failed(running, error);
    throw error;
  }

  /** @param call the call that ran, if one did */
  #answered(request: Request, settled: Ended, call?: Call): Outcome {
    const lost = settled.status === 'error' && settled.body.code === 'worker_lost';
    const deadLetter = lost ? settled.body.errors.join(' ') : undefined;
    const told = (reply: Reply) => call && { call, reply };
    if (request.channels.length === 0) return { outgoing: 'none', deadLetter, settled: told(settled) };
    const headers = settled.replyOf === undefined ? undefined : REPLAYED;
    const { outgoing, reply } = this.#encoded(withTraceId(settled, call), headers, request);
    return { outgoing, deadLetter, settled: told(reply) };
  }

  #encoded(
    settled: Reply,
    headers: OutgoingReply['headers'],
    request: Request,
  ): { outgoing: OutgoingReply; reply: Reply } {
    const { codec, channels } = request;
    const { reply, body } = this.#encoder.encode(settled, request);
    const plain = channels.some((channel) => channel.needsPlainReply) ? reply : undefined;
    return { outgoing: { body, contentType: codec.contentType, headers, plain }, reply };
  }

  /** Sends the answer, and tells what came of the call. */
  #answer(request: Request, { outgoing, settled }: Outcome): Promise<void> {
    const { events, clock, inContextOf } = this.#options;
    const sending =
      outgoing === 'none'
        ? DROPPED
        : inContextOf === undefined || settled === undefined
          ? this.#send(outgoing, request, request.channels)
          : inContextOf(settled.call, () => this.#send(outgoing, request, request.channels));
    return sending.then(
      (sent) => {
        if (settled === undefined) return undefined;
        return events.emit('answered', {
          call: settled.call,
          reply: typeof sent === 'object' ? sent : settled.reply,
          dropped: sent === 'dropped',
          at: clock.now(),
        });
      },
      (error: unknown) => {
        if (settled !== undefined) events.emit('unanswered', { call: settled.call, at: clock.now() });
        throw error;
      },
    );
  }

  #send(
    reply: OutgoingReply,
    request: ReplyContext,
    channels: readonly ReplyChannel[],
  ): Promise<SendOutcome> {
    const { signal } = this.#stopped;
    const [first] = channels;
    if (first !== undefined && channels.length === 1) return first.send(reply, request, signal);
    const sending = Promise.all(channels.map(async (channel) => channel.send(reply, request, signal)));
    return sending.then(
      (sent) =>
        sent.find((each) => typeof each === 'object') ??
        (sent.every((each) => each === 'dropped') ? 'dropped' : 'sent'),
    );
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
    const { headers = {} } = request.delivery.properties;
    const trace = tracePointOf(headers.traceparent);
    const refusal: ErrorBody = { errors: [`Invalid message: ${reason}`], code: 'invalid_request' };
    if (trace !== undefined) refusal.trace_id = trace.traceId;
    const { reply, body } = this.#encoder.encode({ status: 'error', body: refusal }, request);
    await this.#send({ body, contentType: request.codec.contentType, plain: reply }, request, channels);
  }

  async #deadLetter(delivery: Delivery, reason: string, kind: DeadLetterKind): Promise<void> {
    const { events, clock } = this.#options;
    const done = await this.#republisher.deadLetter(delivery, reason, kind !== 'invalid');
    if (!done) return;
    const { messageId }: { messageId?: unknown } = delivery.properties;
    events.emit('deadLettered', {
      reason,
      kind,
      message: typeof messageId === 'string' ? messageId.slice(0, MAX_ID) : undefined,
      caller: callerOf(delivery.sender),
      at: clock.now(),
    });
  }
}

/** An error tells its caller where to find what has happened, when the request is in a trace. */
function withTraceId(reply: Reply, call: Call | undefined): Reply {
  if (reply.status === 'completed' || call === undefined) return reply;
  const traceId = traceIdOf(call);
  return traceId === undefined ? reply : { status: 'error', body: { ...reply.body, trace_id: traceId } };
}

/** Whether it came back to a quorum queue so often that its count must begin anew, or it would exceed the delivery limit. */
function keepsReturning(delivery: Delivery): boolean {
  return delivery.redelivered && delivery.returns >= MAX_RETURNS;
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
