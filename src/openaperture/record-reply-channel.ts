import { stringifyExactly } from '../lib/exact-json.js';
import { OutageLog } from '../lib/outage-log.js';
import type { Reply } from '../core/call.js';
import { type Envelope, replyEnvelope, withoutRequest } from '../rpc/envelope.js';
import type { ReplyContext, OutgoingReply, ReplyChannel, SendOutcome } from '../rpc/reply-channel.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { backoffMs } from '../lib/backoff.js';
import type { ManagerId } from './manager-answers.js';
import type { ManagerClient } from './manager-client.js';
import { ManagerError } from './manager-error.js';

export interface RecordReplyChannelOptions {
  manager: Pick<ManagerClient, 'recordState' | 'saveRecord' | 'exchange'>;
  /** `EXCHANGE_ID`; its exchange is read to check whether the Manager works. */
  exchangeId: ManagerId;
  /** `MAX_RECORD_BYTES`: the largest reply that is saved, as JSON with its envelope. */
  maxRecordBytes: number;
  /** Called when replies begin to wait for the Manager: the service must accept no requests. */
  pause: (reason: string) => void;
  /** Called when no reply waits any more. */
  resume: () => void;
  clock: Clock;
  log: Logger;
}

const BACKOFF = { firstMs: 1_000, maxMs: 10_000 };
/** When the Manager works, but fails on the same reply for this long, the reply is replaced. */
const STUCK_MS = 10 * 60_000;
/** A smaller reply that fails without a status was not refused for its size. */
const LARGE_BYTES = 64 * 1024;

/** The outcome of saving a reply; `dropped`: its record does not wait for it any more. */
type Saved = 'sent' | 'dropped';

/** The Manager does not accept a reply of this size. */
class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

/** A reply that is being saved. */
interface Sending {
  id: ManagerId;
  log: Logger;
  /** Whether the latest try reached the saving: the Manager had just returned the record. */
  saving: boolean;
  /** Since when the Manager has failed on this reply alone. */
  stuckSince: number | undefined;
}

/**
 * Saves replies in the Manager, in the records that callers have made for their requests and poll. While the Manager
 * cannot be reached, replies wait. A reply on which a working Manager fails delays no others, and is replaced in the end.
 */
export class RecordReplyChannel implements ReplyChannel {
  readonly #options: RecordReplyChannelOptions;
  readonly #outage: OutageLog;
  /** The replies that wait for the Manager; while there are any, the service accepts no requests. */
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

  async send(
    { plain }: Pick<OutgoingReply, 'plain'>,
    { envelope, log }: Pick<ReplyContext, 'envelope' | 'log'>,
    signal: AbortSignal,
  ): Promise<SendOutcome> {
    const { recordId: id } = envelope;
    if (id === undefined || plain === undefined) return 'dropped';
    const sending: Sending = { id, log, saving: false, stuckSince: undefined };
    const deliver = async (reply: Reply, request: Envelope) =>
      this.#deliver(sending, replyEnvelope(request, reply), signal);
    try {
      let saved = await deliver(plain, envelope);
      // The request in it may be the large part; the outcome of a change must not be lost for it.
      if (isTooLarge(saved) && isMostlyRequest(plain, envelope))
        saved = await deliver(plain, withoutRequest(envelope));
      if (!(saved instanceof Error)) return saved;
      log.error('reply replaced: the Manager does not accept it', { reason: saved.message });
      const replacement = replacementFor(saved);
      saved = await deliver(replacement, envelope);
      if (isTooLarge(saved)) saved = await deliver(replacement, withoutRequest(envelope));
      if (!(saved instanceof Error)) return saved === 'sent' ? replacement : 'dropped';
      log.error('reply dropped: the Manager does not accept it', { reason: saved.message });
      return 'dropped';
    } finally {
      this.#resume(sending);
    }
  }

  /**
   * Tries until the Manager has the reply, or its record does not wait for it any more.
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
        const refused = mayBeTooLarge && (await this.#works(signal));
        if (refused && refusedBefore)
          return new TooLarge(`it has ${bytes} bytes, and the Manager failed on it twice: ${error.message}`);
        refusedBefore = refused;
        // The first failure may come from a kept connection that the Manager has just closed.
        const lasts = failed > 1 || error.retryAfterMs > 0;
        // The Manager works, so the service must not wait for this reply.
        if (refused) this.#resume(sending);
        else if (lasts && (await this.#stopsTrying(sending, error, signal))) return error;
        const wait = Math.max(error.retryAfterMs, backoffMs(refused ? 1 : failed, BACKOFF));
        await this.#options.clock.sleep(wait, { signal });
      }
    }
  }

  async #save(sending: Sending, json: string, signal: AbortSignal): Promise<Saved> {
    const { manager } = this.#options;
    const { id, log } = sending;
    sending.saving = false;
    // Retried by this class, which notices at once that the Manager cannot be reached.
    const once = { signal, tries: 1 };
    const state = await manager.recordState(id, once);
    if (state === 'answered') {
      log.info('reply dropped: the record of its request has one already');
      return 'dropped';
    }
    sending.saving = true;
    if (state === 'open' && (await manager.saveRecord(id, json, once))) return 'sent';
    log.info('reply dropped: the record of its request is gone');
    return 'dropped';
  }

  /** Pauses the service, unless the Manager fails on this reply alone. @returns whether to stop trying */
  async #stopsTrying(sending: Sending, error: ManagerError, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#options;
    if (error.status !== 500 || error.notSent || !(await this.#works(signal))) {
      sending.stuckSince = undefined;
      this.#hold(sending, error);
      return false;
    }
    this.#resume(sending);
    if (sending.stuckSince === undefined) {
      sending.stuckSince = clock.now();
      sending.log.error('reply failed while the Manager works: retrying', { reason: error.message });
    }
    return clock.now() - sending.stuckSince >= STUCK_MS;
  }

  /** Whether the Manager answers other calls. */
  async #works(signal: AbortSignal): Promise<boolean> {
    const { manager, exchangeId } = this.#options;
    return manager.exchange(exchangeId, { signal, tries: 1 }).then(
      () => true,
      (error: unknown) => error instanceof ManagerError && !error.temporary,
    );
  }

  #hold(sending: Sending, { message: reason }: ManagerError): void {
    this.#outage.failed({ reason });
    if (this.#waiting.has(sending)) return;
    this.#waiting.add(sending);
    if (this.#waiting.size === 1) this.#options.pause('answers wait for the Manager');
  }

  #resume(sending: Sending): void {
    if (!this.#waiting.delete(sending) || this.#waiting.size > 0) return;
    this.#outage.works();
    this.#options.resume();
  }
}

/** The reply that replaces one which the Manager will not store. */
function replacementFor(refusal: Error): Reply {
  const body = isTooLarge(refusal)
    ? { errors: ['The answer is larger than the Manager accepts; ask for less'], code: 'answer_too_large' }
    : { errors: ['The Manager refuses to store the answer'], code: 'internal' };
  return { status: 'error', body };
}

/** Whether the copy of the request is more than half of the reply's envelope. */
function isMostlyRequest(reply: Reply, request: Envelope): boolean {
  const bytes = (each: Envelope) => stringifyExactly(replyEnvelope(each, reply)).length;
  return bytes(withoutRequest(request)) * 2 < bytes(request);
}

/**
 * Whether a failure may be a refusal: some servers close the connection, or stop reading, at their limit, and a proxy in
 * front of them responds with its own status.
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
