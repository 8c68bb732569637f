import { connect, isIP, type Socket } from 'node:net';
import { batchFrames } from '../lib/batch-frames.js';
import type { Clock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { hostUnreachable, type UnreachableReason } from './ssh-errors.js';

/**
 * Connects to the first of these addresses that responds.
 *
 * Throws `host_unreachable` for the last address; the signal's reason when the signal is aborted.
 * @param addresses IP addresses that the policy allows; names are refused, because they would be looked up again
 * @param options.timeoutMs the time limit for each address, in milliseconds
 */
export async function connectTcp(
  addresses: readonly string[],
  port: number,
  {
    host,
    timeoutMs: ms,
    clock,
    signal,
  }: { host: string; timeoutMs: number; clock: Clock; signal: AbortSignal },
): Promise<Socket> {
  const reason = () => hostUnreachable(host, 'connect_timeout');
  let failure: unknown;
  for (const address of addresses) {
    signal.throwIfAborted();
    try {
      return await runWithin({ ms, clock, reason, signal }, (limited) =>
        connectTo(address, port, host, limited),
      );
    } catch (error) {
      failure = error;
    }
  }
  throw failure ?? hostUnreachable(host, 'dns');
}

function connectTo(address: string, port: number, host: string, signal: AbortSignal): Promise<Socket> {
  if (isIP(address) === 0) throw new TypeError(`'${address}' is not an IP address`);
  return new Promise((resolve, reject) => {
    // Without noDelay each command takes 40 ms longer, because of Nagle's algorithm and delayed acknowledgements.
    const socket = connect({ host: address, port, noDelay: true, signal });
    // This listener is never removed: a late error must not become an uncaught exception.
    socket.on('error', (error) =>
      reject(signal.aborted ? signal.reason : hostUnreachable(host, unreachableReasonOf(error), error)),
    );
    socket.once('connect', () => {
      batchFrames(socket);
      resolve(socket);
    });
  });
}

function unreachableReasonOf(error: NodeJS.ErrnoException): UnreachableReason {
  switch (error.code) {
    case 'ECONNREFUSED':
      return 'refused';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return 'no_route';
    case 'ETIMEDOUT':
      return 'connect_timeout';
    default:
      return 'connect_failed';
  }
}
