import { readDeadLetter } from '../rpc/dead-letter.js';
import type { ErrorMessage } from './error-queue.js';
import { clusterHashOf, withoutSecrets } from './hidden-secrets.js';
import type { QueuedRequest } from './queued-request.js';

/** What the commands tell of a message in the error queue, without its secrets. Times in milliseconds since the epoch. */
export interface ErrorSummary {
  id: string;
  /** Null: the message does not say it. */
  reason: string | null;
  dead_lettered_at: number | null;
  /** When the caller stops waiting for a reply. */
  ends_at: number | null;
  bytes: number;
  encoding: string | null;
  action: string | null;
  /** The hash of the cluster, as in the log. */
  cluster: string | null;
  /** The sender, as the message says it. */
  caller: string | null;
  message_id: string | null;
  /** Whether somebody can get a reply to it. */
  wants_reply: boolean;
  /** Whether a worker may have begun it. */
  may_have_begun: boolean;
  /** How often it was replayed before. */
  replays: number;
}

const MAX_REASON = 500;
const MAX_NAME = 128;

export function summaryOf(
  { id, content, properties }: ErrorMessage,
  { encoding, action, etcdToken, wantsReply }: QueuedRequest,
): ErrorSummary {
  const { reason, at, endsAt, mayHaveBegun, replays } = readDeadLetter(properties);
  const {
    headers = {},
    userId,
    messageId,
  }: { headers?: object; userId?: unknown; messageId?: unknown } = properties;
  const named: unknown = 'x-caller' in headers ? headers['x-caller'] : userId;
  const shown = (value: unknown, length: number) =>
    typeof value === 'string' && value !== ''
      ? String(withoutSecrets(value, etcdToken)).slice(0, length)
      : null;
  return {
    id,
    reason: shown(reason, MAX_REASON),
    dead_lettered_at: at ?? null,
    ends_at: endsAt ?? null,
    bytes: content.length,
    encoding: encoding ?? null,
    action: shown(action, MAX_NAME),
    cluster: clusterHashOf(etcdToken) ?? null,
    caller: shown(named, MAX_NAME),
    message_id: shown(messageId, MAX_NAME),
    wants_reply: wantsReply,
    may_have_begun: mayHaveBegun,
    replays,
  };
}

/** How long ago something was, or how long it takes until then: `3 min`. */
export function durationText(ms: number): string {
  const seconds = Math.round(Math.abs(ms) / 1_000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 2 * 3_600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 2 * 86_400) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** `184 B`, `2.4 KiB`. */
export function sizeText(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  if (bytes < 1_024 * 1_024) return `${(bytes / 1_024).toFixed(1)} KiB`;
  return `${(bytes / 1_024 / 1_024).toFixed(1)} MiB`;
}

/** A time as text; a number beyond the range of dates stays a number. */
export function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString();
}
