import type { ChannelModel, SocketOptions } from 'amqplib';
import { reasonOf } from '../lib/errors.js';
import { brokerLogins, withHeartbeat } from './broker-address.js';
import type { Connect } from './open-connection.js';
import { MechanismNotOffered } from './patched-amqplib.js';

/**
 * Connects with the first login whose mechanism the broker offers. An amqplib connection negotiates no mechanism, so each
 * one is tried with a connection of its own.
 * @param options without credentials; with a client certificate as `cert`
 */
export async function logIn(
  connect: Connect,
  url: string,
  options: SocketOptions & Record<string, unknown>,
): Promise<ChannelModel> {
  const [first, ...others] = brokerLogins(url, options.cert !== undefined);
  let refused: unknown;
  for (const credentials of [first, ...others]) {
    try {
      return await connect(withHeartbeat(url), { ...options, credentials });
    } catch (error) {
      if (!(error instanceof MechanismNotOffered)) throw error;
      refused = error;
    }
  }
  const usable = [first, ...others].map(({ mechanism }) => mechanism).join(', ');
  throw new Error(`no login mechanism is shared: ${reasonOf(refused)}, and this side can use ${usable}`, {
    cause: refused,
  });
}
