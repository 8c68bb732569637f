import type { ConsumeMessage } from 'amqplib';
import test from 'ava';
import { jsonCodec } from '../../src/rpc/codec/json.js';
import type { Delivery } from '../../src/rpc/consumer.js';
import { readEnvelope, replyEnvelope } from '../../src/rpc/envelope.js';
import { NotConfirmed } from '../../src/rpc/pending-replies.js';
import { PublishRefused, UnpublishableError } from '../../src/rpc/publish-errors.js';
import type { PublishConfirmed } from '../../src/rpc/publisher.js';
import { ReplyToChannel } from '../../src/rpc/reply-to-channel.js';
import { fakeConnection } from '../support/fake-connection.js';
import { logLines } from '../support/log-lines.js';

const ENVELOPE = readEnvelope({
  id: 13,
  request_body: { action: 'act', action_parameters: 'x'.repeat(500) },
});
/** Half a second after a whole one. */
const CLOCK = { wallTime: () => 1_800_000_000_500 };
const DIRECT = 'amq.rabbitmq.reply-to.x';

/** Sends a reply of so many bytes to a caller whose broker answers like that, the last time for all that follow. */
async function send(
  answers: (Awaited<ReturnType<PublishConfirmed>> | Error)[],
  { bytes = 10, ...given }: Partial<ConsumeMessage['properties']> & { bytes?: number } = {},
) {
  const logs = logLines();
  const published: Parameters<PublishConfirmed>[] = [];
  const channel = new ReplyToChannel(async (...message) => {
    published.push(message);
    const answer = answers[Math.min(published.length, answers.length) - 1];
    if (answer instanceof Error) throw answer;
    return answer ?? 'routed';
  }, CLOCK);
  const connection = fakeConnection(() => 'confirms');
  const properties = { replyTo: 'caller', correlationId: 'c', ...given };
  const delivery = { connection, properties } as unknown as Delivery;
  const body = jsonCodec.encode(replyEnvelope(ENVELOPE, { status: 'completed', body: 'x'.repeat(bytes) }));
  const { signal } = new AbortController();
  const sent = channel.send(
    { body, contentType: 'application/json', plain: undefined },
    { codec: jsonCodec, envelope: ENVELOPE, delivery, until: 42, log: logs.log },
    signal,
  );
  const outcome = await sent.catch((error: unknown) => error);
  const reasons = logs.lines.map(({ message, reason }) => `${String(message)}: ${String(reason)}`);
  return { outcome, published, reasons, body, connection, signal, channel, delivery };
}

test('a reply goes to the queue that its request names, by its connection while its caller waits, as lasting as the request; it says what it is, from whom and from when', async (t) => {
  for (const [deliveryMode, persistent] of [
    [1, false],
    [2, true],
    [undefined, false],
  ] as const) {
    const { outcome, published, body, connection, signal, reasons } = await send(['routed'], {
      deliveryMode,
    });
    t.is(outcome, 'sent');
    t.deepEqual(published, [
      [
        { exchange: '', routingKey: 'caller' },
        body,
        {
          contentType: 'application/json',
          correlationId: 'c',
          persistent,
          type: 'reply',
          timestamp: 1_800_000_000,
          appId: 'fleet-manager',
          headers: undefined,
        },
        { signal, by: connection, until: 42 },
      ],
    ]);
    t.deepEqual(reasons, []);
  }
});

test('only a request that names a queue is reached', async (t) => {
  for (const [replyTo, reached] of [
    ['caller', true],
    ['', false],
    [undefined, false],
    [7, false],
  ] as const) {
    const { channel, delivery } = await send(['routed'], { replyTo });
    t.is(channel.reaches(ENVELOPE, delivery), reached, String(replyTo));
    t.false(channel.needsPlainReply);
  }
});

test('a reply that cannot reach its caller is dropped, and the log has the reason', async (t) => {
  for (const [answer, reason] of [
    ['unroutable', 'the queue of its reply_to does not exist'],
    ['nacked', 'the queue of its reply_to is full'],
    [new UnpublishableError('too long'), 'its reply_to or correlation_id cannot be used: too long'],
    [new PublishRefused({ code: 403, text: 'ACCESS_REFUSED' }), 'the broker refuses it: ACCESS_REFUSED'],
    [new NotConfirmed('in time'), 'in time'],
  ] as const) {
    const { outcome, published, reasons } = await send([answer]);
    t.is(outcome, 'dropped');
    t.deepEqual(reasons, [`reply dropped: ${reason}`]);
    t.is(published.length, 1);
  }
});

test('a direct reply that is returned was sent, and one that is not accepted was not', async (t) => {
  t.is((await send(['unroutable'], { replyTo: DIRECT })).outcome, 'sent');
  t.is((await send(['routed'], { replyTo: DIRECT })).outcome, 'sent');
  t.is((await send(['nacked'], { replyTo: DIRECT })).outcome, 'dropped');
});

test('any other failure is not settled', async (t) => {
  const stopped = new Error('stopped');
  const { outcome, reasons } = await send([stopped]);
  t.is(outcome, stopped);
  t.deepEqual(reasons, []);
});

const tooLarge = (maxBytes: number) => PublishRefused.tooLarge(10_000, maxBytes);

test('a reply that is too large for the broker is sent without the copy of its request, or replaced by an error', async (t) => {
  const bare = await send([tooLarge(500), 'routed'], { bytes: 100 });
  t.is(bare.outcome, 'sent');
  t.deepEqual(bare.reasons, []);
  const [, second] = bare.published;
  t.like(jsonCodec.decode(second?.[1] ?? Buffer.alloc(0)), { id: 13, status: 'completed', request_body: {} });
  t.deepEqual(second?.[2], bare.published[0]?.[2]);
  const replaced = await send([tooLarge(500), 'routed'], { bytes: 1_000 });
  t.like(replaced.outcome, { status: 'error', body: { code: 'answer_too_large' } });
  t.deepEqual(replaced.reasons, [`reply replaced: ${tooLarge(500).message}`]);
});

test('the shorter reply may be dropped too', async (t) => {
  for (const bytes of [100, 1_000]) {
    const gone = await send([tooLarge(500), 'unroutable'], { bytes });
    t.is(gone.outcome, 'dropped');
    t.deepEqual(gone.reasons, ['reply dropped: the queue of its reply_to does not exist']);
    const refused = await send([tooLarge(500), tooLarge(400)], { bytes });
    t.is(refused.outcome, 'dropped');
    t.is(refused.published.length, 2);
  }
});
