import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, Message, Options } from 'amqplib';
import { connect } from '../../src/rpc/patched-amqplib.js';
import type { Run } from '../scenario.js';
import type { Entry, Ledger, ReplySeen } from './ledger.js';

/** A request as callers without the client send it. */
export interface Sending {
  action: string;
  parameters?: Record<string, unknown>;
  /** An etcd token, or the name of a cluster. */
  cluster?: string;
  timeoutMs?: number;
  /** The idempotency key. */
  key?: string | undefined;
}

export interface Queues {
  /** Options of the queue, other than those that the service gives it. */
  queue?: Options.AssertQueue;
  /** Options of the error queue. */
  errorQueue?: Options.AssertQueue;
  /** Whether dead-lettered messages are taken off the error queue from the beginning; true by default. */
  takesDeadLetters?: boolean;
}

const RECONNECT_MS = 100;
/** How long `ask` waits for a reply, in milliseconds. The ledger still takes a later one. */
const PATIENCE_MS = 10_000;

/**
 * Sends requests and writes them and their replies to the ledger. It has its own connection to the broker, and connects again
 * when that is lost; its reply queue is durable, so no reply is lost meanwhile. It never sends a request twice.
 */
export class Caller {
  readonly #url: string;
  readonly #queue: string;
  readonly #ledger: Ledger;
  readonly #replyQueue = `chaos_replies_${randomUUID()}`;
  readonly #waiting = new Map<string, () => void>();
  #connection: ChannelModel | undefined;
  #channel: ConfirmChannel | undefined;
  #connected = Promise.resolve();
  #closed = false;
  #takesDeadLetters = false;

  /** Declares the queue of the service and its error queue. They are deleted when the run ends. */
  static async open(
    run: Run,
    url: string,
    queue: string,
    ledger: Ledger,
    { queue: options, errorQueue, takesDeadLetters = true }: Queues = {},
  ): Promise<Caller> {
    const caller = new Caller(url, queue, ledger);
    if (takesDeadLetters) caller.takeDeadLetters();
    caller.#connected = caller.#connect(async (channel) => {
      const deadLetters = { deadLetterExchange: '', deadLetterRoutingKey: `${queue}_error` };
      await channel.assertQueue(queue, { durable: true, ...deadLetters, ...options });
      await channel.assertQueue(`${queue}_error`, { durable: true, ...errorQueue });
      // A worker without the permission to publish could not declare it: its dead letters go to the error queue.
      await channel.assertQueue(`${queue}_suspects`, { durable: true });
      await channel.assertQueue(caller.#replyQueue, { durable: true });
    });
    run.teardown(async () => caller.#close());
    await caller.#connected;
    return caller;
  }

  private constructor(url: string, queue: string, ledger: Ledger) {
    this.#url = url;
    this.#queue = queue;
    this.#ledger = ledger;
  }

  /** Sends a request. While the broker is away, it waits until it is back. */
  async send(
    { action, parameters = {}, cluster, timeoutMs, key }: Sending,
    options: Options.Publish = {},
  ): Promise<Entry> {
    const body = { action, action_parameters: parameters, etcd_token: cluster };
    const content = Buffer.from(JSON.stringify({ status: 'not_started', request_body: body }));
    const headers = {
      ...(timeoutMs !== undefined && { 'timeout-ms': timeoutMs }),
      ...(key !== undefined && { 'idempotency-key': key }),
    };
    return this.sendRaw(content, { action, key }, { headers, ...options });
  }

