import { MANAGER } from '../api/caller.js';
import { stringifyExactly } from '../lib/exact-json.js';
import type { Reply } from '../core/call.js';
import { type Envelope, replyEnvelope, withoutRequest } from '../rpc/envelope.js';
import type {
  ChannelCheck,
  ReplyContext,
  OutgoingReply,
  ReplyChannel,
  SendOutcome,
} from '../rpc/reply-channel.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { backoffMs } from '../lib/backoff.js';
import { reasonOf } from '../lib/errors.js';
import { SharedRuns } from '../lib/shared-runs.js';
import { FailingRecords } from './failing-records.js';
import type { ManagerId, RecordState } from './manager-responses.js';
import type { ManagerClient, RetryOptions } from './manager-client.js';
import { ManagerError } from './manager-error.js';
import { ManagerOutage } from './manager-outage.js';
import { isSameRequest, namesRequest } from './same-request.js';

export interface RecordReplyChannelOptions {
  manager: Pick<ManagerClient, 'recordState' | 'saveRecord' | 'exchange'>;
  /** `EXCHANGE_ID`; its exchange is read to check whether the Manager works. */
  exchangeId: ManagerId;
  /** `MAX_RECORD_BYTES`: the largest reply that is saved, as JSON with its envelope. */
  maxRecordBytes: number;
  /** Called when replies begin to wait for the Manager: the service must accept no more requests. */
  pause: (reason: string) => void;
  /** Called when the Manager responds again, and no reply waits any more. */
  resume: () => void;
  /** Aborted when the service stops. */
  stopped: AbortSignal;
  clock: Clock;
  log: Logger;
}

const BACKOFF = { firstMs: 1_000, maxMs: 10_000 };
/** A failure without a reason counts as a refusal for size only above this. */
const LARGE_BYTES = 64 * 1024;

/** The reply that the record has: the given one, or one that was saved before; `dropped`: its caller no longer waits for it. */
type Saved = Reply | 'dropped';

/** The Manager does not accept a reply of this size. */
class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

/** A request whose record is being read. */
interface Checking {
  id: ManagerId;
  log: Logger;
  requestBody: Envelope['requestBody'];
}

/** A reply that is being saved. */
interface Sending extends Checking {
  /** What the action has settled with; a replacement may be saved for it. */
  reply: Reply;
  /** Whether the latest attempt reached the write: the Manager returned the record just before. */
  saving: boolean;
}

/** What was written into a record last. */
interface Written {
  reply: Reply;
  /** Whether the Manager has confirmed it; otherwise it may have been saved all the same. */
  confirmed: boolean;
}

/**
 * Saves replies in the Manager. Callers create a record for each request and poll it. While the Manager cannot be
 * reached, replies wait and the service accepts no more requests. When the Manager fails on one reply only, and responds
 * to other calls, the others are not delayed; after ten minutes that reply is replaced by an error.
 *
 * Anyone can put any id into a request, so the record is compared with the request before that runs, and again before its
 * reply is saved. The record of another request is never written.
 */
export class RecordReplyChannel implements ReplyChannel {
  readonly #options: RecordReplyChannelOptions;
  readonly #outage: ManagerOutage;
  readonly #failing: FailingRecords;
  readonly #probes = new SharedRuns();
  /** For each reply of an action. It is sent again when its request is delivered again. */
  readonly #written = new WeakMap<Reply, Written>();

  constructor(options: RecordReplyChannelOptions) {
    this.#options = options;
    this.#outage = new ManagerOutage(options);
    this.#failing = new FailingRecords(options.clock);
  }

  readonly needsPlainReply = true;

  reaches({ recordId }: Envelope): boolean {
    return recordId !== undefined;
  }

  async check(
    { envelope, log }: Pick<ReplyContext, 'envelope' | 'log'>,
    signal: AbortSignal,
  ): Promise<ChannelCheck> {
    const { recordId: id, requestBody } = envelope;
    if (id === undefined) return {};
    const checking: Checking = { id, log, requestBody };
    try {
      return await this.#check(checking, signal);
    } finally {
      this.#ended(checking);
    }
  }

