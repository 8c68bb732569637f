import { type Context, type Span, SpanKind, SpanStatusCode, trace, type Tracer } from '@opentelemetry/api';
import type { UpstreamCall, UpstreamKind } from '../lib/upstream.js';
import { headersOf } from './active-context.js';
import { ATTRIBUTES } from './attributes.js';

/** A call that belongs to no request, such as a sign of life. */
const UNTRACED: UpstreamCall = { end: () => {} };
/** Servers that are told of the trace. A discovery service may be that of others, and a machine has no header. */
const TOLD: ReadonlySet<UpstreamKind> = new Set<UpstreamKind>(['fleet', 'manager', 'claims']);

/** The span of a call to another server, in this context. @param host with a port, where there is one */
export function upstreamCall(
  tracer: Tracer,
  context: Context,
  { kind, operation, host }: { kind: UpstreamKind; operation: string; host: string },
): UpstreamCall {
  if (trace.getSpanContext(context) === undefined) return UNTRACED;
  const attributes = { [ATTRIBUTES.upstream]: kind, ...addressOf(host) };
  const span = tracer.startSpan(`${kind} ${operation}`, { kind: SpanKind.CLIENT, attributes }, context);
  return {
    headers: TOLD.has(kind) ? headersOf(trace.setSpan(context, span)) : undefined,
    end: (error, wasStopped = false) => end(span, error, wasStopped),
  };
}

/** What was stopped here says nothing of the other server. */
function end(span: Span, error: unknown, wasStopped: boolean): void {
  if (error !== undefined) {
    const type = wasStopped ? 'stopped' : typeOf(error);
    span.setAttribute(ATTRIBUTES.errorType, type);
    // Not the text of the error: it may quote parameters.
    if (!wasStopped) span.setStatus({ code: SpanStatusCode.ERROR, message: type });
  }
  span.end();
}

/** The code of an error, such as `login_refused` or `ECONNREFUSED`, or else its name. */
function typeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'Error';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}

function addressOf(host: string): Record<string, string | number> {
  const [, address = host, port] = /^(.*[^:]):(\d+)$/.exec(host) ?? [];
  const server = { [ATTRIBUTES.serverAddress]: address.replace(/^\[|\]$/g, '') };
  return port === undefined ? server : { ...server, [ATTRIBUTES.serverPort]: Number(port) };
}
