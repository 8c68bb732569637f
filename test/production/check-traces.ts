import type { ExecutionContext } from 'ava';
import type { CollectedSpan } from '../tracing/collector.js';
import { type Entry, groupedBy, isAdmitted, isDenied, type Ledger } from './ledger.js';

/** Checks that each request has its spans, and that they are one tree below the span of its caller. */
export function checkTraces(
  t: ExecutionContext,
  spans: readonly CollectedSpan[],
  { ledger, queue, hasBegun }: { ledger: Ledger; queue: string; hasBegun: (entry: Entry) => boolean },
): void {
  const outer = `process ${queue}`;
  const byTrace = groupedBy(spans, ({ traceId }) => traceId);
  t.is(spans.filter(({ name }) => name === outer).length, ledger.handled.length, outer);
  t.is(new Set(spans.map(({ spanId }) => spanId)).size, spans.length);
  for (const entry of ledger.handled) {
    if (entry.trace === undefined) continue;
    const { trace, action, caller, cluster, door, got, id } = entry;
    const what = `${String(action)} of ${caller.name} over ${door}, ${got}`;
    const own = byTrace.get(trace.traceId) ?? [];
    const ids = new Set([trace.spanId, ...own.map(({ spanId }) => spanId)]);
    for (const { name, parentSpanId } of own)
      t.true(ids.has(String(parentSpanId)), `the parent of ${name} in ${what}`);
    const named = (name: string) => own.filter((span) => span.name === name);
    const [request, ...others] = named(outer);
    t.deepEqual(others, [], what);
    if (request === undefined) {
      t.fail(`no span of ${what}`);
      continue;
    }
    const isKnown = isAdmitted(entry) || isDenied(entry);
    t.like(
      request.attributes,
      {
        'messaging.message.id': id,
        'fleet_manager.outcome': got,
        'fleet_manager.caller': caller.name,
        'fleet_manager.door': door,
        'fleet_manager.attempt': 1,
        'fleet_manager.action': isKnown ? action : undefined,
        'fleet_manager.cluster': isKnown ? cluster?.hash : undefined,
      },
      what,
    );
    const isAdmittedOne = isAdmitted(entry);
    const phases: [string, boolean][] = [
      ['wait', isAdmittedOne],
      [`run ${String(action)}`, isAdmittedOne && hasBegun(entry)],
      ['reply', true],
    ];
    for (const [name, isThere] of phases) {
      const found = named(name);
      t.is(found.length, isThere ? 1 : 0, `${name} of ${what}`);
      if (isThere) t.is(found[0]?.parentSpanId, request.spanId, `${name} of ${what}`);
    }
    const gateway = named('POST /v1/actions/:name');
    t.is(gateway.length, door === 'http' ? 1 : 0, what);
    t.is(request.parentSpanId, gateway[0]?.spanId ?? trace.spanId, what);
    if (action === 'unit_logs' && got === 'completed') {
      const [run] = named('run unit_logs');
      const calls = own.filter(({ parentSpanId }) => parentSpanId === run?.spanId).map(({ name }) => name);
      t.true(
        calls.some((name) => name.startsWith('fleet GET')),
        `${calls.join()} of ${what}`,
      );
      t.true(
        calls.some((name) => name.startsWith('ssh run ')),
        `${calls.join()} of ${what}`,
      );
    }
  }
}
