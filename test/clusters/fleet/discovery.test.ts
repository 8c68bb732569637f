import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { respondWith, serve } from '../../network/http-server.js';
import { eventually } from '../../support/eventually.js';
import { noteSkipped } from '../../support/note-skipped.js';
import { notAborted, openFleet, openResolver } from './open-fleet.js';

const TOKEN = '6c007a14875d53d9bf0ef5a6fc0257c8';
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

test('a cluster is found by its token: hosts from discovery, the port from the configuration', async (t) => {
  const { resolver, sandbox } = await openFleet(t);
  await sandbox.addCluster(TOKEN, {
    units: [],
    members: [
      'node1=http://10.0.0.1:2380',
      'http://[2001:db8::1]:7001',
      'node3=http://node3.example.com:2380',
    ],
  });
  const endpoints = await resolver.endpoints(new Cluster(TOKEN), notAborted());
  t.deepEqual(endpoints.map(({ href }) => href).toSorted(), [
    `http://10.0.0.1:${sandbox.fleetPort}/`,
    `http://[2001:db8::1]:${sandbox.fleetPort}/`,
    `http://node3.example.com:${sandbox.fleetPort}/`,
  ]);
});

for (const path of ['', '/', '/v2/keys/discovery', '/v2/keys/discovery/']) {
  test(`with the discovery URL HOST${path} the token is requested directly below it`, async (t) => {
    const discovery = await serve(
      t,
      respondWith(200, { node: { nodes: [{ value: 'a=http://10.0.0.1:2380' }] } }),
    );
    const { resolver } = openResolver(t, { discoveryUrl: `${discovery.url.origin}${path}` });
    await resolver.endpoints(new Cluster(TOKEN), notAborted());
    t.deepEqual(
      discovery.requests.map(({ url }) => url),
      [`${path.replace(/\/$/, '')}/${TOKEN}`],
    );
  });
}

test('an unknown token, an empty cluster, an unusable response and a discovery that is down are distinguished', async (t) => {
  const { resolver, sandbox } = await openFleet(t);
  const fails = (token: string, code: string) =>
    t.throwsAsync(resolver.endpoints(new Cluster(token), notAborted()), { code });
  await fails('unknown', 'cluster_not_found');
  await sandbox.addCluster('empty', { units: [], members: [] });
  await fails('empty', 'cluster_empty');
  sandbox.discovery.fail({ kind: 'garbage', times: 1 });
  await fails(sandbox.token, 'cluster_answer_invalid');
  sandbox.discovery.fail({ kind: 'refuse' });
  await fails(sandbox.token, 'discovery_unreachable');
});

for (const kind of ['hang', '500', '503', 'drop', 'drop-answer', 'truncate', 'redirect'] as const) {
  // Serial, so that only the missing response exceeds the short time limit of the test.
  test.serial(`discovery counts as down when its response is: ${kind}`, async (t) => {
    const { resolver, sandbox } = await openFleet(t, { token: TOKEN, discoveryHangs: kind === 'hang' });
    sandbox.discovery.fail({ kind });
    const error = await t.throwsAsync(resolver.endpoints(new Cluster(TOKEN), notAborted()), {
      code: 'discovery_unreachable',
    });
    t.false(inspect(error, { depth: 20, showHidden: true }).includes(TOKEN));
    t.true(error?.message.startsWith(`The discovery service at ${new URL(sandbox.discoveryUrl).host} `));
    t.is(sandbox.discovery.requests.length, 1, 'it is asked once');
  });
}

for (const [what, body, reason] of [
  [
    'more than 1 MiB',
    JSON.stringify({ node: { nodes: [{ value: ','.repeat(1024 * 1024) }] } }),
    /more than 1048576 bytes/,
  ],
  [
    'nested far too deep',
    `${'['.repeat(500_000)}${']'.repeat(500_000)}`,
    /it cannot be read: nested more than 100 levels deep/,
  ],
  ['no JSON', 'x'.repeat(1_000), /it cannot be read: not valid JSON/],
] as const) {
  test(`a response from discovery is not usable when it is ${what}`, async (t) => {
    const discovery = await serve(t, respondWith(200, body));
    const { resolver } = openResolver(t, { discoveryUrl: discovery.url.href });
    await t.throwsAsync(resolver.endpoints(new Cluster(TOKEN), notAborted()), {
      code: 'cluster_answer_invalid',
      message: reason,
    });
  });
}

