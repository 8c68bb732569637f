import {
  ActionError,
  type Clock,
  type Cluster,
  type FleetTransport,
  type ListOptions,
  withTimeLimit,
} from '../../src/plugin.js';
import type { Finding } from './finding.js';

export interface ListContext {
  fleet: FleetTransport;
  cluster: Cluster;
  clock: Clock;
  /** Of the request. */
  signal: AbortSignal;
  /** The clock's time until which the lists are read. */
  endsAt: number;
}

export interface ListReading<Row> {
  /** Undefined: it could not be read. */
  rows: Row[] | undefined;
  /** Whether it has every row. */
  isWhole: boolean;
  findings: Finding[];
}

/** Reads a list; that it cannot be read, or not as a whole, is a finding. */
export async function readList<Row>(
  list: string,
  { cluster, fleet, clock, signal: call, endsAt }: ListContext,
  rows: (fleet: FleetTransport, cluster: Cluster, options: ListOptions) => Promise<Row[]>,
): Promise<ListReading<Row>> {
  const findings: Finding[] = [];
  const warn = (text: string) => findings.push(incompleteList(list, text));
  const ms = Math.max(0, endsAt - clock.now());
  const message = 'it could not be read within the time of the request';
  try {
    const read = await withTimeLimit({ ms, message, clock, signal: call }, async (signal) =>
      rows(fleet, cluster, { signal, warn }),
    );
    return { rows: read, isWhole: findings.length === 0, findings };
  } catch (error) {
    call.throwIfAborted();
    if (!(error instanceof ActionError)) throw error;
    findings.push(unreadableList(list, error.message));
    return { rows: undefined, isWhole: false, findings };
  }
}

function incompleteList(list: string, text: string): Finding {
  return {
    severity: 'warning',
    kind: 'list_incomplete',
    subject: list,
    message: text,
    advice:
      'If the list changes fast, check again when it changes less. Correct what is invalid in etcd. Give each machine a /etc/machine-id of its own.',
    evidence: { list },
  };
}

function unreadableList(list: string, reason: string): Finding {
  return {
    severity: 'error',
    kind: 'list_unreadable',
    subject: list,
    message: `The list of ${list} cannot be read: ${reason}`,
    advice: 'Look at the hosts that the message names. The limits of lists are in docs/operating.md.',
    evidence: { list, reason },
  };
}
