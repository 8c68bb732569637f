/** The very small request whose cost the benchmark measures, encoded before, so that the caller needs little time. */
import { atom, atomKeys } from '../src/rpc/codec/erlang-atom.js';
import { ErlangCodec } from '../src/rpc/codec/erlang.js';
import type { Caller } from './support.js';

/** The setting `PLUGIN_PATHS` of a service that answers it. */
export const PING_PLUGINS = new URL('plugins', import.meta.url).pathname;

/** Requests for one cluster each. */
export interface EncodedPings {
  contentType: string;
  bodies: readonly Buffer[];
}

/** So many that V8 has optimised the server, also where a slow machine serves few a second. */
const WARM_UP_REQUESTS = 20_000;
const NUMBER = 42;
const CLUSTERS = Array.from({ length: 16 }, (_, n) => `c${n}`);

/** @param actions the actions that the requests name, in turn */
export function jsonPings(actions: readonly string[] = ['ping']): EncodedPings {
  const bodies = actions.flatMap((action) =>
    CLUSTERS.map((cluster) =>
      JSON.stringify({
        status: 'not_started',
        request_body: { etcd_token: cluster, action, action_parameters: { number: NUMBER } },
      }),
    ),
  );
  return { contentType: 'application/json', bodies: bodies.map((body) => Buffer.from(body)) };
}

/** With the atoms that callers in Elixir send. */
export function erlangPings(): EncodedPings {
  const codec = new ErlangCodec();
  const bodies = CLUSTERS.map((cluster) =>
    codec.encode(
      atomKeys({
        status: atom('not_started'),
        request_body: atomKeys({
          etcd_token: cluster,
          action: atom('ping'),
          action_parameters: atomKeys({ number: NUMBER }),
        }),
      }),
    ),
  );
  return { contentType: codec.contentType, bodies };
}

/** @returns what sends one persistent request; it throws for a reply that is not a result */
export function pingCall(caller: Caller, queue: string, { contentType, bodies }: EncodedPings) {
  let sent = 0;
  return async (): Promise<void> => {
    const body = bodies[sent++ % bodies.length] ?? Buffer.alloc(0);
    const reply = await caller.send(queue, body, { contentType, persistent: true });
    if (!reply.includes('completed')) throw new Error(`${queue} replied ${reply.toString('latin1')}`);
  };
}

export async function warmUp(call: () => Promise<void>, inFlight: number): Promise<void> {
  const loop = async () => {
    for (let left = WARM_UP_REQUESTS / inFlight; left > 0; left--) await call();
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
}
