import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

/** A link to a server that can fail as networks do. */
export interface Proxy {
  port: number;
  /** From now on drops all data from the server, without closing the connection. */
  swallow(): void;
  /** From now on reads nothing from either side of the connections that are open, as a server that is frozen. */
  freeze(): void;
  /** Goes on with what is frozen. */
  thaw(): void;
  /** Cuts every connection; new ones get through. */
  cut(): void;
  /** Cuts every connection, and lets none through until `accept`. */
  refuse(): void;
  accept(): void;
}

/**
 * Starts a proxy that is stopped when the test ends.
 * @param address where it listens; on loopback by default
 */
export async function startProxy(
  t: Pick<ExecutionContext, 'teardown'>,
  target: { port: number },
  address = '127.0.0.1',
): Promise<Proxy> {
  const pairs = new Set<[Socket, Socket]>();
  const frozen = new Set<[Socket, Socket]>();
  let refusing = false;
  const server = createServer((near) => {
    if (refusing) {
      near.destroy();
      return;
    }
    const far = connect({ host: '127.0.0.1', port: target.port });
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    near.pipe(far);
    far.pipe(near);
    for (const [one, other] of [pair, pair.toReversed() as [Socket, Socket]]) {
      one.on('error', () => {});
      one.on('close', () => {
        pairs.delete(pair);
        frozen.delete(pair);
        other.destroy();
      });
    }
  });
  const cut = () => {
    for (const [near] of pairs) near.destroy();
  };
  t.teardown(() => {
    cut();
    server.close();
  });
  server.listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const swallow = () => {
    for (const [near, far] of pairs) far.unpipe(near).resume();
  };
  const freeze = () => {
    for (const pair of pairs) {
      const [near, far] = pair;
      near.unpipe(far).pause();
      far.unpipe(near).pause();
      frozen.add(pair);
    }
  };
  const thaw = () => {
    for (const [near, far] of frozen) {
      near.pipe(far);
      far.pipe(near);
    }
    frozen.clear();
  };
  const refuse = () => {
    refusing = true;
    cut();
  };
  const accept = () => {
    refusing = false;
  };
  return { port, swallow, freeze, thaw, cut, refuse, accept };
}
