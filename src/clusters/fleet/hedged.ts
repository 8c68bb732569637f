import type { Clock } from '../../lib/clock.js';
import { linkSignals } from '../../lib/linked-signal.js';

/** After so many hosts that take long, the whole cluster may be slow: each further one is asked after twice the time. */
const QUICKLY_ASKED = 3;
/** A hedge that may not be made is made all the same after so many times the time for one. */
const MOST_WAITS = 4;
/** The abort reason of requests that another host has answered already. */
export const ANSWERED_ELSEWHERE = new Error('another host has answered');

export interface HedgedRead<Host, Response> {
  /** In the order in which to ask them. */
  hosts: readonly Host[];
  /** Asks one host; resolves with undefined when its response cannot be used. A rejection ends the read. */
  ask: (host: Host, signal: AbortSignal) => Promise<Response | undefined>;
  /** How long to wait, in milliseconds, before another host is asked too; longer after the third one. */
  hedgeMs: number;
  /** Whether another host may be asked while this one takes long; by default always. With false, it is waited for that time again. */
  mayHedge?: (slow: Host) => boolean;
  clock: Clock;
  signal: AbortSignal;
  /** Called for each host that had not responded when one that was asked later did, or when no more was waited for. */
  onSlower: (host: Host) => void;
  /** Whether no other host needs to be asked after this response; by default always. */
  isSure?: (response: Response) => boolean;
}

/**
 * A hedged read: asks one host, and another one when it fails or takes long. The first sure response wins, and the
 * other requests are aborted. After a response that is not sure, a second opinion has twice `hedgeMs`.
 * @returns the sure response alone, or one or two that are not sure; none when no host has a usable response
 */
export async function hedged<Host, Response>(read: HedgedRead<Host, Response>): Promise<Response[]> {
  const { ask, hedgeMs, mayHedge = () => true, clock, onSlower, isSure = () => true } = read;
  const link = linkSignals(read.signal);
  const remaining = [...read.hosts];
  /** By host, the one asked first first. */
  const pending = new Map<Host, Promise<{ host: Host; response: Response | undefined }>>();
  const unsure: Response[] = [];
  let cancelTimer = () => {};
  let cancelOpinion = () => {};
  let enough = new Promise<'enough'>(() => {});
  let waits = 0;
  try {
    for (;;) {
      link.signal.throwIfAborted();
      const next = waits > 0 ? undefined : remaining.shift();
      if (next !== undefined) {
        const answer = ask(next, link.signal);
        pending.set(
          next,
          answer.then((response) => ({ host: next, response })),
        );
      }
      if (pending.size === 0) return unsure;
      const waitMs = hedgeMs * 2 ** Math.max(0, pending.size - QUICKLY_ASKED + 1);
      const late = new Promise<'late'>((resolve) => {
        if (remaining.length > 0) cancelTimer = clock.after(waitMs, () => resolve('late'));
      });
      const first = await Promise.race([...pending.values(), late, enough]);
      cancelTimer();
      if (first === 'late') {
        const [slow] = [...pending.keys()].slice(-1);
        waits = slow === undefined || mayHedge(slow) ? 0 : (waits + 1) % MOST_WAITS;
        continue;
      }
      waits = 0;
      if (first === 'enough') {
        for (const host of pending.keys()) onSlower(host);
        return unsure;
      }
      if (first.response !== undefined && isSure(first.response)) {
        for (const host of pending.keys()) {
          if (host === first.host) break;
          onSlower(host);
        }
        return [first.response];
      }
      pending.delete(first.host);
      if (first.response === undefined) continue;
      unsure.push(first.response);
      if (unsure.length === 2) return unsure;
      enough = new Promise((resolve) => {
        cancelOpinion = clock.after(2 * hedgeMs, () => resolve('enough'));
      });
    }
  } finally {
    cancelTimer();
    cancelOpinion();
    link.abort(ANSWERED_ELSEWHERE);
    link.unlink();
  }
}
