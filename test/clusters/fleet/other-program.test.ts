import test from 'ava';
import { respondWith, serve, type TestServer } from '../../network/http-server.js';
import { notAborted, openNamedFleet, readable } from './open-fleet.js';

const SECRET = 'session-key-of-the-proxy';
const UNIT = 'a.service';

/** What another program on fleet's port may answer: a proxy, a login page, another API. */
const ANSWERS: [string, number, unknown, Record<string, string>?][] = [
  ['200 without a body', 200, ''],
  ['200 with HTML', 200, `<html>${SECRET}`],
  ['200 with half a JSON text', 200, '{"units": [{"name": "a.serv'],
  ['200 with JSON text', 200, JSON.stringify(JSON.stringify(SECRET))],
  ['200 with null', 200, 'null'],
  ['200 with a number', 200, '7'],
  ['200 with a list', 200, [SECRET]],
  ['200 with another map', 200, { status: 'up', key: SECRET }],
  ['200 with a map of one key', 200, { key: SECRET }],
  ['201', 201, ''],
  ['204', 204, ''],
  ['206 with a map', 206, {}],
  ['300 with HTML', 300, '<html>'],
  ['301', 301, '', { location: `http://127.0.0.1:1/?${SECRET}` }],
  ['302', 302, '', { location: 'http://127.0.0.1:1/' }],
  ['303', 303, '', { location: 'http://127.0.0.1:1/' }],
  ['307', 307, '', { location: 'http://127.0.0.1:1/' }],
  ['308', 308, '', { location: 'http://127.0.0.1:1/' }],
  ['400 with HTML', 400, `<html>${SECRET}`],
  ['401 without a body', 401, '', { 'www-authenticate': `Basic realm="${SECRET}"` }],
  ["403 with an error that is not fleet's", 403, { error: SECRET }],
  ['403 with an error that is null', 403, { error: null }],
  ['404 with HTML', 404, '<html>not found'],
  ['404 with an empty map', 404, {}],
  ['404 with an error of another code', 404, { error: { code: 100, message: SECRET } }],
  ['405 with text', 405, 'Method Not Allowed'],
  ['429 with a list', 429, []],
];

const READS = ['machines', 'units', 'unitStates'] as const;
const fleetAnswer = respondWith(200, {
  name: UNIT,
  machines: [{ id: 'a' }],
  units: [{ name: UNIT }],
  states: [{ name: UNIT }],
});

for (const [what, status, body, headers] of ANSWERS) {
  test(`a host that answers ${what} is no fleet: others are asked, and it is avoided`, async (t) => {
    const other = await serve(t, respondWith(status, body, headers));
    const good = await serve(t, fleetAnswer);
    for (const read of READS) {
      const { fleet, cluster } = openNamedFleet(t, [other.url, good.url]);
      other.requests.length = 0;
      for (let times = 0; times < 3; times++) t.is((await fleet[read](cluster, notAborted())).length, 1);
      t.is(other.requests.length, 1);
    }
    const { fleet, cluster } = openNamedFleet(t, [other.url, good.url]);
    t.is((await fleet.unit(cluster, UNIT, notAborted()))?.name, UNIT);
  });

  test(`when all hosts answer ${what}, the error names each host and what it answered, but no secrets`, async (t) => {
    const [one, two] = [
      await serve(t, respondWith(status, body, { 'content-type': 'text/x-odd; charset=utf-8', ...headers })),
      await serve(t, respondWith(status, body, headers)),
    ];
    const { fleet, cluster } = openNamedFleet(t, [one.url, two.url]);
    const lists = READS.map((read) => async () => fleet[read](cluster, notAborted()));
    for (const read of [...lists, async () => fleet.unit(cluster, UNIT, notAborted())]) {
      const error = await t.throwsAsync(read(), { code: 'cluster_answer_invalid' });
      t.regex(error?.message ?? '', new RegExp(`${one.url.host}: HTTP ${status} text/x-odd`));
      t.regex(error?.message ?? '', new RegExp(`${two.url.host}: HTTP ${status} without a content type`));
      t.false(JSON.stringify([error?.message, error]).includes(SECRET));
    }
    const report = await fleet.hosts(cluster, notAborted());
    for (const { failure } of report.hosts) t.regex(failure ?? '', new RegExp(`HTTP ${status}`));
  });
}

test('when one host answers as another program and the others cannot be reached, the cluster is unreachable', async (t) => {
  const other = await serve(t, respondWith(401));
  const stopped = await serve(t, fleetAnswer);
  await stopped.stop();
  const { fleet, cluster } = openNamedFleet(t, [other.url, stopped.url]);
  await t.throwsAsync(fleet.machines(cluster, notAborted()), {
    code: 'cluster_unreachable',
    message: /HTTP 401 .*ECONNREFUSED/,
  });
});

