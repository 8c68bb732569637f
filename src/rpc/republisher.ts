import type { Options } from 'amqplib';
import { callerTimeout } from '../core/caller-timeout.js';
import type { Clock } from '../lib/clock.js';
import { linkSignals } from '../lib/linked-signal.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerConnection } from './broker-connection.js';
import type { Delivery } from './consumer.js';
import type { PublishConfirmed } from './publisher.js';
import { declareQueue, errorQueueOf, type NewQueues, suspectsQueueOf } from './queues.js';
import { republishedProperties } from './republished-properties.js';
import { deadLetterProperties, requeuedProperties, type Suspect, suspectProperties } from './suspect.js';

export interface RepublisherOptions {
  queue: string;
  /** What its queues are like when they must be made again. */
  makes?: NewQueues | undefined;
  publish: PublishConfirmed;
  /** Aborted when the service stops: waiting messages stay unacknowledged. */
  stopped: AbortSignal;
  clock: Clock;
  log: Logger;
}

/** The wait before a full queue is tried again, in milliseconds. */
const FULL_RETRY_MS = 1_000;

/** A queue to which messages are published again. */
interface Target {
  name: string;
  full: OutageLog;
  /** How many messages wait because it is full. */
  waiting: number;
  /** Set while it is declared again. */
  declaring: Promise<void> | undefined;
}

/**
 * Requeues, sets apart and dead-letters delivered messages: publishes each one again, and acknowledges it after the confirm. Only on the
 * connection that it came by: when that is lost, the broker has requeued the message, and a copy would be a second one.
 */
export class Republisher {
  readonly #options: RepublisherOptions;
  readonly #requests: Target;
  readonly #suspects: Target;
  readonly #deadLetters: Target;

  constructor(options: RepublisherOptions) {
    const { queue, log, clock } = options;
    const target = (name: string): Target => {
      const phrases = { began: 'queue full', ended: 'queue no longer full' };
      const full = new OutageLog(log, clock, phrases, { queue: name });
      return { name, full, waiting: 0, declaring: undefined };
    };
    this.#options = options;
    this.#requests = target(queue);
    this.#suspects = target(suspectsQueueOf(queue));
    this.#deadLetters = target(errorQueueOf(queue));
  }

  /** Whether messages wait because their target queue is full. */
  get isBlocked(): boolean {
    return [this.#requests, this.#suspects, this.#deadLetters].some(({ waiting }) => waiting > 0);
  }

  /**
   * Publishes a request that has not begun to its own queue, where it does not count as redelivered. Its time limit and its
   * expiration are less by the time that it was held: they would begin anew.
   * @param arrivedAt when it was delivered, in the clock's milliseconds
   * @returns false when the broker delivers the message again instead
   */
  async requeue(delivery: Delivery, arrivedAt: number): Promise<boolean> {
    const { clock } = this.#options;
    const heldMs = () => Math.round(clock.now() - arrivedAt);
    return this.#republish(delivery, this.#requests, () => timesLeft(delivery, heldMs()));
  }

  /**
   * Publishes a request that another worker may have begun to the queue of suspects.
   * @returns false when the broker delivers the message again instead
   */
  async moveToSuspects(delivery: Delivery, suspect: Omit<Suspect, 'deadline'>): Promise<boolean> {
    const { clock } = this.#options;
    return this.#republish(delivery, this.#suspects, () => suspectProperties(delivery, clock, suspect));
  }

  /**
   * @param reason for people, in the header `x-reason`
   * @param mayHaveBegun whether a worker may have begun it
   * @returns false when the broker delivers the message again instead
   */
  async deadLetter(delivery: Delivery, reason: string, mayHaveBegun = false): Promise<boolean> {
    const { clock } = this.#options;
    return this.#republish(delivery, this.#deadLetters, () =>
      deadLetterProperties(delivery, clock, reason, mayHaveBegun),
    );
  }

  /**
   * @param changes the properties that differ from those of the delivery, each time that it is published
   * @returns whether the message was published and acknowledged
   */
  async #republish(delivery: Delivery, to: Target, changes: () => Options.Publish): Promise<boolean> {
    const { lost } = delivery.connection;
    const { signal, unlink } = linkSignals(lost, this.#options.stopped);
    try {
      signal.throwIfAborted();
      let outcome = await this.#publish(delivery, to, changes, signal);
      if (outcome === 'unroutable' && to !== this.#requests) {
        await untilAborted(this.#declare(to, delivery.connection), signal);
        outcome = await this.#publish(delivery, to, changes, signal);
      }
      // A new connection declares the queue again, and the broker delivers the message again.
      if (outcome === 'unroutable')
        delivery.connection.lose(new Error(`the queue ${to.name} does not exist`));
      if (lost.aborted) return false;
      delivery.acknowledge();
      return true;
    } catch (error) {
      if (lost.aborted) return false;
      throw error;
    } finally {
      unlink();
    }
  }

  /** Somebody has deleted it. A new connection would declare it too, but cost every other request its own. */
  async #declare(target: Target, connection: BrokerConnection): Promise<void> {
    target.declaring ??= declareQueue(connection, target.name, this.#options)
      .catch((error: unknown) => connection.lose(error))
      .finally(() => (target.declaring = undefined));
    return target.declaring;
  }

  /** Publishes it until the queue has room. */
  async #publish(
    delivery: Delivery,
    to: Target,
    changes: () => Options.Publish,
    signal: AbortSignal,
  ): Promise<'routed' | 'unroutable'> {
    const { publish, clock } = this.#options;
    const kept = republishedProperties(delivery.properties);
    const attempt = async () => {
      const changed = changes();
      const headers = { ...kept.headers, ...changed.headers };
      const options = { ...kept, ...changed, headers, persistent: true };
      // Alone: a request that is published twice may run twice.
      const within = { signal, by: delivery.connection, alone: true };
      return publish({ exchange: '', routingKey: to.name }, delivery.content, options, within);
    };
    let outcome = await attempt();
    if (outcome === 'nacked') {
      to.waiting++;
      to.full.failed({});
      try {
        while (outcome === 'nacked') {
          await clock.sleep(FULL_RETRY_MS, { signal });
          outcome = await attempt();
        }
      } finally {
        to.waiting--;
      }
    }
    // Not while others wait: it may have had room for one message only.
    if (outcome === 'routed' && to.waiting === 0) to.full.succeeded();
    return outcome;
  }
}

/** What is left of the expiration and the time limit of a request; at least a millisecond, as 0 is no time limit. */
function timesLeft(delivery: Delivery, heldMs: number): Options.Publish {
  const { expiration, headers = {} } = delivery.properties;
  const again = requeuedProperties(delivery);
  const { 'timeout-ms': sent } = headers;
  const timeoutMs = sent === undefined ? undefined : callerTimeout(sent);
  const left = (ms: number) => Math.max(1, ms - heldMs);
  return {
    ...again,
    ...(expiration !== undefined && { expiration: String(left(Number(expiration))) }),
    // What is no time limit stays as it is: the next worker refuses it.
    headers: { ...again.headers, ...(timeoutMs !== undefined && { 'timeout-ms': left(timeoutMs) }) },
  };
}
