import type { Cluster } from '../api/cluster.js';
import type { Call, Reply, Settled } from './call.js';
import type { ActionDescription } from './catalogue.js';

/**
 * The events of a call, in this order: `received`; `admitted` and `began`, unless it is refused; `settled` or `released`;
 * after `settled` either `answered` or `unanswered`. `at` is the clock's time in milliseconds.
 */
export interface CallEvents {
  received: { call: Call; at: number };
  /** It is checked, and waits for its turn. */
  admitted: { call: Call; action: ActionDescription; cluster: Cluster | undefined; at: number };
  /** Its action runs. */
  began: { call: Call; at: number };
  settled: { call: Call; settled: Exclude<Settled, { status: 'released' }>; at: number };
  /** It never began here; its message goes back to the queue. */
  released: { call: Call; at: number };
  /**
   * The transport has finished with it. `reply` is what the caller really got: the transport replaces a reply that it cannot
   * send. `dropped`: the caller got nothing, because it wants no reply or cannot be reached any more.
   */
  answered: { call: Call; reply: Reply; dropped: boolean; at: number };
  /** The service stopped before the reply was sent; the request will be delivered again. */
  unanswered: { call: Call; at: number };
  /** A message is dead-lettered, usually because it is no request. `reason` is for people. */
  deadLettered: { reason: string; at: number };
}

type Listener<K extends keyof CallEvents> = (event: CallEvents[K]) => void;
type Listeners = { [K in keyof CallEvents]: Listener<K>[] };

/** Passes the events of calls to their listeners, in the order of subscription. An event without listeners costs nothing. */
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

  /** @param listener must not throw: its error would become the call's */
  on<K extends keyof CallEvents>(type: K, listener: Listener<K>): void {
    this.#listeners[type].push(listener);
  }

  emit<K extends keyof CallEvents>(type: K, event: CallEvents[K]): void {
    for (const listener of this.#listeners[type]) listener(event);
  }
}
