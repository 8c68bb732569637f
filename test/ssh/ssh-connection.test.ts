import { once } from 'node:events';
import type { Socket } from 'node:net';
import { mock } from 'node:test';
import test, { type ExecutionContext } from 'ava';
import type { AuthContext, ServerChannel } from 'ssh2';
import { CommandNotSent, type SshConnection } from '../../src/ssh/ssh-connection.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { logInTo } from './log-in-to.js';
import { errorOf } from './shell-for.js';

/** Logs in to a host that answers the login in this way. @param remember saves the key of the host */
async function logIn(
  t: ExecutionContext,
  onLogin: (context: AuthContext, socket: Socket) => void,
  remember?: () => Promise<void>,
): Promise<SshConnection> {
  return logInTo(t, { onLogin, remember });
}

test('a connection that the host closes instead of answering the login is a refused login', async (t) => {
  const error = await errorOf(logIn(t, (_context, socket) => socket.end()));
  t.is(error.code, 'login_refused');
  t.deepEqual(error.details, { host: 'node1', user: 'core', reason: 'closed' });
  t.is(error.message, 'node1 refused the login of core: it closed the connection');
});

test('what a host says before it closes the connection is in the message, as one short line', async (t) => {
  for (const [banner, shown] of [
    ['Accounts are locked.\n  Ask for help.\n', 'Accounts are locked. Ask for help.'],
    ['x'.repeat(300), 'x'.repeat(300)],
    ['x'.repeat(301), `${'x'.repeat(300)}...`],
  ] as const) {
    const error = await errorOf(logInTo(t, { onLogin: (_context, socket) => socket.end(), banner }));
    t.is(error.message, `node1 refused the login of core: ${shown}`);
    t.like(error.details, { reason: 'closed', text: banner.trim() });
  }
});

test('a connection that breaks during the login says nothing of the account', async (t) => {
  const error = await errorOf(logIn(t, (_context, socket) => socket.resetAndDestroy()));
  t.is(error.code, 'host_unreachable');
});

test('a connection that the host closes after it has accepted the login is not a refused login', async (t) => {
  const neverSaved = async () => new Promise<void>(() => {});
  const accept = (context: AuthContext, socket: Socket) => {
    context.accept();
    socket.end();
  };
  const error = await errorOf(logIn(t, accept, neverSaved));
  t.is(error.code, 'host_unreachable');
});

/** A command for which the host was asked, and its answers. */
interface Asked {
  begin: () => void;
  refuse: () => void;
}

interface Host {
  connection: SshConnection;
  clock: ManualClock;
  /** The commands that wait for an answer of the host. */
  asked: Asked[];
  /** The channels of the commands that have begun. */
  channels: ServerChannel[];
  /** The host's side of the connection. */
  socket: () => Socket;
}

/** A host that answers commands when the test says so. */
async function waitingHost(t: ExecutionContext, keepaliveMs?: number): Promise<Host> {
  const clock = new ManualClock();
  const asked: Asked[] = [];
  const channels: ServerChannel[] = [];
  const sockets: Socket[] = [];
  const connection = await logInTo(t, {
    clock,
    keepaliveMs,
    onLogin: (context) => context.accept(),
    onClient: (client, socket) => {
      sockets.push(socket);
      client.on('session', (accept, refuse) => {
        const begin = () => accept().on('exec', (acceptCommand) => channels.push(acceptCommand()));
        asked.push({ begin, refuse });
      });
    },
  });
  const socket = () => {
    const [first] = sockets;
    if (first === undefined) throw new Error('nobody has logged in');
    return first;
  };
  return { connection, clock, asked, channels, socket };
}

/** Lets everything happen that needs no answer of the host. */
async function turns(): Promise<void> {
  for (let n = 0; n < 5; n += 1) await new Promise(setImmediate);
}

test('a command has the whole time limit for its answer while the connection is in use, or was just used', async (t) => {
  const { connection, clock, asked } = await waitingHost(t);
  const answeredLate = async () => {
    const starting = connection.exec('true');
    await eventually('the host is asked', () => asked.length > 0);
    clock.advance(2_000);
    asked.shift()?.begin();
    return starting;
  };
  clock.advance(999);
  const first = await answeredLate();
  clock.advance(60_000);
  const second = await answeredLate();
  for (const channel of [first, second]) {
    channel.resume().close();
    await once(channel, 'close');
  }
  await answeredLate();
  t.true(connection.open);
});

