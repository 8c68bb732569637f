import { stringifyExactly } from '../lib/exact-json.js';
import { OutageLog } from '../lib/outage-log.js';
import type { Reply } from '../core/call.js';
import { type Envelope, replyEnvelope, withoutRequest } from '../rpc/envelope.js';
import type { ReplyContext, OutgoingReply, ReplyChannel, SendOutcome } from '../rpc/reply-channel.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { backoffMs } from '../lib/backoff.js';
import { reasonOf } from '../lib/errors.js';
import type { ManagerId, RecordState } from './manager-responses.js';
import type { ManagerClient } from './manager-client.js';
import { ManagerError } from './manager-error.js';
import { isSameRequest } from './same-request.js';

export interface RecordReplyChannelOptions {
  manager: Pick<ManagerClient, 'recordState' | 'saveRecord' | 'exchange'>;
  /** `EXCHANGE_ID`; its exchange is read to check whether the Manager works. */
  exchangeId: ManagerId;
  /** `MAX_RECORD_BYTES`: the largest reply that is saved, as JSON with its envelope. */
  maxRecordBytes: number;
  /** Called when replies begin to wait for the Manager: the service must accept no more requests. */
  pause: (reason: string) => void;
  /** Called when no reply waits any more. */
  resume: () => void;
  clock: Clock;
  log: Logger;
}

const BACKOFF = { firstMs: 1_000, maxMs: 10_000 };
/** When the Manager works, but fails on the same reply for this long, the reply is replaced. */
const STUCK_MS = 10 * 60_000;
/** A failure without a reason counts as a refusal for size only above this. */
const LARGE_BYTES = 64 * 1024;

/** What happened to a reply; `dropped`: its caller no longer waits for it. */
type Saved = 'sent' | 'dropped';

/** The Manager does not accept a reply of this size. */
class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

/** A reply that is being saved, or a request whose record is being checked. */
interface Sending {
  id: ManagerId;
  log: Logger;
  requestBody: Envelope['requestBody'];
  /** Whether the latest attempt reached the write: the Manager returned the record just before. */
  saving: boolean;
  /** Since when the Manager has failed on this record only. */
  stuckSince: number | undefined;
}

/**
 * Saves replies in the Manager. Callers create a record for each request and poll it. While the Manager cannot be
 * reached, replies wait and the service accepts no more requests. When the Manager fails on one reply only, the others
 * are not delayed; after ten minutes that reply is replaced by an error.
 *
 * Anyone can put any id into a request, so the record is compared with the request before that runs, and again before its
 * reply is saved. The record of another request is never written.
 */
export class RecordReplyChannel implements ReplyChannel {
  readonly #options: RecordReplyChannelOptions;
  readonly #outage: OutageLog;
  /** The replies that wait for the Manager. While there are any, the service is paused. */
  readonly #waiting = new Set<Sending>();

