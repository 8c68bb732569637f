import type { Clock } from '../lib/clock.js';
import { settledWithin } from '../lib/settled-within.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerConnection } from './broker-connection.js';
import { queuesOf } from './queues.js';

/** How many messages are ready in a queue: those that are delivered and not acknowledged do not count. */
export interface QueueDepth {
  queue: string;
  role: 'requests' | 'suspects' | 'errors';
  messages: number;
}

export interface QueueDepthsOptions {
  /** The queue of requests. */
  queue: string;
  /** The connection that is ready for use, if there is one now. */
  current: () => BrokerConnection | undefined;
  clock: Clock;
}

/** What the broker said, on one connection. */
interface Reading {
  connection: BrokerConnection;
  at: number;
  depths: readonly QueueDepth[];
}

/** The broker is asked at most this often, in milliseconds, however often somebody wants to know. */
const FRESH_MS = 5_000;
/** How long a reading is used while the broker does not answer. */
const STALE_MS = 60_000;
/** How long to wait for its answer. */
const WAIT_MS = 1_000;
const ROLES = ['requests', 'suspects', 'errors'] as const;
const NOTHING: readonly QueueDepth[] = [];

/**
 * Reads the depths of the service's queues by passive declarations, which need no permission. Only when somebody wants to know, and
 * never more than one at a time: a queue that hangs gets no second one until the connection ends.
 */
export class QueueDepths {
  readonly #options: QueueDepthsOptions;
  #latest: Reading | undefined;
  #asking: { on: BrokerConnection; done: Promise<void> } | undefined;

  constructor(options: QueueDepthsOptions) {
    this.#options = options;
  }

  /** Takes a second at most. @returns nothing while there is no connection, or the broker does not answer */
  async read(): Promise<readonly QueueDepth[]> {
    const { current, clock } = this.#options;
    const connection = current();
    if (connection === undefined) return NOTHING;
    if (!this.#hasRead(connection, FRESH_MS)) {
      if (this.#asking?.on !== connection) this.#asking = { on: connection, done: this.#ask(connection) };
      await settledWithin(WAIT_MS, clock, this.#asking.done);
    }
    return this.#hasRead(connection, STALE_MS) ? (this.#latest?.depths ?? NOTHING) : NOTHING;
  }

  #hasRead(connection: BrokerConnection, withinMs: number): boolean {
    const latest = this.#latest;
    return latest?.connection === connection && this.#options.clock.now() - latest.at < withinMs;
  }

  /** Never rejects. */
  async #ask(connection: BrokerConnection): Promise<void> {
    const depths: QueueDepth[] = [];
    const queues = queuesOf(this.#options.queue);
    for (const [at, role] of ROLES.entries()) {
      const queue = queues[at] ?? '';
      const messages = await readyIn(connection, queue);
      if (messages !== undefined) depths.push({ queue, role, messages });
    }
    this.#latest = { connection, at: this.#options.clock.now(), depths };
    if (this.#asking?.on === connection) this.#asking = undefined;
  }
}

/** @returns undefined: it is not known, such as when the queue does not exist */
async function readyIn(connection: BrokerConnection, queue: string): Promise<number | undefined> {
  // A channel of its own: the broker closes it over a queue that does not exist.
  const asked = connection.probe(async (channel) => (await channel.checkQueue(queue)).messageCount);
  return untilAborted(asked, connection.lost).catch(() => undefined);
}
