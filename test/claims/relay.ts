import type { ServerResponse } from 'node:http';
import type { ExecutionContext } from 'ava';
import { serve } from '../network/http-server.js';
import type { OwnEtcd } from '../support/own-etcd.js';

/** Passes requests on to an etcd until the test ends. */
export interface Relay {
  url: string;
  /** From now on etcd writes claims, and its responses to that get lost. */
  loseResponses(): void;
  passResponses(): void;
  /** From now on requests for locks of units do not arrive; `pass` lets them, and waits until etcd has done them. */
  holdLocks(): { count: () => number; pass: () => Promise<void> };
}

/** The beginning of each key of a claim, as etcd gets it: whole groups of base64. */
const CLAIM = Buffer.from('/fleet-manager/claims').toString('base64');
/** The same for locks. */
const LOCK = Buffer.from('/fleet-manager/units/').toString('base64');

export async function relayTo(t: ExecutionContext, etcd: OwnEtcd): Promise<Relay> {
  let loses = false;
  let held: (() => Promise<unknown>)[] | undefined;
  const pass = async (path: string, body: string, response: ServerResponse) => {
    if (held !== undefined && body.includes('request_put') && body.includes(LOCK)) {
      held.push(async () => etcd.post(path, JSON.parse(body) as object));
      return;
    }
    const given = await etcd.post(path, JSON.parse(body) as object);
    const writesClaim = body.includes('request_put') && body.includes(CLAIM);
    if (!loses || !writesClaim || given.succeeded !== true) response.end(JSON.stringify(given));
  };
  const { url } = await serve(t, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const path = (request.url ?? '').replace('/v3/', '');
      void pass(path, Buffer.concat(chunks).toString(), response);
    });
  });
  return {
    url: url.href,
    loseResponses: () => (loses = true),
    passResponses: () => (loses = false),
    holdLocks: () => {
      const locks: (() => Promise<unknown>)[] = [];
      held = locks;
      return {
        count: () => locks.length,
        pass: async () => void (await Promise.all(locks.map(async (each) => each()))),
      };
    },
  };
}