  async send(
    { plain }: Pick<OutgoingReply, 'plain'>,
    { envelope, log }: Pick<ReplyContext, 'envelope' | 'log'>,
    signal: AbortSignal,
  ): Promise<SendOutcome> {
    const { recordId: id, requestBody } = envelope;
    if (id === undefined || plain === undefined) return 'dropped';
    const sending: Sending = { id, log, requestBody, reply: plain, saving: false };
    const deliver = async (reply: Reply, request: Envelope) =>
      this.#deliver(sending, reply, replyEnvelope(request, reply), signal);
    try {
      let saved = await deliver(plain, envelope);
      // The copy of the request in the reply may be the large part. The outcome of a change must not be lost because of it.
      if (isTooLarge(saved) && isMostlyRequest(plain, envelope))
        saved = await deliver(plain, withoutRequest(envelope));
      if (saved instanceof Error) {
        const { message: reason } = saved;
        const replacement = replacementFor(saved);
        saved = await deliver(replacement, envelope);
        if (isTooLarge(saved)) saved = await deliver(replacement, withoutRequest(envelope));
        if (saved === replacement) log.error('reply replaced', { reason });
      }
      if (!(saved instanceof Error)) return saved === plain ? 'sent' : saved;
      log.error('reply dropped', { reason: saved.message });
      return 'dropped';
    } finally {
      this.#ended(sending);
    }
  }