test('the hosts of many clusters with the longest names take little memory: the oldest are asked for again', async (t) => {
  const name = (at: number) =>
    `n${at}.${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(50)}`;
  const nodes = Array.from({ length: 256 }, (_, at) => ({ value: `http://${name(at)}:2380` }));
  const discovery = await serve(t, respondWith(200, { node: { nodes } }));
  const { resolver } = openResolver(t, { discoveryUrl: discovery.url.origin });
  const ask = (token: string) => resolver.endpoints(new Cluster(token), notAborted());
  for (let at = 0; at < 200; at++) await ask(`token-${at}`);
  await ask('token-199');
  t.is(discovery.requests.length, 200, 'the latest is known');
  await ask('token-0');
  t.is(discovery.requests.length, 201, 'the oldest has been dropped');
});

test('discovery has ten seconds to respond, and the error says why it did not', async (t) => {
  const { resolver, discoveryLimits } = openResolver(t, { discoveryUrl: 'http://127.0.0.1:1' });
  await t.throwsAsync(resolver.endpoints(new Cluster(TOKEN), notAborted()), {
    message: /The discovery service at 127\.0\.0\.1:1 cannot be reached: HTTP clients do not use this port/,
  });
  t.deepEqual(discoveryLimits, [10_000]);
});

test('neither errors nor the log contain the token, whatever fails', async (t) => {
  const { resolver, sandbox, log } = await openFleet(t, { token: TOKEN });
  const check = async () => {
    const error = await t.throwsAsync(resolver.endpoints(new Cluster(TOKEN), notAborted()));
    t.false(inspect(error, { depth: 20, showHidden: true }).includes(TOKEN), error?.message);
  };
  for (const kind of ['500', 'drop', 'truncate', 'redirect', 'garbage'] as const) {
    sandbox.discovery.fail({ kind, times: 1 });
    await check();
  }
  sandbox.cluster.members = [];
  await check();
  sandbox.cluster.members = [`${TOKEN}=nonsense`];
  await check();
  sandbox.discovery.fail({ kind: 'refuse' });
  await check();
  t.false(JSON.stringify(log.lines).includes(TOKEN));
});

test('an error never reports the password of the discovery URL', async (t) => {
  const { resolver, log } = openResolver(t, { discoveryUrl: 'http://user:pass-word@127.0.0.1:1' });
  const error = await t.throwsAsync(resolver.endpoints(new Cluster(TOKEN), notAborted()), {
    code: 'discovery_unreachable',
  });
  t.false(inspect(error, { depth: 20, showHidden: true }).includes('pass-word'));
  t.false(JSON.stringify(log.lines).includes('pass-word'));
});

test('a response from discovery is used for a minute', async (t) => {
  const { resolver, sandbox, cluster, clock } = await openFleet(t);
  const first = await resolver.endpoints(cluster, notAborted());
  clock.advance(MINUTE - 1);
  t.deepEqual(await resolver.endpoints(cluster, notAborted()), first);
  t.is(sandbox.discovery.requests.length, 1);
  sandbox.cluster.members = ['node1=http://10.0.0.7:2380'];
  clock.advance(1);
  t.deepEqual(
    (await resolver.endpoints(cluster, notAborted())).map(({ hostname }) => hostname),
    ['10.0.0.7'],
  );
  t.is(sandbox.discovery.requests.length, 2);
});

test('new members are seen within the minute, also when the system time is put back a day', async (t) => {
  const { resolver, sandbox, cluster, clock } = await openFleet(t);
  await resolver.endpoints(cluster, notAborted());
  sandbox.cluster.members = ['node1=http://10.0.0.7:2380'];
  clock.stepWallTime(-24 * HOUR);
  clock.advance(MINUTE);
  t.deepEqual(
    (await resolver.endpoints(cluster, notAborted())).map(({ hostname }) => hostname),
    ['10.0.0.7'],
  );
});

