import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';

interface Endpoint {
  host: string;
  port: number;
  server: Server | undefined;
  sockets: Set<Socket>;
  opening: Promise<void> | undefined;
  /** The number of active refusals; it is closed while there are any. */
  refusals: number;
}

// Below the ephemeral ports (from 32768 on Linux, 49152 elsewhere), so that no outgoing connection gets the port of an
// address while that address is refused.
const FREE_PORTS = { from: 20_000, to: 32_000 };

/** The loopback addresses that a service listens on, each with its own server. */
export class Endpoints {
  readonly #newServer: (host: string) => Server;
  readonly #endpoints: Endpoint[] = [];
  #stopped = false;

  /** @param newServer creates the server for an address, not listening yet */
  constructor(newServer: (host: string) => Server) {
    this.#newServer = newServer;
  }

  /** The addresses it listens on, including refused ones. */
  get hosts(): string[] {
    return this.#endpoints.map(({ host }) => host);
  }

  /**
   * Listens on more addresses, all with the same port; 0 means a free port.
   * @param options.skipMissing ignores addresses that this machine does not have
   * @throws Error when the port is in use or this machine does not have an address
   * @returns the port
   */
  async listen(
    hosts: readonly string[],
    port: number,
    { skipMissing = false }: { skipMissing?: boolean } = {},
  ): Promise<number> {
    for (let triesLeft = 20; ; triesLeft--) {
      const candidate = port === 0 ? randomInt(FREE_PORTS.from, FREE_PORTS.to) : port;
      try {
        await this.#openAll(hosts, candidate, skipMissing);
        return candidate;
      } catch (error) {
        if (port === 0 && triesLeft > 1 && hasCode(error, 'EADDRINUSE')) continue;
        throw new Error(`the sandbox cannot listen on port ${candidate} of ${hosts.join(', ')}`, {
          cause: error,
        });
      }
    }
  }

  /**
   * Stops listening on one address, or on all, and closes their connections.
   * @returns a function that ends the refusal; it resolves when the address listens again, unless another refusal is active
   */
  refuse(host: string | undefined): () => Promise<void> {
    const refused = this.#endpoints.filter((endpoint) => host === undefined || endpoint.host === host);
    if (refused.length === 0) throw new TypeError(`nothing listens on ${host ?? 'any address'}`);
    for (const endpoint of refused) {
      endpoint.refusals++;
      close(endpoint);
    }
    let ended = false;
    return async () => {
      if (ended) return;
      ended = true;
      for (const endpoint of refused) endpoint.refusals--;
      await Promise.all(refused.map((endpoint) => this.#open(endpoint)));
    };
  }

  /** Stops listening permanently and closes every connection. */
  stop(): void {
    this.#stopped = true;
    for (const endpoint of this.#endpoints) close(endpoint);
  }

  async #openAll(hosts: readonly string[], port: number, skipMissing: boolean): Promise<void> {
    const added: Endpoint[] = [];
    try {
      for (const host of hosts) {
        const endpoint = newEndpoint(host, port);
        added.push(endpoint);
        this.#endpoints.push(endpoint);
        try {
          await this.#open(endpoint);
        } catch (error) {
          if (!skipMissing || !hasCode(error, 'EADDRNOTAVAIL')) throw error;
          this.#remove(endpoint);
        }
      }
    } catch (error) {
      for (const endpoint of added) this.#remove(endpoint);
      throw error;
    }
  }

  #remove(endpoint: Endpoint): void {
    close(endpoint);
    const at = this.#endpoints.indexOf(endpoint);
    if (at >= 0) this.#endpoints.splice(at, 1);
  }

  #open(endpoint: Endpoint): Promise<void> {
    endpoint.opening ??= this.#bind(endpoint).finally(() => {
      endpoint.opening = undefined;
    });
    return endpoint.opening;
  }

  async #bind(endpoint: Endpoint): Promise<void> {
    const wanted = () => !this.#stopped && endpoint.refusals === 0;
    if (!wanted() || endpoint.server !== undefined) return;
    const server = this.#newServer(endpoint.host);
    server.on('connection', (socket: Socket) => {
      endpoint.sockets.add(socket);
      socket.once('close', () => endpoint.sockets.delete(socket));
    });
    server.listen({ host: endpoint.host, port: endpoint.port });
    await once(server, 'listening');
    endpoint.server = server;
    // It was refused or stopped before there was a server to close.
    if (!wanted()) close(endpoint);
  }
}

function newEndpoint(host: string, port: number): Endpoint {
  return { host, port, server: undefined, sockets: new Set(), opening: undefined, refusals: 0 };
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function close(endpoint: Endpoint): void {
  endpoint.server?.close();
  endpoint.server = undefined;
  for (const socket of endpoint.sockets) socket.destroy();
}
