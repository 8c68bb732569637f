import { type Context, createTraceState, ROOT_CONTEXT, trace } from '@opentelemetry/api';
import { NO_TRACE, traceHeadersAt, type TraceHeaders, tracePointOf } from '../lib/trace-context.js';

/** The context in which a trace of another process goes on; the root context when there is none. */
export function contextOf({ traceparent, tracestate }: TraceHeaders): Context {
  const point = tracePointOf(traceparent);
  if (point === undefined) return ROOT_CONTEXT;
  const traceState = tracestate === undefined ? undefined : createTraceState(tracestate);
  return trace.setSpanContext(ROOT_CONTEXT, { ...point, traceState, isRemote: true });
}

/** The headers with which another process continues the trace of a context. */
export function headersOf(context: Context): TraceHeaders {
  const point = trace.getSpanContext(context);
  if (point === undefined) return NO_TRACE;
  const tracestate = point.traceState?.serialize();
  return traceHeadersAt(point, tracestate === '' ? undefined : tracestate);
}
