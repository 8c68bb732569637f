import { randomUUID, X509Certificate } from 'node:crypto';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { userOf } from './broker-address.js';
import type { BrokerConnection } from './broker-connection.js';
import { refusalOf } from './broker-refusal.js';

/** Learns the user of each connection, and logs while it is not known. */
export class OwnUser {
  readonly #cert: Buffer | undefined;
  readonly #outage: OutageLog;

  /** @param options.cert the client certificate, PEM */
  constructor({ cert, clock, log }: { cert: Buffer | undefined; clock: Clock; log: Logger }) {
    this.#cert = cert;
    this.#outage = new OutageLog(log, clock, { began: 'broker user unknown', ended: 'broker user known' });
  }

  /** Sets the `user` of a connection, where it can be found out; rejects when the connection is lost meanwhile. */
  async learn(connection: BrokerConnection): Promise<void> {
    connection.user = await ownUserOf(connection, this.#cert);
    if (connection.user === undefined) this.#outage.failed({ broker: connection.broker, reason: UNKNOWN });
    else this.#outage.succeeded();
  }
}

const UNKNOWN =
  'the broker accepts no message in the name of the user in its URL, or in the client certificate: callers cannot be told';

/**
 * The user whom the broker has logged in on a connection: the one of its URL, or the one whom the client certificate names.
 * The broker does not tell it, but it refuses a message that names another user (RabbitMQ, "Validated User-ID").
 * @param cert the client certificate, PEM
 * @returns undefined when it is neither of them, or lacks the permission to publish
 */
export async function ownUserOf(connection: BrokerConnection, cert?: Buffer): Promise<string | undefined> {
  for (const name of [userOf(connection.address.url), cert && commonNameOf(cert)])
    if (name !== undefined && (await isOwn(name, connection))) return name;
  return undefined;
}

function commonNameOf(cert: Buffer): string | undefined {
  return /^CN=(.+)$/m.exec(new X509Certificate(cert).subject)?.[1];
}

async function isOwn(userId: string, connection: BrokerConnection): Promise<boolean> {
  try {
    await connection.probe(async (channel) => {
      channel.publish('', `fleet_manager.probe.${randomUUID()}`, Buffer.alloc(0), { userId });
      // The broker handles what comes on a channel in order.
      await channel.prefetch(1);
    });
    return true;
  } catch (error) {
    if (refusalOf(error) === undefined) throw error;
    return false;
  }
}
