import test, { type ExecutionContext } from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import { followRun } from '../../src/ssh/remote-run.js';
import type { SshConnection } from '../../src/ssh/ssh-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { ManualClock } from '../support/manual-clock.js';
import { logInTo } from './log-in-to.js';
import { errorOf } from './shell-for.js';

/** A connection to a host that starts each command and sends nothing more, and does not confirm its end; both are closed when the test ends. */
async function openConnection(t: ExecutionContext): Promise<SshConnection> {
  return logInTo(t, {
    onLogin: (context) => context.accept(),
    onClient: (client) => client.on('session', (accept) => accept().on('exec', (begin) => begin())),
  });
}

const MARK = 'abcdef';

const options = {
  host: 'node1',
  user: 'core',
  program: 'true',
  mark: MARK,
  effect: 'read' as const,
  anyExitStatus: false,
  partial: false,
  timeoutMs: 600_000,
  maxOutputBytes: 1_000,
  clock: systemClock,
  signal: new AbortController().signal,
};

test('a command that succeeds at the moment when its connection is lost has failed', async (t) => {
  const connection = await openConnection(t);
  const channel = await connection.exec('true');
  // The status is known, but the rest of the output is missing.
  connection.onClosed(() => channel.emit('close', 0));
  const { outcome, ended } = followRun(connection, channel, options);
  connection.destroy();
  const error = await errorOf(outcome);
  t.is(error.code, 'host_unreachable');
  t.like(error.details, { reason: 'connection_lost' });
  await ended;
});

test('a command that succeeds on an open connection has succeeded', async (t) => {
  const connection = await openConnection(t);
  const channel = await connection.exec('true');
  const { outcome } = followRun(connection, channel, options);
  channel.emit('data', Buffer.from(`${MARK}1all of it${MARK}10\n`));
  channel.emit('close', 0);
  t.deepEqual(await outcome, { stdout: 'all of it', stderr: '', truncated: false });
});

/** A command that a host has begun, on a clock that the test advances. */
async function startRun(t: ExecutionContext, changed: Partial<typeof options> = {}) {
  const connection = await openConnection(t);
  const channel = await connection.exec('true');
  const clock = new ManualClock();
  const { signal } = new AbortController();
  const run = followRun(connection, channel, { ...options, clock, signal, ...changed });
  return { connection, channel, clock, ...run };
}

test('a command that is stopped before it is followed is stopped', async (t) => {
  const reason = new ActionError('cancelled', 'the caller has left');
  const { connection, clock, outcome, ended } = await startRun(t, { signal: AbortSignal.abort(reason) });
  t.is(await errorOf(outcome), reason);
  // From the end of its input to the closed channel, and to the closed connection of a host that does not confirm that.
  clock.advance(4_000);
  clock.advance(1_999);
  await new Promise(setImmediate);
  t.true(connection.open);
  clock.advance(1);
  await ended;
  t.false(connection.open);
});

test('once a command has ended, neither its output nor its caller can stop anything', async (t) => {
  const caller = new AbortController();
  const { connection, channel, clock, outcome, ended } = await startRun(t, {
    signal: caller.signal,
    maxOutputBytes: 5,
  });
  channel.emit('data', Buffer.from(`${MARK}1more`));
  for (let n = 0; n < 3; n += 1) channel.emit('data', Buffer.from(' than that'));
  t.deepEqual(await outcome, { stdout: 'more ', stderr: '', truncated: true });
  channel.emit('close', 0);
  await ended;
  t.is(clock.pending, 0);
  caller.abort(new ActionError('cancelled', 'the caller has left'));
  t.is(clock.pending, 0);
  t.true(connection.open);
});

test('what was printed until the time limit is no partial output of a command that has not begun', async (t) => {
  const { channel, clock, outcome } = await startRun(t, { partial: true });
  channel.emit('data', Buffer.from('Welcome\n'));
  clock.advance(600_000);
  const error = await errorOf(outcome);
  t.is(error.code, 'timeout');
  t.deepEqual(error.details, { host: 'node1', timeoutMs: 600_000, begun: false });
});

test('what a host printed instead of the command is told, stderr first, and how its shell ended', async (t) => {
  for (const { printed, status, told, stderr } of [
    {
      printed: ['hello\n', 'no such user\n'],
      status: [1, null],
      told: '; it ended with exit status 1: no such user',
      stderr: 'no such user\n',
    },
    {
      printed: ['hello\n', ' \n'],
      status: [null, 'SIGHUP'],
      told: '; it was ended by SIGHUP: hello',
      stderr: 'hello\n',
    },
    { printed: ['', ''], status: [], told: '', stderr: '' },
  ]) {
    const { channel, outcome } = await startRun(t);
    channel.emit('data', Buffer.from(printed[0] ?? ''));
    channel.stderr.emit('data', Buffer.from(printed[1] ?? ''));
    channel.emit('close', ...status);
    const error = await errorOf(outcome);
    t.is(error.message, `the login shell of core on node1 did not run true, or hid its output${told}`);
    const [exitStatus = null, signal = null] = status;
    t.deepEqual(error.details, { host: 'node1', begun: false, exitStatus, signal, stderr });
  }
});

test('how a command ended that told no exit status of its own is told', async (t) => {
  for (const [status, told] of [
    [[0], 'ended without an exit status'],
    [[], 'ended without an exit status'],
    [[null, 'SIGKILL'], 'was ended by SIGKILL'],
    [[1], 'failed with exit status 1'],
  ] as const) {
    const { channel, outcome } = await startRun(t);
    channel.emit('data', Buffer.from(`${MARK}1some`));
    channel.emit('close', ...status);
    t.is((await errorOf(outcome)).message, `true on node1 ${told}`);
  }
});

test('an error of a channel, and of its stderr, ends nothing: it is closed after it', async (t) => {
  const { channel, outcome } = await startRun(t);
  channel.emit('error', new Error('broken'));
  channel.stderr.emit('error', new Error('broken'));
  channel.emit('data', Buffer.from(`${MARK}1all of it${MARK}10\n`));
  channel.emit('close', 0);
  t.is((await outcome).stdout, 'all of it');
});
