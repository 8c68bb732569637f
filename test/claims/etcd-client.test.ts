import test from 'ava';
import { EtcdClient } from '../../src/claims/etcd-client.js';
import { type HttpClient, HttpResponse } from '../../src/network/http-client.js';
import { untilAborted } from '../../src/lib/until-aborted.js';
import { never } from './open-store.js';

const login = { user: 'worker', password: 'secret' };
const outage = { failed: () => {}, succeeded: () => {} };

/** An etcd whose login responds when the test says so. */
function slowLogin() {
  const logins: (() => void)[] = [];
  const respond = (body: object) =>
    new HttpResponse({ status: 200, headers: new Headers(), text: JSON.stringify(body) });
  const call: HttpClient['call'] = async (_method, url, { signal }) => {
    if (!url.pathname.endsWith('/authenticate')) return respond({ header: { revision: '1' } });
    const asked = new Promise<void>((resolve) => logins.push(resolve));
    await untilAborted(asked, signal);
    return respond({ token: 'token' });
  };
  return { etcd: new EtcdClient({ http: { call }, urls: ['http://etcd'], login, outage }), logins };
}

test('a request that is given up while it logs in takes no other with it', async (t) => {
  const { etcd, logins } = slowLogin();
  const caller = new AbortController();
  const givenUp = etcd.read(['a'], caller.signal);
  const other = etcd.read(['a'], never);
  caller.abort(new Error('the deadline'));
  await t.throwsAsync(givenUp, { message: 'the deadline' });
  for (const finish of logins) finish();
  t.deepEqual(await other, [undefined]);
  t.is(logins.length, 1);
});
