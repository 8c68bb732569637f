import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Clock } from '../lib/clock.js';
import { Endpoints } from './endpoints.js';
import {
  type ResponseFault,
  type ResponseFaultKind,
  matchesRequest,
  type Fault,
  OrderedFaults,
} from './faults.js';

/** A request in the log. */
export interface ReceivedRequest {
  method: string;
  /** As sent, with its query. */
  path: string;
  /** The address that received the request. */
  host: string;
  /** The number of requests in flight, including this one. */
  concurrent: number;
}

/** A parsed request. */
export interface SandboxRequest {
  method: string;
  /** Decoded. */
  path: string;
  query: URLSearchParams;
  contentTypes: readonly string[];
  body: string;
}

export interface SandboxResponse {
  status: number;
  headers?: Record<string, string>;
  body?: string;
}

/** A response, or `drop`: the connection is closed without one. */
export type SandboxOutcome = SandboxResponse | 'drop';

interface ServiceLogic {
  reply(request: SandboxRequest): SandboxOutcome;
  /** The response to a request that fails before `reply` is called. */
  failure(status: number): SandboxResponse;
  clock: Pick<Clock, 'after'>;
  /** How long each response takes, in milliseconds. */
  responseDelay: number;
}

const MAX_BODY_BYTES = 1024 * 1024;
const MAX_LOGGED = 10_000;

/** A time in which the service, or one address of it, is frozen. */
interface Freeze {
  host: string | undefined;
  /** Processes what was received meanwhile. */
  goOn: (() => void)[];
}

/** One HTTP service on one or more loopback addresses, with a log of its requests and simulated faults. */
export class LoopbackService {
  /** The latest 10,000 requests, oldest first. */
  readonly requests: ReceivedRequest[] = [];
  readonly #logic: ServiceLogic;
  readonly #faults = new OrderedFaults<ResponseFault>();
  readonly #endpoints = new Endpoints(() =>
    createServer((request, response) => this.#receive(request, response)),
  );
  readonly #freezes = new Set<Freeze>();
  readonly #delayed = new Set<() => void>();
  #inFlight = 0;

  constructor(logic: ServiceLogic) {
    this.#logic = logic;
  }

  /**
   * Listens on more addresses, all with the same port; 0 means a free port.
   * @returns the port
   * @throws Error when the port is in use or this machine does not have an address
   */
  listen(hosts: readonly string[], port: number): Promise<number> {
    return this.#endpoints.listen(hosts, port);
  }

  /**
   * Starts a simulated fault.
   * @returns a function that ends it; after `refuse`, it resolves when the service listens again
   */
  fail(fault: Fault): () => Promise<void> {
    if (fault.kind === 'refuse') return this.#endpoints.refuse(fault.host);
    if (fault.kind === 'freeze') return this.#freeze(fault.host);
    const end = this.#faults.add(fault);
    return async () => end();
  }

  /** Stops listening and closes every connection, also those with requests in flight. */
  stop(): void {
    this.#endpoints.stop();
    this.#freezes.clear();
    for (const cancel of this.#delayed) cancel();
    this.#delayed.clear();
  }

  #freeze(host: string | undefined): () => Promise<void> {
    const freeze: Freeze = { host, goOn: [] };
    this.#freezes.add(freeze);
    return async () => {
      if (this.#freezes.delete(freeze)) for (const goOn of freeze.goOn) goOn();
    };
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    const method = request.method ?? '';
    const path = request.url ?? '';
    const host = request.socket.localAddress ?? '';
    this.#inFlight++;
    response.on('close', () => {
      this.#inFlight--;
    });
    this.requests.push({ method, path, host, concurrent: this.#inFlight });
    if (this.requests.length > MAX_LOGGED) this.requests.shift();

    const freeze = [...this.#freezes].find((each) => each.host === undefined || each.host === host);
    if (freeze !== undefined) {
      // Read now: when the client closes the connection, Node forgets what has arrived; the kernel does not.
      readBody(request, (body) => {
        const reply = () => this.#reply(request, body, undefined);
        freeze.goOn.push(() => this.#later(() => this.#send(request, response, reply())));
      });
      return;
    }
    const fault = this.#faults.next((each) => matchesRequest(each, { host, method, path }))?.kind;
    if (fault === 'hang') return;
    if (fault === 'drop') {
      request.socket.destroy();
      return;
    }
    readBody(request, (body) => {
      this.#later(() => {
        const reply = this.#reply(request, body, fault);
        this.#send(request, response, fault === 'drop-answer' ? 'drop' : reply, fault === 'truncate');
      });
    });
  }

  #send(request: IncomingMessage, response: ServerResponse, reply: SandboxOutcome, cut = false): void {
    if (reply === 'drop') request.socket.destroy();
    else send(response, reply, { cut });
  }

  #reply(
    request: IncomingMessage,
    body: string | undefined,
    fault: ResponseFaultKind | undefined,
  ): SandboxOutcome {
    if (body === undefined) return this.#logic.failure(413);
    if (fault === '500' || fault === '503') return this.#logic.failure(Number(fault));
    if (fault === 'garbage') return { status: 200, body: '<html>this is not JSON' };
    if (fault === 'redirect') return { status: 302, headers: { location: '/elsewhere' } };
    const [path = '', query = ''] = splitOnce(request.url ?? '', '?');
    const decoded = decodePath(path);
    if (decoded === undefined) return this.#logic.failure(400);
    return this.#logic.reply({
      method: request.method ?? '',
      path: decoded,
      query: new URLSearchParams(query),
      contentTypes: request.headersDistinct['content-type'] ?? [],
      body,
    });
  }

  #later(callback: () => void): void {
    if (this.#logic.responseDelay === 0) {
      callback();
      return;
    }
    const cancel = this.#logic.clock.after(this.#logic.responseDelay, () => {
      this.#delayed.delete(cancel);
      callback();
    });
    this.#delayed.add(cancel);
  }
}

/** Calls back with the body, or undefined when it is larger than `MAX_BODY_BYTES`; never when the body does not end. */
function readBody(request: IncomingMessage, done: (body: string | undefined) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    const within = bytes <= MAX_BODY_BYTES;
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
    else if (within) done(undefined);
  });
  request.on('end', () => {
    if (bytes <= MAX_BODY_BYTES) done(Buffer.concat(chunks).toString());
  });
}

function send(
  response: ServerResponse,
  { status, headers = {}, body }: SandboxResponse,
  { cut }: { cut: boolean },
): void {
  const bytes = Buffer.from(body ?? '');
  response.writeHead(status, {
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(status === 204 ? {} : { 'content-length': bytes.length }),
    ...(status === 413 ? { connection: 'close' } : {}),
    ...headers,
  });
  if (cut) response.write(bytes.subarray(0, bytes.length / 2), () => response.socket?.destroy());
  else response.end(bytes);
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decodePath(path: string): string | undefined {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}
