import type { ExecutionContext } from 'ava';
import { ClaimStore, type ClaimStoreOptions } from '../../src/claims/claim-store.js';
import type { ChangeToClaim, Claim, Claimed } from '../../src/core/change-claims.js';
import { systemClock } from '../../src/lib/clock.js';
import { logLines } from '../support/log-lines.js';
import type { OwnEtcd } from '../support/own-etcd.js';

export const never = new AbortController().signal;

/** A worker's claim store on this etcd, until the test ends. */
export function openStore(t: ExecutionContext, etcd: OwnEtcd, options: Partial<ClaimStoreOptions> = {}) {
  const logs = logLines();
  const store = new ClaimStore({
    urls: [etcd.url],
    ca: etcd.ca,
    clock: systemClock,
    log: logs.log,
    ...options,
  });
  store.start();
  t.teardown(async () => store.stop());
  return {
    store,
    logs,
    /** Claims a change for a message that was delivered for the first time. */
    first: async (key: string | undefined, signal = never) => store.claim(changeOf(key, false), signal),
    /** Claims it for one that this worker has had for this long, in milliseconds. */
    kept: async (key: string, heldMs: number) => store.claim(changeOf(key, false, heldMs), never),
    /** Claims it for one that another worker may have got. */
    repeated: async (key: string, signal = never) => store.claim(changeOf(key, true), signal),
    /** Claims the change of this name, for a request that asks for this. */
    named: async (
      name: string,
      { message, asks = 'this', mayWait = true, isRepeated = false, id = `r-${message}` }: Named,
      signal = never,
    ) => {
      const named = { key: name, askedFor: asks, mayWait };
      return store.claim({ ...changeOf(message, isRepeated), id, named }, signal);
    },
  };
}

interface Named {
  message: string;
  asks?: string;
  mayWait?: boolean;
  isRepeated?: boolean;
  id?: string;
}

function changeOf(key: string | undefined, repeated: boolean, heldMs = 0): ChangeToClaim {
  return { key, id: 'r1', action: 'act', isRepeated: repeated, heldMs };
}

export function held(claimed: Claimed): Claim {
  if (claimed.state === 'held') return claimed.claim;
  throw new Error(`it was settled before: ${JSON.stringify(claimed.reply)}`);
}

/** A reply of a completed change. */
export const done = (body: unknown) => ({ status: 'completed', body }) as const;

const encoded = (text: string) => Buffer.from(text).toString('base64');

/** The keys in etcd that begin with this, each with its value and its lease. */
export async function keysIn(
  etcd: OwnEtcd,
  prefix: string,
): Promise<{ key: string; value: string; lease: string }[]> {
  const body = { key: encoded(prefix), range_end: encoded(`${prefix.slice(0, -1)}0`) };
  const { kvs = [] } = (await etcd.post('kv/range', body)) as {
    kvs?: { key: string; value?: string; lease?: string }[];
  };
  return kvs.map(({ key, value = '', lease = '' }) => ({
    key: Buffer.from(key, 'base64').toString(),
    value: Buffer.from(value, 'base64').toString(),
    lease,
  }));
}

/** Ends the leases of all workers, as etcd does when it has not heard of them. They do not know it yet. */
export async function endAllWorkers(etcd: OwnEtcd): Promise<void> {
  for (const { lease } of await keysIn(etcd, '/fleet-manager/workers/'))
    await etcd.post('lease/revoke', { ID: lease });
}
