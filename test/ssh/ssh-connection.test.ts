import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import ssh2, { type AuthContext } from 'ssh2';
import { systemClock } from '../../src/lib/clock.js';
import { SshConnection } from '../../src/ssh/ssh-connection.js';
import { HUNG_MS } from '../support/eventually.js';
import { errorOf } from './shell-for.js';

/** Logs in to a host that answers the login in this way. @param remember saves the key of the host */
async function logIn(
  t: ExecutionContext,
  answer: (context: AuthContext, socket: Socket) => void,
  remember: () => Promise<void> = async () => {},
): Promise<SshConnection> {
  const { private: hostKey } = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  const server = createServer((socket) => {
    const host = new ssh2.Server({ hostKeys: [hostKey] }, (client) => {
      client.on('error', () => {});
      client.on('authentication', (context) => answer(context, socket));
    });
    host.injectSocket(socket);
  });
  t.teardown(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return SshConnection.handshake(socket, {
    host: 'node1',
    user: 'core',
    login: [{ type: 'none', username: 'core' }],
    hostKey: {
      algorithms: ['ecdsa-sha2-nistp256'],
      problemWith: () => undefined,
      refusal: (reason) => new Error(reason),
      remember,
    },
    handshakeTimeoutMs: HUNG_MS,
    clock: systemClock,
    signal: new AbortController().signal,
  });
}

test('a connection that the host closes instead of answering the login is a refused login', async (t) => {
  const error = await errorOf(logIn(t, (_context, socket) => socket.end()));
  t.is(error.code, 'login_refused');
  t.deepEqual(error.details, { host: 'node1', user: 'core', reason: 'closed' });
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
