import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

/**
 * Listens on loopback and does with each connection what the test says; ends with its connections when the test ends.
 * @param options.port a free one by default
 * @returns the port
 */
export async function startTcpServer(
  t: ExecutionContext,
  serve: (socket: Socket) => void,
  { address = '127.0.0.1', port = 0 }: { address?: string; port?: number } = {},
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    serve(socket);
  });
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await once(server.listen(port, address), 'listening');
  return (server.address() as AddressInfo).port;
}