  constructor(options: RecordReplyChannelOptions) {
    this.#options = options;
    this.#outage = new OutageLog(options.log, options.clock, {
      began: 'record replies waiting for the Manager',
      ended: 'record replies resumed',
    });
  }

  readonly needsPlainReply = true;

  reaches({ recordId }: Envelope): boolean {
    return recordId !== undefined;
  }

  async refusal(
    { envelope, log }: Pick<ReplyContext, 'envelope' | 'log'>,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { recordId: id, requestBody } = envelope;
    if (id === undefined) return undefined;
    const sending: Sending = { id, log, requestBody, saving: false, stuckSince: undefined };
    try {
      return await this.#refusal(sending, signal);
    } finally {
      this.#stopWaiting(sending);
    }
  }

  async send(
    { plain }: Pick<OutgoingReply, 'plain'>,
    { envelope, log }: Pick<ReplyContext, 'envelope' | 'log'>,
    signal: AbortSignal,
  ): Promise<SendOutcome> {
    const { recordId: id, requestBody } = envelope;
    if (id === undefined || plain === undefined) return 'dropped';
    const sending: Sending = { id, log, requestBody, saving: false, stuckSince: undefined };
    const deliver = async (reply: Reply, request: Envelope) =>
      this.#deliver(sending, replyEnvelope(request, reply), signal);
    try {
      let saved = await deliver(plain, envelope);
      // The copy of the request in the reply may be the large part. The outcome of a change must not be lost because of it.
      if (isTooLarge(saved) && isMostlyRequest(plain, envelope))
        saved = await deliver(plain, withoutRequest(envelope));
      if (!(saved instanceof Error)) return saved;
      log.error('reply replaced', { reason: saved.message });
      const replacement = replacementFor(saved);
      saved = await deliver(replacement, envelope);
      if (isTooLarge(saved)) saved = await deliver(replacement, withoutRequest(envelope));
      if (!(saved instanceof Error)) return saved === 'sent' ? replacement : 'dropped';
      log.error('reply dropped', { reason: saved.message });
      return 'dropped';
    } finally {
      this.#stopWaiting(sending);
    }
  }

  /**
   * Tries until the Manager has saved the reply, or its caller no longer waits for it.
   * @returns an error when the Manager will never accept it
   */
  async #deliver(sending: Sending, envelope: object, signal: AbortSignal): Promise<Saved | Error> {
    let json: string;
    try {
      json = stringifyExactly(envelope);
    } catch (error) {
      return asError(error);
    }
    const { maxRecordBytes } = this.#options;
    const bytes = Buffer.byteLength(json);
    if (bytes > maxRecordBytes)
      return new TooLarge(`it has ${bytes} bytes, and MAX_RECORD_BYTES is ${maxRecordBytes}`);
    let refusedBefore = false;
    for (let failed = 1; ; failed++) {
      try {
        return await this.#save(sending, json, signal);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof ManagerError) || !error.temporary) return asError(error);
        const mayBeTooLarge = bytes > LARGE_BYTES && sending.saving && isSilentRefusal(error);
        const refused = mayBeTooLarge && (await this.#managerResponds(signal));
        if (refused && refusedBefore)
          return new TooLarge(`it has ${bytes} bytes, and the Manager failed on it twice: ${error.message}`);
        refusedBefore = refused;
        // The Manager may have closed an idle connection just then, so a first failure is no outage yet.
        const persists = failed > 1 || error.retryAfterMs > 0;
        // The Manager works, so this reply must not pause the service.
        if (refused) this.#stopWaiting(sending);
        else if (persists && (await this.#isStuck(sending, error, signal))) return error;
        const wait = Math.max(error.retryAfterMs, backoffMs(refused ? 1 : failed, BACKOFF));
        await this.#options.clock.sleep(wait, { signal });
      }
    }
  }

  async #save(sending: Sending, json: string, signal: AbortSignal): Promise<Saved> {
    const { manager } = this.#options;
    const { id, log } = sending;
    sending.saving = false;
    // One attempt only: #deliver retries, and notices an outage immediately.
    const once = { signal, tries: 1 };
    const record = await manager.recordState(id, once);
    if (record?.state === 'answered') {
      log.info('reply dropped', { reason: 'the record of its request already has a reply' });
      return 'dropped';
    }
    if (isOfAnother(record, sending)) {
      log.warn('reply dropped', { reason: anotherRequest(sending) });
      return 'dropped';
    }
    sending.saving = true;
    if (record !== undefined && (await manager.saveRecord(id, json, once))) return 'sent';
    log.info('reply dropped', { reason: 'the record of its request no longer exists' });
    return 'dropped';
  }

  /** Tries until the Manager has shown the record, or will never show it. */
  async #refusal(sending: Sending, signal: AbortSignal): Promise<string | undefined> {
    const { manager, clock } = this.#options;
    for (let failed = 1; ; failed++) {
      try {
        // A record that is gone or answered is no reason: then the reply is dropped.
        const record = await manager.recordState(sending.id, { signal, tries: 1 });
        return record?.state === 'open' && isOfAnother(record, sending) ? anotherRequest(sending) : undefined;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        const unknown = `the record ${sending.id} of its id cannot be read: ${reasonOf(error)}`;
        if (!(error instanceof ManagerError) || !error.temporary) return unknown;
        // The Manager may have closed an idle connection just then, so a first failure is no outage yet.
        const persists = failed > 1 || error.retryAfterMs > 0;
        if (persists && (await this.#isStuck(sending, error, signal))) return unknown;
        await clock.sleep(Math.max(error.retryAfterMs, backoffMs(failed, BACKOFF)), { signal });
      }
    }
  }

  /**
   * Pauses the service, unless only this reply fails.
   * @returns whether only this reply has failed for `STUCK_MS`
   */
  async #isStuck(sending: Sending, error: ManagerError, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#options;
    if (error.status !== 500 || error.notSent || !(await this.#managerResponds(signal))) {
      sending.stuckSince = undefined;
      this.#wait(sending, error);
      return false;
    }
    this.#stopWaiting(sending);
    if (sending.stuckSince === undefined) {
      sending.stuckSince = clock.now();
      sending.log.error('reply failed while the Manager works', { reason: error.message });
    }
    return clock.now() - sending.stuckSince >= STUCK_MS;
  }

  /** Whether the Manager answers other calls. */
  async #managerResponds(signal: AbortSignal): Promise<boolean> {
    const { manager, exchangeId } = this.#options;
    return manager.exchange(exchangeId, { signal, tries: 1 }).then(
      () => true,
      (error: unknown) => error instanceof ManagerError && !error.temporary,
    );
  }

  #wait(sending: Sending, { message: reason }: ManagerError): void {
    this.#outage.failed({ reason });
    if (this.#waiting.has(sending)) return;
    this.#waiting.add(sending);
    if (this.#waiting.size === 1) this.#options.pause('replies wait for the Manager');
  }

  #stopWaiting(sending: Sending): void {
    if (!this.#waiting.delete(sending) || this.#waiting.size > 0) return;
    this.#outage.succeeded();
    this.#options.resume();
  }
}

function isOfAnother(record: RecordState | undefined, { requestBody }: Sending): boolean {
  return record !== undefined && !isSameRequest(record.requestBody, requestBody);
}

function anotherRequest({ id }: Sending): string {
  return `its id is that of another request: the record ${id} has another action, etcd_token or action_parameters`;
}

/** What the caller gets instead of a reply that the Manager does not accept. */
function replacementFor(refusal: Error): Reply {
  const body = isTooLarge(refusal)
    ? { errors: ['The reply is larger than the Manager accepts; request less'], code: 'answer_too_large' }
    : { errors: ['The Manager refuses the reply'], code: 'internal' };
  return { status: 'error', body };
}

/** Whether the copy of the request is more than half of the reply's envelope. */
function isMostlyRequest(reply: Reply, request: Envelope): boolean {
  const bytes = (each: Envelope) => stringifyExactly(replyEnvelope(each, reply)).length;
  return bytes(withoutRequest(request)) * 2 < bytes(request);
}

/**
 * A failure that may be a refusal without a reason: a server, or a proxy in front of it, closes the connection or stops
 * reading at its size limit.
 */
function isSilentRefusal({ kind, status = 0, notSent, retryAfterMs }: ManagerError): boolean {
  if (notSent || retryAfterMs > 0) return false;
  return kind === 'unreachable' || status > 500;
}

function isTooLarge(refusal: Saved | Error): boolean {
  return refusal instanceof TooLarge || (refusal instanceof ManagerError && refusal.status === 413);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
