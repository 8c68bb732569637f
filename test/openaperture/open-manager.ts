import type { ExecutionContext } from 'ava';
import type { WatchUpstream } from '../../src/lib/upstream.js';
import { ManagerClient } from '../../src/openaperture/manager-client.js';
import { ManagerError } from '../../src/openaperture/manager-error.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { type Oversize, StandInManager } from '../support/stand-in-manager.js';

/**
 * How far time advances in one step, in milliseconds. `unhurried`: to the end of a sleep, or hardly, while something has
 * a time limit that a real server could miss on a busy machine.
 */
type Step = number | 'unhurried';

/** Less than what is left of the time limit for one call of a server. */
const UNHURRIED_MS = 2;
/** Longer than the time limits of calls of servers. */
const BEYOND_CALLS_MS = 15_000;

export interface OpenManager {
  manager: StandInManager;
  client: ManagerClient;
  clock: ManualClock;
  logs: ReturnType<typeof logLines>;
  /** A signal that is not aborted. */
  notAborted: { signal: AbortSignal };
  /** Advances time in steps until a promise settles, so that every wait for a next try ends. */
  whileTimePasses: <T>(work: Promise<T>, step?: Step) => Promise<T>;
  /** Waits until a condition is true, while time passes. */
  until: (what: string, look: () => boolean, step?: Step) => Promise<void>;
}

interface Options {
  /** How long one HTTP call may take. */
  timeoutMs?: number;
  tokenSeconds?: number;
  oversize?: Oversize;
  secret?: string;
  watch?: WatchUpstream;
  clientId?: string;
}

/** A fake Manager and a client of it, with a manual clock; closed when the test ends. */
export async function openManager(t: ExecutionContext, options: Options = {}): Promise<OpenManager> {
  const clock = new ManualClock();
  const { tokenSeconds, oversize } = options;
  const manager = await StandInManager.start(t, { clock, tokenSeconds, oversize });
  const client = new ManagerClient({
    url: manager.url,
    oauth: {
      url: manager.oauthUrl,
      clientId: options.clientId ?? manager.clientId,
      clientSecret: options.secret ?? manager.clientSecret,
    },
    clock,
    timeoutMs: options.timeoutMs,
    watch: options.watch,
  });
  t.teardown(() => client.close());
  return { manager, client, clock, logs: logLines(), notAborted: notAborted(), ...timePassing(clock) };
}

/**
 * Ensures that the client has a token. With a short time limit that may take several tries, because a busy machine
 * responds slowly too.
 */
export async function withToken({ manager, client, whileTimePasses }: OpenManager): Promise<void> {
  manager.addRecord(0);
  for (let has = false; !has; ) {
    has = await whileTimePasses(client.recordState(0, notAborted())).then(
      () => true,
      (error: unknown) => {
        if (error instanceof ManagerError && error.kind === 'unreachable') return false;
        throw error;
      },
    );
  }
}

export function notAborted(): { signal: AbortSignal } {
  return { signal: new AbortController().signal };
}

/** Functions that advance a manual clock. */
export function timePassing(clock: ManualClock): Pick<OpenManager, 'whileTimePasses' | 'until'> {
  const until = async (what: string, look: () => boolean, step: Step = 500) => {
    let looked = false;
    await eventually(what, () => {
      if (looked) advance(clock, step);
      looked = true;
      return look();
    });
  };
  return {
    until,
    whileTimePasses: async (work, step) => {
      let done = false;
      const ended = work.finally(() => {
        done = true;
      });
      ended.catch(() => {});
      await until('the work is done', () => done, step);
      return ended;
    },
  };
}

function advance(clock: ManualClock, step: Step): void {
  if (step !== 'unhurried') clock.advance(step);
  else if (!clock.leapSleep(BEYOND_CALLS_MS)) clock.advance(UNHURRIED_MS);
}
