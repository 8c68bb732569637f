import type { ExecutionContext } from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { type Entry, groupedBy, isAdmitted, isDenied, type Ledger } from './ledger.js';

type Line = Record<string, unknown>;

/** Reads lines of the audit, or of `history --json`. */
export function auditLines(text: string): Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => fieldsOf(JSON.parse(line)));
}

/**
 * The requests that are in the audit. One whose time was up before it could begin may be, when its first line was written by then.
 * @param runs which handlers have run, as `NAME ID`
 */
export function auditedOf(ledger: Ledger, runs: readonly string[]): Audited[] {
  return ledger.handled
    .filter((entry) => entry.effect === 'change' && (isDenied(entry) || isAdmitted(entry)))
    .map((entry) => ({
      ...entry,
      mayBeMissing: entry.got === 'timeout' && !runs.includes(`${String(entry.action)} ${entry.id}`),
    }));
}

export interface Audited extends Entry {
  mayBeMissing: boolean;
}

/** Checks that the audit has these requests, and nothing else: two lines for each change, one for each that was denied. */
export function checkAudit(t: ExecutionContext, lines: readonly Line[], audited: readonly Audited[]): void {
  const byRequest = groupedBy(lines, ({ request }) => request);
  const there = audited.filter(({ id, mayBeMissing }) => byRequest.has(id) || !mayBeMissing);
  const begun = there.filter((entry) => !isDenied(entry));
  t.is(lines.length, there.length + begun.length);
  t.is(new Set(lines.map(({ id }) => id)).size, there.length, 'ids of runs');
  for (const entry of there) checkLines(t, byRequest.get(entry.id) ?? [], entry);
}

function checkLines(t: ExecutionContext, found: readonly Line[], entry: Entry): void {
  const { id, caller, door, action, cluster, units, got, trace, wantsReply } = entry;
  const all = {
    request: id,
    caller: caller.name,
    verified_by: caller.verifiedBy,
    door,
    action,
    effect: 'change',
    cluster: cluster?.hash,
    cluster_name: cluster?.name,
    attempt: 1,
    ...(trace !== undefined && { trace_id: trace.traceId }),
  };
  const what = `${String(action)} of ${caller.name}, ${got}`;
  if (isDenied(entry)) {
    t.deepEqual(eventsOf(found), ['denied'], what);
    t.like(found[0], { ...all, units, decision: 'denied', outcome: 'forbidden' }, what);
  } else {
    t.deepEqual(eventsOf(found), ['begun', 'settled'], what);
    const [first, last] = found;
    const ran = { ...all, units, id: first?.id, decision: 'allowed', work: 'run' };
    t.like(first, ran, what);
    t.like(last, { ...ran, outcome: got, reply: wantsReply ? 'sent' : 'dropped' }, what);
  }
  if (action === 'rotate') t.like(found[0], { parameters: { password: '***', pepper: '***' } }, what);
}

function eventsOf(lines: readonly Line[]): unknown[] {
  return lines.map(({ event }) => event);
}
