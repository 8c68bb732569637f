import { LastingFault } from '../logging.js';
import type { Envelope } from '../messaging/envelope.js';
import type { EncodedAnswer, ReplyChannel } from '../messaging/reply-channel.js';
import type { Clock, RequestLog } from '../plugin.js';
import { backoffMs } from './backoff.js';
import type { ManagerId } from './manager-answers.js';
import type { ManagerClient } from './manager-client.js';
import { ManagerError } from './manager-error.js';

export interface RecordReplyChannelOptions {
  manager: Pick<ManagerClient, 'hasRecord' | 'saveRecord'>;
  /** Called when answers begin to wait for the Manager: nothing more is to be taken on. */
  pause: () => void;
  /** Called when none waits any more. */
  resume: () => void;
  clock: Clock;
  log: RequestLog;
}

const BACKOFF = { firstMs: 1_000, mostMs: 10_000 };
/** A Manager that fails on one answer for so long may well take others. */
const HOLDS_UP_MS = 10 * 60_000;

/**
 * Saves answers in the Manager, into the records that callers have made for their requests and poll. While the Manager
 * is away, answers wait.
 */
export class RecordReplyChannel implements ReplyChannel {
  readonly #options: RecordReplyChannelOptions;
  readonly #away: LastingFault;
  /** The sendings that wait for the Manager and keep the service from taking on more. */
  readonly #waiting = new Set<symbol>();

  constructor(options: RecordReplyChannelOptions) {
    this.#options = options;
    this.#away = new LastingFault(options.log, options.clock, 'the Manager takes no answers: they are kept');
  }

  reaches({ id }: Envelope): boolean {
    return id !== undefined;
  }

  async send(
    { envelope }: EncodedAnswer,
    { envelope: { id }, log }: { envelope: Envelope; log: RequestLog },
    signal: AbortSignal,
  ): Promise<void> {
    if (id === undefined) return;
    const sending = Symbol(String(id));
    try {
      const refusal = await this.#deliver(sending, id, envelope, log, signal);
      if (refusal === undefined) return;
      log.error('answer replaced: the Manager refuses it', { reason: refusal.message });
      const again = await this.#deliver(sending, id, refusedEnvelope(envelope, refusal), log, signal);
      if (again !== undefined) log.error('answer dropped: the Manager refuses it', { reason: again.message });
    } finally {
      this.#goOn(sending);
    }
  }

  /**
   * Tries until the Manager has the answer, or has no record for it any more.
   * @returns why the Manager will never take it
   */
  async #deliver(
    sending: symbol,
    id: ManagerId,
    envelope: object,
    log: RequestLog,
    signal: AbortSignal,
  ): Promise<Error | undefined> {
    const { clock, manager } = this.#options;
    const begun = clock.now();
    for (let failed = 1; ; failed++) {
      try {
        const saved =
          (await manager.hasRecord(id, { signal })) && (await manager.saveRecord(id, envelope, { signal }));
        if (!saved) log.info('answer dropped: the record of its request is gone');
        return undefined;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof ManagerError) || !error.temporary)
          return error instanceof Error ? error : new Error(String(error));
        const failsOnThis = error.status === 500 && !error.notSent && clock.now() - begun >= HOLDS_UP_MS;
        if (!failsOnThis) this.#hold(sending, error);
        else if (this.#goOn(sending))
          log.error('the Manager fails on this answer; trying on', { reason: error.message });
      }
      await clock.sleep(backoffMs(failed, BACKOFF), { signal });
    }
  }

  #hold(sending: symbol, { message: reason }: ManagerError): void {
    this.#away.occurred({ reason });
    if (this.#waiting.has(sending)) return;
    this.#waiting.add(sending);
    if (this.#waiting.size === 1) this.#options.pause();
  }

  /** @returns whether it held up the service until now */
  #goOn(sending: symbol): boolean {
    if (!this.#waiting.delete(sending)) return false;
    if (this.#waiting.size === 0) {
      this.#away.over();
      this.#options.resume();
    }
    return true;
  }
}

/** What the caller gets in place of an answer that the Manager will not keep. */
function refusedEnvelope(envelope: object, refusal: Error): object {
  const tooLarge = refusal instanceof ManagerError && refusal.status === 413;
  return {
    ...envelope,
    status: 'error',
    response_body: tooLarge
      ? { errors: ['The answer is larger than the Manager takes; ask for less'], code: 'answer_too_large' }
      : { errors: ['The Manager refuses to keep the answer'], code: 'internal' },
  };
}
