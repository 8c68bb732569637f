/** gRPC's code (NOT_FOUND) of etcd's error for a lease that does not exist, or no longer. */
export const LEASE_NOT_FOUND = 5;

/** The store does not do what it should: it cannot be reached, refuses, or sends what cannot be used. */
export class EtcdError extends Error {
  override readonly name = 'EtcdError';
  /** gRPC's code in etcd's response; undefined: it has not responded as etcd does. */
  readonly code: number | undefined;

  /** @param reason without secrets */
  constructor(reason: string, { code, cause }: { code?: number | undefined; cause?: unknown } = {}) {
    super(reason, { cause });
    this.code = code;
  }
}
