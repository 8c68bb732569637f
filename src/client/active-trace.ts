import { NO_TRACE, traceHeadersAt, type TraceHeaders } from '../lib/trace-context.js';
import { whenUsed } from '../lib/when-used.js';

const loadApi = whenUsed('@opentelemetry/api');

/** The headers that continue the trace of the program's active span, as `@opentelemetry/api` knows it; none when there is none. */
export function activeTrace(): TraceHeaders {
  const { context, isSpanContextValid, trace } = loadApi();
  const point = trace.getSpanContext(context.active());
  if (point === undefined || !isSpanContextValid(point)) return NO_TRACE;
  return traceHeadersAt(point, point.traceState?.serialize());
}
