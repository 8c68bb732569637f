import { randomUUID } from 'node:crypto';
import type { Channel, ConsumeMessage, GetMessage, Options } from 'amqplib';
import type { ExecutionContext } from 'ava';
import { CallEventBus } from '../../src/core/call-events.js';
import { FIELD_NAMES } from '../../src/rpc/field-names.js';
import { logRequests } from '../../src/telemetry/request-log.js';
import { Codecs } from '../../src/rpc/codec/codecs.js';
import type { Codec } from '../../src/rpc/codec/codec.js';
import { jsonRequestCodec } from '../../src/rpc/codec/json.js';
import type { ReplyChannel } from '../../src/rpc/reply-channel.js';
import { RpcServer } from '../../src/rpc/rpc-server.js';
import type { Action, Clock } from '../../src/plugin.js';
import type { BrokerAddress } from '../../src/rpc/broker-address.js';
import { Catalogue } from '../../src/core/catalogue.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { Runner } from '../../src/core/runner.js';
import { systemClock } from '../../src/lib/clock.js';
import { cuttable, type TestBroker } from './brokers.js';
import { eventually } from './eventually.js';
import type { Isolation } from '../../src/core/isolation.js';
import { logLines } from './log-lines.js';
import { refuseSecretsIn } from './planted-secrets.js';
import { type NewQueues, queuesOf } from '../../src/rpc/queues.js';

export interface RunningRequests {
  queue: string;
  service: RpcServer;
  logs: ReturnType<typeof logLines>;
  events: CallEventBus;
  /** Cuts the service's connections. */
  cut: () => void;
}

interface Settings {
  queue: string;
  prefetch: number;
  /** How many requests the runner holds; `prefetch` by default. */
  maxCalls: number;
  concurrency: number;
  clusterConcurrency: number;
  maxMessageBytes: number;
  memoryBudgetBytes: number;
  codecs: readonly Codec[];
  maxAnswerBytes: number;
  /** Further reply channels. */
  channels: readonly ReplyChannel[];
  /** The brokers to try, instead of the given one. */
  addresses: readonly BrokerAddress[];
  clock: Clock;
  /** Where repeated requests run; undefined: in this process. */
  isolation: Omit<Isolation, 'close'> | undefined;
  /** What the queues are like that it makes. */
  makes: NewQueues | undefined;
  /** Whether to wait until it accepts requests; true by default. */
  waits: boolean;
}

/** Serves these actions on a separate queue. */
export async function serveRequests(
  t: ExecutionContext,
  broker: TestBroker,
  actions: readonly Action[],
  settings: Partial<Settings> = {},
): Promise<RunningRequests> {
  const options: Settings = {
    queue: `test_${randomUUID()}`,
    prefetch: 200,
    maxCalls: settings.prefetch ?? 200,
    concurrency: 50,
    clusterConcurrency: 20,
    maxMessageBytes: 64 * 1024,
    memoryBudgetBytes: 256 * 1024 * 1024,
    codecs: [jsonRequestCodec],
    maxAnswerBytes: 64 * 1024,
    channels: [],
    addresses: [{ url: broker.url }],
    clock: systemClock,
    waits: true,
    isolation: undefined,
    makes: undefined,
    ...settings,
  };
  const logs = logLines();
  const logFor = (fields: Record<string, unknown>) => logs.log.with(fields);
  const catalogue = new Catalogue(
    actions.map((each) => prepareAction(each, () => undefined, { parametersName: FIELD_NAMES.parameters })),
  );
  const { connect, cut } = cuttable(broker);
  const events = new CallEventBus(logs.log);
  logRequests(events, logFor);
  const { queue, prefetch, maxCalls, concurrency, clusterConcurrency, clock, isolation } = options;
  const runner = new Runner({
    catalogue,
    events,
    names: FIELD_NAMES,
    clock,
    logFor,
    maxCalls,
    concurrency,
    clusterConcurrency,
    ...(isolation && { isolation }),
  });
  const service = new RpcServer({
    connection: {
      connect,
      brokers: async () => options.addresses,
      name: 'test',
      clock,
      log: logs.log,
    },
    queue,
    makes: options.makes,
    prefetch,
    runner,
    events,
    codecs: new Codecs(options.codecs),
    maxMessageBytes: options.maxMessageBytes,
    memoryBudgetBytes: options.memoryBudgetBytes,
    maxReplyBytes: options.maxAnswerBytes,
    channels: () => options.channels,
    logFor,
  });
  service.start();
  t.teardown(async () => {
    await service.drain(0);
    await service.close();
    const connection = await broker.open();
    const channel = await connection.createChannel();
    for (const name of queuesOf(options.queue)) await channel.deleteQueue(name).catch(() => {});
    await connection.close();
  });
  if (options.waits) await eventually('the service accepts requests', () => service.notReady().length === 0);
  return { queue: options.queue, service, logs, events, cut };
}

