import { atom, atomKeys } from '../messaging/codec/erlang-atom.js';
import { encodeTerm } from '../messaging/codec/erlang-encode.js';

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
  hostname: string;
  /** Becomes an atom: at most 255 characters. */
  moduleType: string;
  work: readonly Work[];
  /** Milliseconds since the epoch. */
  now: number;
}

/**
 * The Erlang term that the Overseer reads: the status of a module, with what it works on. In the workload, `since` is
 * in seconds since the epoch, and `cluster` is nil for work on none.
 * @throws RangeError, TypeError when the module's type is no atom
 */
export function heartbeatTerm({ hostname, moduleType, work, now }: Heartbeat): Buffer {
  return encodeTerm(
    atomKeys({
      event_type: atom('status'),
      status: atom('active'),
      hostname,
      type: atom(moduleType),
      workload: work.map(({ id, action, cluster, sinceMs }) =>
        atomKeys({
          description: `${action}${cluster === undefined ? '' : ` on cluster ${cluster}`}, request ${id}`,
          action,
          cluster: cluster ?? null,
          since: Math.floor((now - sinceMs) / 1_000),
        }),
      ),
    }),
  );
}
