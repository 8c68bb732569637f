import { parseTraceParent } from '@opentelemetry/core';
import test from 'ava';
import fc from 'fast-check';
import { NO_TRACE, traceHeadersAt, traceHeadersIn, tracePointOf } from '../../src/lib/trace-context.js';

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const SPAN_ID = 'b7ad6b7169203331';
const TRACEPARENT = `00-${TRACE_ID}-${SPAN_ID}-01`;

const hex = (length: number) =>
  fc.string({
    unit: fc.constantFrom(...Array.from('0123456789abcdef')),
    minLength: length,
    maxLength: length,
  });
/** Near what is valid, and anything else. */
const traceparents = fc.oneof(
  fc.tuple(hex(2), hex(32), hex(16), hex(2)).map((parts) => parts.join('-')),
  fc
    .tuple(fc.constantFrom('00', '01', 'ff'), hex(32), hex(16), hex(2), fc.string())
    .map((parts) => parts.join('-')),
  fc.constantFrom(TRACEPARENT, `00-${'0'.repeat(32)}-${SPAN_ID}-01`, `00-${TRACE_ID}-${'0'.repeat(16)}-01`),
  fc.string(),
  fc.anything(),
);

test('a traceparent is read as OpenTelemetry reads it, and whatever else it is, it is none', (t) => {
  fc.assert(
    fc.property(traceparents, (traceparent) => {
      const point = tracePointOf(traceparent);
      if (point === undefined) return;
      t.like(parseTraceParent(String(traceparent)), point);
    }),
  );
  t.deepEqual(tracePointOf(TRACEPARENT), { traceId: TRACE_ID, spanId: SPAN_ID, traceFlags: 1 });
});

test('a valid traceparent of version 0 is always read', (t) => {
  const nonZero = (length: number) => hex(length).filter((text) => /[^0]/.test(text));
  fc.assert(
    fc.property(nonZero(32), nonZero(16), hex(2), (traceId, spanId, flags) => {
      const headers = { traceparent: `00-${traceId}-${spanId}-${flags}` };
      t.deepEqual(traceHeadersIn(headers), headers);
      t.deepEqual(
        traceHeadersAt({ traceId, spanId, traceFlags: Number.parseInt(flags, 16) }, undefined),
        headers,
      );
    }),
  );
});

test('only the two headers of a trace are taken, with values that any header can have', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(fc.constant(TRACEPARENT), traceparents),
      fc.anything(),
      (traceparent, tracestate) => {
        const headers = traceHeadersIn({ traceparent, tracestate, 'x-caller': 'root' });
        t.notThrows(() => new Headers(headers));
        for (const name of Object.keys(headers)) t.true(['traceparent', 'tracestate'].includes(name));
      },
    ),
  );
  t.deepEqual(traceHeadersIn({ traceparent: TRACEPARENT, tracestate: 'a=1' }), {
    traceparent: TRACEPARENT,
    tracestate: 'a=1',
  });
  t.is(traceHeadersIn({ tracestate: 'a=1' }), NO_TRACE);
});
