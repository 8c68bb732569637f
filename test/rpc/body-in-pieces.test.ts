import { randomBytes, randomUUID } from 'node:crypto';
import test from 'ava';
import * as fc from 'fast-check';
import { systemClock } from '../../src/lib/clock.js';
import { bodyInPieces, cut, joined, LARGE_BODY, piecesOf } from '../../src/rpc/body-in-pieces.js';
import { ConfirmChannel } from '../../src/rpc/confirm-channel.js';
import { brokers } from '../support/brokers.js';
import { connectTo } from '../support/connect-to.js';

/** What RabbitMQ and amqplib agree on, without what surrounds the content of a frame. */
const FRAME_CONTENT = 131_072 - 8;

/** Random bytes, and the same in pieces of these sizes and the rest. */
function body(bytes: number, sizes: readonly number[]) {
  const whole = randomBytes(bytes);
  const pieces: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    pieces.push(whole.subarray(at, at + size));
    at += size;
  }
  return { whole, inPieces: bodyInPieces([...pieces, whole.subarray(at)]) };
}

test('a large body stays in pieces, and a smaller one is an ordinary buffer', (t) => {
  const large = body(LARGE_BODY, [10, 0, 20]);
  t.is(large.inPieces.length, LARGE_BODY);
  t.is(piecesOf(large.inPieces).length, 4);
  t.deepEqual(joined(large.inPieces), large.whole);
  const small = body(LARGE_BODY - 1, [10, 0, 20]);
  t.deepEqual(piecesOf(small.inPieces), [small.inPieces]);
  t.deepEqual(small.inPieces, small.whole);
  t.is(joined(small.inPieces), small.inPieces);
});

test('the parts of a body that is cut are as large as they may be, and have all of it', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.nat({ max: 40_000 }), { maxLength: 8 }),
      fc.integer({ min: 1_000, max: 200_000 }),
      (sizes, bytes) => {
        const { whole, inPieces } = body(LARGE_BODY + 1_234, sizes);
        const parts = [...cut(inPieces, bytes)].map((pieces) => Buffer.concat(pieces));
        t.deepEqual(Buffer.concat(parts), whole);
        t.true(parts.slice(0, -1).every(({ length }) => length === bytes));
        t.is(parts.length, Math.ceil(whole.length / bytes));
      },
    ),
  );
});

for (const broker of brokers()) {
  test(`${broker.name}: bodies in pieces, and large ones, arrive as they are among small ones`, async (t) => {
    const connection = await connectTo(broker);
    t.teardown(async () => connection.close(systemClock));
    const [one, other] = [await ConfirmChannel.open(connection), await ConfirmChannel.open(connection)];
    const queue = `pieces_${randomUUID()}`;
    await connection.probe(async (channel) => channel.assertQueue(queue, { autoDelete: true }));
    t.teardown(async () => connection.probe(async (channel) => channel.deleteQueue(queue)));
    const sent = new Map<string, Buffer>();
    const send = async (channel: ConfirmChannel, whole: Buffer, content: Buffer) => {
      const messageId = randomUUID();
      sent.set(messageId, whole);
      return channel.publish({ exchange: '', routingKey: queue }, content, { messageId });
    };
    const outcomes = [];
    // The first one of its size has a channel of its own.
    for (const bytes of [
      3 * FRAME_CONTENT + 1,
      LARGE_BODY,
      FRAME_CONTENT,
      FRAME_CONTENT + 1,
      2 * FRAME_CONTENT,
    ]) {
      const { whole, inPieces } = body(bytes, [100, 0, 40_000, 1]);
      outcomes.push(await send(one, whole, inPieces));
      const [a, b] = [body(bytes, [60_000]), body(bytes, [])];
      const small = randomBytes(2_500);
      const sending = [
        send(one, a.whole, a.inPieces),
        send(other, b.whole, b.whole),
        send(one, small, small),
        send(other, whole, inPieces),
      ];
      outcomes.push(...(await Promise.all(sending)));
    }
    t.true(outcomes.every((outcome) => outcome === 'routed'));
    for (let left = sent.size; left > 0; left--) {
      const message = await connection.probe(async (channel) => channel.get(queue, { noAck: true }));
      t.not(message, false, 'none is missing');
      if (message !== false) t.true(sent.get(String(message.properties.messageId))?.equals(message.content));
    }
  });
}
