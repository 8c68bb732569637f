import { lookup } from 'node:dns/promises';
import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import type { Socket } from 'node:net';
import { reasonOf } from '../lib/errors.js';

export interface ListeningOptions extends ServerOptions {
  onRequest: RequestListener;
  /** Gets bytes that Node's parser does not accept as an HTTP request. */
  onUnparsed: (error: NodeJS.ErrnoException, socket: Socket) => void;
}

/** What to say when it is not possible to listen. */
export interface ListeningRemedies {
  /** The names of the settings. */
  settings: string;
  /** The rest of a sentence that says that another program listens there. */
  ifInUse: string;
}

/** Servers of Node that listen on one address; on every address of the host when that is `localhost`. */
export class ListeningServers {
  readonly #options: ListeningOptions;
  readonly #servers: Server[] = [];

  constructor(options: ListeningOptions) {
    this.#options = options;
  }

  /**
   * @param port 0: a free port
   * @returns the URL
   * @throws Error that says which settings to change
   */
  async listen(host: string, port: number, { settings, ifInUse }: ListeningRemedies): Promise<string> {
    try {
      return await this.#listen(host, port);
    } catch (cause) {
      const inUse = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE';
      const reason = inUse
        ? `${host}:${port} is in use${ifInUse}`
        : `${settings} cannot be used: ${reasonOf(cause)}`;
      throw new Error(reason, { cause });
    }
  }

  async #listen(host: string, port: number): Promise<string> {
    const bound = await this.#add(host, port);
    if (host === 'localhost')
      // Many machines have no address of IPv6.
      for (const { address } of await lookup(host, { all: true }).catch(() => []))
        if (address !== bound.address) await this.#add(address, bound.port).catch(() => {});
    const shown = bound.address === '0.0.0.0' ? '127.0.0.1' : bound.address;
    return `http://${bound.family === 'IPv6' ? `[${shown}]` : shown}:${bound.port}`;
  }

  /** Waits for the requests in flight, but cuts off those that last longer than this, in milliseconds. */
  async close(withinMs: number): Promise<void> {
    const closed = this.#servers.map((server) => new Promise((resolve) => server.close(resolve)));
    const cut = setTimeout(() => {
      for (const server of this.#servers) server.closeAllConnections();
    }, withinMs);
    await Promise.all(closed).finally(() => clearTimeout(cut));
  }

  async #add(host: string, port: number): Promise<{ address: string; family: string; port: number }> {
    const { onRequest, onUnparsed, ...options } = this.#options;
    const server = createServer(options, onRequest);
    server.on('clientError', onUnparsed);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    this.#servers.push(server);
    const bound = server.address();
    if (bound === null || typeof bound === 'string') throw new Error('the server has no address');
    return bound;
  }
}
