import { connect, isIP, type Socket } from 'node:net';
import type { Clock } from '../lib/clock.js';
import { hostUnreachable, type UnreachableReason } from './ssh-errors.js';

/**
 * Connects to the first of these addresses that answers. They are addresses, not names, so what policy has allowed is not
 * resolved again.
 *
 * Throws `host_unreachable` of the last address tried; the signal's reason when that is aborted.
 * @param options.timeoutMs for each address
 */
export async function connectTcp(
  addresses: readonly string[],
  port: number,
  options: { host: string; timeoutMs: number; clock: Clock; signal: AbortSignal },
): Promise<Socket> {
  let failure: unknown = hostUnreachable(options.host, 'dns');
  for (const address of addresses) {
    options.signal.throwIfAborted();
    try {
      return await connectTo(address, port, options);
    } catch (error) {
      if (options.signal.aborted) throw error;
      failure = error;
    }
  }
  throw failure;
}

function connectTo(
  address: string,
  port: number,
  { host, timeoutMs, clock, signal }: { host: string; timeoutMs: number; clock: Clock; signal: AbortSignal },
): Promise<Socket> {
  if (isIP(address) === 0) throw new TypeError(`'${address}' is not an IP address`);
  return new Promise((resolve, reject) => {
    // Without noDelay each command takes 40 ms longer: Nagle's algorithm waits for delayed acknowledgements.
    const socket = connect({ host: address, port, noDelay: true });
    const settle = (act: () => void) => {
      cancelTimeout();
      signal.removeEventListener('abort', abort);
      act();
    };
    const fail = (error: unknown) =>
      settle(() => {
        socket.destroy();
        reject(error);
      });
    const abort = () => fail(signal.reason);
    const cancelTimeout = clock.after(timeoutMs, () => fail(hostUnreachable(host, 'connect_timeout')));
    signal.addEventListener('abort', abort, { once: true });
    // Kept for the socket's whole life: a late error must not become an uncaught exception.
    socket.on('error', (error) => fail(hostUnreachable(host, reasonOf(error), error)));
    socket.once('connect', () => settle(() => resolve(socket)));
  });
}

function reasonOf(error: NodeJS.ErrnoException): UnreachableReason {
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
