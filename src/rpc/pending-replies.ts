import type { Clock } from '../lib/clock.js';
import { linkSignals } from '../lib/linked-signal.js';
import { Semaphore } from '../lib/semaphore.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerConnection } from './broker-connection.js';

/** The broker has not confirmed a reply while its caller waited. Whether it arrived is not known. */
export class NotConfirmed extends Error {
  override readonly name = 'NotConfirmed';
}

export interface PendingRepliesOptions {
  clock: Clock;
  /** Called when `slow` changes. */
  changed: () => void;
}

/** How long a reply may take. */
export interface ReplyLimit {
  connection: BrokerConnection;
  /** When its caller stops waiting, by the clock's `now()`. */
  until: number;
  /** Ends it too. */
  signal: AbortSignal;
  /** Why it is not confirmed, for people. */
  why: () => string;
}

/** How often a reply that is being sent is looked at, in milliseconds. One that has not been confirmed by then is slow. */
const LOOK_MS = 1_000;
/** Callers wait a little longer than the time limit that they send, in milliseconds. */
const EXTRA_MS = 2_000;
/** The least time that a broker has to confirm a reply, in milliseconds. */
const LEAST_MS = 5_000;
/**
 * How many replies to one address may be unconfirmed. RabbitMQ stops reading from a connection when a queue leaves more
 * unhandled: a quorum queue 32, a classic queue 400.
 */
const MAX_UNCONFIRMED = 30;

/** The replies that are being sent. One that the broker does not confirm, such as for a queue that hangs, must not cost others. */
export class PendingReplies {
  readonly #options: PendingRepliesOptions;
  readonly #addresses = new Map<string, { permits: Semaphore; uses: number }>();
  #slow = 0;

  constructor(options: PendingRepliesOptions) {
    this.#options = options;
  }

  /** How many replies have waited for a second or longer, while the broker accepts messages. */
  get slow(): number {
    return this.#slow;
  }

  /**
   * Sends a reply while its caller waits, and at least for 5 s. The time in which the broker accepts no messages at all does
   * not end it.
   * @param send gets a signal that is aborted at the end
   * @throws NotConfirmed
   */
  async within<T>(
    { connection, until, signal, why }: ReplyLimit,
    send: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock } = this.#options;
    const end = Math.max(until + EXTRA_MS, clock.now() + LEAST_MS);
    const link = linkSignals(signal);
    let isSlow = false;
    let cancel = () => {};
    const look = () => {
      if (connection.blockedReason === undefined) {
        if (clock.now() >= end) return link.abort(new NotConfirmed(why()));
        if (!isSlow) this.#add(1);
        isSlow = true;
      }
      cancel = clock.after(LOOK_MS, look);
    };
    cancel = clock.after(LOOK_MS, look);
    try {
      return await untilAborted(send(link.signal), link.signal);
    } finally {
      cancel();
      link.unlink();
      if (isSlow) this.#add(-1);
    }
  }

  /** Sends a reply when few enough to the same address are unconfirmed. */
  async inTurn<T>(address: string, signal: AbortSignal, send: () => Promise<T>): Promise<T> {
    const turns = this.#addresses.get(address) ?? { permits: new Semaphore(MAX_UNCONFIRMED), uses: 0 };
    this.#addresses.set(address, turns);
    turns.uses++;
    try {
      const release = await turns.permits.acquire(signal);
      // Also when the caller of `within` no longer waits for it.
      return await send().finally(release);
    } finally {
      if (--turns.uses === 0) this.#addresses.delete(address);
    }
  }

  #add(replies: number): void {
    this.#slow += replies;
    this.#options.changed();
  }
}