test('members that are not used are logged once, and again when they change', async (t) => {
  const { resolver, sandbox, cluster, clock, log } = await openFleet(t, { token: TOKEN });
  const lookUp = async (members: string[]) => {
    sandbox.cluster.members = members;
    clock.advance(MINUTE);
    await resolver.endpoints(cluster, notAborted());
  };
  const good = 'node1=http://10.0.0.1:2380';
  await lookUp([good, `node2=http://${TOKEN}..lan`]);
  await lookUp([good, `node2=http://${TOKEN}..lan`]);
  await lookUp([good]);
  await lookUp([good, 'node3=nonsense']);
  t.deepEqual(
    log.lines.map(({ message, cluster: of, members }) => [message, of, members]),
    [
      ['discovery members ignored', cluster.hash, ["'http://***..lan'"]],
      ['discovery members ignored', cluster.hash, ["'nonsense'"]],
    ],
  );
  t.true(log.lines.every((line) => !('more' in line)));
});

for (const [count, more] of [
  [20, undefined],
  [21, 1],
  [60, 40],
] as const)
  test(`of ${count} members that are not used the log names the first 20`, async (t) => {
    const { resolver, sandbox, cluster, log } = await openFleet(t);
    const bad = Array.from({ length: count }, (_, at) => `bad-${at}`);
    sandbox.cluster.members = ['node1=http://10.0.0.1:2380', ...bad];
    await resolver.endpoints(cluster, notAborted());
    const [{ members, more: others }] = log.lines as [Record<string, unknown>];
    t.is((members as string[]).length, 20);
    t.is(others, more);
  });

test('the log tells when the number of the members that it does not name has changed', async (t) => {
  const { resolver, sandbox, cluster, clock, log } = await openFleet(t);
  const good = 'node1=http://10.0.0.1:2380';
  for (const count of [3_000, 3_000, 3_001]) {
    sandbox.cluster.members = Array.from({ length: count }, () => good);
    clock.advance(MINUTE);
    await resolver.endpoints(cluster, notAborted());
  }
  t.deepEqual(
    log.lines.map(({ members, more }) => [members, more]),
    [
      [[], 3_000 - 2_048],
      [[], 3_001 - 2_048],
    ],
  );
});

test('hosts with underscores or a dot at the end are used as discovery names them', async (t) => {
  const { resolver, sandbox, cluster, log } = await openFleet(t);
  sandbox.cluster.members = ['a=http://node_1.lan:2380', 'b=http://db.example.org.:2380'];
  const hosts = (await resolver.endpoints(cluster, notAborted())).map(({ hostname }) => hostname);
  t.deepEqual(hosts.toSorted(), ['db.example.org.', 'node_1.lan']);
  t.deepEqual(log.lines, []);
});

test('a caller that changes its endpoints does not change those of other callers', async (t) => {
  const { resolver, cluster } = await openFleet(t);
  const named = openResolver(t, { namedClusters: new Map([['prod', [new URL('http://10.0.0.1:49153')]]]) });
  for (const [asked, of] of [
    [resolver, cluster],
    [named.resolver, new Cluster('prod')],
  ] as const) {
    const before = (await asked.endpoints(of, notAborted())).map(({ href }) => href);
    for (const endpoint of await asked.endpoints(of, notAborted())) endpoint.port = '22';
    (await asked.endpoints(of, notAborted())).pop();
    t.deepEqual(
      (await asked.endpoints(of, notAborted())).map(({ href }) => href),
      before,
    );
  }
});

test('concurrent look-ups of one cluster share one request', async (t) => {
  const { resolver, sandbox, cluster } = await openFleet(t);
  const other = await sandbox.addCluster('other', { units: [], members: ['http://10.0.0.1:2380'] });
  const same = Array.from({ length: 20 }, () => resolver.endpoints(new Cluster(sandbox.token), notAborted()));
  const all = await Promise.all([...same, resolver.endpoints(new Cluster(other.token), notAborted())]);
  t.is(sandbox.discovery.requests.length, 2);
  t.is(all.at(-1)?.[0]?.hostname, '10.0.0.1');
  t.deepEqual(await resolver.endpoints(cluster, notAborted()), all[0]);
});

