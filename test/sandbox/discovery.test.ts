import test from 'ava';
import { ask, openSandbox } from '../support/open-sandbox.js';

test('a token leads to its members, below a key of the token', async (t) => {
  const members = [
    'node1=http://10.0.0.1:2380',
    'http://10.0.0.2:7001',
    'a=http://[::1]:2380,b=http://h:2380',
  ];
  const { sandbox } = await openSandbox(t, { members });
  const response = await fetch(`${sandbox.discoveryUrl}/sandbox`);
  t.is(response.status, 200);
  t.like(await response.json(), { action: 'get', node: { key: '/discovery/sandbox', dir: true } });
  t.deepEqual((await listed(sandbox.discoveryUrl)).toSorted(), members.toSorted());
});

test('a cluster is listed with the addresses of its fleet API', async (t) => {
  const { sandbox } = await openSandbox(t, { fleetHosts: ['127.0.0.1', '127.0.0.2'] });
  t.deepEqual((await listed(sandbox.discoveryUrl)).toSorted(), [
    'node1=http://127.0.0.1:2380',
    'node2=http://127.0.0.2:2380',
  ]);
});

test('members come in random order', async (t) => {
  const { sandbox } = await openSandbox(t, { members: ['a', 'b', 'c', 'd'] });
  const orders = new Set<string>();
  for (let i = 0; i < 40; i++) orders.add((await listed(sandbox.discoveryUrl)).join());
  t.true(orders.size > 1);
});

test('an unknown token is 404 with etcd error 100', async (t) => {
  const { sandbox } = await openSandbox(t);
  const { status, body } = await ask(`${sandbox.discoveryUrl}/unknown`);
  t.is(status, 404);
  t.like(body, { errorCode: 100, message: 'Key not found', cause: '/discovery/unknown' });
});

test('a token without members has no nodes', async (t) => {
  const { sandbox } = await openSandbox(t, { members: [] });
  const { status, body } = await ask(`${sandbox.discoveryUrl}/sandbox`);
  t.is(status, 200);
  t.false(JSON.stringify(body).includes('nodes'));
});

test('_config is hidden from the list but can be read directly', async (t) => {
  const { sandbox } = await openSandbox(t, { members: ['a', 'b'] });
  t.false((await (await fetch(`${sandbox.discoveryUrl}/sandbox`)).text()).includes('_config'));
  const { body } = await ask(`${sandbox.discoveryUrl}/sandbox/_config/size`);
  t.like(body, { node: { key: '/discovery/sandbox/_config/size', value: '2' } });
});

test('responses end with a newline, errors too', async (t) => {
  const { sandbox } = await openSandbox(t);
  for (const token of ['sandbox', 'unknown']) {
    const response = await fetch(`${sandbox.discoveryUrl}/${token}`);
    t.true((await response.text()).endsWith('}\n'));
  }
});

test('members can change while the sandbox runs, as when a machine is replaced', async (t) => {
  const { sandbox } = await openSandbox(t, { members: ['a'] });
  sandbox.cluster.members = ['b'];
  t.deepEqual(await listed(sandbox.discoveryUrl), ['b']);
});

test('discovery can fail, and logs its requests', async (t) => {
  const { sandbox } = await openSandbox(t);
  const end = sandbox.discovery.fail({ kind: '503' });
  t.is((await ask(`${sandbox.discoveryUrl}/sandbox`)).status, 503);
  await end();
  t.is((await ask(`${sandbox.discoveryUrl}/sandbox`)).status, 200);
  t.deepEqual(
    sandbox.discovery.requests.map(({ method, path }) => `${method} ${path}`),
    ['GET /sandbox', 'GET /sandbox'],
  );
});

async function listed(discoveryUrl: string): Promise<string[]> {
  const response = await fetch(`${discoveryUrl}/sandbox`);
  const { node } = (await response.json()) as { node: { nodes?: { value: string }[] } };
  return (node.nodes ?? []).map(({ value }) => value);
}
