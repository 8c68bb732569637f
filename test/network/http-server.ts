import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface TestServer {
  /** `http://HOST:PORT/` */
  url: URL;
  port: number;
  /** The requests that it got, oldest first. */
  requests: IncomingMessage[];
  /** How many TCP connections were made to it. */
  connections(): number;
  /** How many of them are open. */
  open(): number;
  stop(): Promise<void>;
}

/** An HTTP server whose responses the test defines; closed when the test ends. */
export async function serve(
  t: ExecutionContext,
  answer: RequestListener,
  { host = '127.0.0.1', port = 0 } = {},
): Promise<TestServer> {
  const requests: IncomingMessage[] = [];
  let connections = 0;
  let open = 0;
  const server = createServer((request, response) => {
    requests.push(request);
    answer(request, response);
  });
  // On a busy machine a connection would be closed just when the next request is sent on it.
  server.keepAliveTimeout = 0;
  server.on('connection', (socket) => {
    connections++;
    open++;
    socket.on('close', () => open--);
  });
  server.listen(port, host);
  await once(server, 'listening');
  const address = server.address() as AddressInfo;
  const stop = async () => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  t.teardown(stop);
  return {
    url: new URL(`http://${host}:${address.port}`),
    port: address.port,
    requests,
    connections: () => connections,
    open: () => open,
    stop,
  };
}

/**
 * Gives every request this response.
 * @param body text or bytes as they are, anything else as JSON
 */
export function respondWith(
  status: number,
  body?: unknown,
  headers: Record<string, string> = {},
): RequestListener {
  return (_request, response) => {
    response.writeHead(status, headers);
    response.end(typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  };
}
