import test from 'ava';
import { respondWith, serve } from '../../network/http-server.js';
import { notAborted, openNamedFleet } from './open-fleet.js';

test('a response beyond a limit is not usable, and the error says which limit', async (t) => {
  for (const [body, reason] of [
    [`{"units": [0${',0'.repeat(700_000)}]}`, 'it has more than 700000 values and keys'],
    [`{"units": ${'['.repeat(100)}${']'.repeat(100)}}`, 'nested more than 100 levels deep'],
    ['{"units": [', 'not valid JSON'],
  ] as const) {
    const { url } = await serve(t, respondWith(200, body, { 'content-type': 'application/json' }));
    const { fleet, cluster } = openNamedFleet(t, [url]);
    for (const read of [
      async () => fleet.units(cluster, notAborted()),
      async () => fleet.unit(cluster, 'a.service', notAborted()),
    ]) {
      const error = await t.throwsAsync(read(), { code: 'cluster_answer_invalid' });
      const said = `${url.host}: HTTP 200 application/json: its body cannot be read: ${reason}`;
      t.true(error?.message.includes(said), error?.message);
    }
  }
});
