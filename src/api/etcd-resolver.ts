import type { Cancellable } from './cancellable.js';
import type { Cluster } from './cluster.js';
import type { Token } from './token.js';

/** Finds the hosts of a cluster, for plugins that connect to them directly. */
export interface EtcdResolver {
  /** The base URLs of the cluster's fleet APIs, such as `http://10.0.0.1:49153`. */
  endpoints(cluster: Cluster, options: Cancellable): Promise<URL[]>;
}

export const EtcdResolver: Token<EtcdResolver> = Symbol.for('fleet-manager:EtcdResolver');
