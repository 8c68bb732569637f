import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';
import { eventually } from '../support/eventually.js';
import { refuseSecretsIn } from '../support/planted-secrets.js';

/** A span as the collector got it. */
export interface CollectedSpan {
  traceId: string;
  spanId: string;
  /** Undefined when it is the first of its trace. */
  parentSpanId: string | undefined;
  name: string;
  kind: 'internal' | 'server' | 'client' | 'producer' | 'consumer';
  attributes: Record<string, unknown>;
  /** Whether its status is an error, and the message of it. */
  failed: boolean;
  message: string | undefined;
  traceState: string | undefined;
  /** The ids of the spans that it is linked to. */
  links: string[];
  resource: Record<string, unknown>;
}

export interface Collector {
  /** For `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly url: string;
  readonly spans: CollectedSpan[];
  /** The requests that it got. */
  readonly requests: { path: string; headers: IncomingHttpHeaders; body: Buffer }[];
  /** Answers with this status from now on. */
  respondWith(status: number): void;
  /** Waits for the first span with this name, in this trace if one is given. */
  span(name: string, traceId?: string): Promise<CollectedSpan>;
}

interface OtlpValue {
  stringValue?: string;
  intValue?: number | string;
  doubleValue?: number;
  boolValue?: boolean;
}

interface OtlpAttribute {
  key: string;
  value: OtlpValue;
}

interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  traceState?: string;
  name: string;
  kind: number;
  attributes: OtlpAttribute[];
  links?: { spanId: string }[];
  status: { code?: number; message?: string };
}

interface OtlpTraces {
  resourceSpans: { resource: { attributes: OtlpAttribute[] }; scopeSpans: { spans: OtlpSpan[] }[] }[];
}

const KINDS = ['internal', 'internal', 'server', 'client', 'producer', 'consumer'] as const;
const ERROR = 2;

/** A collector that gets spans over OTLP as JSON; what comes in another form it only keeps. It ends with the test. */
export async function startCollector(t: Pick<ExecutionContext, 'teardown'>): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const requests: Collector['requests'] = [];
  let status = 200;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      refuseSecretsIn(body.toString('latin1'), 'what was sent to the collector');
      requests.push({ path: request.url ?? '', headers: request.headers, body });
      if (status === 200 && request.headers['content-type'] === 'application/json')
        spans.push(...spansIn(JSON.parse(body.toString())));
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    requests,
    respondWith: (code) => {
      status = code;
    },
    span: async (name, traceId) =>
      eventually(`the span ${name}`, () =>
        spans.find((each) => each.name === name && (traceId === undefined || each.traceId === traceId)),
      ),
  };
}

function spansIn({ resourceSpans }: OtlpTraces): CollectedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap((scope) =>
      scope.spans.map(
        ({ traceId, spanId, parentSpanId, traceState, name, kind, attributes, links, status }) => ({
          traceId,
          spanId,
          parentSpanId,
          traceState,
          name,
          kind: KINDS[kind] ?? 'internal',
          attributes: valuesOf(attributes),
          failed: status.code === ERROR,
          message: status.message,
          links: (links ?? []).map((link) => link.spanId),
          resource: valuesOf(resource.attributes),
        }),
      ),
    ),
  );
}

function valuesOf(attributes: readonly OtlpAttribute[]): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => {
      const { stringValue, intValue, doubleValue, boolValue } = value;
      return [key, stringValue ?? (intValue === undefined ? (doubleValue ?? boolValue) : Number(intValue))];
    }),
  );
}
