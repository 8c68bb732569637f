import type { ExecutionContext } from 'ava';
import { ManagerClient } from '../../src/openaperture/manager-client.js';
import { ManagerError } from '../../src/openaperture/manager-error.js';
import { HUNG_MS } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { type Oversize, StandInManager } from '../support/stand-in-manager.js';

export interface OpenManager {
  manager: StandInManager;
  client: ManagerClient;
  clock: ManualClock;
  logs: ReturnType<typeof logLines>;
  /** A signal that is not aborted. */
  calm: { signal: AbortSignal };
  /** Moves time in steps until something is done: whatever waits for its next try gets to it. */
  passing: <T>(work: Promise<T>, stepMs?: number) => Promise<T>;
  /** Waits until something is so, while time passes. */
  until: (what: string, look: () => boolean, stepMs?: number) => Promise<void>;
}

interface Options {
  /** How long one HTTP call may take. */
  timeoutMs?: number;
  tokenSeconds?: number;
  oversize?: Oversize;
  secret?: string;
  clientId?: string;
}

/** A stand-in Manager and a client of it, with a clock that stands still; they go with the test. */
export async function openManager(t: ExecutionContext, options: Options = {}): Promise<OpenManager> {
  // A try that fails where none should waits forever, for time that stands still.
  t.timeout(2 * HUNG_MS);
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
  });
  t.teardown(() => client.close());
  return { manager, client, clock, logs: logLines(), calm: calm(), ...timePassing(clock) };
}

/**
 * Sees to it that the client has a token. With a short time limit that may take several tries: a busy machine is slow
 * to answer, too.
 */
export async function withToken({ manager, client, passing }: OpenManager): Promise<void> {
  manager.addRecord(0);
  for (let has = false; !has; ) {
    has = await passing(client.recordState(0, calm())).then(
      () => true,
      (error: unknown) => {
        if (error instanceof ManagerError && error.kind === 'unreachable') return false;
        throw error;
      },
    );
  }
}

export function calm(): { signal: AbortSignal } {
  return { signal: new AbortController().signal };
}

/** What moves a clock that stands still. */
export function timePassing(clock: ManualClock): Pick<OpenManager, 'passing' | 'until'> {
  const until = async (what: string, look: () => boolean, stepMs = 500) => {
    const end = Date.now() + HUNG_MS;
    while (!look()) {
      if (Date.now() > end) throw new Error(`it did not come to be: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
      clock.advance(stepMs);
    }
  };
  return {
    until,
    passing: async (work, stepMs) => {
      let done = false;
      const ended = work.finally(() => {
        done = true;
      });
      ended.catch(() => {});
      await until('the work is done', () => done, stepMs);
      return ended;
    },
  };
}
