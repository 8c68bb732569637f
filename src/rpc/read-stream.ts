import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import { whenAborted } from '../lib/when-aborted.js';
import type { BrokerConnection } from './broker-connection.js';

/** A message of a stream. */
export interface StreamMessage {
  readonly content: Buffer;
  /** The user who has published it, as the broker has verified; undefined: the message names none. */
  readonly userId: string | undefined;
  readonly messageId: string | undefined;
}

export interface ReadStreamOptions {
  stream: string;
  /** Leaves out most of what is older, in milliseconds since the epoch; undefined: nothing. */
  since: number | undefined;
  /** Whether it waits for more at the end. */
  follow: boolean;
  /** Gets messages in order. No more are read until it resolves. */
  onMessages: (messages: readonly StreamMessage[]) => Promise<void>;
  /** Aborted to end it. */
  signal: AbortSignal;
}

/** RabbitMQ requires a limit for a stream; each message in it is acknowledged. */
const PREFETCH = 200;
/** How long a stream without messages is silent until it is taken for empty, in milliseconds. */
const SILENT_MS = 3_000;
/** Between two looks at a stream that has sent nothing yet, in milliseconds. */
const LOOK_MS = 20;

/**
 * Reads a stream, to its end or on and on. It needs the permission to read it.
 *
 * The broker does not say where the end is. But it sends what is there while it handles an acknowledgement, before its answer to
 * what comes next on the channel: when that answer comes and nothing came before, all has been read (RabbitMQ 3.10,
 * rabbit_stream_queue: settle). Only a stream that has sent nothing at all must be waited for.
 * @throws the reason why the connection is lost, or why the broker refuses: it has no such stream
 */
export async function readStream(
  connection: BrokerConnection,
  { stream, since, follow, onMessages, signal }: ReadStreamOptions,
): Promise<void> {
  const channel = await connection.channel();
  await channel.prefetch(PREFETCH);
  let arrived: ConsumeMessage[] = [];
  let wake = () => {};
  const consumed = channel.consume(
    stream,
    (message) => {
      if (message === null) return connection.lose(new Error(`the stream ${stream} was deleted`));
      arrived.push(message);
      wake();
    },
    { arguments: { 'x-stream-offset': offsetOf(since) } },
  );
  const lost = new Promise<never>((_resolve, reject) => {
    const fail = () => reject(connection.lost.reason);
    if (connection.lost.aborted) fail();
    else connection.lost.addEventListener('abort', fail, { once: true });
  });
  // It may be lost when nobody waits any more.
  lost.catch(() => {});
  await Promise.race([consumed, lost]);
  const ended = whenAborted(signal);
  let silentSince: number | undefined = performance.now();
  while (!signal.aborted) {
    const messages = arrived;
    arrived = [];
    const last = messages.at(-1);
    if (last !== undefined) {
      silentSince = undefined;
      await onMessages(messages.map(readMessage));
      channel.ack(last, true);
    } else if (follow) {
      await Promise.race([lost, new Promise<void>((resolve) => (wake = resolve)), ended]);
      continue;
    } else if (silentSince === undefined || performance.now() - silentSince > SILENT_MS) return;
    // Anything that has an answer: this changes the limit of later consumers.
    await Promise.race([channel.prefetch(PREFETCH), lost]);
    if (silentSince !== undefined) await sleep(LOOK_MS);
  }
}

/** RabbitMQ finds the chunk of messages with this time, in seconds; its clock may differ from that of the workers. */
function offsetOf(since: number | undefined): unknown {
  const EARLIER_SECONDS = 600;
  if (since === undefined) return 'first';
  return { '!': 'timestamp', value: Math.max(0, Math.floor(since / 1_000) - EARLIER_SECONDS) };
}

function readMessage({ content, properties }: ConsumeMessage): StreamMessage {
  const { userId, messageId }: { userId?: unknown; messageId?: unknown } = properties;
  return { content, userId: textOf(userId), messageId: textOf(messageId) };
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
