import type { Caller } from '../../src/plugin.js';

/** What a caller gets: `completed`, or the code of an error. */
export type Outcome = string;

/** The two policies between which the service changes. */
export type PolicyName = 'old' | 'new';

/** A cluster of a request: as it is sent, and as outputs name it. */
export interface SentTo {
  /** Its token, or its name. */
  sent: string;
  hash: string;
  /** Undefined: it has none. */
  name: string | undefined;
}

/**
 * How far a request gets: the gateway answers it alone (`gateway`), it is no request and is dead-lettered (`invalid`), a check refuses it
 * (`checked`), or only the policy can (`admitted`).
 */
export type Reach = 'gateway' | 'invalid' | 'checked' | 'admitted';

/** A request as it is sent. */
export interface Planned {
  caller: Caller;
  door: 'amqp' | 'http';
  encoding: 'json' | 'erlang';
  action: unknown;
  /** Of the action; undefined: no such action is served. */
  effect: 'read' | 'change' | undefined;
  cluster?: SentTo;
  /** The units that its parameters name, in alphabetical order. */
  units?: readonly string[];
  parameters?: Record<string, unknown>;
  /** How long its caller waits, as it says. */
  timeout?: string | number;
  headers?: Record<string, unknown>;
  /** The message, where that is no request. */
  body?: string;
  wantsReply: boolean;
  reach: Reach;
  /** What its caller may get, under each policy. */
  outcomes: Readonly<Record<PolicyName, readonly Outcome[]>>;
}

/** A request in the ledger. */
export interface Entry extends Planned {
  /** Its id in every output. */
  id: string;
  /** The span of its caller, that of a trace of its own; undefined: its caller has no trace. */
  trace: { traceId: string; spanId: string } | undefined;
  /** The policies that may have decided it. */
  policies: readonly PolicyName[];
  /** What its caller got. Nobody sees what one gets that wants no reply: then it is what it must be. */
  got: Outcome;
}

/** What was sent, and what came back. */
export class Ledger {
  readonly entries: Entry[] = [];

  /** Those that the service handles as requests. */
  get handled(): Entry[] {
    return this.entries.filter(({ reach }) => reach === 'checked' || reach === 'admitted');
  }

  get invalid(): Entry[] {
    return this.entries.filter(({ reach }) => reach === 'invalid');
  }
}

/** Whether the policy has denied it. */
export function isDenied({ got }: Entry): boolean {
  return got === 'forbidden';
}

/** Whether it has waited for its turn. */
export function isAdmitted(entry: Entry): boolean {
  return entry.reach === 'admitted' && !isDenied(entry);
}

/** How often each of these texts is there. */
export function countsOf(texts: Iterable<string>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const text of texts) counts[text] = (counts[text] ?? 0) + 1;
  return counts;
}

/** Groups by a key. */
export function groupedBy<T>(all: readonly T[], keyOf: (each: T) => unknown): Map<unknown, T[]> {
  const groups = new Map<unknown, T[]>();
  for (const each of all) {
    const key = keyOf(each);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [each]);
    else group.push(each);
  }
  return groups;
}
