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

test('a token that is no longer valid is replaced, whatever kind of token it is', async (t) => {
  const refusals = {
    'a simple token': [401, { code: 16, message: 'etcdserver: invalid auth token' }],
    'a JWT after a change of users': [400, { code: 3, message: 'etcdserver: revision of auth store is old' }],
  } as const;
  for (const [what, [status, refusal]] of Object.entries(refusals)) {
    let tokens = 0;
    const call: HttpClient['call'] = async (_method, url, { authorization }) => {
      const respond = (code: number, body: object) =>
        new HttpResponse({ status: code, headers: new Headers(), text: JSON.stringify(body) });
      if (url.pathname.endsWith('/authenticate')) return respond(200, { token: `token ${++tokens}` });
      return authorization === 'token 1'
        ? respond(status, refusal)
        : respond(200, { header: { revision: '1' } });
    };
    const etcd = new EtcdClient({ http: { call }, urls: ['http://etcd'], login, outage });
    t.deepEqual(await etcd.read(['a'], never), [undefined], what);
    t.is(tokens, 2, what);
  }
});
