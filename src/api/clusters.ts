import type { Token } from './token.js';

/** A cluster that the operator has named. */
export interface NamedCluster {
  name: string;
  kind: 'fleet' | 'systemd';
  /** How many machines the operator lists; null: the cluster knows that itself. */
  machines: number | null;
}

/** The clusters that the operator has named, in `CLUSTERS_FILE`. Those that callers name by an etcd token alone are not known. */
export interface Clusters {
  /** By name in alphabetical order. */
  list(): NamedCluster[];
}

export const Clusters: Token<Clusters> = Symbol.for('fleet-manager:Clusters');
