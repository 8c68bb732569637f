import test, { type ExecutionContext } from 'ava';
import { followRun } from '../../src/ssh/remote-run.js';
import type { SshConnection } from '../../src/ssh/ssh-connection.js';
import { systemClock } from '../../src/lib/clock.js';
import { logInTo } from './log-in-to.js';
import { errorOf } from './shell-for.js';

/** A connection to a host that starts each command and sends nothing more; both are closed when the test ends. */
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
