import { fieldsOf } from '../../lib/fields-of.js';
import { printable } from '../../lib/printable.js';

/**
 * One line of the audit. `begun`: a change is about to begin. `settled`: its caller got the outcome; for a read, the only line.
 * `denied`: the policy does not allow it. `reused`: nothing was done for it, as its idempotency key is that of an earlier change, whose
 * reply its caller got. `gap`: lines before this one are lost.
 */
export interface AuditLine {
  /** ISO 8601, in UTC. */
  readonly time: string;
  readonly event: 'begun' | 'settled' | 'denied' | 'reused' | 'gap';
  /** The same in the lines of one run, and in no other line. */
  readonly id: string;
  /** The id of the request, which its caller chooses. */
  readonly request?: string;
  /** The id of the earlier request. */
  readonly reply_of?: string | undefined;
  readonly caller?: string;
  /** Who vouches for the caller; undefined: nobody. */
  readonly verified_by?: string | undefined;
  readonly door?: string;
  readonly action?: string;
  readonly effect?: string;
  /** `probe`: it finds out what came of an earlier run, and may finish that. */
  readonly work?: string | undefined;
  /** The hash of the cluster, and the name that the operator has given it. */
  readonly cluster?: string | undefined;
  readonly cluster_name?: string | undefined;
  readonly units?: readonly string[] | undefined;
  /** Masked. Not in the second line of a change. */
  readonly parameters?: unknown;
  readonly decision?: 'allowed' | 'denied';
  /** The rule that allows it; undefined: there is no policy. */
  readonly rule?: string | undefined;
  /** Which rule would allow it. */
  readonly needed?: string;
  /** `completed`, the code of the error that its caller got, or `released`: another worker takes it. */
  readonly outcome?: string;
  /** What became of the reply. */
  readonly reply?: 'sent' | 'dropped' | 'unanswered' | undefined;
  readonly took_ms?: number;
  /** The number of workers that have had the request, this one included. */
  readonly attempt?: number;
  readonly trace_id?: string | undefined;
  /** How many lines are lost. */
  readonly lines?: number;
  readonly worker: string;
  readonly version: string;
}

/** Nothing in it can control a terminal, or be taken for another line. */
export function textOf(line: AuditLine): string {
  return printable(JSON.stringify(line));
}

const EVENTS: ReadonlySet<unknown> = new Set<AuditLine['event']>([
  'begun',
  'settled',
  'denied',
  'reused',
  'gap',
]);

/** A line as it is read: its fields may be missing, or be anything, but for these. */
export type ReadLine = Pick<AuditLine, 'time' | 'event' | 'id'> & Readonly<Record<string, unknown>>;

/** @returns undefined: it is no line of the audit */
export function readLine(text: string): ReadLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const fields = fieldsOf(value);
  const { time, event, id } = fields;
  if (typeof time !== 'string' || Number.isNaN(Date.parse(time)) || typeof id !== 'string') return undefined;
  return isEvent(event) ? { ...fields, time, event, id } : undefined;
}

function isEvent(value: unknown): value is AuditLine['event'] {
  return EVENTS.has(value);
}