test('a connection that was unused for a second must answer a command within two seconds', async (t) => {
  const { connection, clock, asked } = await waitingHost(t);
  const refused = connection.exec('true');
  await eventually('the host is asked', () => asked.length > 0);
  asked.shift()?.refuse();
  t.is((await t.throwsAsync(refused, { instanceOf: CommandNotSent })).why, 'refused');
  clock.advance(1_000);
  const unanswered = connection.exec('true');
  await eventually('the host is asked', () => asked.length > 0);
  clock.advance(1_999);
  await turns();
  t.true(connection.open);
  clock.advance(1);
  t.is((await t.throwsAsync(unanswered, { instanceOf: CommandNotSent })).why, 'closed');
  t.false(connection.open);
  t.is((await t.throwsAsync(connection.exec('true'), { instanceOf: CommandNotSent })).why, 'closed');
  t.is(clock.pending, 0);
});

test('the end of a connection is told once it is closed, also to those who ask later, unless they cancel', async (t) => {
  const { connection } = await waitingHost(t);
  const told: string[] = [];
  connection.onClosed(() => told.push('early'));
  connection.onClosed(() => told.push('cancelled'))();
  connection.destroy();
  await connection.closed;
  connection.onClosed(() => told.push('late'));
  await turns();
  t.deepEqual(told, ['early', 'late']);
});

test('a host has two seconds to agree to the end of a connection', async (t) => {
  const agreeing = await waitingHost(t);
  agreeing.connection.end();
  await agreeing.connection.closed;
  await turns();
  t.is(agreeing.clock.pending, 0);

  const { connection, clock, socket } = await waitingHost(t);
  socket().pause();
  connection.end();
  clock.advance(1_999);
  await turns();
  t.true(connection.open);
  clock.advance(1);
  await connection.closed;
  t.false(connection.open);
});

/** Replaces the intervals of this process by ones that pass when the test says so. */
function manualIntervals(): { begun: () => number; pass: (ms: number) => void; restore: () => void } {
  let begun = 0;
  const running = new Map<object, { run: () => void; ms: number; at: number }>();
  let now = 0;
  const set = mock.method(globalThis, 'setInterval', (run: () => void, ms: number) => {
    const interval = { refresh: () => interval, unref: () => interval };
    running.set(interval, { run, ms, at: now + ms });
    begun += 1;
    return interval;
  });
  const clear = mock.method(globalThis, 'clearInterval', (interval: object) => running.delete(interval));
  const pass = (ms: number) => {
    now += ms;
    for (const each of running.values()) {
      if (each.at > now) continue;
      each.at += each.ms;
      each.run();
    }
  };
  return { begun: () => begun, pass, restore: () => [set, clear].forEach((each) => each.mock.restore()) };
}

// These run alone in this process, as they replace its intervals.

test.serial(
  'a host that answers is kept, and one that is silent is lost at the fourth sign that it owes',
  async (t) => {
    for (const [keepaliveMs, interval] of [
      [undefined, 3_000],
      [100, 100],
    ] as const) {
      const intervals = manualIntervals();
      try {
        const { connection, socket } = await waitingHost(t, keepaliveMs);
        for (let n = 0; n < 6; n += 1) {
          const before = { read: socket().bytesRead, begun: intervals.begun() };
          intervals.pass(interval);
          await eventually('the host is asked for a sign of life', () => socket().bytesRead > before.read);
          // With each answer ssh2 begins a new interval.
          await eventually('its answer is here', () => intervals.begun() > before.begun);
        }
        socket().pause();
        // The first of these has the last answer.
        for (let n = 0; n < 4; n += 1) {
          intervals.pass(interval);
          await turns();
          t.true(connection.open);
        }
        intervals.pass(interval);
        await connection.closed;
        t.false(connection.open);
      } finally {
        intervals.restore();
      }
    }
  },
);

test.serial('a host that sends output is not lost, however late it answers', async (t) => {
  const intervals = manualIntervals();
  try {
    const { connection, asked, channels, socket } = await waitingHost(t);
    const starting = connection.exec('cat');
    await eventually('the host is asked', () => asked.length > 0);
    asked.shift()?.begin();
    const channel = await starting;
    let received = 0;
    channel.on('data', (chunk: Buffer) => (received += chunk.length));
    socket().pause();
    for (let n = 1; n <= 10; n += 1) {
      channels[0]?.write('x');
      await eventually('the output is here', () => received === n);
      intervals.pass(3_000);
    }
    await turns();
    t.true(connection.open);
  } finally {
    intervals.restore();
  }
});
