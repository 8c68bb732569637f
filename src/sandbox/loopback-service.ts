import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Clock } from '../lib/clock.js';
import { Endpoints } from './endpoints.js';
import { type AnswerFault, type AnswerFaultKind, concerns, type Fault, OrderedFaults } from './faults.js';

/** A request in the log. */
export interface ReceivedRequest {
  method: string;
  /** As sent, with its query. */
  path: string;
  /** The requested address. */
  host: string;
  /** The number of requests in progress at this time, with this one. */
  concurrent: number;
}

/** A request as the service's logic gets it. */
export interface SandboxRequest {
  method: string;
  /** Decoded. */
  path: string;
  query: URLSearchParams;
  contentTypes: readonly string[];
  body: string;
}

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  body?: string;
}

/** An answer, or `drop`: the connection is cut without one. */
export type Reply = Answer | 'drop';

interface ServiceLogic {
  reply(request: SandboxRequest): Reply;
  /** The answer to a request that fails before it reaches the logic. */
  failure(status: number): Answer;
  clock: Pick<Clock, 'after'>;
  /** How long each answer takes, in milliseconds. */
  answerDelay: number;
}

const MAX_BODY_BYTES = 1024 * 1024;
const MAX_LOGGED = 10_000;

/** One HTTP service on one or more loopback addresses, with a log of its requests, and with faults. */
export class LoopbackService {
  /** The latest requests, oldest first; a long-running sandbox keeps the last ten thousand. */
  readonly requests: ReceivedRequest[] = [];
  readonly #logic: ServiceLogic;
  readonly #faults = new OrderedFaults<AnswerFault>();
  readonly #endpoints = new Endpoints(() =>
    createServer((request, response) => this.#receive(request, response)),
  );
  readonly #delayed = new Set<() => void>();
  #underWay = 0;

  constructor(logic: ServiceLogic) {
    this.#logic = logic;
  }

  /**
   * Listens on further addresses, all with one port; 0 takes a free one. Throws when the port is taken or an address
   * is not this machine's.
   * @returns the port
   */
  listen(hosts: readonly string[], port: number): Promise<number> {
    return this.#endpoints.listen(hosts, port);
  }

  /**
   * Adds a fault.
   * @returns a function that ends it; after `refuse`, resolves when the service listens again
   */
  fail(fault: Fault): () => Promise<void> {
    if (fault.kind === 'refuse') return this.#endpoints.refuse(fault.host);
    const end = this.#faults.add(fault);
    return async () => end();
  }

  /** Stops listening and closes every connection, also those with requests in flight. */
  stop(): void {
    this.#endpoints.stop();
    for (const cancel of this.#delayed) cancel();
    this.#delayed.clear();
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    const method = request.method ?? '';
    const path = request.url ?? '';
    const host = request.socket.localAddress ?? '';
    this.#underWay++;
    response.on('close', () => {
      this.#underWay--;
    });
    this.requests.push({ method, path, host, concurrent: this.#underWay });
    if (this.requests.length > MAX_LOGGED) this.requests.shift();

    const fault = this.#faults.strike((each) => concerns(each, { host, method, path }))?.kind;
    if (fault === 'hang') return;
    if (fault === 'drop') {
      request.socket.destroy();
      return;
    }
    readBody(request, (body) => {
      this.#later(() => {
        const reply = this.#reply(request, body, fault);
        if (reply === 'drop' || fault === 'drop-answer') request.socket.destroy();
        else send(response, reply, { cut: fault === 'truncate' });
      });
    });
  }

  #reply(request: IncomingMessage, body: string | undefined, fault: AnswerFaultKind | undefined): Reply {
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
    if (this.#logic.answerDelay === 0) {
      callback();
      return;
    }
    const cancel = this.#logic.clock.after(this.#logic.answerDelay, () => {
      this.#delayed.delete(cancel);
      callback();
    });
    this.#delayed.add(cancel);
  }
}

/** Calls back with the body, or undefined when it is larger than the limit; never when it does not end. */
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
  { status, headers = {}, body }: Answer,
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
