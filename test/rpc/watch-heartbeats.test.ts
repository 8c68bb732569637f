import { once } from 'node:events';
import { type AddressInfo, connect as connectSocket, createServer } from 'node:net';
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
