import { once } from 'node:events';
import { get } from 'node:http';
import type { ExecutionContext } from 'ava';
import type { AnswerEnvelope } from '../../src/client/client.js';
import type { RouteOptions } from '../../src/client/route.js';
import { HttpServer, type HttpServerOptions } from '../../src/gateway/http-server.js';
import type { ActionDescription } from '../../src/core/action-description.js';
import { systemClock } from '../../src/lib/clock.js';
import { logLines } from '../support/log-lines.js';

type Asked = [action: string, options: RouteOptions];

export interface Gateway {
  url: string;
  port: number;
  server: HttpServer;
  /** The calls that the client got, oldest first. */
  asked: Asked[];
  logs: ReturnType<typeof logLines>;
}

export const DESCRIPTIONS = [
  { name: 'look', effect: 'read', target: 'cluster' },
  { name: 'change', effect: 'change', target: 'none' },
].map(
  (each): ActionDescription =>
    ({
      summary: '',
      redelivery: 'refuse',
      timeout_ms: 1,
      parameters: {},
      result: {},
      ...each,
    }) as ActionDescription,
);

export const DONE: AnswerEnvelope = { status: 'completed', response_body: { n: 1 }, id: null };

type Answer = (...asked: Asked) => Promise<AnswerEnvelope>;

/** A gateway whose client replies as the test says; stopped when the test ends. */
export async function openGateway(
  t: ExecutionContext,
  answer?: Answer,
  options?: Partial<HttpServerOptions>,
): Promise<Gateway> {
  const gateway = await startGateway(t, answer, options);
  // The first request loads what answers it. On a busy machine that takes longer than a test allows for a request to arrive.
  const [response] = await once(get(`${gateway.url}/livez`, { agent: false }), 'response');
  response.resume();
  await once(response, 'end');
  return gateway;
}

/** The same, which has had no request yet. */
export async function startGateway(
  t: ExecutionContext,
  answer: Answer = async () => DONE,
  options: Partial<HttpServerOptions> = {},
): Promise<Gateway> {
  const asked: Asked[] = [];
  const logs = logLines();
  const server = new HttpServer({
    host: '127.0.0.1',
    port: 0,
    authenticate: undefined,
    client: {
      request: async (...call) => {
        const made: Asked = [call[0], call[1] ?? {}];
        asked.push(made);
        return answer(...made);
      },
    },
    describe: () => DESCRIPTIONS,
    notReady: () => [],
    maxBodyBytes: 4_096,
    memoryBytes: 2 ** 30,
    clock: systemClock,
    log: logs.log,
    ...options,
  });
  const url = await server.start();
  t.teardown(() => server.stop());
  return { url, port: Number(new URL(url).port), server, asked, logs };
}
