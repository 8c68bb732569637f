import type { Clock, Cluster, FleetTransport, RemoteShell } from '../../src/plugin.js';

/** What a check needs. */
export interface CheckContext {
  cluster: Cluster;
  fleet: FleetTransport;
  shell: RemoteShell;
  clock: Clock;
  /** Of the request. */
  signal: AbortSignal;
  /** How long the check may take, in milliseconds. */
  timeMs: number;
  /** The clock's time until which it may take. */
  endsAt: number;
  /** Adds a sentence for people to the reply. */
  warn: (text: string) => void;
}
