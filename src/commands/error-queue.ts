import { createHash } from 'node:crypto';
import type { Channel, GetMessage, MessageProperties, Options } from 'amqplib';
import { systemClock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { stringifyExactly } from '../lib/exact-json.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerAddress } from '../rpc/broker-address.js';
import { withoutCredentials } from '../rpc/broker-address.js';
import type { BrokerConnection } from '../rpc/broker-connection.js';
import { brokerReason } from '../rpc/broker-refusal.js';
import { ConfirmChannel } from '../rpc/confirm-channel.js';
import { openConnection } from '../rpc/open-connection.js';
import { ownUserOf } from '../rpc/own-user.js';
import { connect } from '../rpc/patched-amqplib.js';
import type { PublishOutcome } from '../rpc/publish-channel.js';
import { errorQueueOf, isNotFound } from '../rpc/queues.js';
import { missingWritePermission } from '../rpc/write-permission.js';
import type { Configuration } from '../settings/settings.js';
import { blockedReason } from './broker-permissions.js';
import { configuredBrokers } from './configured-brokers.js';
import { UsageError } from './usage-error.js';

/** A message of the error queue, held until it is acknowledged or the connection ends. */
export interface ErrorMessage {
  /** The same whenever it is looked at. Equal messages are told apart by a number: `0123456789ab-2`. */
  id: string;
  content: Buffer;
  properties: MessageProperties;
  /** Takes it off the queue; certain after `flush`. */
  acknowledge: () => void;
}

/** What was found in the error queue, the oldest message first. */
export interface Found<T> {
  messages: T[];
  /** How many messages were not looked at. */
  left: number;
  /** How many messages were there at first, and were gone when it was their turn: somebody else has them. */
  gone: number;
}

export interface ErrorQueueOptions {
  /** The address of the broker to use, as the commands show it; undefined: the first one that can be reached. */
  broker?: string;
  /** The maximum number of messages to look at. */
  limit: number;
  /** False: its operator says that the queue has no delivery limit. */
  deliveryLimit: boolean;
}

type Settings = Pick<
  Configuration,
  'amqp' | 'openaperture' | 'rpc' | 'clusters' | 'ssh' | 'claims' | 'hostname'
>;

/** The time limit of each step at a broker, in milliseconds. */
const STEP_MS = 10_000;
/** The most that is read of the queue, in bytes; the last message may exceed it. */
const MAX_BYTES = 128 * 1024 * 1024;
const ID_LENGTH = 12;
/**
 * A quorum queue counts how often each message came back. RabbitMQ 4 removes one that came back more than 20 times, unless the queue
 * has another limit, or none. AMQP tells of no limit.
 */
const SAFE_RETURNS = 15;

/**
 * The error queue on one broker. AMQP has no way to look at a message without taking it: so each one is taken and held. Those that are
 * not acknowledged come back to their places when the connection ends, however it ends.
 */
export class ErrorQueue {
  readonly #connection: BrokerConnection;
  readonly #channel: Channel;
  readonly #settings: Settings;
  readonly #options: ErrorQueueOptions;
  readonly name: string;
  #publisher: ConfirmChannel | undefined;
  /** The user of this connection; known when `openPublisher` has resolved. */
  user: string | undefined;
  /** How often a message came back to the queue, at most; 0: it does not count this. */
  returns = 0;

  /** @throws Error that says why no broker can be used */
  static async open(settings: Settings, options: ErrorQueueOptions): Promise<ErrorQueue> {
    const problems: string[] = [];
    for (const address of await chosenBrokers(settings, options.broker)) {
      try {
        const tls = settings.amqp?.tls;
        const given = { connect, tls, name: 'fleet-manager errors', clock: systemClock };
        return await ErrorQueue.#on(await openConnection(address, given), settings, options);
      } catch (error) {
        problems.push(`${withoutCredentials(address.url)}: ${brokerReason(error)}`);
      }
    }
    throw new Error(`no broker can be used: ${problems.join('; ')}`, { cause: problems });
  }

  static async #on(
    connection: BrokerConnection,
    settings: Settings,
    options: ErrorQueueOptions,
  ): Promise<ErrorQueue> {
    try {
      return new ErrorQueue(connection, await connection.channel(), settings, options);
    } catch (error) {
      await connection.close(systemClock);
      throw error;
    }
  }

  private constructor(
    connection: BrokerConnection,
    channel: Channel,
    settings: Settings,
    options: ErrorQueueOptions,
  ) {
    this.#connection = connection;
    this.#channel = channel;
    this.#settings = settings;
    this.#options = options;
    this.name = errorQueueOf(settings.rpc.queue);
  }

  /** The broker's address without credentials. */
  get broker(): string {
    return this.#connection.broker;
  }

  /**
   * Takes the messages in the queue, the oldest first, within the limits in number and in bytes.
   * @param keep gets each message; what it returns is kept
   */
  async look<T>(keep: (message: ErrorMessage) => T): Promise<Found<T>> {
    const there = await this.#count();
    const found: Found<T> = { messages: [], left: there, gone: 0 };
    const copies = new Map<string, number>();
    let bytes = 0;
    while (found.messages.length < Math.min(there, this.#options.limit) && bytes < MAX_BYTES) {
      const message = await this.#step('read a message', async () => this.#channel.get(this.name));
      if (message === false) {
        found.gone = there - found.messages.length;
        found.left = 0;
        break;
      }
      this.#checkReturns(message);
      bytes += message.content.length;
      found.left = message.fields.messageCount;
      found.messages.push(keep(this.#messageOf(message, copies)));
    }
    return found;
  }

  /** Prepares to publish. @throws Error when this user may not, or the broker accepts no messages */
  async openPublisher(): Promise<void> {
    const blocked = await this.#step('publish', async () => blockedReason(this.#connection));
    const publisher = await this.#step('open channels', async () => ConfirmChannel.open(this.#connection));
    const reason = blocked ?? (await this.#step('publish', async () => missingWritePermission(publisher)));
    if (reason !== undefined)
      throw new Error(`${this.broker} accepts no message from this user: ${reason}`, { cause: reason });
    this.#publisher = publisher;
    const { tls } = this.#settings.amqp ?? {};
    this.user = await this.#step('publish', async () => ownUserOf(this.#connection, tls?.cert));
  }

  /** Publishes a message to the queue of requests. Resolves when the broker has confirmed or refused it. */
  async publishRequest(content: Buffer, properties: Options.Publish): Promise<PublishOutcome> {
    const publisher = this.#publisher;
    if (publisher === undefined) throw new Error('openPublisher was not called');
    const to = { exchange: '', routingKey: this.#settings.rpc.queue };
    // Alone: its outcome must be certain.
    return this.#step('confirm a message', async () =>
      publisher.publish(to, content, properties, { sharing: 'alone' }),
    );
  }

  /** Resolves when the broker has handled the acknowledgements. */
  async flush(): Promise<void> {
    // Any operation with a response shows it: the broker handles what comes on a channel in order.
    await this.#step('acknowledge messages', async () => this.#channel.prefetch(1));
  }

  async close(): Promise<void> {
    await this.#connection.close(systemClock);
  }

  async #count(): Promise<number> {
    const probe = async () => this.#connection.probe(async (channel) => channel.checkQueue(this.name));
    try {
      return (await this.#step(`look for the queue ${this.name}`, probe)).messageCount;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      const text = `the queue ${this.name} does not exist on ${this.broker}: check QUEUE_NAME; the service creates it when it starts`;
      throw new Error(text, { cause: error });
    }
  }

  #checkReturns({ properties }: GetMessage): void {
    const count: unknown = properties.headers?.['x-delivery-count'];
    if (typeof count !== 'number') return;
    this.returns = Math.max(this.returns, count);
    if (count < SAFE_RETURNS || !this.#options.deliveryLimit) return;
    throw new UsageError(
      `nothing more is read: ${this.name} is a quorum queue in which a message came back ${count} times, and a delivery limit (20 by default since RabbitMQ 4.0) would remove it; ` +
        'see that the queue has none, such as by a policy with "delivery-limit": -1, and say so with --no-delivery-limit',
    );
  }

  #messageOf(message: GetMessage, copies: Map<string, number>): ErrorMessage {
    const { content, properties } = message;
    const hash = idOf(content, properties);
    const number = (copies.get(hash) ?? 0) + 1;
    copies.set(hash, number);
    return {
      id: number === 1 ? hash : `${hash}-${number}`,
      content,
      properties,
      acknowledge: () => this.#channel.ack(message),
    };
  }

  /** Runs a step at the broker within its time limit; a hanging queue must not hang the command. */
  async #step<T>(what: string, work: () => Promise<T>): Promise<T> {
    const reason = () =>
      new Error(`${this.broker} has not answered within ${STEP_MS / 1_000} s: ${what}`, { cause: what });
    const signal = this.#connection.lost;
    try {
      return await runWithin({ ms: STEP_MS, clock: systemClock, reason, signal }, async (limit) =>
        untilAborted(work(), limit),
      );
    } catch (error) {
      // What the loss of the connection makes of an operation has not its reason.
      if (!signal.aborted) throw error;
      throw new Error(`${this.broker}: ${reasonOf(signal.reason)}`, { cause: error });
    }
  }
}

/** Of the message, without what RabbitMQ counts. */
function idOf(content: Buffer, properties: MessageProperties): string {
  const { headers = {}, ...others } = properties;
  const { 'x-delivery-count': _, 'x-acquired-count': __, ...lasting } = headers;
  const hash = createHash('sha256')
    .update(stringifyExactly([others, lasting]))
    .update(content);
  return hash.digest('hex').slice(0, ID_LENGTH);
}

async function chosenBrokers(
  settings: Settings,
  broker: string | undefined,
): Promise<readonly BrokerAddress[]> {
  const all = await configuredBrokers(
    settings,
    'no broker is configured: set AMQP_URL or MANAGER_URL; the error queue of a sandbox ends with its process',
  );
  if (broker === undefined) return all;
  const chosen = all.filter(({ url }) => [withoutCredentials(url), new URL(url).host].includes(broker));
  if (chosen.length > 0) return chosen;
  const names = all.map(({ url }) => withoutCredentials(url)).join(', ');
  throw new UsageError(`unknown broker '${broker}'; the brokers are ${names}`);
}
