import { hash } from 'node:crypto';

/** Below this every key of the service is kept. A user of etcd needs to read and write nothing else. */
export const PREFIX = '/fleet-manager/';

export const workerKey = (worker: string): string => `${PREFIX}workers/${worker}`;

/** @param change identifies the request */
export const claimKey = (change: string): string => `${PREFIX}claims/${hash('sha256', change)}`;

/**
 * @param cluster the hash of its token, which is a secret
 * @param unit valid for `unitName`, so it has no `/`
 */
export const unitKey = (cluster: string, unit: string): string => `${PREFIX}units/${cluster}/${unit}`;
