import type { Options } from 'amqplib';
import { type Backoff, backoffMs } from '../lib/backoff.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { Semaphore } from '../lib/semaphore.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerConnection } from './broker-connection.js';
import { brokerReason, refusalOf } from './broker-refusal.js';
import { ConfirmChannel } from './confirm-channel.js';
import type { Destination, PublishOutcome } from './publish-channel.js';
import { PublishRefused, UnpublishableError } from './publish-errors.js';

/** Whether the destination is a caller that uses RabbitMQ's direct reply-to, which has no queue. */
export function isDirectReply({ exchange, routingKey }: Destination): boolean {
  return exchange === '' && routingKey.startsWith('amq.rabbitmq.reply-to.');
}

/** AMQP's reply code INTERNAL_ERROR. */
const INTERNAL_ERROR = 541;
/** The waits between attempts to open a connection for direct replies. */
const RETRY: Backoff = { firstMs: 500, maxMs: 5_000 };
/** How many connections for one reply may be open at the same time. */
const MAX_OWN = 4;

/**
 * Publishes direct replies on separate connections: RabbitMQ 3.10 closes the connection when the reply address is
 * invalid (541 INTERNAL_ERROR). The first attempt uses a connection that all direct replies share. Every further attempt
 * uses a connection for this reply only, so that one invalid address cannot make other replies fail again.
 */
export class DirectReplies {
  readonly #clock: Clock;
  readonly #outage: OutageLog;
  /** The shared channel for direct replies of each connection. */
  readonly #shared = new WeakMap<BrokerConnection, Promise<ConfirmChannel>>();
  readonly #problems = new WeakMap<BrokerConnection, string>();
  readonly #own = new Semaphore(MAX_OWN);

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#outage = new OutageLog(log, clock, {
      began: 'direct replies waiting',
      ended: 'direct replies resumed',
    });
  }

  /** Why the connection that direct replies share cannot be opened; undefined when it can, or was never needed. */
  problemOn(connection: BrokerConnection): string | undefined {
    return this.#problems.get(connection);
  }

  /**
   * @throws PublishRefused when the broker does not accept it
   * @throws UnpublishableError when AMQP cannot encode it
   * @throws the signal's reason
   * @throws any other error when `connection` is lost
   */
  async publish(
    connection: BrokerConnection,
    to: Destination,
    content: Buffer,
    options: Options.Publish,
    signal: AbortSignal,
  ): Promise<PublishOutcome> {
    const shared = await untilAborted(this.#channelFor(connection), signal);
    try {
      return await shared.publish(to, content, options, { stop: { signal } });
    } catch (error) {
      if (isFinal(error) || connection.lost.aborted) throw error;
    }
    for (let failed = 1; ; failed++) {
      const release = await this.#own.acquire(signal);
      let own: BrokerConnection | undefined;
      try {
        connection.lost.throwIfAborted();
        own = await connection.sibling();
        return await (await ConfirmChannel.open(own)).publish(to, content, options, { stop: { signal } });
      } catch (error) {
        if (isFinal(error) || connection.lost.aborted) throw error;
        const refusal = refusalOf(error);
        if (refusal?.code === INTERNAL_ERROR) throw new PublishRefused(refusal, { cause: error });
      } finally {
        void own?.close(this.#clock);
        release();
      }
      // The broker closed it, or could not be reached: `connection` is probably lost too, and will know it soon.
      await this.#clock.sleep(backoffMs(failed, RETRY), { signal });
    }
  }

  /** Opened for the first direct reply, and tried again until it is open; closed when `connection` is lost. */
  #channelFor(connection: BrokerConnection): Promise<ConfirmChannel> {
    const opened = this.#shared.get(connection);
    if (opened !== undefined) return opened;
    const opening = this.#openFor(connection);
    this.#shared.set(connection, opening);
    void opening
      .then(
        // Not when the connection is lost: whether the next one can have another beside it is not known.
        () => this.#outage.succeeded(),
        () => this.#shared.delete(connection),
      )
      .finally(() => this.#problems.delete(connection));
    return opening;
  }

  /** @throws ConnectionLost when `connection` is lost */
  async #openFor(connection: BrokerConnection): Promise<ConfirmChannel> {
    for (let failed = 1; ; failed++) {
      connection.lost.throwIfAborted();
      let sibling: BrokerConnection | undefined;
      try {
        sibling = await connection.sibling();
        const channel = await ConfirmChannel.open(sibling);
        this.#closeWith(connection, sibling);
        return channel;
      } catch (error) {
        void sibling?.close(this.#clock);
        if (connection.lost.aborted) continue;
        const reason = brokerReason(error);
        this.#problems.set(connection, `direct replies cannot be sent: ${reason}`);
        this.#outage.failed({ reason });
      }
      await this.#clock.sleep(backoffMs(failed, RETRY), { signal: connection.lost }).catch(() => {});
    }
  }

  #closeWith(connection: BrokerConnection, sibling: BrokerConnection): void {
    const close = () => void sibling.close(this.#clock);
    const forget = () => {
      connection.lost.removeEventListener('abort', close);
      this.#shared.delete(connection);
    };
    connection.lost.addEventListener('abort', close);
    sibling.lost.addEventListener('abort', forget);
    if (connection.lost.aborted) close();
    if (sibling.lost.aborted) forget();
  }
}

/** Whether another attempt would fail in the same way. */
function isFinal(error: unknown): boolean {
  return error instanceof UnpublishableError || error instanceof PublishRefused;
}
