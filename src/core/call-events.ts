import type { Cluster } from '../api/cluster.js';
import type { Call, Reply, Settled } from './call.js';
import type { ActionDescription } from './catalogue.js';

/**
 * What happens to a call, in this order: `received`; `admitted` and `began`, unless it is refused before; `settled` or
 * `released`; after `settled` one of `answered` and `unanswered`. `at` is the clock's time in milliseconds.
 */
export interface CallEvents {
  received: { call: Call; at: number };
  /** Checked, and waiting for its turn. */
  admitted: { call: Call; action: ActionDescription; cluster: Cluster | undefined; at: number };
  /** Its action runs. */
  began: { call: Call; at: number };
  settled: { call: Call; settled: Exclude<Settled, { status: 'released' }>; at: number };
  /** It never began here, and goes back to where it came from. */
  released: { call: Call; at: number };
  /**
   * The transport is done with it. `reply` is what the caller really got: the transport replaces what it cannot send.
   * `dropped`: nobody got it, as nobody waits or there is no way to the caller any more.
   */
  answered: { call: Call; reply: Reply; dropped: boolean; at: number };
  /** The service stopped before the reply could be sent; the request comes again. */
  unanswered: { call: Call; at: number };
  /** A message is dead-lettered, most often one that is no call. `reason` says why, for people. */
  deadLettered: { reason: string; at: number };
}

type Listener<K extends keyof CallEvents> = (event: CallEvents[K]) => void;
type Listeners = { [K in keyof CallEvents]: Listener<K>[] };

/** Hands the events of calls to those who listen, in the order in which they subscribed. An event without listeners costs nothing. */
export class CallEventBus {
  readonly #listeners: Listeners = {
    received: [],
    admitted: [],
    began: [],
    settled: [],
    released: [],
    answered: [],
    unanswered: [],
    deadLettered: [],
  };

  /** @param listener must not throw: the error would become that of the call */
  on<K extends keyof CallEvents>(type: K, listener: Listener<K>): void {
    this.#listeners[type].push(listener);
  }

  emit<K extends keyof CallEvents>(type: K, event: CallEvents[K]): void {
    for (const listener of this.#listeners[type]) listener(event);
  }
}
