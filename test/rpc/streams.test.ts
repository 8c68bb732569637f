import { randomUUID } from 'node:crypto';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { AuditQueue } from '../../src/access/audit/audit-queue.js';
import { readStream, type StreamMessage } from '../../src/rpc/read-stream.js';
import { StreamWriter } from '../../src/rpc/stream-writer.js';
import { openConnection } from '../../src/rpc/open-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { type OwnBroker, startOwnBroker } from '../support/own-broker.js';

const test = anyTest as TestFn<{ broker: OwnBroker; remove: () => Promise<void> }>;
const line = (text: string) => ({ id: text, text });
const texts = (count: number, prefix = 'line') =>
  Array.from({ length: count }, (_, index) => `${prefix} ${index}`);
const nameOf = () => `stream_${randomUUID()}`;

if (rabbitmq() !== undefined) {
  test.before(async (t) => {
    t.context = await startOwnBroker();
  });
  test.after.always(async (t) => t.context.remove?.());

  const writeTo = (t: ExecutionContext, { url, connect }: TestBroker, stream: string, maxAgeDays = 90) => {
    const logs = logLines();
    const writer = new StreamWriter({
      connection: {
        connect,
        brokers: async () => [{ url }],
        name: 'test',
        clock: systemClock,
        log: logs.log,
      },
      stream,
      maxAgeDays,
    });
    writer.start();
    t.teardown(async () => writer.close());
    /** Writes when it is connected. */
    const write = async (...lines: string[]) =>
      eventually('it is connected', async () => {
        const written = await writer.write(lines.map(line));
        return written.problem?.startsWith('no connection') === true ? undefined : written;
      });
    return { writer, write, logs };
  };

  const read = async (
    t: ExecutionContext,
    { url, connect }: TestBroker,
    options: { stream: string } & Partial<Parameters<typeof readStream>[1]>,
  ): Promise<StreamMessage[]> => {
    const connection = await openConnection({ url }, { connect, name: 'test', clock: systemClock });
    t.teardown(async () => connection.close(systemClock));
    const found: StreamMessage[] = [];
    await readStream(connection, {
      since: undefined,
      follow: false,
      signal: new AbortController().signal,
      onMessages: async (messages) => void found.push(...messages),
      ...options,
    });
    return found;
  };
  const textsOf = (messages: readonly StreamMessage[]) => messages.map(({ content }) => content.toString());

  test('what is written is read to its end, in order, with the user of the writer', async (t) => {
    const { broker } = t.context;
    const stream = nameOf();
    const { write } = writeTo(t, broker, stream);
    const all = texts(3_000);
    for (let from = 0; from < all.length; from += 500)
      t.deepEqual(await write(...all.slice(from, from + 500)), { kept: 500 });
    const messages = await read(t, broker, { stream });
    t.deepEqual(textsOf(messages), all);
    t.true(
      messages.every(
        ({ userId, messageId, content }) => userId === 'guest' && messageId === content.toString(),
      ),
    );
    t.deepEqual(textsOf(await read(t, broker, { stream, since: Date.now() })), all, 'a margin for clocks');
    t.deepEqual(await read(t, broker, { stream, since: Date.now() + 3_600_000 }), []);
  });

  test('what others write has not the user of the writer', async (t) => {
    const { broker } = t.context;
    const stream = nameOf();
    const { write } = writeTo(t, broker, stream);
    await write('true');
    const mallory = await broker.user('mallory', {});
    const connection = await mallory.open();
    connection.on('error', () => {});
    t.teardown(async () => connection.close().catch(() => {}));
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => {});
    const forge = (userId?: string) => channel.sendToQueue(stream, Buffer.from('forged'), { userId });
    forge();
    forge('mallory');
    await channel.waitForConfirms();
    forge('guest');
    await t.throwsAsync(channel.waitForConfirms());
    const found = await read(t, broker, { stream });
    t.deepEqual(
      found.map(({ content, userId }) => [content.toString(), userId]),
      [
        ['true', 'guest'],
        ['forged', undefined],
        ['forged', 'mallory'],
      ],
    );
  });

  test('an empty stream ends, and a follower gets what comes', async (t) => {
    const { broker } = t.context;
    const stream = nameOf();
    const { write } = writeTo(t, broker, stream);
    await write();
    await eventually('the stream is there', async () => {
      const connection = await broker.open();
      const channel = await connection.createChannel();
      channel.on('error', () => {});
      const there = await channel.checkQueue(stream).then(
        () => true,
        () => false,
      );
      await connection.close();
      return there;
    });
    t.deepEqual(await read(t, broker, { stream }), []);
    const stop = new AbortController();
    const followed: string[] = [];
    const following = read(t, broker, {
      stream,
      follow: true,
      signal: stop.signal,
      onMessages: async (messages) => void followed.push(...textsOf(messages)),
    });
    const all = texts(500);
    for (const text of all.slice(0, 20)) await write(text);
    await write(...all.slice(20));
    await eventually('all were followed', () => followed.length === all.length);
    t.deepEqual(followed, all);
    stop.abort();
    await following;
  });

  test('an existing stream is used as it is, and another kind of queue is refused', async (t) => {
    const { broker } = t.context;
    const [stream, classic] = [nameOf(), nameOf()];
    t.deepEqual(await writeTo(t, broker, stream, 30).write('a'), { kept: 1 });
    t.deepEqual(await writeTo(t, broker, stream, 90).write('b'), { kept: 1 });
    t.deepEqual(textsOf(await read(t, broker, { stream })), ['a', 'b']);
    const connection = await broker.open();
    const channel = await connection.createChannel();
    await channel.assertQueue(classic);
    await connection.close();
    const { writer, logs } = writeTo(t, broker, classic);
    const [lost] = await eventually('it has failed', () =>
      logs.lines.length > 0 ? logs.find(/^broker connection lost$/) : undefined,
    );
    t.regex(String(lost?.reason), /exists, and is not a stream that the service can use/);
    t.regex(String((await writer.write([line('a')])).problem), /is not a stream/);
    await t.throwsAsync(read(t, broker, { stream: classic }), { message: /x-stream-offset/ });
    await t.throwsAsync(read(t, broker, { stream: nameOf() }), { message: /NOT_FOUND/ });
  });

  test('without the permission to configure, an existing stream is used, and a missing one is told', async (t) => {
    const { broker } = t.context;
    const stream = nameOf();
    await writeTo(t, broker, stream).write('a');
    const writerOnly = await broker.user('writer', { configure: '^$', read: '^$' });
    t.deepEqual(await writeTo(t, writerOnly, stream).write('b'), { kept: 1 });
    t.deepEqual(
      (await read(t, broker, { stream })).map(({ userId }) => userId),
      ['guest', 'writer'],
    );
    const { logs } = writeTo(t, writerOnly, nameOf());
    const [lost] = await eventually('it has failed', () =>
      logs.lines.length > 0 ? logs.find(/^broker connection lost$/) : undefined,
    );
    t.regex(String(lost?.reason), /ACCESS_REFUSED.*configure/);
  });

  test('a stream that is deleted is declared again', async (t) => {
    const { broker } = t.context;
    const stream = nameOf();
    const { write, writer } = writeTo(t, broker, stream);
    await write('a');
    const connection = await broker.open();
    const channel = await connection.createChannel();
    await channel.deleteQueue(stream);
    await connection.close();
    t.deepEqual(await writer.write([line('b')]), { kept: 0, problem: `the broker has no stream ${stream}` });
    await eventually('it is there again', async () => (await writer.write([line('b')])).kept === 1);
    t.deepEqual(textsOf(await read(t, broker, { stream })), ['b']);
  });

  test.serial(
    'lines that come while the broker is away are in the stream when it is back, none is lost',
    async (t) => {
      const { broker } = t.context;
      const stream = nameOf();
      const { writer, write, logs } = writeTo(t, broker, stream);
      const queue = new AuditQueue({
        sink: writer,
        gapLine: () => line('gap'),
        clock: systemClock,
        log: logs.log,
      });
      await write('first');
      const all = texts(400);
      for (const text of all.slice(0, 100)) queue.add(line(text));
      const stopped = broker.stop();
      for (const text of all.slice(100, 200)) queue.add(line(text));
      await stopped;
      for (const text of all.slice(200, 300)) queue.add(line(text));
      t.regex(String(await queue.addAwaited(line('waited for')).outcome), /connection|closed|CONNECTION/i);
      await broker.start();
      for (const text of all.slice(300)) queue.add(line(text));
      t.is(
        await eventually('it writes again', async () => {
          const outcome = await queue.addAwaited(line('last')).outcome;
          return outcome === undefined ? 'kept' : undefined;
        }),
        'kept',
      );
      const found = textsOf(await read(t, broker, { stream }));
      const once = [...new Set(found)];
      t.deepEqual(
        once.filter((text) => text.startsWith('line ')),
        all,
      );
      t.true(once.includes('waited for'));
      t.is(logs.find(/^audit lines wait$/).length, 1);
      t.is(logs.find(/^audit lines written again$/).length, 1);
      await queue.close(1_000);
    },
  );
}
