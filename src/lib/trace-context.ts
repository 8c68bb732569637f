// W3C Trace Context, level 2: https://www.w3.org/TR/trace-context-2/

/** The headers `traceparent` and `tracestate` of a trace; empty when there is none. */
export type TraceHeaders = Readonly<Record<string, string>>;

/** Where in a trace something happens. */
export interface TracePoint {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  /** Bit 0: whether it is recorded. */
  readonly traceFlags: number;
}

export const NO_TRACE: TraceHeaders = Object.freeze({});

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?$/;
/** It goes on as the value of a header. */
const TRACESTATE = /^[\t\x20-\x7e]{1,512}$/;
const MAX_TRACEPARENT = 128;
const NO_TRACE_ID = '0'.repeat(32);
const NO_SPAN_ID = '0'.repeat(16);

/** Reads a `traceparent`. @returns undefined when it is not valid: then there is no trace */
export function tracePointOf(traceparent: unknown): TracePoint | undefined {
  if (typeof traceparent !== 'string' || traceparent.length > MAX_TRACEPARENT) return undefined;
  const [, version, traceId = NO_TRACE_ID, spanId = NO_SPAN_ID, flags = '', more] =
    TRACEPARENT.exec(traceparent) ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (traceId === NO_TRACE_ID || spanId === NO_SPAN_ID) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) };
}

/** The trace among the headers of a message or an HTTP request; none when its `traceparent` is not valid. */
export function traceHeadersIn({ traceparent, tracestate }: Readonly<Record<string, unknown>>): TraceHeaders {
  // Most requests have none.
  if (typeof traceparent !== 'string' || tracePointOf(traceparent) === undefined) return NO_TRACE;
  return typeof tracestate === 'string' && TRACESTATE.test(tracestate)
    ? { traceparent, tracestate }
    : { traceparent };
}

/** The headers that continue a trace after this point. */
export function traceHeadersAt(
  { traceId, spanId, traceFlags }: TracePoint,
  tracestate: string | undefined,
): TraceHeaders {
  const flags = (traceFlags & 0xff).toString(16).padStart(2, '0');
  const traceparent = `00-${traceId}-${spanId}-${flags}`;
  return tracestate === undefined || !TRACESTATE.test(tracestate)
    ? { traceparent }
    : { traceparent, tracestate };
}