  /**
   * Tries until the Manager has saved the reply, or its caller no longer waits for it.
   * @returns an error when the Manager will never accept it
   */
  async #deliver(
    sending: Sending,
    reply: Reply,
    envelope: object,
    signal: AbortSignal,
  ): Promise<Saved | Error> {
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
        const saved = await this.#save(sending, reply, json, signal);
        this.#outage.responded(sending);
        return saved;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof ManagerError)) return asError(error);
        if (!error.temporary) {
          this.#outage.responded(sending);
          return error;
        }
        const mayBeTooLarge = bytes > LARGE_BYTES && sending.saving && isSilentRefusal(error);
        const refused = mayBeTooLarge && (await this.#managerResponds(signal));
        if (refused && refusedBefore)
          return new TooLarge(`it has ${bytes} bytes, and the Manager failed on it twice: ${error.message}`);
        refusedBefore = refused;
        // The Manager may have closed an idle connection just then, so a first failure is no outage yet.
        const persists = failed > 1 || error.retryAfterMs > 0;
        // The Manager works, so this reply must not pause the service.
        if (refused) this.#outage.responded(sending);
        else if (persists && (await this.#isStuck(sending, error, signal))) return error;
        const wait = Math.max(error.retryAfterMs, backoffMs(refused ? 1 : failed, BACKOFF));
        await this.#options.clock.sleep(wait, { signal });
      }
    }
  }

  async #save(sending: Sending, reply: Reply, json: string, signal: AbortSignal): Promise<Saved> {
    const { manager } = this.#options;
    const { id, log } = sending;
    const before = this.#written.get(sending.reply);
    sending.saving = false;
    // One attempt only: #deliver retries, and notices an outage immediately.
    const once = { signal, tries: 1 };
    const record = await manager.recordState(id, once);
    if (record?.state === 'answered') {
      if (before !== undefined) return before.reply;
      log.info('reply dropped', { reason: 'the record of its request already has a reply' });
      return 'dropped';
    }
    if (isOfAnother(record, sending)) {
      log.warn('reply dropped', { reason: anotherRequest(sending) });
      return 'dropped';
    }
    sending.saving = true;
    if (record !== undefined && (await this.#write(sending, reply, json, once))) return reply;
    // Its caller has deleted the record.
    if (before?.confirmed) return before.reply;
    const gone = 'the record of its request no longer exists';
    const reason = before === undefined ? gone : `${gone}; an earlier attempt may have saved the reply`;
    log.info('reply dropped', { reason });
    return 'dropped';
  }

  /** @returns false: the record no longer exists */
  async #write(sending: Sending, reply: Reply, json: string, options: RetryOptions): Promise<boolean> {
    // Before the response: that may be lost.
    this.#written.set(sending.reply, { reply, confirmed: false });
    try {
      const saved = await this.#options.manager.saveRecord(sending.id, json, options);
      if (saved) {
        this.#written.set(sending.reply, { reply, confirmed: true });
        this.#failing.saved();
      }
      return saved;
    } catch (error) {
      if (error instanceof ManagerError && !mayHaveSaved(error)) this.#written.delete(sending.reply);
      throw error;
    }
  }

  /** Tries until the Manager has shown the record, or will never show it. */
  async #check(checking: Checking, signal: AbortSignal): Promise<ChannelCheck> {
    const { manager, clock } = this.#options;
    for (let failed = 1; ; failed++) {
      try {
        const record = await manager.recordState(checking.id, { signal, tries: 1 });
        this.#outage.responded(checking);
        // A record that is gone or answered is no reason to refuse: then the reply is dropped. It proves nothing either.
        if (record?.state !== 'open') return {};
        if (isOfAnother(record, checking)) return { refusal: anotherRequest(checking) };
        return namesRequest(record.requestBody) ? { vouchesFor: MANAGER } : {};
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        const refusal = `the record ${checking.id} of its id cannot be read: ${reasonOf(error)}`;
        if (!(error instanceof ManagerError)) return { refusal };
        if (!error.temporary) {
          this.#outage.responded(checking);
          return { refusal };
        }
        // The Manager may have closed an idle connection just then, so a first failure is no outage yet.
        const persists = failed > 1 || error.retryAfterMs > 0;
        if (persists && (await this.#isStuck(checking, error, signal))) return { refusal };
        await clock.sleep(Math.max(error.retryAfterMs, backoffMs(failed, BACKOFF)), { signal });
      }
    }
  }

  /**
   * Pauses the service, unless the Manager responds to other calls.
   * @returns whether the Manager has failed on this record only, for ten minutes
   */
  async #isStuck(
    one: Checking,
    { message: reason, notSent }: ManagerError,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (!(await this.#managerResponds(signal))) {
      // Then the call above proves nothing.
      signal.throwIfAborted();
      this.#failing.remove(one);
      this.#outage.waits(one, reason);
      return false;
    }
    this.#outage.responded(one);
    // A failure before a request reaches the Manager does not concern this record.
    if (notSent) return false;
    if (this.#failing.add(one)) one.log.error('reply failed while the Manager works', { reason });
    return this.#failing.mustBeAbandoned(one);
  }

  #ended(one: Checking): void {
    this.#failing.remove(one);
    this.#outage.gaveUp(one, async (asking) => this.#managerResponds(asking));
  }

  /** Whether the Manager responds to a call that concerns no record; false when the signal is aborted. */
  async #managerResponds(signal: AbortSignal): Promise<boolean> {
    const { manager, exchangeId } = this.#options;
    const probe = this.#probes.run('exchange', signal, async (shared) =>
      manager.exchange(exchangeId, { signal: shared, tries: 1 }),
    );
    return probe.then(
      () => true,
      (error: unknown) => error instanceof ManagerError && !error.temporary,
    );
  }
}

function isOfAnother(record: RecordState | undefined, { requestBody }: Checking): boolean {
  return record !== undefined && !isSameRequest(record.requestBody, requestBody);
}

function anotherRequest({ id }: Checking): string {
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

/** Whether the Manager may have saved what was sent to it. */
function mayHaveSaved({ kind, status, notSent }: ManagerError): boolean {
  if (notSent) return false;
  return status === undefined ? kind === 'unreachable' || kind === 'invalid_response' : status >= 500;
}

function isTooLarge(refusal: Saved | Error): boolean {
  return refusal instanceof TooLarge || (refusal instanceof ManagerError && refusal.status === 413);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
