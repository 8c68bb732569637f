import type { MessageProperties, Options } from 'amqplib';
import { callerTimeout, MAX_TIMEOUT_MS } from '../core/caller-timeout.js';
import type { Clock } from '../lib/clock.js';
import { fieldsOf } from '../lib/fields-of.js';
import type { Delivery } from './consumer.js';
import { handedOn } from './sender.js';

/** The header of a message that a worker has published again because it had not begun it. */
const REQUEUED = 'x-requeued';
/**
 * Those of one in the queue of suspects: when its caller stops waiting, in milliseconds since the epoch; and how many workers were
 * lost while they had it from that queue.
 */
const [DEADLINE, LOST_WORKERS] = ['x-deadline', 'x-lost-workers'];
/** Besides, when a process has ended that it shared with others. */
const ALONE = 'x-alone';

/** The header of a message that an operator has published again from the error queue: how often. */
export const REPLAYED = 'x-replayed';

/** Those of one in the error queue. */
export const [REASON, DEAD_LETTERED_AT, ENDS_AT] = ['x-reason', 'x-dead-lettered-at', 'x-ends-at'];
/** Besides, when it does not say itself that it never began. */
export const MAY_HAVE_BEGUN = 'x-may-have-begun';

/** The headers by which workers tell one another of a message. They say nothing any more when it begins anew. */
export const OF_WORKERS: readonly string[] = [
  REQUEUED,
  DEADLINE,
  LOST_WORKERS,
  ALONE,
  REASON,
  DEAD_LETTERED_AT,
  ENDS_AT,
  MAY_HAVE_BEGUN,
];

/**
 * A message from the queue of suspects is given up after this many lost workers. Far more than a request loses connections in its time:
 * plugins run in other processes, so a request rarely causes a loss.
 */
export const MAX_LOST_WORKERS = 100;

/** What a message from the queue of suspects says besides the request. */
export interface Suspect {
  /** In milliseconds since the epoch. */
  deadline: number | undefined;
  lostWorkers: number;
  /** Whether it must run alone in a process. */
  mustRunAlone: boolean;
}

export function readSuspect({ headers = {} }: { headers?: Record<string, unknown> }): Suspect {
  const { [DEADLINE]: deadline, [LOST_WORKERS]: lostWorkers, [ALONE]: alone } = headers;
  return {
    deadline: expired(headers) ? 0 : isCount(deadline) ? deadline : undefined,
    lostWorkers: isCount(lostWorkers) ? lostWorkers : 0,
    mustRunAlone: alone === true,
  };
}

/** Whether a worker has published it again because it had not begun it, or an operator has from the error queue, as it says. */
export function isRequeued({ headers = {} }: { headers?: Record<string, unknown> }): boolean {
  return REQUEUED in headers || REPLAYED in headers;
}

/**
 * Whether there may be two of a message, as a worker or an operator publishes it again before the first one is acknowledged. Of
 * workers only the service's own user is believed: whoever else says so would have more room for changes than others.
 * @param ownUser undefined: it is not known, so that a worker's message cannot be told from another one
 */
export function isBelievedCopy(
  { userId, headers = {} }: { userId?: unknown; headers?: Record<string, unknown> },
  ownUser: string | undefined,
): boolean {
  if (REPLAYED in headers) return true;
  return REQUEUED in headers && (ownUser === undefined || userId === ownUser);
}

/** How often an operator has published it again from the error queue, as it says; undefined: never. */
export function replaysOf({ [REPLAYED]: replays }: Record<string, unknown>): number | undefined {
  return isCount(replays) ? replays : undefined;
}

/** Whether a worker set a message apart, as another one that was lost may have begun it. */
export function wasSuspect({ headers = {} }: { headers?: Record<string, unknown> }): boolean {
  return DEADLINE in headers;
}

/** Whether a worker has published it again, as it says. */
export function isPublishedAgain({ headers = {} }: { headers?: Record<string, unknown> }): boolean {
  return DEADLINE in headers || REQUEUED in headers;
}

/** The properties that a message gets when it is requeued. */
export function requeuedProperties(delivery: Delivery): Options.Publish {
  return withSender(delivery, { [REQUEUED]: true });
}

/** The properties that a message gets when it is moved to the queue of suspects, or put back there. */
export function suspectProperties(
  delivery: Delivery,
  clock: Clock,
  { lostWorkers, mustRunAlone }: Omit<Suspect, 'deadline'>,
): Options.Publish {
  const deadline = clock.wallTime() + timeLeft(delivery, clock);
  const headers = {
    [DEADLINE]: deadline,
    [LOST_WORKERS]: lostWorkers,
    [ALONE]: mustRunAlone,
  };
  return withSender(delivery, headers);
}

/**
 * The properties that a message gets when it is dead-lettered: why, for people, when, and when its caller stops waiting, both in
 * milliseconds since the epoch.
 * @param mayHaveBegun whether a worker may have begun it
 */
export function deadLetterProperties(
  delivery: Delivery,
  clock: Clock,
  reason: string,
  mayHaveBegun = false,
): Options.Publish {
  const now = clock.wallTime();
  const left = timeLeft(delivery, clock);
  return withSender(delivery, {
    [REASON]: reason,
    [DEAD_LETTERED_AT]: now,
    [ENDS_AT]: now + left,
    ...(mayHaveBegun && { [MAY_HAVE_BEGUN]: true }),
  });
}

function withSender({ sender, connection }: Delivery, headers: Record<string, unknown>): Options.Publish {
  const handed = handedOn(sender, connection.user);
  return { ...handed, headers: { ...handed.headers, ...headers } };
}

/**
 * How long the caller of a message that was delivered before waits still, in milliseconds. Measured by the system's time,
 * which all workers share, and never more than the caller's time limit.
 */
export function timeLeft({ properties, suspect }: Delivery, clock: Clock): number {
  const { timestamp, expiration, headers = {} }: MessageProperties = properties;
  const limit = callerTimeout(headers['timeout-ms']) ?? MAX_TIMEOUT_MS;
  const now = clock.wallTime();
  if (suspect?.deadline !== undefined) return between(0, suspect.deadline - now, limit);
  // A requeued message has what is left in its time limit.
  const sinceSent = isCount(timestamp) && !isRequeued({ headers }) ? now - timestamp * 1_000 : 0;
  const expires = expiration === undefined ? limit : Number(expiration);
  return between(0, Math.min(limit, expires) - Math.max(0, sinceSent), limit);
}

/** Whether the broker moved the message because it had expired. */
function expired(headers: Record<string, unknown>): boolean {
  const deaths = headers['x-death'];
  // The last one is the first in the list.
  return Array.isArray(deaths) && !(DEADLINE in headers) && fieldsOf(deaths[0]).reason === 'expired';
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function between(least: number, value: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
