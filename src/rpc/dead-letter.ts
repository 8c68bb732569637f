import type { MessageProperties, Options } from 'amqplib';
import { callerTimeout, MAX_TIMEOUT_MS } from '../core/caller-timeout.js';
import { fieldsOf } from '../lib/fields-of.js';
import { republishedProperties } from './republished-properties.js';
import { handedOn, readSender } from './sender.js';
import {
  DEAD_LETTERED_AT,
  ENDS_AT,
  MAY_HAVE_BEGUN,
  OF_WORKERS,
  REASON,
  REPLAYED,
  replaysOf,
  wasSuspect,
} from './suspect.js';

/** What a message in the error queue says besides the request. Anyone may have written it there. */
export interface DeadLetter {
  /** Why it is there, for people; empty when nothing says it. */
  reason: string;
  /** When it came there, in milliseconds since the epoch. */
  at: number | undefined;
  /** When its caller stops waiting, in milliseconds since the epoch. */
  endsAt: number | undefined;
  /** Whether a worker may have begun it. */
  mayHaveBegun: boolean;
  /** How often it was replayed before. */
  replays: number;
}

type Properties = Pick<MessageProperties, 'headers' | 'timestamp'>;

const REPLAYED_AT = 'x-replayed-at';
/** What RabbitMQ adds to messages: how they were moved, and how often they came back to a quorum queue. */
const OF_BROKER = /^x-(?:death|first-death-\w+|last-death-\w+|delivery-count|acquired-count)$/;

/** Reads what a worker, or a broker that dead-letters itself (`x-death`), says of a message in the error queue. */
export function readDeadLetter(properties: Properties): DeadLetter {
  const headers: Record<string, unknown> = properties.headers ?? {};
  const { [REASON]: reason, [DEAD_LETTERED_AT]: movedAt, [ENDS_AT]: ends } = headers;
  const death = lastDeath(headers['x-death']);
  const at = isCount(movedAt) ? movedAt : death?.at;
  return {
    reason: typeof reason === 'string' ? reason : (death?.reason ?? ''),
    at,
    // Older versions did not say it.
    endsAt: isCount(ends) ? ends : (endOf(properties) ?? at),
    mayHaveBegun: headers[MAY_HAVE_BEGUN] === true || wasSuspect({ headers }),
    replays: replaysOf(headers) ?? 0,
  };
}

/** Whether a worker put it into the error queue, as it says; else the broker or anyone else did. */
export function wasDeadLettered({ headers = {} }: Properties): boolean {
  return REASON in headers;
}

/** When the time limit of a request ends, counted from when it was sent; undefined: that is not known. */
function endOf({ timestamp, headers = {} }: Properties): number | undefined {
  const limit = callerTimeout(headers['timeout-ms']);
  return isCount(timestamp) && limit !== undefined ? timestamp * 1_000 + limit : undefined;
}

/** The first entry of RabbitMQ's list is the last time that it moved the message. */
function lastDeath(deaths: unknown): { reason: string; at: number | undefined } | undefined {
  if (!Array.isArray(deaths) || deaths.length === 0) return undefined;
  const { reason, queue, time } = fieldsOf(deaths[0]);
  // amqplib gives a timestamp in headers as such an object.
  const { value: seconds } = fieldsOf(time);
  return {
    reason: `the broker took it out of ${String(queue)}: ${String(reason)}`,
    at: isCount(seconds) ? seconds * 1_000 : undefined,
  };
}

/**
 * The properties with which a message from the error queue is published as a request again. It keeps its id, its `reply_to` and, where this
 * user is the service's, its caller. Its time is limited on its way too, so that a worker that starts much later does not make a
 * change that nobody expects any more.
 * @param ownUser the user of this connection; undefined: not known
 * @param now in milliseconds since the epoch
 * @param leftMs how long its caller waits still, more than 0; undefined: its time limit begins anew
 */
export function replayedProperties(
  properties: MessageProperties,
  { ownUser, now, leftMs }: { ownUser: string | undefined; now: number; leftMs: number | undefined },
): Options.Publish {
  const kept = republishedProperties(properties);
  const sent: Record<string, unknown> = kept.headers ?? {};
  const sentLimit = callerTimeout(sent['timeout-ms']);
  const limit = Math.ceil(Math.min(leftMs ?? Infinity, sentLimit ?? MAX_TIMEOUT_MS));
  const sender = readSender(properties, ownUser, false);
  // Where the service has another user, it would believe that this one asks. A request of nobody needs no name for that.
  const { userId, headers: handed } = handedOn(sender, sender.name === undefined ? undefined : ownUser);
  const headers = Object.entries(sent).filter(
    ([name]) => !OF_WORKERS.includes(name) && !OF_BROKER.test(name),
  );
  return {
    ...kept,
    ...(userId !== undefined && { userId }),
    headers: {
      ...Object.fromEntries(headers),
      ...handed,
      // What is no time limit stays as it is: the service refuses it.
      ...(leftMs !== undefined && sentLimit !== undefined && { 'timeout-ms': limit }),
      [REPLAYED]: readDeadLetter(properties).replays + 1,
      [REPLAYED_AT]: now,
    },
    expiration: String(limit),
    persistent: true,
  };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
