import { randomUUID } from 'node:crypto';
import type { Channel, ConsumeMessage, GetMessage, Options } from 'amqplib';
import type { ExecutionContext } from 'ava';
import { Codecs } from '../../src/rpc/codec/codecs.js';
import { jsonCodec } from '../../src/rpc/codec/json.js';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import { RequestService } from '../../src/rpc/rpc-server.js';
import type { Action } from '../../src/plugin.js';
import { Catalogue } from '../../src/core/catalogue.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { Dispatcher } from '../../src/core/runner.js';
import { systemClock } from '../../src/lib/clock.js';
import { cuttable, type TestBroker } from './brokers.js';
import { eventually } from './eventually.js';
import { logLines } from './log-lines.js';

export interface RunningRequests {
  queue: string;
  service: RequestService;
  logs: ReturnType<typeof logLines>;
  /** Cuts the service's connections. */
  cut: () => void;
}

interface Settings {
  queue: string;
  prefetch: number;
  concurrency: number;
  clusterConcurrency: number;
  maxMessageBytes: number;
  maxAnswerBytes: number;
  /** Further ways for answers. */
  replies: readonly ReplyChannel[];
}

/** Serves these actions on a queue of its own. */
export async function serveRequests(
  t: ExecutionContext,
  broker: TestBroker,
  actions: readonly Action[],
  settings: Partial<Settings> = {},
): Promise<RunningRequests> {
  const options: Settings = {
    queue: `test_${randomUUID()}`,
    prefetch: 200,
    concurrency: 50,
    clusterConcurrency: 20,
    maxMessageBytes: 64 * 1024,
    maxAnswerBytes: 64 * 1024,
    replies: [],
    ...settings,
  };
  const logs = logLines();
  const logFor = (fields: Record<string, unknown>) => logs.log.with(fields);
  const catalogue = new Catalogue(actions.map((each) => prepareAction(each, () => undefined)));
  const { connect, cut } = cuttable(broker);
  const service = new RequestService({
    ...options,
    replies: () => options.replies,
    dispatcher: new Dispatcher({ ...options, catalogue, clock: systemClock, logFor }),
    codecs: new Codecs([jsonCodec]),
    connect,
    brokers: async () => [{ url: broker.url }],
    name: 'test',
    clock: systemClock,
    log: logs.log,
    logFor,
  });
  service.start();
  t.teardown(async () => {
    await service.drain(0);
    await service.close();
    const connection = await broker.open();
    const channel = await connection.createChannel();
    await channel.deleteQueue(options.queue).catch(() => {});
    await channel.deleteQueue(`${options.queue}_error`).catch(() => {});
    await connection.close();
  });
  await eventually('the service takes requests', () => service.notReady().length === 0);
  return { queue: options.queue, service, logs, cut };
}

/** What a caller without our client does: publishes a message, and reads from a queue of its own. */
export class RawCaller {
  readonly #channel: Channel;
  readonly #replies: ConsumeMessage[] = [];
  readonly #replyQueue: string;
  readonly #queue: string;

  static async open(t: ExecutionContext, broker: TestBroker, queue: string): Promise<RawCaller> {
    const connection = await broker.open();
    const channel = await connection.createChannel();
    const { queue: replyQueue } = await channel.assertQueue(`reply_${randomUUID()}`, { exclusive: true });
    const caller = new RawCaller(channel, queue, replyQueue);
    await channel.consume(replyQueue, (message) => message !== null && caller.#replies.push(message), {
      noAck: true,
    });
    t.teardown(async () => connection.close());
    return caller;
  }

  private constructor(channel: Channel, queue: string, replyQueue: string) {
    this.#channel = channel;
    this.#queue = queue;
    this.#replyQueue = replyQueue;
  }

  /** Publishes a body as it is. */
  publish(body: Buffer | string, options: Options.Publish = {}): void {
    this.#channel.sendToQueue(this.#queue, Buffer.from(body), options);
  }

  /** Publishes a request and gives its answer: the message, and what is in it. */
  async ask(
    requestBody: unknown,
    options: Options.Publish = {},
  ): Promise<{ message: ConsumeMessage; answer: Answered }> {
    const correlationId = this.send(requestBody, options);
    return this.answerTo(correlationId);
  }

  /** Publishes a request that is to be answered. @returns its correlation id */
  send(requestBody: unknown, options: Options.Publish = {}): string {
    return this.sendRaw(JSON.stringify({ status: 'not_started', request_body: requestBody }), options);
  }

  /** Publishes a body as it is, to be answered. @returns its correlation id */
  sendRaw(body: Buffer | string, options: Options.Publish = {}): string {
    const correlationId = randomUUID();
    this.publish(body, { replyTo: this.#replyQueue, correlationId, ...options });
    return correlationId;
  }

  async answerTo(correlationId: string): Promise<{ message: ConsumeMessage; answer: Answered }> {
    const message = await eventually(`an answer to ${correlationId}`, () => this.answersTo(correlationId)[0]);
    return { message, answer: JSON.parse(message.content.toString()) };
  }

  answersTo(correlationId: string): ConsumeMessage[] {
    return this.#replies.filter(({ properties }) => properties.correlationId === correlationId);
  }

  /** Takes one message that waits in a queue: the service's own, or its error queue. */
  async take(from: 'queue' | 'error queue'): Promise<GetMessage> {
    const queue = from === 'queue' ? this.#queue : `${this.#queue}_error`;
    return eventually(`a message in ${queue}`, async () => {
      const message = await this.#channel.get(queue, { noAck: true });
      return message === false ? undefined : message;
    });
  }

  async waiting(from: 'queue' | 'error queue' = 'queue'): Promise<number> {
    const { messageCount } = await this.#channel.checkQueue(
      from === 'queue' ? this.#queue : `${this.#queue}_error`,
    );
    return messageCount;
  }

  /** Removes the queue that answers to this caller go to. */
  async leave(): Promise<void> {
    await this.#channel.deleteQueue(this.#replyQueue);
  }
}

export interface Answered {
  id: unknown;
  status: string;
  request_body: unknown;
  response_body: Record<string, unknown> & {
    code?: string;
    errors?: string[];
    details?: { fields?: { field: string }[] };
  };
}
