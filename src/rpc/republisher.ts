import type { Options } from 'amqplib';
import { callerTimeout } from '../core/caller-timeout.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import type { Delivery } from './consumer.js';
import type { PublishConfirmed } from './publisher.js';
import { errorQueueOf } from './queues.js';
import { republishedProperties } from './republished-properties.js';

export interface RepublisherOptions {
  queue: string;
  publish: PublishConfirmed;
  /** Aborted when the service stops: waiting messages stay unacknowledged. */
  stopped: AbortSignal;
  clock: Clock;
  log: Logger;
}

/** The wait before a full queue is tried again, in milliseconds. */
const FULL_RETRY_MS = 1_000;

/** Requeues and dead-letters delivered messages: publishes each one again, and acknowledges it after the confirm. */
export class Republisher {
  readonly #options: RepublisherOptions;
  readonly #full: OutageLog;
  #waiting = 0;

  constructor(options: RepublisherOptions) {
    this.#options = options;
    this.#full = new OutageLog(options.log, options.clock, {
      began: 'queue full',
      ended: 'queue no longer full',
    });
  }

  /** Whether messages wait because their target queue is full. */
  get isBlocked(): boolean {
    return this.#waiting > 0;
  }

  /**
   * Publishes a request that has not begun to its own queue, where it does not count as redelivered. Its time limit and its
   * expiration are less by the time that it was held: they would begin anew.
   * @param arrivedAt when it was delivered, in the clock's milliseconds
   */
  async requeue(delivery: Delivery, arrivedAt: number): Promise<void> {
    // After the loss of the connection, the broker has already requeued the message.
    if (delivery.connection.lost.aborted) return;
    const { queue, clock } = this.#options;
    const heldMs = () => Math.round(clock.now() - arrivedAt);
    await this.#republish(delivery, queue, () => timesLeft(delivery, heldMs()));
  }

  /**
   * @param reason for people, in the header `x-reason`
   * @returns false when the broker delivers the message again instead
   */
  async deadLetter(delivery: Delivery, reason: string): Promise<boolean> {
    const headers = { 'x-reason': reason };
    return this.#republish(delivery, errorQueueOf(this.#options.queue), () => ({ headers }));
  }

  /**
   * @param changes the properties that differ from those of the delivery, each time that it is published
   * @returns whether the message was published and acknowledged
   */
  async #republish(delivery: Delivery, queue: string, changes: () => Options.Publish): Promise<boolean> {
    const kept = republishedProperties(delivery.properties);
    const options = () => {
      const changed = changes();
      return { ...kept, ...changed, headers: { ...kept.headers, ...changed.headers }, persistent: true };
    };
    // Alone: a request that is published twice may run twice.
    const within = { signal: this.#options.stopped, by: delivery.connection, alone: true };
    const publish = async () =>
      this.#options.publish({ exchange: '', routingKey: queue }, delivery.content, options(), within);
    let outcome = await publish();
    if (outcome === 'nacked') {
      this.#waiting++;
      this.#full.failed({ queue });
      try {
        while (outcome === 'nacked') {
          await this.#options.clock.sleep(FULL_RETRY_MS, within);
          // The broker has requeued the message and delivers it again.
          if (delivery.connection.lost.aborted) return false;
          outcome = await publish();
        }
      } finally {
        if (--this.#waiting === 0) this.#full.succeeded();
      }
    }
    // A new connection declares the queue again, and the broker delivers the message again.
    if (outcome === 'unroutable') {
      delivery.connection.lose(new Error(`the queue ${queue} does not exist`));
      return false;
    }
    delivery.acknowledge();
    return true;
  }
}

/** What is left of the expiration and the time limit of a request; at least a millisecond, as 0 is no time limit. */
function timesLeft({ properties }: Delivery, heldMs: number): Options.Publish {
  const { expiration, headers = {} } = properties;
  const { 'timeout-ms': sent } = headers;
  const timeoutMs = sent === undefined ? undefined : callerTimeout(sent);
  const left = (ms: number) => Math.max(1, ms - heldMs);
  return {
    ...(expiration !== undefined && { expiration: String(left(Number(expiration))) }),
    // What is no time limit stays as it is: the next worker refuses it.
    ...(timeoutMs !== undefined && { headers: { 'timeout-ms': left(timeoutMs) } }),
  };
}
