import type { Options } from 'amqplib';
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

  /** Publishes a request that has not begun to its own queue, where it does not count as redelivered. */
  async requeue(delivery: Delivery): Promise<void> {
    // After the loss of the connection, the broker has already requeued the message.
    if (delivery.connection.lost.aborted) return;
    const { expiration } = delivery.properties;
    await this.#republish(delivery, this.#options.queue, { expiration });
  }

  /**
   * @param reason for people, in the header `x-reason`
   * @returns false when the broker delivers the message again instead
   */
  async deadLetter(delivery: Delivery, reason: string): Promise<boolean> {
    return this.#republish(delivery, errorQueueOf(this.#options.queue), { headers: { 'x-reason': reason } });
  }

  /** @returns whether the message was published and acknowledged */
  async #republish(delivery: Delivery, queue: string, more: Options.Publish): Promise<boolean> {
    const kept = republishedProperties(delivery.properties);
    const headers = { ...kept.headers, ...more.headers };
    const options = { ...kept, ...more, headers, persistent: true };
    // Alone: a request that is published twice may run twice.
    const within = { signal: this.#options.stopped, by: delivery.connection, alone: true };
    const publish = async () =>
      this.#options.publish({ exchange: '', routingKey: queue }, delivery.content, options, within);
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