test('a unit is known to be missing only by an error of fleet', async (t) => {
  const fleetd = await serve(t, respondWith(404, { error: { code: 404, message: 'unit does not exist' } }));
  const proxy = await serve(t, respondWith(404, '<html>'));
  const { fleet, cluster } = openNamedFleet(t, [proxy.url, fleetd.url]);
  t.is(await fleet.unit(cluster, UNIT, notAborted()), undefined);
  t.is(fleetd.requests.length, 1);
});

const changesOf = ({ requests }: TestServer) =>
  requests.flatMap(({ method }) => (method === 'GET' ? [] : [method]));
const setState = (parts: ReturnType<typeof openNamedFleet>) =>
  parts.fleet.setDesiredState(parts.cluster, UNIT, 'loaded', notAborted());
const destroy = (parts: ReturnType<typeof openNamedFleet>) =>
  parts.fleet.destroyUnit(parts.cluster, UNIT, notAborted());

for (const [what, status, body, headers] of ANSWERS.filter(([, code]) => code >= 300)) {
  test(`a change that a host answers with ${what} was not made there, so another host makes it`, async (t) => {
    const other = await serve(t, readable(respondWith(status, body, headers)));
    const good = await serve(t, readable(respondWith(204)));
    await setState(openNamedFleet(t, [other.url, good.url]));
    t.true(await destroy(openNamedFleet(t, [other.url, good.url])));
    t.deepEqual(
      [changesOf(other), changesOf(good)],
      [
        ['PUT', 'DELETE'],
        ['PUT', 'DELETE'],
      ],
    );
  });

  test(`when all hosts answer a change with ${what}, nothing was done`, async (t) => {
    const other = await serve(t, readable(respondWith(status, body, headers)));
    for (const change of [setState, destroy]) {
      const error = await t.throwsAsync(change(openNamedFleet(t, [other.url, other.url])), {
        code: 'cluster_answer_invalid',
        message: new RegExp(`HTTP ${status} `),
      });
      t.false(JSON.stringify([error?.message, error]).includes(SECRET));
    }
  });
}

for (const [what, status, body] of [
  ['200', 200, ''],
  ['200 with HTML', 200, '<html>'],
  ['200 with a map', 200, {}],
  ['201 with HTML', 201, '<html>'],
  ['202', 202, ''],
] as const) {
  test(`a PUT that is answered with ${what} proves nothing: it is sent to another host too`, async (t) => {
    const other = await serve(t, readable(respondWith(status, body)));
    const good = await serve(t, readable(respondWith(204)));
    await setState(openNamedFleet(t, [other.url, good.url]));
    t.deepEqual([changesOf(other), changesOf(good)], [['PUT'], ['PUT']]);
  });

  test(`when all hosts answer a PUT with ${what}, its outcome is unknown`, async (t) => {
    const hosts = [1, 2].map(() => serve(t, readable(respondWith(status, body))));
    const [one, two] = (await Promise.all(hosts)).map(({ url }) => url) as [URL, URL];
    const error = await t.throwsAsync(setState(openNamedFleet(t, [one, two])), { code: 'outcome_unknown' });
    t.like(error, { details: { mayChangeLater: [one.host, two.host] } });
    for (const { host } of [one, two]) t.true(error?.message.includes(`${host}: HTTP ${status}`), host);
  });

  test(`a DELETE that is answered with ${what} is sent to no other host: its result would be false`, async (t) => {
    const other = await serve(t, readable(respondWith(status, body)));
    const good = await serve(t, readable(respondWith(404, { error: { code: 404, message: '' } })));
    await t.throwsAsync(destroy(openNamedFleet(t, [other.url, good.url])), { code: 'outcome_unknown' });
    t.deepEqual(changesOf(good), []);
  });
}

test('a refusal of fleet does not show that a host that answered 200 before has done nothing', async (t) => {
  const other = await serve(t, readable(respondWith(200)));
  const refusing = await serve(t, readable(respondWith(409, { error: { code: 409, message: 'no' } })));
  const third = await serve(t, readable(respondWith(204)));
  const error = await t.throwsAsync(setState(openNamedFleet(t, [other.url, refusing.url, third.url])), {
    code: 'outcome_unknown',
  });
  t.like(error, { details: { mayChangeLater: [other.url.host] } });
  t.like(error, {
    details: {
      hosts: [
        { host: other.url.host, reason: 'HTTP 200 without a content type, which is not from fleet' },
        { host: refusing.url.host, reason: 'HTTP 409 no' },
      ],
    },
  });
  t.deepEqual(changesOf(third), []);
});