test('a failed look-up fails all who share it, and the next one asks again', async (t) => {
  const { resolver, sandbox, cluster } = await openFleet(t);
  sandbox.discovery.fail({ kind: '500', times: 1 });
  const both = await Promise.allSettled([
    resolver.endpoints(cluster, notAborted()),
    resolver.endpoints(cluster, notAborted()),
  ]);
  for (const each of both) t.like(each, { status: 'rejected', reason: { code: 'discovery_unreachable' } });
  t.is((await resolver.endpoints(cluster, notAborted())).length, 1);
  t.is(sandbox.discovery.requests.length, 2);
});

test('one caller can give up a shared look-up without affecting the others', async (t) => {
  const waiting: ServerResponse[] = [];
  const discovery = await serve(t, (_request, response) => waiting.push(response));
  const { resolver } = openResolver(t, { discoveryUrl: discovery.url.href });
  const cluster = new Cluster(TOKEN);
  const caller = new AbortController();
  const patient = resolver.endpoints(cluster, notAborted());
  const hasty = resolver.endpoints(cluster, caller);
  await eventually('discovery is asked', () => discovery.requests.length === 1);
  const reason = new Error('gone');
  caller.abort(reason);
  t.is(await t.throwsAsync(hasty), reason);
  waiting[0]?.end('{"node":{"nodes":[{"value":"http://10.0.0.1:2380"}]}}');
  t.is((await patient)[0]?.hostname, '10.0.0.1');
  t.is(await t.throwsAsync(resolver.endpoints(cluster, caller)), reason, 'and is given nothing later');
});

test('while discovery is down, what it said before is used for an hour', async (t) => {
  const { resolver, sandbox, cluster, clock } = await openFleet(t);
  const known = await resolver.endpoints(cluster, notAborted());
  const end = sandbox.discovery.fail({ kind: 'refuse' });
  clock.advance(MINUTE);
  t.deepEqual(await resolver.endpoints(cluster, notAborted()), known);
  clock.advance(HOUR - MINUTE - 1);
  t.deepEqual(await resolver.endpoints(cluster, notAborted()), known);
  clock.advance(1);
  await t.throwsAsync(resolver.endpoints(cluster, notAborted()), { code: 'discovery_unreachable' });
  await end();
  t.deepEqual(await resolver.endpoints(cluster, notAborted()), known);
});

/** A resolver that knows the hosts of a cluster, and a discovery that responds from now on only when the test says. */
async function openHanging(t: ExecutionContext) {
  const waiting: ServerResponse[] = [];
  const discovery = await serve(t, (_request, response) => waiting.push(response));
  const { resolver, clock } = openResolver(t, { discoveryUrl: discovery.url.href });
  const cluster = new Cluster(TOKEN);
  const hosts = async () => (await resolver.endpoints(cluster, notAborted())).map(({ hostname }) => hostname);
  /** Responds to the latest request, when there are this many. */
  const respond = async (count: number, status: number, body: string) => {
    await eventually('discovery is asked', () => waiting.length === count);
    waiting.at(-1)?.writeHead(status).end(body);
  };
  const first = hosts();
  await respond(1, 200, '{"node":{"nodes":[{"value":"http://10.0.0.1:2380"}]}}');
  await first;
  clock.advance(MINUTE);
  return { resolver, cluster, clock, waiting, hosts, respond };
}

