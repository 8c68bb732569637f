import { atom, atomKeys } from '../rpc/codec/erlang-atom.js';
import { encodeTerm } from '../rpc/codec/erlang-encode.js';
import { COLUMN_CHARACTERS } from './columns.js';

/** A request that is running. */
export interface Work {
  id: string;
  action: string;
  /** The short hash of its cluster. */
  cluster?: string;
  /** How long it has been running, in milliseconds. */
  runningMs: number;
}

export interface Heartbeat {
  /** Must fit a column of the Manager, see `isModuleText`. */
  hostname: string;
  /** Becomes an atom; must fit a column as well. */
  moduleType: string;
  work: readonly Work[];
}

/** An entry of a workload as the Manager shows it. */
interface WorkloadEntry {
  description: string;
}

/** Short enough that a workload has room for at least three requests. */
const DESCRIPTION_CHARACTERS = 54;
const ID_CHARACTERS = 20;

/**
 * The Erlang term that the Overseer reads: the status of a module, with its workload, a list of `{description}`.
 * @throws RangeError, TypeError when the module's type cannot be an atom
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
 * The number of running requests, then the oldest of them, as many as fit into the Manager's column. The Manager stores
 * the list as JSON text.
 */
function workloadOf(work: readonly Work[]): WorkloadEntry[] {
  if (work.length === 0) return [];
  const count = work.length === 1 ? '1 request runs' : `${work.length} requests run`;
  let workload: WorkloadEntry[] = [{ description: count }];
  for (const each of work.toSorted((a, b) => b.runningMs - a.runningMs)) {
    const longer = [...workload, { description: descriptionOf(each) }];
    if (JSON.stringify(longer).length > COLUMN_CHARACTERS) break;
    workload = longer;
  }
  return workload;
}

/** For example `request 13: ACTION on ab12cd34ef for 12 s`. */
function descriptionOf({ id, action, cluster, runningMs }: Work): string {
  const where = cluster === undefined ? '' : ` on ${cluster}`;
  const seconds = Math.floor(runningMs / 1_000);
  return cut(
    `request ${cut(plain(id), ID_CHARACTERS)}: ${action}${where} for ${seconds} s`,
    DESCRIPTION_CHARACTERS,
  );
}

/** Replaces each character that is not printable ASCII, or that JSON escapes, with `?`. */
function plain(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]|["\\]/gu, '?');
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 3)}...`;
}