  /**
   * Sends any bytes.
   * @param named what they name, for the ledger
   */
  async sendRaw(
    content: Buffer,
    { action, key }: Pick<Entry, 'action' | 'key'>,
    options: Options.Publish = {},
  ): Promise<Entry> {
    await this.#connected;
    const id = randomUUID();
    const entry: Entry = {
      id,
      action,
      key,
      sending: 'sent',
      replies: [],
      deadLetters: [],
    };
    this.#ledger.entries.set(id, entry);
    const properties = {
      contentType: 'application/json',
      persistent: true,
      mandatory: true,
      messageId: id,
      correlationId: id,
      replyTo: this.#replyQueue,
      ...options,
    };
    const confirmed = (error: unknown) => {
      if (error !== null && error !== undefined) entry.sending = 'uncertain';
      else if (entry.sending === 'sent') entry.sending = 'confirmed';
    };
    try {
      if (this.#channel === undefined) entry.sending = 'uncertain';
      this.#channel?.publish('', this.#queue, content, properties, confirmed);
    } catch {
      // The connection is lost at this moment.
      entry.sending = 'uncertain';
    }
    return entry;
  }

  /** Sends a request and waits for its first reply, as long as the patience lasts. */
  async ask(sending: Sending, patienceMs = PATIENCE_MS): Promise<Entry> {
    const entry = await this.send(sending);
    if (!isSettled(entry)) await this.#answered(entry.id, patienceMs);
    return entry;
  }

  /** Keeps this many requests in flight until `isOver`. */
  async load(
    inFlight: number,
    next: () => Sending,
    isOver: () => boolean,
    patienceMs?: number,
  ): Promise<void> {
    const loop = async () => {
      while (!isOver()) await this.ask(next(), patienceMs);
    };
    await Promise.all(Array.from({ length: inFlight }, loop));
  }

  /** How many consumers the queue of the service has; 0 without a broker or a queue. */
  async consumers(): Promise<number> {
    const channel = await this.#connection?.createChannel().catch(() => undefined);
    channel?.on('error', () => {});
    const queue = await channel?.checkQueue(this.#queue).catch(() => undefined);
    if (queue !== undefined) await channel?.close();
    return queue?.consumerCount ?? 0;
  }

  /** From now on takes dead-lettered messages off the error queue. */
  takeDeadLetters(): void {
    this.#takesDeadLetters = true;
  }

  async #answered(id: string, patienceMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        resolve();
      };
      const timer = setTimeout(end, patienceMs);
      this.#waiting.set(id, end);
    });
  }

  async #connect(declare: (channel: ConfirmChannel) => Promise<void> = async () => {}): Promise<void> {
    while (!this.#closed) {
      let connection: ChannelModel | undefined;
      try {
        connection = await connect(this.#url, { noDelay: true });
        const lost = new AbortController();
        connection.on('error', () => {});
        connection.once('close', () => lost.abort());
        const channel = await connection.createConfirmChannel();
        channel.on('error', () => {});
        channel.on('return', ({ properties: { messageId } }: Message) => this.#returned(messageId));
        await declare(channel);
        await channel.consume(this.#replyQueue, (message) => this.#replied(message, channel));
        lost.signal.throwIfAborted();
        lost.signal.addEventListener('abort', () => {
          this.#channel = undefined;
          this.#connected = this.#connect();
        });
        void this.#watchDeadLetters(connection, lost.signal);
        this.#connection = connection;
        this.#channel = channel;
        return;
      } catch {
        await connection?.close().catch(() => {});
        await sleep(RECONNECT_MS);
      }
    }
  }

  /** On a channel of its own, which the broker closes while the queue does not exist. */
  async #watchDeadLetters(connection: ChannelModel, lost: AbortSignal): Promise<void> {
    while (!lost.aborted && !this.#closed) {
      try {
        if (this.#takesDeadLetters) await this.#consumeDeadLetters(connection);
      } catch {
        // The queue is not there, for now.
      }
      await sleep(RECONNECT_MS);
    }
  }

  /** Resolves when the consumer has ended. */
  async #consumeDeadLetters(connection: ChannelModel): Promise<void> {
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    await new Promise<void>((resolve, reject) => {
      channel.once('close', resolve);
      channel
        .consume(`${this.#queue}_error`, (message) =>
          message === null ? resolve() : this.#deadLettered(message, channel),
        )
        .catch(reject);
    });
  }

  #returned(messageId: unknown): void {
    const entry = this.#ledger.entries.get(String(messageId));
    if (entry !== undefined) entry.sending = 'uncertain';
  }

  #replied(message: ConsumeMessage | null, channel: Channel): void {
    if (message === null) return;
    channel.ack(message);
    const id = String(message.properties.correlationId);
    this.#ledger.entries.get(id)?.replies.push(readReply(message));
    this.#waiting.get(id)?.();
  }

  #deadLettered(message: ConsumeMessage, channel: Channel): void {
    channel.ack(message);
    const { messageId, headers = {} } = message.properties;
    const reason = String(headers['x-reason'] ?? headers['x-first-death-reason'] ?? 'none');
    const id = String(messageId);
    this.#ledger.entries.get(id)?.deadLetters.push(reason);
    this.#waiting.get(id)?.();
  }

  async #close(): Promise<void> {
    this.#closed = true;
    await this.#connected;
    const channel = await this.#connection?.createChannel();
    const queues = [this.#queue, `${this.#queue}_error`, this.#replyQueue];
    for (const queue of queues) await channel?.deleteQueue(queue);
    this.#connection?.removeAllListeners('close');
    await this.#connection?.close();
  }
}

function isSettled({ replies, deadLetters }: Entry): boolean {
  return replies.length + deadLetters.length > 0;
}

function readReply({ content, properties: { contentType } }: ConsumeMessage): ReplySeen {
  // The reply to a malformed Erlang term.
  if (contentType !== 'application/json') return { outcome: 'not read', body: '' };
  const { status, response_body: body } = JSON.parse(content.toString());
  return { outcome: status === 'completed' ? status : String(body.code), body: JSON.stringify(body) };
}
