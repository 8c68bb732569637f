import { FleetManagerError } from '../client/client.js';
import { systemClock } from '../lib/clock.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import type { CallRoute } from './call-routes.js';
import { terminalOf } from './table/terminal.js';

/** Ctrl-C while a request was waited for. The message tells what is known of the request. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** What the line about a wait shows; the work changes it. */
export interface Wait {
  /** What is waited for, for people. */
  subject: string;
  /** Whether it waits for the reply, and for how many milliseconds at most. */
  replyMs: number | undefined;
  /** Aborted by Ctrl-C. */
  readonly interrupted: AbortSignal;
}

/**
 * Runs work that waits for a service. Meanwhile a terminal shows what it waits for, and Ctrl-C ends it; a second one ends the
 * process at once.
 * @throws Interrupted
 */
export async function whileWaiting<T>(
  subject: string,
  { route, env }: { route: CallRoute } & Pick<ConfigurationSource, 'env'>,
  work: (wait: Wait) => Promise<T>,
): Promise<T> {
  const interruption = new AbortController();
  const wait: Wait = { subject, replyMs: undefined, interrupted: interruption.signal };
  const interrupt = () => {
    interruption.abort();
    // Its error tells whether the request was sent.
    void route.close();
  };
  process.once('SIGINT', interrupt);
  const stopProgress = await showProgress(wait, route, env);
  try {
    return await work(wait);
  } catch (error) {
    if (!interruption.signal.aborted) throw error;
    throw new Interrupted(
      error instanceof FleetManagerError && error.code === 'outcome_unknown'
        ? `interrupted: ${wait.subject} was sent, and goes on: its outcome is unknown\n-> find out what it has done before you send it again\n`
        : 'interrupted: nothing was changed\n',
    );
  } finally {
    stopProgress();
    process.off('SIGINT', interrupt);
  }
}

/** @returns ends it */
async function showProgress(
  wait: Wait,
  route: CallRoute,
  env: ConfigurationSource['env'],
): Promise<() => void> {
  const { stderr } = process;
  const terminal = terminalOf(stderr, env);
  if (!terminal.canRewrite) return () => {};
  // Imported only for a terminal.
  const { Progress } = await import('./progress.js');
  const progress = new Progress({
    write: (text) => void stderr.write(text),
    terminal,
    clock: systemClock,
    describe: (seconds) => textOf(wait, route, seconds),
  });
  return () => progress.stop();
}

function textOf({ subject, replyMs }: Wait, { to, problem }: CallRoute, seconds: number): string {
  if (replyMs === undefined) return `${subject}: connecting to ${to}, ${seconds} s`;
  const most = `${seconds} s of at most ${Math.ceil(replyMs / 1_000)} s`;
  return problem === undefined
    ? `${subject}: waiting for the reply of a worker, ${most}`
    : `${subject}: ${problem}, ${most}`;
}
