import type { Cluster } from '../../src/api/cluster.js';
import type { ActionError } from '../../src/api/action-error.js';
import type { Reply } from '../../src/core/call.js';
import type { ChangeClaims, ChangeToClaim, Claim, Claimed } from '../../src/core/change-claims.js';
import { untilAborted } from '../../src/lib/until-aborted.js';

interface Fake {
  /** What it answers; a reply only to a change that may be a copy. */
  claimed?: 'new' | 'begun' | Reply;
  /** Whether another worker has taken the change when its outcome is noted. */
  isLost?: boolean;
  /** Each of these throws this when it is called. */
  fails?: { claim?: unknown; lockUnit?: unknown; begin?: unknown };
  /** Each of these waits until it is resolved, or the signal is aborted. */
  waits?: { claim?: Promise<unknown>; lockUnit?: Promise<unknown>; settle?: Promise<unknown> };
  /** Called when a change begins. */
  onBegin?: () => void;
  /** A claim is given up when this is resolved. */
  released?: Promise<unknown>;
  /** The units that another worker changes. */
  isElsewhere?: readonly string[];
}

/** A store of claims that does what the test says, and notes what core asks of it, in order. */
export function fakeClaims({
  claimed = 'new',
  isLost = false,
  fails = {},
  waits = {},
  onBegin,
  released,
  isElsewhere = [],
}: Fake = {}) {
  const asked: string[] = [];
  const changes: ChangeToClaim[] = [];
  const settled: Reply[] = [];
  const lost = new Set<(reason: ActionError) => void>();
  const step = async (
    name: string,
    { fails: failure, waits: wait }: { fails?: unknown; waits?: Promise<unknown> | undefined },
    signal: AbortSignal,
  ) => {
    asked.push(name);
    signal.throwIfAborted();
    await untilAborted(wait ?? Promise.resolve(), signal);
    if (failure !== undefined) throw failure;
  };
  const claim: Claim = {
    wasBegun: claimed === 'begun',
    lockUnit: async (cluster: Cluster | undefined, unit, signal) =>
      step(
        `lock ${cluster?.hash ?? 'none'} ${unit}`,
        { fails: fails.lockUnit, waits: waits.lockUnit },
        signal,
      ),
    tryLockUnit: async (cluster, unit, signal) => {
      await step(`try ${cluster?.hash ?? 'none'} ${unit}`, { fails: fails.lockUnit }, signal);
      return isElsewhere.includes(unit) ? undefined : async () => void asked.push(`free ${unit}`);
    },
    begin: async (signal) => {
      await step('begin', { fails: fails.begin }, signal);
      onBegin?.();
    },
    onLost: (callback) => {
      lost.add(callback);
      return () => lost.delete(callback);
    },
    settle: async (reply, signal) => {
      settled.push(reply);
      await step('settle', { waits: waits.settle }, signal).catch(() => {});
      return !isLost;
    },
    release: async () => {
      asked.push('release');
      await released;
    },
  };
  const claims: ChangeClaims = {
    claim: async (change, signal): Promise<Claimed> => {
      changes.push(change);
      await step('claim', { fails: fails.claim, waits: waits.claim }, signal);
      const isKnown = typeof claimed === 'object' && change.isRepeated;
      return isKnown ? { state: 'settled', reply: claimed } : { state: 'held', claim };
    },
  };
  return {
    claims,
    asked,
    changes,
    settled,
    /** How many changes would be told that the lease is lost. */
    watched: () => lost.size,
    lose: (reason: ActionError) => lost.forEach((callback) => callback(reason)),
  };
}
