import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import ssh2, { type AuthContext, type Connection } from 'ssh2';
import { type Clock, systemClock } from '../../src/lib/clock.js';
import { SshConnection } from '../../src/ssh/ssh-connection.js';
import { HUNG_MS } from '../support/eventually.js';

interface SshHost {
  /** Answers the login. */
  onLogin: (context: AuthContext, socket: Socket) => void;
  /** Called with each client, before its login. */
  onClient?: (client: Connection, socket: Socket) => void;
  /** What it says before the login. */
  banner?: string;
  /** Saves the key of the host. */
  remember?: () => Promise<void>;
  clock?: Clock;
  keepaliveMs?: number;
}

/** Logs in to a host that answers as the test says; both sides are closed when the test ends. */
export async function logInTo(
  t: ExecutionContext,
  { onLogin, onClient, banner, remember = async () => {}, clock = systemClock, keepaliveMs }: SshHost,
): Promise<SshConnection> {
  const { private: hostKey } = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  const server = createServer((socket) => {
    t.teardown(() => socket.destroy());
    // It asks for no sign of life of the client.
    const keepaliveInterval = 1_000_000_000;
    const host = new ssh2.Server({ hostKeys: [hostKey], banner, keepaliveInterval }, (client) => {
      client.on('error', () => {});
      client.on('authentication', (context) => onLogin(context, socket));
      onClient?.(client, socket);
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
    keepaliveMs,
    clock,
    signal: new AbortController().signal,
  });
}