test('while discovery hangs, known hosts are used after a second, and by later calls at once', async (t) => {
  const { clock, waiting, hosts, respond } = await openHanging(t);
  const calls = [hosts(), hosts()];
  await eventually('discovery is asked', () => waiting.length === 2);
  clock.advance(999);
  const later = hosts();
  let isLater = false;
  void later.then(() => (isLater = true));
  for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
  t.false(isLater);
  clock.advance(1);
  for (const call of [...calls, later, hosts()]) t.deepEqual(await call, ['10.0.0.1']);
  t.is(waiting.length, 2);
  t.false(waiting.at(-1)?.destroyed, 'it is still asked');
  await respond(2, 200, '{"node":{"nodes":[{"value":"http://10.0.0.2:2380"}]}}');
  await eventually('its late response is used', async () => (await hosts())[0] === '10.0.0.2');
  t.is(waiting.length, 2);
});

for (const [what, code, status, body] of [
  ['is not known', 'cluster_not_found', 404, ''],
  ['is empty', 'cluster_empty', 200, '{"node":{}}'],
] as const)
  test(`a late response that the cluster ${what} counts as one in time`, async (t) => {
    const { clock, waiting, hosts, respond } = await openHanging(t);
    const call = hosts();
    await eventually('discovery is asked', () => waiting.length === 2);
    clock.advance(1_000);
    t.deepEqual(await call, ['10.0.0.1']);
    await respond(2, status, body);
    // Without cached hosts, the next call waits for discovery.
    await eventually('discovery is asked again', async () => {
      const next = hosts();
      const isAsked = await Promise.race([
        next.then(() => false),
        eventually('it is asked', () => waiting.length === 3).then(() => true),
      ]);
      if (!isAsked) return false;
      clock.advance(1_000);
      await respond(3, status, body);
      await t.throwsAsync(next, { code });
      return true;
    });
  });

test('after a failed look-up, known hosts are used for ten seconds without another one', async (t) => {
  const { resolver, sandbox, cluster, clock } = await openFleet(t);
  const known = await resolver.endpoints(cluster, notAborted());
  sandbox.discovery.fail({ kind: '503' });
  clock.advance(MINUTE);
  const requestsAfter = async (ms: number) => {
    clock.advance(ms);
    t.deepEqual(await resolver.endpoints(cluster, notAborted()), known);
    return sandbox.discovery.requests.length;
  };
  t.is(await requestsAfter(0), 2);
  t.is(await requestsAfter(9_999), 2);
  t.is(await requestsAfter(1), 3);
  resolver.forget(cluster);
  t.is(await requestsAfter(0), 4, 'none of the hosts responded');
});

test('the previous response from discovery is not used once discovery gives another one', async (t) => {
  const { resolver, sandbox, cluster, clock } = await openFleet(t);
  await resolver.endpoints(cluster, notAborted());
  sandbox.cluster.members = [];
  clock.advance(MINUTE);
  await t.throwsAsync(resolver.endpoints(cluster, notAborted()), { code: 'cluster_empty' });
});

test('that discovery is down is logged once, and once when it is back', async (t) => {
  const { resolver, sandbox, cluster, clock, log } = await openFleet(t);
  await resolver.endpoints(cluster, notAborted());
  const end = sandbox.discovery.fail({ kind: '503' });
  for (let times = 0; times < 3; times++) {
    clock.advance(MINUTE);
    await resolver.endpoints(cluster, notAborted());
  }
  t.deepEqual(
    log.lines.map(({ level, message }) => [level, message]),
    [['warn', 'discovery lost']],
  );
  t.regex(String(log.lines[0]?.reason), /503/);
  await end();
  clock.advance(MINUTE);
  await resolver.endpoints(cluster, notAborted());
  t.like(log.lines[1], {
    level: 'info',
    message: 'discovery restored',
    lasted_ms: 3 * MINUTE,
    failures: 3,
  });
});

test('an invalidated cluster is looked up again, and still known while discovery is down', async (t) => {
  const { resolver, sandbox, cluster } = await openFleet(t);
  const known = await resolver.endpoints(cluster, notAborted());
  resolver.forget(cluster);
  await resolver.endpoints(cluster, notAborted());
  t.is(sandbox.discovery.requests.length, 2);
  sandbox.discovery.fail({ kind: 'refuse' });
  resolver.forget(cluster);
  t.deepEqual(await resolver.endpoints(cluster, notAborted()), known);
  t.notThrows(() => resolver.forget(new Cluster('never-asked-for')));
});

