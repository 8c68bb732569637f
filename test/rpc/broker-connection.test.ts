import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import type { ChannelModel } from 'amqplib';
import test from 'ava';
import { ConnectionLost } from '../../src/core/call.js';
import { systemClock } from '../../src/lib/clock.js';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { openConnection } from '../../src/rpc/open-connection.js';
import { brokers } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { faultyLink } from '../support/faulty-link.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';
import { warningsDuring } from '../support/warnings.js';

const ADDRESS = { url: 'amqp://embedded.invalid' };

/** A connection whose broker blocks and unblocks it when the test says so. */
async function open() {
  const model = await new EmbeddedBroker().connect(ADDRESS.url, {});
  const connection = new BrokerConnection(model, ADDRESS);
  let changes = 0;
  connection.onBlockedChange(() => changes++);
  return { model, connection, changes: () => changes };
}

/** A connection that notes in which order it and its channels are closed. */
function openCounted({ close = async () => {} }: { close?: (number: number) => Promise<void> } = {}) {
  const closed: (number | string)[] = [];
  const channels: EventEmitter[] = [];
  const createChannel = async () => {
    const number = channels.length;
    const channel = Object.assign(new EventEmitter(), {
      close: async () => {
        await close(number);
        closed.push(number);
      },
    });
    channels.push(channel);
    return channel;
  };
  const model = Object.assign(new EventEmitter(), {
    connection: {},
    createChannel,
    createConfirmChannel: createChannel,
    close: async () => void closed.push('connection'),
  });
  return { connection: new BrokerConnection(model as unknown as ChannelModel, ADDRESS), channels, closed };
}

test('a connection is lost once, for the first reason', async (t) => {
  const { connection } = await open();
  t.false(connection.lost.aborted);
  connection.lose(new Error('first'));
  t.true(connection.lost.aborted);
  connection.lose(new Error('second'));
  const { reason } = connection.lost;
  t.true(reason instanceof ConnectionLost);
  t.is(reason.message, 'first');
});

test('any number may wait for the loss of a connection without a warning of Node', async (t) => {
  const { connection } = await open();
  const warnings = await warningsDuring(async () => {
    for (let times = 0; times < 12; times++) connection.lost.addEventListener('abort', () => {});
  });
  t.deepEqual(warnings, []);
});

test('a connection is lost for what the broker says, also when something else is noticed first', async (t) => {
  for (const notice of ['close', undefined]) {
    const { model, connection } = await open();
    model.emit('error', new Error('the broker shuts down'));
    if (notice === undefined) connection.lose(new Error('a channel was closed'));
    else model.emit(notice, new Error('the socket was closed'));
    t.is(connection.lost.reason.message, 'the broker shuts down');
  }
});

test('a message waits while the broker blocks the connection, however often it says so', async (t) => {
  const { model, connection, changes } = await open();
  const { signal } = new AbortController();
  await t.notThrowsAsync(connection.whenUnblocked(signal), 'it is not blocked');
  model.emit('blocked', 'low on memory');
  const waited = watched(connection.whenUnblocked(signal).then(() => true));
  model.emit('blocked', 'low on disk');
  t.is(connection.blockedReason, 'low on disk');
  await settle();
  t.is(waited(), undefined);
  model.emit('unblocked');
  t.is(connection.blockedReason, undefined);
  await settle();
  t.true(waited());
  t.is(changes(), 3);
  model.emit('blocked', 'low on memory');
  const again = watched(connection.whenUnblocked(signal).then(() => true));
  await settle();
  t.is(again(), undefined);
});

test('who waits for a blocked broker stops waiting when the connection is lost, or when it wants no more', async (t) => {
  const { model, connection } = await open();
  model.emit('blocked', 'low on memory');
  const given = new AbortController();
  const left = connection.whenUnblocked(given.signal);
  const stays = connection.whenUnblocked(new AbortController().signal);
  given.abort(new Error('enough'));
  await t.throwsAsync(left, { message: 'enough' });
  connection.lose(new Error('cut'));
  await t.notThrowsAsync(stays);
});

