import type { ChannelModel, SocketOptions } from 'amqplib';
import { batchFrames } from '../lib/batch-frames.js';
import type { Clock } from '../lib/clock.js';
import { reasonOf } from '../lib/errors.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import type { BrokerAddress } from './broker-address.js';
import { BrokerConnection, socketOf, tunedOf } from './broker-connection.js';
import type { ChannelLimit } from './channel-limit.js';
import { logIn } from './log-in.js';
import { MechanismNotOffered } from './patched-amqplib.js';
import { watchHeartbeats } from './watch-heartbeats.js';

/** Opens a connection: amqplib's `connect`, or that of the embedded broker. */
export type Connect = (
  url: string,
  options: SocketOptions & Record<string, unknown>,
) => Promise<ChannelModel>;

export interface ConnectOptions {
  connect: Connect;
  /** Certificates for amqps, PEM. */
  tls?: { ca?: Buffer; cert?: Buffer; key?: Buffer; passphrase?: string };
  /** The connection's name in the broker's list of connections. */
  name: string;
  clock: Clock;
  /** What earlier connections have learned. */
  channelLimit?: ChannelLimit;
}

/** Whether a broker answered an attempt to connect, and refused it: the login, its mechanism, or the virtual host. */
export function isLoginRefused(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof MechanismNotOffered) return true;
  // amqplib reports the second when the broker refuses to open the virtual host; its reason replaces that text.
  return [error, cause].some((each) =>
    /^Handshake terminated by server|ConnectionOpenOk/.test(reasonOf(each)),
  );
}

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects to a broker within 10 s. A connection that opens later is closed.
 * @param stop ends the attempt
 */
export async function openConnection(
  broker: BrokerAddress,
  options: ConnectOptions,
  stop?: AbortSignal,
): Promise<BrokerConnection> {
  const { connect, clock, tls, name } = options;
  const connecting = logIn(connect, broker.url, {
    ...tls,
    timeout: CONNECT_TIMEOUT_MS,
    noDelay: true,
    clientProperties: { connection_name: name },
  });
  const reason = () => new Error(`no connection within ${CONNECT_TIMEOUT_MS} ms`);
  try {
    const limit = { ms: CONNECT_TIMEOUT_MS, clock, reason, signal: stop };
    const connection = await runWithin(limit, async (signal) => untilAborted(connecting, signal));
    const socket = socketOf(connection);
    const sibling = async () => openConnection(broker, options);
    const opened = new BrokerConnection(connection, broker, sibling, options.channelLimit);
    if (socket !== undefined) {
      batchFrames(socket);
      watchHeartbeats(socket, tunedOf(connection).heartbeat, opened);
    }
    return opened;
  } catch (error) {
    connecting.then(closeUnused).catch(() => {});
    throw error;
  }
}

async function closeUnused(connection: ChannelModel): Promise<void> {
  // An error that nothing listens to would end the process.
  connection.on('error', () => {});
  await connection.close();
}
