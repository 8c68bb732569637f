import type { MessageProperties, Options } from 'amqplib';
import { callerTimeout } from '../core/caller-timeout.js';

/** The maximum length of a short string of AMQP 0-9-1, in bytes. */
const SHORT_STRING_BYTES = 255;
/** amqplib's buffer for the properties of a message has 64 KiB. */
const HEADER_BYTES = 48 * 1024;
const TIMEOUT = 'timeout-ms';
/** Quorum queues count there how often a message came back to them: a copy did not yet. */
const COUNTS = ['x-delivery-count', 'x-acquired-count'];

/**
 * The properties that a message keeps when it is republished: all that amqplib can encode. Without `user_id`, which the
 * broker accepts only from that user, without the counts of a quorum queue, and without the headers CC and BCC, which would make
 * RabbitMQ send copies to other queues again.
 */
export function republishedProperties(properties: MessageProperties): Options.Publish {
  const {
    timestamp,
    priority,
    contentType,
    contentEncoding,
    correlationId,
    replyTo,
    messageId,
    type,
    appId,
  } = properties;
  const texts = { contentType, contentEncoding, correlationId, replyTo, messageId, type, appId };
  return {
    ...Object.fromEntries(Object.entries(texts).filter(([, value]) => isShortString(value))),
    ...(Number.isSafeInteger(timestamp) && { timestamp }),
    priority,
    headers: headersToKeep(properties.headers ?? {}),
  };
}

function headersToKeep(headers: Record<string, unknown>): Record<string, unknown> {
  let bytes = 0;
  // `timeout-ms` first, in case the headers exceed the limit.
  const inOrder = Object.entries({ ...headers, ...timeoutToKeep(headers[TIMEOUT]) }).toSorted(
    ([a], [b]) => Number(b === TIMEOUT) - Number(a === TIMEOUT),
  );
  const kept = inOrder.filter(([name, value]) => {
    if (/^b?cc$/i.test(name) || COUNTS.includes(name) || !isShortString(name)) return false;
    if (!canBeWritten(value)) return false;
    bytes += Buffer.byteLength(name) + (typeof value === 'string' ? Buffer.byteLength(value) : 8) + 8;
    return bytes <= HEADER_BYTES;
  });
  return Object.fromEntries(kept);
}

/** What is no time limit must not be left out, as the request would run without one: every worker has to refuse it. */
function timeoutToKeep(sent: unknown): Record<string, unknown> {
  const isKept = callerTimeout(sent) !== undefined || (canBeWritten(sent) && isShortString(String(sent)));
  return isKept ? {} : { [TIMEOUT]: 'not a number' };
}

function canBeWritten(value: unknown): boolean {
  // amqplib reads every double, but writes none below the range of a long integer. RabbitMQ refuses all that are not finite.
  if (typeof value === 'number') return Number.isFinite(value) && value >= -(2 ** 63);
  return typeof value === 'string' || typeof value === 'boolean';
}

function isShortString(value: unknown): boolean {
  return typeof value === 'string' && Buffer.byteLength(value) <= SHORT_STRING_BYTES;
}
