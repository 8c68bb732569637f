import type { Caller } from '../api/caller.js';
import type { Cluster } from '../api/cluster.js';
import type { Logger } from '../lib/logger.js';
import type { ActionDescription } from './action-description.js';
import type { Call, Ended, Reply } from './call.js';

/**
 * The events of a call, in this order: `received`; `admitted` and `began`, unless it is refused first, or `denied`; `settled` or
 * `released`; after `settled` either `answered` or `unanswered`. `at` is the clock's time in milliseconds.
 */
export interface CallEvents {
  received: { call: Call; at: number };
  /** It is checked, and waits for its turn. */
  admitted: {
    call: Call;
    action: ActionDescription;
    cluster: Cluster | undefined;
    /** The units that its parameters name, in alphabetical order. */
    units: readonly string[];
    /** The rule of the policy that allows it; undefined: there is no policy. */
    rule: string | undefined;
    at: number;
  };
  /** The policy does not allow it. `needed`: which rule would, for people. It settles with the error `forbidden`. */
  denied: {
    call: Call;
    action: ActionDescription;
    cluster: Cluster | undefined;
    /** The units that its parameters name, as far as they are known. */
    units: readonly string[];
    needed: string;
    at: number;
  };
  /**
   * The action starts to run. A change whose reply another worker has recorded does not. `sharedRun`: the run is also that of
   * other calls, and has this id of one of them.
   */
  began: { call: Call; at: number; sharedRun?: string | undefined };
  /** A change that the action of the call calls starts to run. */
  nestedBegan: { call: Call; action: string; cluster: Cluster | undefined; units: readonly string[] };
  settled: { call: Call; settled: Ended; at: number };
  /** It never began; the transport gives it to any worker. */
  released: { call: Call; at: number };
  /**
   * The transport has finished the call. `reply` is the reply that was sent: the transport replaces a reply that it
   * cannot send. `dropped`: no reply was sent, because the caller waits for none or can no longer be reached.
   */
  answered: { call: Call; reply: Reply; dropped: boolean; at: number };
  /** The service stopped before the reply could be sent; the broker delivers the request again. */
  unanswered: { call: Call; at: number };
  /** The number of calls for clusters that do not respond, waiting and running, has changed. */
  withoutResponse: { calls: number; at: number };
  /** The transport has dead-lettered a message. `reason` is for people; `message` is the id that its sender gave it. */
  deadLettered: {
    reason: string;
    kind: DeadLetterKind;
    message: string | undefined;
    caller: Caller;
    at: number;
  };
}

/** `invalid`: it is not a request. `worker_lost`: too many workers were lost with it. `defect`: the service failed to handle it. */
export type DeadLetterKind = 'invalid' | 'worker_lost' | 'defect';

type Listener<K extends keyof CallEvents> = (event: CallEvents[K]) => void;
type Listeners = { [K in keyof CallEvents]: Listener<K>[] };

/**
 * Passes the events of calls to the listeners, in the order in which they subscribed. An error of a listener is logged
 * and does not affect the call or the other listeners.
 */
export class CallEventBus {
  readonly #log: Logger;
  readonly #listeners: Listeners = {
    received: [],
    admitted: [],
    denied: [],
    began: [],
    nestedBegan: [],
    settled: [],
    released: [],
    answered: [],
    unanswered: [],
    withoutResponse: [],
    deadLettered: [],
  };

  constructor(log: Logger) {
    this.#log = log;
  }

  on<K extends keyof CallEvents>(type: K, listener: Listener<K>): void {
    this.#listeners[type].push(listener);
  }

  emit<K extends keyof CallEvents>(type: K, event: CallEvents[K]): void {
    for (const listener of this.#listeners[type]) {
      try {
        listener(event);
      } catch (error) {
        this.#log.error('event listener failed', { event: type, error });
      }
    }
  }
}
