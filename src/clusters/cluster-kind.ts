import { type Cluster, tokenOf } from '../api/cluster.js';
import { requireUsable } from './clusters-file.js';
import type { Inventory } from './inventory.js';

/**
 * What kind of cluster it is, as the inventory lists it: what is in no list is a fleet cluster that discovery knows.
 * @throws ActionError `cluster_entry_invalid` when its entry cannot be used
 */
export function kindOf({ file }: Pick<Inventory, 'file'>, cluster: Cluster): 'fleet' | 'systemd' {
  const token = tokenOf(cluster);
  requireUsable(file, token);
  return file.machines.has(token) ? 'systemd' : 'fleet';
}
