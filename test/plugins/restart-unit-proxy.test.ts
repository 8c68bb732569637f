import { request as send, type RequestListener } from 'node:http';
import test from 'ava';
import { serve } from '../network/http-server.js';
import { inWords, outcomeOf, RESTARTED } from './restart-outcome.js';
import { world } from './restart-world.js';

interface ProxyAnswer {
  status: number;
  /** Whether fleet gets the change before the proxy answers. */
  forwards: boolean;
  /** How many changes are answered so; by default all. */
  times?: number;
}

/** Forwards everything to fleet, and answers changes in its own way. */
function proxyOf(fleet: URL, { status, forwards, times = Infinity }: ProxyAnswer): RequestListener {
  let left = times;
  return (request, response) => {
    const isOwn = request.method === 'PUT' && left-- > 0;
    const answer = () => {
      response.writeHead(status, { 'content-type': 'text/html' }).end('<html>proxy');
    };
    if (isOwn && !forwards) {
      answer();
      return;
    }
    const { method, url = '', headers } = request;
    const forwarded = send(new URL(url, fleet), { method, headers }, (reply) => {
      if (isOwn) {
        answer();
        return;
      }
      response.writeHead(reply.statusCode ?? 502, reply.headers);
      reply.pipe(response);
    });
    request.pipe(forwarded);
  };
}

/** A restart through a proxy. */
async function restartThrough(t: Parameters<typeof world>[0], answer: ProxyAnswer) {
  const { sandbox, run, clock, warnings } = await world(t, {}, undefined, async (fleet) => {
    const proxy = await serve(t, proxyOf(fleet, answer));
    return proxy.url;
  });
  const outcome = await outcomeOf(run(), sandbox.cluster, clock);
  await clock.sleep(10_000);
  const facts = `${answer.status}: ${outcome.code}, ${outcome.text}; in truth: ${inWords(outcome.happened)}`;
  return { outcome, facts, cluster: sandbox.cluster, warnings };
}

test('a change that a proxy refuses, and of which fleet shows no trace, has not been made, and that is the error', async (t) => {
  for (const status of [401, 403, 429]) {
    const { outcome, facts } = await restartThrough(t, { status, forwards: false });
    t.is(outcome.code, 'cluster_answer_invalid', facts);
    t.is(inWords(outcome.happened), '', facts);
    t.is(outcome.desiredState, 'launched', facts);
  }
});

test('an order to stop that a proxy answers unclearly, and that fleet does not get, leads to no false claim', async (t) => {
  for (const status of [200, 202, 302, 502]) {
    const { outcome, facts } = await restartThrough(t, { status, forwards: false, times: 1 });
    t.is(outcome.code === 'done', inWords(outcome.happened) === RESTARTED, facts);
    t.is(outcome.desiredState, 'launched', facts);
  }
});

test('a change that fleet makes and a proxy answers unclearly does not leave the unit stopped', async (t) => {
  for (const status of [200, 302, 408, 503, 504]) {
    for (const times of [1, 2, Infinity]) {
      const { outcome, facts } = await restartThrough(t, { status, forwards: true, times });
      t.is(outcome.code, 'done', facts);
      t.is(inWords(outcome.happened), RESTARTED, facts);
      t.is(outcome.desiredState, 'launched', facts);
    }
  }
});

test('when a proxy answers for fleet that there is no such unit, it is launched again all the same', async (t) => {
  const { sandbox, run, clock } = await world(t, {}, undefined, async (fleet) => {
    let orders = 0;
    const through = proxyOf(fleet, { status: 404, forwards: false, times: 0 });
    const proxy = await serve(t, (request, response) => {
      // The first attempt to launch.
      if (request.method === 'PUT' && ++orders === 2) response.writeHead(404).end();
      else through(request, response);
    });
    return proxy.url;
  });
  const outcome = await outcomeOf(run(), sandbox.cluster, clock);
  t.is(outcome.code, 'done', outcome.text);
  t.is(inWords(outcome.happened), RESTARTED);
});
