import { once } from 'node:events';
import { mock } from 'node:test';
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { systemClock } from '../../src/lib/clock.js';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { openConnection } from '../../src/rpc/open-connection.js';
import { watchHeartbeats } from '../../src/rpc/watch-heartbeats.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { rabbitmq } from '../support/brokers.js';
import { whenAborted } from '../../src/lib/when-aborted.js';
import { startProxy } from '../support/proxy.js';

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('a broker that stops sending is noticed within two heartbeats, before amqplib notices it', async (t) => {
    const url = new URL(rabbit.url);
    const proxy = await startProxy(t, { port: Number(url.port) });
    url.port = String(proxy.port);
    url.searchParams.set('heartbeat', '2');
    const { connect } = rabbit;
    const connection = await openConnection({ url: url.href }, { connect, name: 'test', clock: systemClock });
    t.teardown(async () => connection.close(systemClock));
    proxy.swallow();
    await whenAborted(connection.lost);
    t.is(connection.lost.reason.message, 'the broker sent nothing, not even a heartbeat, for 3 s');
  });

  test('an idle connection is kept by the heartbeats of the broker', async (t) => {
    const url = `${rabbit.url}?heartbeat=8`;
    const { connect } = rabbit;
    const connection = await openConnection({ url }, { connect, name: 'test', clock: systemClock });
    t.teardown(async () => connection.close(systemClock));
    // Real time: the broker sends its heartbeats, one each 4 s, by its own clock. Without them it is lost after 12 s.
    await sleep(13_000);
    t.false(connection.lost.aborted);
  });
}

/** A connection whose heartbeats are watched, and a socket that counts how often it is looked at. */
async function watch(heartbeat: number, { isLost = false }: { isLost?: boolean } = {}) {
  const url = 'amqp://embedded.invalid';
  const connection = new BrokerConnection(await new EmbeddedBroker().connect(url, {}), { url });
  if (isLost) connection.lose(new Error('cut'));
  const state = { bytes: 100, looks: 0 };
  const socket = {
    get bytesRead() {
      state.looks++;
      return state.bytes;
    },
  };
  // Only while this file's other tests cannot run.
  const during = (act: () => void) => {
    mock.timers.enable({ apis: ['setInterval'] });
    try {
      watchHeartbeats(socket as Socket, heartbeat, connection);
      act();
    } finally {
      mock.timers.reset();
    }
  };
  return { connection, state, during };
}

test('a broker that sends nothing for one and a half heartbeats is lost, and one that sends something is not', async (t) => {
  const { connection, state, during } = await watch(10);
  during(() => {
    for (let times = 0; times < 5; times++) {
      mock.timers.tick(14_999);
      t.false(connection.lost.aborted);
      state.bytes++;
      mock.timers.tick(1);
    }
    mock.timers.tick(14_999);
    t.false(connection.lost.aborted);
    mock.timers.tick(1);
    t.is(connection.lost.reason.message, 'the broker sent nothing, not even a heartbeat, for 15 s');
  });
});

test('a broker without heartbeats may be silent for as long as it likes', async (t) => {
  const { connection, during } = await watch(0);
  during(() => mock.timers.tick(60_000));
  t.false(connection.lost.aborted);
});

test('a connection that is lost is not watched any more, nor one that was lost before', async (t) => {
  for (const isLost of [false, true]) {
    const { connection, state, during } = await watch(10, { isLost });
    during(() => {
      connection.lose(new Error('cut'));
      const { looks } = state;
      mock.timers.tick(60_000);
      t.is(state.looks, looks);
    });
  }
});

test('a process that was blocked for longer than two heartbeats does not count the broker as lost', async (t) => {
  const url = 'amqp://embedded.invalid';
  const connection = new BrokerConnection(await new EmbeddedBroker().connect(url, {}), { url });
  t.teardown(async () => connection.close(systemClock));
  const peer = createServer((socket) => {
    const beat = setInterval(() => socket.write('x'), 20);
    socket.on('close', () => clearInterval(beat));
  });
  t.teardown(() => peer.close());
  await once(peer.listen(0, '127.0.0.1'), 'listening');
  const socket = connectSocket((peer.address() as AddressInfo).port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.resume();
  await once(socket, 'data');
  watchHeartbeats(socket, 0.2, connection);
  for (let times = 0; times < 3; times++) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600);
    await once(socket, 'data');
  }
  t.false(connection.lost.aborted);
});
