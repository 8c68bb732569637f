import { atom, atomKeys } from '../messaging/codec/erlang-atom.js';
import { encodeTerm } from '../messaging/codec/erlang-encode.js';
import { COLUMN_CHARACTERS } from './columns.js';

/** A request that runs right now. */
export interface Work {
  id: string;
  action: string;
  /** The short hash of its cluster. */
  cluster?: string;
  /** How long it has been running, in milliseconds. */
  sinceMs: number;
}

export interface Heartbeat {
  /** Must fit a column of the Manager, see `fitsColumn`. */
  hostname: string;
  /** Becomes an atom; must fit a column too. */
  moduleType: string;
  work: readonly Work[];
}

/** An entry of a workload as the Manager shows it. */
interface WorkloadEntry {
  description: string;
}

/** So that a workload has room for several requests. */
const DESCRIPTION_CHARACTERS = 48;

/**
 * The Erlang term that the Overseer reads: the status of a module, with its workload, a list of `{description}`.
 * @throws RangeError, TypeError when the module's type is no atom
 */
export function heartbeatTerm({ hostname, moduleType, work }: Heartbeat): Buffer {
  return encodeTerm(
    atomKeys({
      event_type: atom('status'),
      status: atom('active'),
      hostname,
      type: atom(moduleType),
      workload: workloadOf(work).map((entry) => atomKeys({ ...entry })),
    }),
  );
}

/**
 * How many requests run, and as many of them as fit into the Manager's column, the oldest first. The Manager keeps the
 * list as JSON text.
 */
function workloadOf(work: readonly Work[]): WorkloadEntry[] {
  if (work.length === 0) return [];
  const count = work.length === 1 ? '1 request runs' : `${work.length} requests run`;
  let workload: WorkloadEntry[] = [{ description: count }];
  for (const each of work.toSorted((a, b) => b.sinceMs - a.sinceMs)) {
    const longer = [...workload, { description: descriptionOf(each) }];
    if (JSON.stringify(longer).length > COLUMN_CHARACTERS) break;
    workload = longer;
  }
  return workload;
}

/** Such as `list_units on ab12cd34ef for 12 s, request 13`; without what is not printable ASCII. */
function descriptionOf({ id, action, cluster, sinceMs }: Work): string {
  const where = cluster === undefined ? '' : ` on ${cluster}`;
  const text = `${action}${where} for ${Math.floor(sinceMs / 1_000)} s, request ${id}`;
  const plain = text.replaceAll(/[^\x20-\x7e]/gu, '?');
  if (plain.length <= DESCRIPTION_CHARACTERS) return plain;
  return `${plain.slice(0, DESCRIPTION_CHARACTERS - 3)}...`;
}
