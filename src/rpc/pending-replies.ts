import type { Clock } from '../lib/clock.js';
import { AbortWatch } from '../lib/abort-watch.js';
import { afterwards } from '../lib/afterwards.js';
import { LazyAbort } from '../lib/lazy-abort.js';
import { LinkedList, type Place } from '../lib/linked-list.js';
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

class PendingReply {
  /** Among those that are not confirmed. */
  place: Place | undefined;
  readonly limit: ReplyLimit;
  /** When it is given up, in the clock's milliseconds. */
  readonly end: number;
  readonly stop = new LazyAbort();
  readonly reject: (reason: unknown) => void;
  lookAt: number;
  isSlow = false;

  constructor(limit: ReplyLimit, now: number, reject: (reason: unknown) => void) {
    this.limit = limit;
    this.end = Math.max(limit.until + EXTRA_MS, now + LEAST_MS);
    this.reject = reject;
    this.lookAt = now + LOOK_MS;
  }
}

/** The replies to one address. */
interface Turns {
  /** How many more may be unconfirmed. */
  free: number;
  /** Lets each of them take the place of another one; oldest first. */
  waiting: LinkedList<() => void> | undefined;
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
  readonly #addresses = new Map<string, Turns>();
  /** Those that are not confirmed, in the order in which they are looked at. */
  readonly #pending = new LinkedList<PendingReply>();
  readonly #signals = new AbortWatch((signal) => {
    for (const reply of this.#pending) if (reply.limit.signal === signal) this.#giveUp(reply, signal.reason);
  });
  #cancelLooks: (() => void) | undefined;
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
   * @param send gets what is aborted at the end
   * @throws NotConfirmed
   */
  within<T>(limit: ReplyLimit, send: (stop: LazyAbort) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const { signal } = limit;
      if (signal.aborted) return reject(signal.reason);
      this.#signals.add(signal);
      const { clock } = this.#options;
      const reply = new PendingReply(limit, clock.now(), reject);
      reply.place = this.#pending.add(reply);
      this.#cancelLooks ??= clock.after(LOOK_MS, this.#looks);
      send(reply.stop).then(
        (outcome) => {
          this.#settled(reply);
          return resolve(outcome);
        },
        (error: unknown) => {
          this.#settled(reply);
          return reject(error);
        },
      );
    });
  }

  /** Sends a reply when few enough to the same address are unconfirmed. Rejects with the reason of `stop` when that is aborted before. */
  inTurn<T>(address: string, stop: LazyAbort, send: () => Promise<T>): Promise<T> {
    const turns = this.#turnsOf(address);
    if (turns.free === 0) return turnIn(turns, stop).then(() => this.#inPlace(address, turns, send));
    turns.free--;
    return this.#inPlace(address, turns, send);
  }

  #inPlace<T>(address: string, turns: Turns, send: () => Promise<T>): Promise<T> {
    // Also when the caller of `within` no longer waits for it.
    return afterwards(send(), () => this.#leave(address, turns));
  }

  #turnsOf(address: string): Turns {
    const known = this.#addresses.get(address);
    if (known !== undefined) return known;
    const turns: Turns = { free: MAX_UNCONFIRMED, waiting: undefined };
    this.#addresses.set(address, turns);
    return turns;
  }

  #leave(address: string, turns: Turns): void {
    const next = turns.waiting?.first;
    if (next !== undefined) return next();
    turns.free++;
    if (turns.free === MAX_UNCONFIRMED) this.#addresses.delete(address);
  }

  /** One timer for all replies: nearly all of them are confirmed before it. */
  readonly #looks = (): void => {
    const { clock } = this.#options;
    this.#cancelLooks = undefined;
    for (let reply = this.#pending.first; reply !== undefined; reply = this.#pending.first) {
      const left = reply.lookAt - clock.now();
      if (left > 0) {
        this.#cancelLooks = clock.after(left, this.#looks);
        return;
      }
      this.#look(reply);
    }
  };

  #look(reply: PendingReply): void {
    const { connection, why } = reply.limit;
    const now = this.#options.clock.now();
    if (connection.blockedReason === undefined) {
      if (now >= reply.end) return this.#giveUp(reply, new NotConfirmed(why()));
      if (!reply.isSlow) this.#add(1);
      reply.isSlow = true;
    }
    reply.lookAt = now + LOOK_MS;
    // To the end.
    if (reply.place?.leave()) reply.place = this.#pending.add(reply);
  }

  #giveUp(reply: PendingReply, reason: unknown): void {
    reply.stop.abort(reason);
    reply.reject(reason);
    this.#settled(reply);
  }

  #settled(reply: PendingReply): void {
    if (!reply.place?.leave()) return;
    if (reply.isSlow) this.#add(-1);
    if (this.#pending.size > 0) return;
    this.#cancelLooks?.();
    this.#cancelLooks = undefined;
  }

  #add(replies: number): void {
    this.#slow += replies;
    this.#options.changed();
  }
}

/** Waits for the place of another reply. Rejects with the reason of `stop`. */
function turnIn(turns: Turns, stop: LazyAbort): Promise<void> {
  return new Promise((resolve, reject) => {
    if (stop.aborted) return reject(stop.reason);
    turns.waiting ??= new LinkedList();
    const place = turns.waiting.add(() => {
      place.leave();
      stopListening();
      resolve();
    });
    const stopListening = stop.onAbort(() => {
      place.leave();
      reject(stop.reason);
    });
  });
}
