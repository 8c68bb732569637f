import test from 'ava';
import { eventually } from '../support/eventually.js';
import { ask, openSandbox, service } from '../support/open-sandbox.js';

const TWO_HOSTS = ['127.0.0.1', '127.0.0.2'];

test('refuse: connections are refused until the fault ends, then accepted again', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  t.is((await fleet('/machines')).status, 200);
  const end = sandbox.cluster.fail({ kind: 'refuse' });
  const error = await t.throwsAsync(fleet('/machines'));
  t.like(error?.cause, { code: 'ECONNREFUSED' });
  await end();
  t.is((await fleet('/machines')).status, 200);
});

test('refuse on one host leaves the others', async (t) => {
  const { sandbox } = await openSandbox(t, { fleetHosts: TWO_HOSTS });
  const machines = (host: string) => ask(`http://${host}:${sandbox.fleetPort}/fleet/v1/machines`);
  sandbox.cluster.fail({ kind: 'refuse', host: '127.0.0.2' });
  await t.throwsAsync(machines('127.0.0.2'));
  t.is((await machines('127.0.0.1')).status, 200);
  t.throws(() => sandbox.cluster.fail({ kind: 'refuse', host: '127.0.0.9' }), { instanceOf: TypeError });
});

test('of two concurrent refusals the last to end opens the socket, each counted once', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  const endOne = sandbox.cluster.fail({ kind: 'refuse' });
  const endOther = sandbox.cluster.fail({ kind: 'refuse' });
  await endOne();
  await endOne();
  await t.throwsAsync(fleet('/machines'));
  await endOther();
  t.is((await fleet('/machines')).status, 200);
});

test('a refusal that begins while the last one ends stays in effect', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  const ending = sandbox.cluster.fail({ kind: 'refuse' })();
  const end = sandbox.cluster.fail({ kind: 'refuse' });
  await ending;
  await t.throwsAsync(fleet('/machines'));
  await end();
  t.is((await fleet('/machines')).status, 200);
});

test('hang: the request is accepted and gets no response', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  sandbox.cluster.fail({ kind: 'hang', times: 1 });
  let answered = false;
  const hung = fleet('/machines').finally(() => {
    answered = true;
  });
  await eventually('the request has arrived', () => sandbox.cluster.requests.length === 1);
  t.is((await fleet('/units')).status, 200, 'the next request is answered');
  t.false(answered);
  await sandbox.stop();
  await t.throwsAsync(hung);
});

test('freeze: what one host has received is processed when it goes on, also when its client has gone', async (t) => {
  const { sandbox } = await openSandbox(t, { units: [{ name: 'a.service' }], fleetHosts: TWO_HOSTS });
  const unit = (host: string) => `http://${host}:${sandbox.fleetPort}/fleet/v1/units/a.service`;
  const goOn = sandbox.cluster.fail({ kind: 'freeze', host: '127.0.0.2' });
  const client = new AbortController();
  const gone = ask(unit('127.0.0.2'), {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'a.service', desiredState: 'loaded' }),
    signal: client.signal,
  });
  const waiting = ask(unit('127.0.0.2'));
  await eventually('both have arrived', () => sandbox.cluster.requests.length === 2);
  client.abort(new Error('gone'));
  await t.throwsAsync(gone);
  t.like((await ask(unit('127.0.0.1'))).body, { desiredState: 'launched' });
  await goOn();
  t.is((await waiting).status, 200);
  t.like((await ask(unit('127.0.0.1'))).body, { desiredState: 'loaded' });
});

test('500 and 503 respond as fleet does without etcd, and do nothing', async (t) => {
  const { sandbox, fleet, put } = await openSandbox(t, { units: [] });
  sandbox.cluster.fail({ kind: '500', times: 1 });
  sandbox.cluster.fail({ kind: '503', times: 1 });
  t.deepEqual(await put('a.service', { options: service('x') }), {
    status: 500,
    body: { error: { code: 500, message: '' } },
  });
  t.deepEqual(await put('a.service', { options: service('x') }), {
    status: 503,
    body: { error: { code: 503, message: 'fleet server unable to communicate with etcd' } },
  });
  t.is((await fleet('/units/a.service')).status, 404);
});

