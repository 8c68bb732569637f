import type { Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import type { AuthContext } from 'ssh2';
import type { SshConnection } from '../../src/ssh/ssh-connection.js';
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
