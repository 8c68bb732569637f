import { AmqpRoute } from '../client/amqp-route.js';
import type { ClientOptions } from '../client/client.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { settledWithin } from '../lib/settled-within.js';
import { HttpServer, type HttpServerOptions } from './http-server.js';

export interface GatewayOptions
  extends Omit<HttpServerOptions, 'client'>,
    Required<Pick<ClientOptions, 'brokers' | 'queue'>>,
    Pick<ClientOptions, 'connect' | 'tls'> {
  /** The name of this worker. */
  hostname: string;
  /** The log of the connection to the broker. */
  clientLog: Logger;
}

/** Time for replies that were already sent to arrive through the broker, in milliseconds. */
const REPLIES_MS = 3_000;
const MIN_REPLIES_MS = 500;

/** The HTTP API of the service. Like any other caller it has its own client, and its calls go through the queue. */
export class Gateway {
  readonly url: string;
  readonly #server: HttpServer;
  readonly #client: AmqpRoute;
  readonly #clock: Clock;
  readonly #notReady: () => string[];

  private constructor(
    url: string,
    {
      server,
      client,
      notReady,
      clock,
    }: { server: HttpServer; client: AmqpRoute; notReady: () => string[]; clock: Clock },
  ) {
    this.url = url;
    this.#notReady = notReady;
    this.#server = server;
    this.#client = client;
    this.#clock = clock;
  }

  /**
   * Connects to the broker in the background and listens for HTTP requests.
   * @throws Error that says which settings to change
   */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const { brokers, connect, queue, tls, hostname, clock, clientLog } = options;
    // Not the name of a client's: `doctor` tells others with the user of the service by their names.
    const name = `fleet-manager-gateway ${hostname}`;
    const client = new AmqpRoute(queue, { brokers, connect, tls, name, clock, log: clientLog });
    const { host, port, authenticate, metrics, maxBodyBytes, memoryBytes, describe, traceRequest, log } =
      options;
    const notReady = () => {
      client.probe();
      const { problem } = client;
      return [...options.notReady(), ...(problem === undefined ? [] : [`the HTTP gateway: ${problem}`])];
    };
    const server = new HttpServer({
      host,
      port,
      authenticate,
      metrics,
      maxBodyBytes,
      memoryBytes,
      describe,
      sandboxCluster: options.sandboxCluster,
      traceRequest,
      notReady,
      clock,
      log,
      client,
    });
    try {
      return new Gateway(await server.start(), { server, client, notReady, clock });
    } catch (error) {
      await client.close();
      await server.stop();
      throw error;
    }
  }

  /** The reasons why the service accepts no requests, or the gateway can send none; empty when it can. */
  notReady(): string[] {
    return this.#notReady();
  }

  /** Call it when `brokers` returns others than before. */
  brokersChanged(): void {
    this.#client.brokersChanged();
  }

  /** Refuses new calls; those in flight can still be answered. */
  refuse(): void {
    this.#server.refuse();
  }

  /**
   * Waits for the replies to calls in flight, fails the calls that have none, and closes.
   * @param withinMs how long it may wait for replies, in milliseconds; it waits from 0.5 s to 3 s
   */
  async stop(withinMs = REPLIES_MS): Promise<void> {
    const limit = Math.max(MIN_REPLIES_MS, Math.min(REPLIES_MS, withinMs));
    await settledWithin(limit, this.#clock, this.#server.answered());
    // Before the server: it stops only when every call has an HTTP response.
    await this.#client.close();
    await this.#server.stop();
  }
}