test('drop cuts the connection before the work, drop-answer after it', async (t) => {
  const { sandbox, fleet, put } = await openSandbox(t, { units: [] });
  sandbox.cluster.fail({ kind: 'drop', times: 1 });
  await t.throwsAsync(put('a.service', { options: service('x') }));
  t.is((await fleet('/units/a.service')).status, 404);
  sandbox.cluster.fail({ kind: 'drop-answer', times: 1 });
  await t.throwsAsync(put('a.service', { options: service('x') }));
  t.is((await fleet('/units/a.service')).status, 200);
});

test('truncate cuts the response in the middle', async (t) => {
  const { sandbox } = await openSandbox(t);
  sandbox.cluster.fail({ kind: 'truncate' });
  const response = await fetch(`http://127.0.0.1:${sandbox.fleetPort}/fleet/v1/units`);
  t.is(response.status, 200);
  await t.throwsAsync(response.text());
});

test('garbage is 200 and not JSON', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  sandbox.cluster.fail({ kind: 'garbage' });
  await t.throwsAsync(fleet('/units'), { instanceOf: SyntaxError });
});

test('redirect points elsewhere on the same server', async (t) => {
  const { sandbox } = await openSandbox(t);
  sandbox.cluster.fail({ kind: 'redirect' });
  const response = await fetch(`http://127.0.0.1:${sandbox.fleetPort}/fleet/v1/units`, {
    redirect: 'manual',
  });
  t.is(response.status, 302);
  t.is(response.headers.get('location'), '/elsewhere');
});

test('a fault affects only the host, the path and the method that it names', async (t) => {
  const { sandbox } = await openSandbox(t, { fleetHosts: TWO_HOSTS, units: [{ name: 'a.service' }] });
  sandbox.cluster.fail({ kind: '500', host: '127.0.0.2', path: '/fleet/v1/units', method: 'get' });
  const status = async (host: string, path: string, method = 'GET') =>
    (await ask(`http://${host}:${sandbox.fleetPort}/fleet/v1${path}`, { method })).status;
  t.is(await status('127.0.0.2', '/units'), 500);
  t.is(await status('127.0.0.2', '/units/a.service'), 500);
  t.is(await status('127.0.0.1', '/units'), 200);
  t.is(await status('127.0.0.2', '/machines'), 200);
  t.is(await status('127.0.0.2', '/units/a.service', 'DELETE'), 204);
});

test('a fault can affect a single page, by a pattern for path and query', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  sandbox.cluster.addUnits(261);
  sandbox.cluster.fail({ kind: '500', path: /nextPageToken=ZAADAA/g });
  t.is((await fleet('/units')).status, 200);
  t.is((await fleet('/units?nextPageToken=ZAACAA==')).status, 200);
  t.is((await fleet('/units?nextPageToken=ZAADAA==')).status, 500);
  t.is((await fleet('/units?nextPageToken=ZAADAA==')).status, 500);
});

test('a fault ends after its number of times, or when it is ended', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  sandbox.cluster.fail({ kind: '500', times: 2 });
  t.is((await fleet('/units')).status, 500);
  t.is((await fleet('/units')).status, 500);
  t.is((await fleet('/units')).status, 200);
  const end = sandbox.cluster.fail({ kind: '503' });
  t.is((await fleet('/units')).status, 503);
  await end();
  t.is((await fleet('/units')).status, 200);
});

test('requests are logged with method, path, host and how many were in progress', async (t) => {
  const { sandbox, clock, fleet } = await openSandbox(t, { delays: { answer: 10 } });
  const { requests } = sandbox.cluster;
  const answers = [fleet('/units?nextPageToken=ZAACAA=='), fleet('/machines')];
  await eventually('both replies wait', () => clock.pending === 2);
  t.deepEqual(
    requests.map(({ concurrent }) => concurrent),
    [1, 2],
  );
  t.deepEqual(requests.map(({ method, path, host }) => `${method} ${host} ${path}`).toSorted(), [
    'GET 127.0.0.1 /fleet/v1/machines',
    'GET 127.0.0.1 /fleet/v1/units?nextPageToken=ZAACAA==',
  ]);
  clock.advance(10);
  t.deepEqual(
    (await Promise.all(answers)).map(({ status }) => status),
    [200, 200],
  );
});