test('a thousand clusters are remembered, then the least recently looked up is evicted', async (t) => {
  const discovery = await serve(
    t,
    respondWith(200, { node: { nodes: [{ value: 'http://10.0.0.1:2380' }] } }),
  );
  const { resolver } = openResolver(t, { discoveryUrl: discovery.url.href });
  const ask = (index: number) => resolver.endpoints(new Cluster(`token-${index}`), notAborted());
  for (let index = 0; index < 1_000; index++) await ask(index);
  await ask(0);
  t.is(discovery.requests.length, 1_000);
  await ask(1_000);
  await ask(999);
  t.is(discovery.requests.length, 1_001);
  await ask(0);
  t.is(discovery.requests.length, 1_002);
});

test('a cluster that CLUSTERS_FILE names is not looked up in discovery', async (t) => {
  const discovery = await serve(t, respondWith(500));
  const { resolver } = openResolver(t, {
    discoveryUrl: discovery.url.href,
    namedClusters: new Map([['prod', [new URL('http://10.0.0.1:49153'), new URL('http://10.0.0.2:49153')]]]),
  });
  t.deepEqual(
    (await resolver.endpoints(new Cluster('prod'), notAborted())).map(({ host }) => host),
    ['10.0.0.1:49153', '10.0.0.2:49153'],
  );
  t.like(await resolver.hosts(new Cluster('prod'), notAborted()), { ignored: [], moreIgnored: 0 });
  t.is(discovery.connections(), 0);
  await t.throwsAsync(resolver.endpoints(new Cluster('other'), notAborted()), {
    code: 'discovery_unreachable',
  });
});

const etcd = process.env.ETCD_URL ?? noteSkipped('the tests over etcd', 'ETCD_URL');

if (etcd !== undefined) {
  const root = `${etcd}/v2/keys/discovery`;
  const put = async (key: string, value: string) => {
    const response = await fetch(`${root}/${key}`, { method: 'PUT', body: new URLSearchParams({ value }) });
    if (!response.ok) throw new Error(`etcd answered ${response.status}: ${await response.text()}`);
  };
  const newToken = () => randomBytes(16).toString('hex');

  test('a token of a real etcd is resolved, in every form in which etcd has written members', async (t) => {
    const token = newToken();
    await put(`${token}/_config/size`, '3');
    await put(`${token}/member1`, 'node1=http://10.0.0.1:2380');
    await put(`${token}/member2`, 'http://10.0.0.2:7001');
    await put(`${token}/member3`, 'node3=http://10.0.0.3:2380,node3=http://10.0.0.4:2380');
    for (const discoveryUrl of [root, `${root}/`]) {
      const { resolver } = openResolver(t, { discoveryUrl, fleetPort: 7002 });
      t.deepEqual(
        (await resolver.endpoints(new Cluster(token), notAborted())).map(({ href }) => href).toSorted(),
        [1, 2, 3, 4].map((last) => `http://10.0.0.${last}:7002/`),
      );
    }
  });

  test('a real etcd knows no cluster under an unknown token', async (t) => {
    const { resolver } = openResolver(t, { discoveryUrl: root });
    await t.throwsAsync(resolver.endpoints(new Cluster(newToken()), notAborted()), {
      code: 'cluster_not_found',
    });
  });

  test('a cluster of a real etcd without registered members is empty', async (t) => {
    const token = newToken();
    await put(`${token}/_config/size`, '3');
    const { resolver, clock } = openResolver(t, { discoveryUrl: root });
    await t.throwsAsync(resolver.endpoints(new Cluster(token), notAborted()), { code: 'cluster_empty' });
    await put(`${token}/member1`, 'node1=http://10.0.0.1:2380');
    t.is(
      (await resolver.endpoints(new Cluster(token), notAborted())).length,
      1,
      'that it was empty is not kept',
    );
    await put(`${token}/member2`, 'node2=http://10.0.0.2:2380');
    clock.advance(60_000);
    t.is((await resolver.endpoints(new Cluster(token), notAborted())).length, 2);
  });
}
