import type { Options } from 'amqplib';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerConnection } from './broker-connection.js';
import { ConfirmChannel } from './confirm-channel.js';
import { DirectReplies, isDirectReply } from './direct-replies.js';
import { PendingReplies } from './pending-replies.js';
import type { Destination, PublishOutcome } from './publish-channel.js';
import { isAccessRefused, WritePermission } from './write-permission.js';

/** How a message is published until it is settled. */
export interface PublishWithin {
  signal: AbortSignal;
  /** The connection to use until that is lost, because the service may meanwhile be connected to another broker. */
  by?: BrokerConnection;
  /** Only for replies: when the caller stops waiting, by the clock's `now()`. */
  until?: number;
  /** Whether it has a channel of its own, so that the refusal of another message cannot make it arrive twice. */
  alone?: boolean;
}

/**
 * Publishes a message, again on a new connection after each loss, until a broker has confirmed or refused it. A message to
 * the default exchange waits while the broker refuses all of these for lack of permission.
 * Rejects with `UnpublishableError` when AMQP cannot encode the message, with `PublishRefused` when the broker does not
 * accept it, with `NotConfirmed` when the broker did not confirm it in time, or with the signal's reason.
 */
export type PublishConfirmed = (
  to: Destination,
  content: Buffer,
  options: Options.Publish,
  within: PublishWithin,
) => Promise<PublishOutcome>;

export interface PublisherOptions {
  /** Waits for a connection that is ready for use; rejects when the signal is aborted first. */
  whenConnected: (signal: AbortSignal) => Promise<BrokerConnection>;
  /** Called when `refusalOn` of a connection changes. */
  permissionChanged: () => void;
  /** Called when `slowReplies` changes. */
  slowRepliesChanged?: () => void;
  clock: Clock;
  log: Logger;
}

interface Outlet {
  channel: ConfirmChannel;
  permission: WritePermission;
  /** Why a reply is not confirmed, for people. */
  why: () => string;
}

/** Publishes on the service's connections. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #outlets = new WeakMap<BrokerConnection, Outlet>();
  readonly #directReplies: DirectReplies;
  readonly #replies: PendingReplies;
  readonly #outage: OutageLog;

  constructor(options: PublisherOptions) {
    this.#options = options;
    const { clock, log, slowRepliesChanged = () => {} } = options;
    this.#directReplies = new DirectReplies(clock, log);
    this.#replies = new PendingReplies({ clock, changed: slowRepliesChanged });
    this.#outage = new OutageLog(log, clock, {
      began: 'replies refused',
      ended: 'replies no longer refused',
    });
  }

  /** Prepares a new connection for publishing, and checks the permission for replies. */
  async open(connection: BrokerConnection): Promise<void> {
    const channel = await ConfirmChannel.open(connection);
    const { clock, permissionChanged: changed } = this.#options;
    const permission = new WritePermission(connection, channel, { clock, outage: this.#outage, changed });
    const why = () => this.directProblemOn(connection) ?? 'the broker did not confirm it in time';
    this.#outlets.set(connection, { channel, permission, why });
    await permission.check();
  }

  /** How many replies have waited for a second or longer to be confirmed. */
  get slowReplies(): number {
    return this.#replies.slow;
  }

  /** Why direct replies cannot be sent for this connection; undefined when they can. */
  directProblemOn(connection: BrokerConnection): string | undefined {
    return this.#directReplies.problemOn(connection);
  }

  /** Why the broker refuses replies on this connection; undefined when it accepts them. */
  refusalOn(connection: BrokerConnection): string | undefined {
    return this.#outlets.get(connection)?.permission.refusal;
  }

  readonly publish: PublishConfirmed = (to, content, options, within) => {
    const { by } = within;
    const outlet = by?.lost.aborted === false ? this.#outlets.get(by) : undefined;
    if (by === undefined || outlet === undefined || (isReply(to) && outlet.permission.refusal !== undefined))
      return this.#publishUntilSent(to, content, options, within);
    // The usual case, without the cost of an async function.
    return this.#attempt(by, outlet, to, content, options, within).catch((error: unknown) => {
      this.#failed(error, by, outlet, to, within);
      return this.#publishUntilSent(to, content, options, within);
    });
  };

  async #publishUntilSent(
    ...[to, content, options, within]: Parameters<PublishConfirmed>
  ): Promise<PublishOutcome> {
    const { signal, by } = within;
    for (;;) {
      const connection = by?.lost.aborted === false ? by : await this.#options.whenConnected(signal);
      const outlet = this.#outlets.get(connection);
      if (outlet === undefined) throw new Error('the connection is not prepared for publishing');
      const { permission } = outlet;
      if (isReply(to) && permission.refusal !== undefined) await untilAborted(permission.granted, signal);
      try {
        return await this.#attempt(connection, outlet, to, content, options, within);
      } catch (error) {
        this.#failed(error, connection, outlet, to, within);
      }
    }
  }

  #attempt(
    connection: BrokerConnection,
    { channel, why }: Outlet,
    ...[to, content, options, { signal, until, alone }]: Parameters<PublishConfirmed>
  ): Promise<PublishOutcome> {
    const isDirect = isDirectReply(to);
    const send = (stop: { readonly signal: AbortSignal }) =>
      isDirect
        ? this.#directReplies.publish(connection, to, content, options, stop.signal)
        : channel.publish(to, content, options, { sharing: alone ? 'alone' : 'again', stop });
    if (until === undefined) return send({ signal });
    return this.#replies.within({ connection, until, signal, why }, (stop) =>
      isDirect ? send(stop) : this.#replies.inTurn(to.routingKey, stop, () => send(stop)),
    );
  }

  /** @throws the error, or the reason of the signal, unless the message is to be published again */
  #failed(
    error: unknown,
    connection: BrokerConnection,
    { permission }: Outlet,
    to: Destination,
    { signal }: PublishWithin,
  ): void {
    signal.throwIfAborted();
    if (connection.lost.aborted) return;
    if (!isReply(to) || !isAccessRefused(error)) throw error;
    permission.missing(error);
  }
}

function isReply({ exchange }: Destination): boolean {
  return exchange === '';
}
