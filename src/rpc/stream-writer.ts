import { runWithin } from '../lib/time-limit.js';
import type { BrokerConnection } from './broker-connection.js';
import { brokerReason } from './broker-refusal.js';
import { ConnectionManager, type ConnectionManagerOptions } from './connection-manager.js';
import { declareStream } from './declare-stream.js';
import { ownUserOf } from './own-user.js';
import { PublishChannel, type PublishOutcome } from './publish-channel.js';
import type { SetUpStep } from './set-up-step.js';

export interface StreamWriterOptions {
  /** How to reach a broker. */
  connection: Omit<ConnectionManagerOptions, 'onConnected' | 'onReplaced' | 'onUsed'>;
  stream: string;
  /** How long the broker keeps messages, where the stream has to be declared. */
  maxAgeDays: number;
}

/** How long lines wait for a connection until they count as not written, in milliseconds. */
const CONNECT_MS = 1_000;

/** A message for a stream. */
export interface StreamLine {
  /** Its `message_id`. It may arrive twice. */
  readonly id: string;
  readonly text: string;
}

/**
 * Writes to a stream on a connection of its own, because the broker closes the connection over much that is wrong with a stream.
 * Each message has the user whom the broker has logged in as its `user_id`, which the broker verifies.
 */
export class StreamWriter {
  readonly #options: StreamWriterOptions;
  readonly #connections: ConnectionManager;
  readonly #channels = new WeakMap<BrokerConnection, PublishChannel>();

  constructor(options: StreamWriterOptions) {
    this.#options = options;
    this.#connections = new ConnectionManager({
      ...options.connection,
      onConnected: async (connection, step) => this.#build(connection, step),
    });
  }

  /** Starts to connect. */
  start(): void {
    this.#connections.start();
  }

  /** Call it when `brokers` returns others than before. */
  brokersChanged(): void {
    this.#connections.brokersChanged();
  }

  /**
   * Writes lines, in order. Never rejects.
   * @returns how many of the first ones the broker has confirmed, and why not all
   */
  async write(lines: readonly StreamLine[]): Promise<{ kept: number; problem?: string }> {
    const current = this.#connections.current ?? (await this.#connected());
    const channel = current && this.#channels.get(current);
    const { problem } = this.#connections;
    if (current === undefined || channel === undefined || problem !== undefined)
      return { kept: 0, problem: problem ?? 'there is no connection to a broker' };
    const outcomes = await Promise.allSettled(
      lines.map(async (line) => this.#publish(channel, line, current.user)),
    );
    const failed = outcomes.findIndex((each) => each.status === 'rejected' || each.value !== 'routed');
    if (failed === -1) return { kept: lines.length };
    const error = this.#errorOf(outcomes[failed]);
    // Set up again, which says what is wrong, and declares a stream that was deleted.
    current.lose(error);
    return { kept: failed, problem: brokerReason(error) };
  }

  async close(): Promise<void> {
    await this.#connections.close();
  }

  async #build(connection: BrokerConnection, step: SetUpStep): Promise<void> {
    const { stream, maxAgeDays } = this.#options;
    const { tls } = this.#options.connection;
    connection.user = await step("publish in the user's name", async () => ownUserOf(connection, tls?.cert));
    if (connection.user === undefined)
      throw new Error(
        `the broker accepts no message in the name of its user, so that what is in ${stream} could be from anyone`,
      );
    await step(`declare the stream ${stream}`, async () => declareStream(connection, { stream, maxAgeDays }));
    const channel = await step('open a channel', async () => PublishChannel.open(connection));
    this.#channels.set(connection, channel);
  }

  /** Waits for a moment: a connection that was good is restored soon, and one is made at the start. */
  async #connected(): Promise<BrokerConnection | undefined> {
    const { clock } = this.#options.connection;
    const limit = { ms: CONNECT_MS, clock, reason: () => new Error('there is no connection to a broker') };
    return runWithin(limit, async (signal) => this.#connections.whenConnected(signal)).catch(() => undefined);
  }

  async #publish(
    channel: PublishChannel,
    { id, text }: StreamLine,
    userId: string | undefined,
  ): Promise<PublishOutcome> {
    return channel.publish({
      to: { exchange: '', routingKey: this.#options.stream },
      content: Buffer.from(text),
      options: {
        userId,
        messageId: id,
        mandatory: true,
        persistent: true,
        contentType: 'application/json',
      },
      sending: undefined,
      stop: undefined,
    });
  }

  #errorOf(outcome: PromiseSettledResult<PublishOutcome> | undefined): unknown {
    const { stream } = this.#options;
    if (outcome?.status === 'rejected') return outcome.reason;
    return new Error(
      outcome?.value === 'nacked'
        ? `the broker could not write to the stream ${stream}`
        : `the broker has no stream ${stream}`,
    );
  }
}
