import type { ExecutionContext } from 'ava';
import { countsOf, type Entry, groupedBy, isAdmitted, isDenied, type Ledger } from './ledger.js';

/** Checks that each request has its one closing line in the log, and each change that begins another one. */
export function checkLog(
  t: ExecutionContext,
  lines: readonly Record<string, unknown>[],
  { ledger, begunChanges }: { ledger: Ledger; begunChanges: readonly Entry[] },
): void {
  const closing = lines.filter(({ message }) =>
    /^request (completed|failed|unanswered)$/.test(String(message)),
  );
  const byRequest = groupedBy(closing, ({ request }) => request);
  t.is(closing.length, ledger.handled.length);
  for (const entry of ledger.handled) {
    const { id, action, caller, cluster, got, units = [], wantsReply, trace } = entry;
    const what = `${String(action)} of ${caller.name}, ${got}`;
    const found = byRequest.get(id) ?? [];
    t.is(found.length, 1, what);
    const isCompleted = got === 'completed';
    t.like(
      found[0],
      {
        message: isCompleted ? 'request completed' : 'request failed',
        request: id,
        action: typeof action === 'string' ? action : undefined,
        caller: caller.name,
        code: isCompleted ? undefined : got,
        cluster: isAdmitted(entry) || isDenied(entry) ? cluster?.hash : undefined,
        unit: (isAdmitted(entry) || isDenied(entry)) && units.length > 0 ? units.join(' ') : undefined,
        dropped: wantsReply ? undefined : true,
        ...(trace !== undefined && { trace_id: trace.traceId }),
      },
      what,
    );
  }
  const started = lines.filter(({ message }) => message === 'change started');
  t.deepEqual(
    countsOf(started.map(({ request }) => String(request))),
    countsOf(begunChanges.map(({ id }) => id)),
  );
  t.is(lines.filter(({ message }) => message === 'message dead-lettered').length, ledger.invalid.length);
}
