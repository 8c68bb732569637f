import type { MessageProperties, Options } from 'amqplib';
import { callerTimeout, MAX_TIMEOUT_MS } from '../core/caller-timeout.js';
import type { Clock } from '../lib/clock.js';
import { fieldsOf } from '../lib/fields-of.js';
import type { Delivery } from './consumer.js';

/**
 * The headers that a message gets when it is moved to the queue of suspects: its caller as the broker has verified it (the
 * copy has the worker's `user_id`); when that caller stops waiting, in milliseconds since the epoch; and how many workers
 * were lost while they had it from that queue.
 */
const [CALLER, DEADLINE, LOST_WORKERS] = ['x-caller', 'x-deadline', 'x-lost-workers'];

/** What a message from the queue of suspects says besides the request. */
export interface Suspect {
  /** The user who sent the request; undefined: not known. */
  sender: string | undefined;
  /** Whether the broker has verified that user. */
  isVerified: boolean;
  /** In milliseconds since the epoch. */
  deadline: number | undefined;
  lostWorkers: number;
}

/** @param ownUser the user of this worker, and of the workers that move messages; undefined when it is not known */
export function readSuspect(properties: MessageProperties, ownUser: string | undefined): Suspect {
  const { headers = {} }: { headers?: Record<string, unknown> } = properties;
  const { [CALLER]: caller, [DEADLINE]: deadline, [LOST_WORKERS]: lostWorkers } = headers;
  const publisher = userIn(properties);
  // Otherwise the broker has dead-lettered it, or its caller has sent it there.
  const isMoved = DEADLINE in headers;
  return {
    sender: isMoved ? textOf(caller) : publisher,
    isVerified: !isMoved || (ownUser !== undefined && publisher === ownUser),
    deadline: expired(headers) ? 0 : isCount(deadline) ? deadline : undefined,
    lostWorkers: isCount(lostWorkers) ? lostWorkers : 0,
  };
}

/** The user who published a message, as the broker has verified; undefined: the message does not say. */
export function userIn({ userId }: { userId?: unknown }): string | undefined {
  return textOf(userId);
}

/** The properties that a message gets when it is moved to the queue of suspects, or put back there. */
export function suspectProperties(delivery: Delivery, clock: Clock, lostWorkers: number): Options.Publish {
  const { sender, connection, suspect } = delivery;
  return {
    // A caller whom nobody has verified must not become one by the move.
    ...(suspect?.isVerified !== false && { userId: connection.user }),
    headers: {
      ...(sender !== undefined && { [CALLER]: sender }),
      [DEADLINE]: clock.wallTime() + timeLeft(delivery, clock),
      [LOST_WORKERS]: lostWorkers,
    },
  };
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
  const sinceSent = isCount(timestamp) ? now - timestamp * 1_000 : 0;
  const expires = expiration === undefined ? limit : Number(expiration);
  return between(0, Math.min(limit, expires) - Math.max(0, sinceSent), limit);
}

/** Whether the broker moved the message because it had expired. */
function expired(headers: Record<string, unknown>): boolean {
  const deaths = headers['x-death'];
  // The last one is the first in the list.
  return Array.isArray(deaths) && !(DEADLINE in headers) && fieldsOf(deaths[0]).reason === 'expired';
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function between(least: number, value: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