/** Creates the queue, like a worker that ran before. */
export async function makeQueue(
  broker: TestBroker,
  queue: string,
  options: Options.AssertQueue = {},
): Promise<void> {
  const connection = await broker.open();
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, { durable: true, ...options });
  await connection.close();
}

/**
 * Cuts the connection again and again. Resolves when the service has these many requests again that wait for their turn: what is
 * lost on the way to it, any worker may have begun, as far as it knows.
 */
export function connectionLoser({ cut, events }: RunningRequests) {
  let received = 0;
  events.on('received', () => received++);
  return async (waiting: number) => {
    const expected = received + waiting;
    cut();
    await eventually('they are delivered again', () => received >= expected);
  };
}

/** Takes this many messages off the queue, like a worker that is then lost: they are delivered again. */
export async function loseWorker(broker: TestBroker, queue: string, messages: number): Promise<void> {
  const connection = await broker.open();
  const channel = await connection.createChannel();
  let taken = 0;
  await channel.consume(queue, () => taken++);
  await eventually('the worker has them', () => taken === messages);
  await connection.close();
}

type OwnQueue = 'queue' | 'suspects' | 'error queue';

/** A caller without our client: publishes messages, and reads replies from its own queue. */
export class RawCaller {
  readonly #channel: Channel;
  readonly #replies: ConsumeMessage[] = [];
  /** The name of its reply queue. */
  readonly replyQueue: string;
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
    this.replyQueue = replyQueue;
  }

  /** Publishes a body unchanged. */
  publish(body: Buffer | string, options: Options.Publish = {}): void {
    this.#channel.sendToQueue(this.#queue, Buffer.from(body), options);
  }

  /** Publishes a request and returns its reply: the message, and its contents. */
  async ask(
    requestBody: unknown,
    options: Options.Publish = {},
  ): Promise<{ message: ConsumeMessage; answer: Answered }> {
    const correlationId = this.send(requestBody, options);
    return this.replyFor(correlationId);
  }

  /** Publishes a request with a reply_to. @returns its correlation id */
  send(requestBody: unknown, options: Options.Publish = {}): string {
    return this.sendRaw(JSON.stringify({ status: 'not_started', request_body: requestBody }), options);
  }

  /** Publishes a body unchanged, with a reply_to. @returns its correlation id */
  sendRaw(body: Buffer | string, options: Options.Publish = {}): string {
    const correlationId = randomUUID();
    this.publish(body, { replyTo: this.replyQueue, correlationId, ...options });
    return correlationId;
  }

  async replyFor(correlationId: string): Promise<{ message: ConsumeMessage; answer: Answered }> {
    const message = await this.replyMessage(correlationId);
    const answer: Answered = JSON.parse(message.content.toString());
    // A reply contains the request too, with the token that its caller has sent.
    refuseSecretsIn(JSON.stringify({ ...answer, request_body: undefined }), 'a reply');
    return { message, answer };
  }

  /** The reply as it came, in any encoding. */
  async replyMessage(correlationId: string): Promise<ConsumeMessage> {
    return eventually(`an answer to ${correlationId}`, () => this.repliesFor(correlationId)[0]);
  }

  repliesFor(correlationId: string): ConsumeMessage[] {
    return this.#replies.filter(({ properties }) => properties.correlationId === correlationId);
  }

  /** Takes one waiting message from a queue of the service. */
  async take(from: OwnQueue): Promise<GetMessage> {
    const queue = this.#nameOf(from);
    return eventually(`a message in ${queue}`, async () => {
      const message = await this.#channel.get(queue, { noAck: true });
      return message === false ? undefined : message;
    });
  }

  /** The number of consumers of the service's queue. */
  async consumers(): Promise<number> {
    return (await this.#channel.checkQueue(this.#queue)).consumerCount;
  }

  async waiting(from: OwnQueue = 'queue'): Promise<number> {
    const { messageCount } = await this.#channel.checkQueue(this.#nameOf(from));
    return messageCount;
  }

  #nameOf(queue: OwnQueue): string {
    const [requests = '', suspects = '', errors = ''] = queuesOf(this.#queue);
    return { queue: requests, suspects, 'error queue': errors }[queue];
  }

  /** Deletes the reply queue of this caller. */
  async leave(): Promise<void> {
    await this.#channel.deleteQueue(this.replyQueue);
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