test('a connection that is closed closes the channels first that are still open', async (t) => {
  const { connection, channels, closed } = openCounted({ close: settle });
  for (let opened = 0; opened < 3; opened++) await connection.confirmChannel();
  channels[1]?.emit('close');
  await connection.close(systemClock);
  t.deepEqual(closed, [0, 2, 'connection']);
});

test('a connection whose consuming channel the broker closes is lost for the reason that the broker gives', async (t) => {
  const { connection, channels } = openCounted();
  await connection.channel();
  channels[0]?.emit('error', new Error('PRECONDITION_FAILED - delivery acknowledgement timed out'));
  channels[0]?.emit('close');
  t.is(connection.lost.reason.message, 'PRECONDITION_FAILED - delivery acknowledgement timed out');
});

test('a connection is kept when the broker closes a channel for publishing', async (t) => {
  const { connection, channels } = openCounted();
  await connection.confirmChannel();
  channels[0]?.emit('error', new Error('NOT_FOUND - no exchange'));
  channels[0]?.emit('close');
  await settle();
  t.false(connection.lost.aborted);
});

test('a probe ends when its channel is closed, also when that fails', async (t) => {
  for (const fails of [false, true]) {
    let end = () => {};
    const closing = new Promise<void>((resolve, reject) => {
      end = () => (fails ? reject(new Error('it is closed')) : resolve());
    });
    let isAsked = false;
    const { connection } = openCounted({
      close: async () => {
        t.true(isAsked, 'it is closed when it was used');
        await closing;
      },
    });
    const asked = watched(
      connection.probe(async () => {
        await settle();
        isAsked = true;
        return 'asked';
      }),
    );
    await settle();
    await settle();
    t.is(asked(), undefined);
    end();
    await settle();
    t.is(asked(), 'asked');
  }
});

test('a probe whose channel the broker closes fails with the reason, and closes it no more', async (t) => {
  const { connection, channels, closed } = openCounted();
  const refused = connection.probe(async () => {
    channels[0]?.emit('error', new Error('NOT_FOUND - no queue'));
    channels[0]?.emit('close');
    throw new Error('NOT_FOUND - no queue');
  });
  await t.throwsAsync(refused, { message: 'NOT_FOUND - no queue' });
  t.deepEqual(closed, []);
  t.false(connection.lost.aborted);
});

test('a channel too many fails with the number that the broker allows, and any other fault as it is', async (t) => {
  const faults = ['No channels left to allocate', 'cut'];
  const model = Object.assign(new EventEmitter(), {
    connection: { channelMax: 2 },
    createChannel: async () => {
      throw new Error(faults.shift());
    },
  });
  const connection = new BrokerConnection(model as unknown as ChannelModel, ADDRESS);
  await t.throwsAsync(connection.channel(), {
    message: 'the broker allows no more than 2 channels on a connection',
  });
  await t.throwsAsync(connection.channel(), { message: 'cut' });
});

test('a connection that does not close within a second is cut', async (t) => {
  const clock = new ManualClock();
  const stream = new Socket();
  const cut: string[] = [];
  stream.on('error', ({ message }) => cut.push(message));
  const model = Object.assign(new EventEmitter(), {
    connection: { stream },
    close: async () => new Promise(() => {}),
  });
  const connection = new BrokerConnection(model as unknown as ChannelModel, ADDRESS);
  const closed = watched(connection.close(clock).then(() => true));
  await settle();
  clock.advance(999);
  await settle();
  t.deepEqual([closed(), cut], [undefined, []]);
  clock.advance(1);
  await settle();
  t.true(closed());
  t.is(connection.lost.reason.message, 'the connection was closed');
  t.deepEqual(cut, ['the connection was not closed in time']);
});

for (const broker of brokers()) {
  test(`${broker.name}: a probe ends when its connection is lost while its channel is closed`, async (t) => {
    const link = faultyLink(broker);
    const connection = await openConnection(
      { url: broker.url },
      { connect: link.connect, name: 'test', clock: systemClock },
    );
    t.teardown(async () => connection.close(systemClock));
    t.is(await connection.probe(async () => (link.cut(), 'asked')), 'asked');
    await eventually('the loss is seen', () => connection.lost.aborted);
  });
}
