import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { isOwnName, sameToken } from './bearer-token.js';
import { ListeningServers } from './listening-servers.js';
import type { ScrapeSource } from './scrape-source.js';

export interface MetricsServerOptions {
  host: string;
  /** 0: a free port. */
  port: number;
  /** The token that scrapers must send; undefined: every program on this machine may read. */
  token: string | undefined;
  metrics: ScrapeSource;
  clock: Clock;
  log: Logger;
}

/** How long a request may take to arrive, and its response to be read, in milliseconds. */
const EXCHANGE_MS = 10_000;
/** How many responses with metrics may be on their way. */
const MAX_RESPONSES = 16;
const CLOSE_TIMEOUT_MS = 500;

/** `GET /metrics` on a port of its own. */
export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #servers: ListeningServers;
  #responses = 0;

  constructor(options: MetricsServerOptions) {
    this.#options = options;
    this.#servers = new ListeningServers({
      requestTimeout: EXCHANGE_MS,
      connectionsCheckingInterval: EXCHANGE_MS,
      onRequest: (request, response) => void this.#answer(request, response),
      onUnparsed: (_error, socket) => socket.destroy(),
    });
  }

  /**
   * @returns the URL of the metrics
   * @throws Error that says which settings to change
   */
  async start(): Promise<string> {
    const { host, port } = this.#options;
    const url = await this.#servers.listen(host, port, {
      settings: 'METRICS_HOST and METRICS_PORT',
      ifInUse: ': set METRICS_PORT to another port, or to gateway to use the port of the HTTP gateway',
    });
    return `${url}/metrics`;
  }

  async stop(): Promise<void> {
    await this.#servers.close(CLOSE_TIMEOUT_MS);
  }

  /** Never rejects. */
  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { metrics, clock, log } = this.#options;
    // A reader that does not read must not hold memory without a time limit.
    const cancel = clock.after(EXCHANGE_MS, () => response.destroy());
    response.once('close', cancel);
    const [status, reason, headers = {}] = this.#refusalOf(request) ?? [200, ''];
    // Only one on a connection: many on their way, which nobody reads, would wait for one another.
    if (status !== 200)
      return void response.writeHead(status, { connection: 'close', ...headers }).end(`${reason}\n`);
    // Those that are refused do not count: whoever has no token could keep others from reading.
    this.#responses++;
    response.once('close', () => this.#responses--);
    try {
      const text = await metrics.text();
      response.writeHead(200, { 'content-type': metrics.contentType });
      response.end(request.method === 'HEAD' ? undefined : text);
    } catch (error) {
      log.error('HTTP request failed unexpectedly', { error });
      response.writeHead(500).end("an unexpected failure; the service's log has the reason\n");
    }
  }

  #refusalOf({
    method,
    url = '',
    headers,
  }: IncomingMessage): [status: number, reason: string, headers?: Record<string, string>] | undefined {
    const { token } = this.#options;
    if (token === undefined && !isOwnName(headers.host ?? ''))
      return [403, 'read the metrics by the address of this machine or as localhost'];
    if (token !== undefined && !sameToken(headers.authorization, token))
      return [401, 'send the METRICS_TOKEN as Authorization: Bearer TOKEN', { 'www-authenticate': 'Bearer' }];
    if (url.split('?')[0] !== '/metrics') return [404, 'the metrics are at /metrics'];
    if (method !== 'GET' && method !== 'HEAD') return [405, 'only GET and HEAD', { allow: 'GET, HEAD' }];
    if (this.#responses >= MAX_RESPONSES) return [503, 'too many at once'];
    return undefined;
  }
}
