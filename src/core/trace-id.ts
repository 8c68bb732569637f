import { tracePointOf } from '../lib/trace-context.js';
import type { Call } from './call.js';

/** The id of the trace that a call belongs to, 32 hexadecimal digits; undefined: its caller sends none, and traces are off. */
export function traceIdOf({ traceId, context }: Pick<Call, 'traceId' | 'context'>): string | undefined {
  return traceId ?? tracePointOf(context.traceparent)?.traceId;
}
