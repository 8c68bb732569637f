import test from 'ava';
import type { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { ConnectionAttempts } from '../../src/rpc/connection-attempts.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';

const A = { url: 'amqp://a' };

/** Attempts that end when the test says so. */
function open() {
  const clock = new ManualClock();
  const begun: { url: string; stop: AbortSignal; finish: (connection: BrokerConnection) => void }[] = [];
  const attempts = new ConnectionAttempts(
    async ({ url }, stop) => new Promise((finish) => begun.push({ url, stop, finish })),
    clock,
  );
  return { attempts, clock, begun };
}

test('a broker that has not responded for a second is left for the others, and its attempt goes on', async (t) => {
  const { attempts, clock, begun } = open();
  const first = watched(attempts.connect(A, true).then((connection) => ({ connection })));
  clock.advance(999);
  await settle();
  t.is(first(), undefined);
  clock.advance(1);
  await settle();
  t.deepEqual(first(), { connection: undefined });
  const again = attempts.connect(A, true);
  clock.advance(0);
  t.is(await again, undefined, 'its second is over');
  t.is(begun.length, 1);
  const connection = {} as BrokerConnection;
  begun[0]?.finish(connection);
  t.is(await attempts.connect(A, true), connection);
  void attempts.connect(A, true);
  t.is(begun.length, 2, 'the next one is a new attempt');
});

test('a broker without others is waited for', async (t) => {
  const { attempts, clock, begun } = open();
  const only = watched(attempts.connect(A, false));
  clock.advance(60_000);
  await settle();
  t.is(only(), undefined);
  const connection = {} as BrokerConnection;
  begun[0]?.finish(connection);
  await settle();
  t.is(only(), connection);
});

test('an attempt that is stopped is told so, and a connection that it still makes is closed', async (t) => {
  const { attempts, begun, clock } = open();
  void attempts.connect(A, true);
  attempts.stop();
  t.like(begun[0]?.stop.reason, { message: 'another broker is used' });
  const closed: unknown[] = [];
  begun[0]?.finish({ close: async (by: unknown) => void closed.push(by) } as BrokerConnection);
  await settle();
  t.deepEqual(closed, [clock]);
  void attempts.connect(A, true);
  t.is(begun.length, 2);
});
