import type { BrokerConnection } from './broker-connection.js';
import { refusalOf } from './broker-refusal.js';
import { hasQueue } from './queues.js';

/**
 * The broker drops whole segments, so that a small one keeps lines hardly longer than they should be (RabbitMQ, "Streams", data
 * retention). In bytes.
 */
const SEGMENT_BYTES = 10_000_000;

/** What only a stream can have: where the broker finds a difference in one of these, the type is the same. */
const OF_STREAMS =
  /inequivalent arg '(?:x-max-age|x-stream-[\w-]+|x-initial-cluster-size|x-queue-leader-locator)'/;

/**
 * Declares a stream that keeps messages for this long. An existing stream is not changed: it may be configured by an operator.
 * @throws Error when it neither exists nor can be declared, or is another kind of queue
 */
export async function declareStream(
  connection: BrokerConnection,
  { stream, maxAgeDays }: { stream: string; maxAgeDays: number },
): Promise<void> {
  const error = await connection
    .probe(async (channel) =>
      channel.assertQueue(stream, {
        durable: true,
        arguments: {
          'x-queue-type': 'stream',
          'x-max-age': `${maxAgeDays}D`,
          'x-stream-max-segment-size-bytes': SEGMENT_BYTES,
        },
      }),
    )
    .then(
      () => undefined,
      (reason: unknown) => reason,
    );
  if (error === undefined) return;
  const refusal = refusalOf(error);
  if (refusal?.code === 403 && (await hasQueue(connection, stream))) return;
  if (refusal?.code !== 406) throw error;
  // Without the error as its cause, whose text would stand for it.
  if (!OF_STREAMS.test(refusal.text))
    throw new Error(
      `the queue ${stream} exists, and is not a stream that the service can use: ${refusal.text}`,
    );
}
