/** What the benchmarks share: a caller on the broker, the built service, and statistics. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { type Channel, type ChannelModel, connect, type Options } from 'amqplib';

/** The private RabbitMQ that scripts/with-services has started. */
export function brokerUrl(): string {
  const url = process.env.RABBITMQ_URL;
  if (url === undefined) throw new Error('RABBITMQ_URL is not set: run it with scripts/with-services');
  return url;
}

/** Sends requests and receives their replies, on one connection. */
export class Caller {
  readonly #connection: ChannelModel;
  readonly #replyQueue: string;
  readonly #waiting = new Map<string, (body: Buffer) => void>();

  private constructor(
    connection: ChannelModel,
    readonly channel: Channel,
    replyQueue: string,
  ) {
    this.#connection = connection;
    this.#replyQueue = replyQueue;
  }

  static async open(url: string): Promise<Caller> {
    const connection = await connect(url, { noDelay: true });
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    const caller = new Caller(connection, channel, queue);
    const onMessage = caller.#received.bind(caller);
    await channel.consume(queue, onMessage, { noAck: true });
    return caller;
  }

  /** @returns the body of the reply */
  async request(
    queue: string,
    requestBody: Record<string, unknown>,
    options: { persistent?: boolean; headers?: Record<string, unknown> } = {},
  ): Promise<Buffer> {
    const envelope = { status: 'not_started', request_body: requestBody };
    const contentType = 'application/json';
    return this.send(queue, Buffer.from(JSON.stringify(envelope)), { contentType, ...options });
  }

  /** Sends a request that is encoded already. @returns the body of the reply */
  async send(queue: string, body: Buffer, options: Options.Publish): Promise<Buffer> {
    const id = randomUUID();
    const answered = new Promise<Buffer>((resolve) => this.#waiting.set(id, resolve));
    this.channel.publish('', queue, body, {
      messageId: id,
      correlationId: id,
      replyTo: this.#replyQueue,
      ...options,
    });
    return answered.finally(() => this.#waiting.delete(id));
  }

  /** Waits until a server has declared its queue. */
  async declared(queue: string): Promise<void> {
    for (let left = 600; left > 0; left--) {
      if (await this.#exists(queue)) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`no server has declared ${queue}`);
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  #received(message: { content: Buffer; properties: { correlationId?: unknown } } | null): void {
    if (message !== null) this.#waiting.get(String(message.properties.correlationId))?.(message.content);
  }

  async #exists(queue: string): Promise<boolean> {
    const probe = await this.#connection.createChannel();
    probe.on('error', () => {});
    return probe.checkQueue(queue).then(
      async () => probe.close().then(() => true),
      () => false,
    );
  }
}

const BUILT_CLI = new URL('../dist/src/cli.js', import.meta.url).pathname;

/** The built service, as it runs in production: it writes its log lines, and nobody reads them. */
export function startService(
  queue: string,
  url: string,
  settings: Record<string, string>,
  cli = BUILT_CLI,
): ChildProcess {
  const env = {
    PATH: process.env.PATH,
    AMQP_URL: url,
    QUEUE_NAME: queue,
    HTTP_PORT: 'off',
    LOG_FORMAT: 'json',
    ...settings,
  };
  const service = spawn('node', [cli, 'serve'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  service.stderr.resume();
  return endWithThisProcess(service);
}

/** Kills a child that still runs when this process exits. */
export function endWithThisProcess<T extends ChildProcess>(child: T): T {
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  return child;
}

/** Keeps `inFlight` calls in flight for this many seconds. @returns the latency of each, in milliseconds, sorted */
export async function load(
  inFlight: number,
  seconds: number,
  call: () => Promise<unknown>,
): Promise<number[]> {
  const latencies: number[] = [];
  const end = performance.now() + seconds * 1_000;
  const loop = async () => {
    while (performance.now() < end) {
      const start = performance.now();
      await call();
      latencies.push(performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  return latencies.toSorted((a, b) => a - b);
}

/** @param sorted in ascending order */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return percentile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}
