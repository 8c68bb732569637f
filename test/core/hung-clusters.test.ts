import test from 'ava';
import { noteResponse } from '../../src/api/cluster.js';
import { ActionError } from '../../src/plugin.js';
import { doing, held } from '../support/actions.js';
import { openRunner, settle, steered, watched } from '../support/open-runner.js';

const HEALTHY = 'healthy';

/**
 * A service with the default limits, and clusters of which only some respond.
 * @param responds whether a cluster responds, by its token
 */
function openClusters(responds: (token: string) => boolean = (token) => token === HEALTHY) {
  const runs = { current: 0, most: 0 };
  const gates = new Map<string, (() => void)[]>();
  const tokens = new Map<string, string>();
  const action = doing(async ({ cluster, signal }) => {
    const token = tokens.get(cluster?.hash ?? '') ?? '';
    if (responds(token)) return {};
    runs.current++;
    runs.most = Math.max(runs.most, runs.current);
    try {
      return await new Promise<object>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        gates.set(token, [...(gates.get(token) ?? []), () => resolve({})]);
        // A cluster that has responded once, and not since.
        if (cluster !== undefined && token.startsWith('was-')) noteResponse(cluster);
      });
    } finally {
      runs.current--;
    }
  });
  const { codeFor, clock, runner, events } = openRunner([action]);
  let withoutResponse = 0;
  events.on('withoutResponse', ({ calls }) => (withoutResponse = calls));
  events.on('admitted', ({ call, cluster }) => tokens.set(cluster?.hash ?? '', String(call.target)));
  const ask = (target: string, count: number, timeoutMs = 30_000) =>
    Array.from({ length: count }, () => watched(codeFor({ target, timeoutMs })));
  return {
    codeFor,
    clock,
    runner,
    runs,
    ask,
    withoutResponse: () => withoutResponse,
    /** The codes of the calls that have ended. */
    ended: (calls: readonly (() => string | undefined)[]) => calls.map((each) => each()).filter(Boolean),
    /** The cluster responds, and its running calls end. */
    release: (token: string) =>
      gates
        .get(token)
        ?.splice(0)
        .forEach((gate) => gate()),
  };
}

for (const [hung, calls] of [
  [1, 150],
  [2, 150],
  [3, 60],
  [8, 40],
  [40, 20],
] as const) {
  test(`${hung} clusters that hang, with ${calls} calls each, keep no call to another one waiting`, async (t) => {
    const { codeFor, clock, ask, ended } = openClusters();
    t.is(await codeFor({ target: HEALTHY }), 'completed');
    const waiting = Array.from({ length: hung }, (_, n) => ask(`hung${n}`, calls)).flat();
    for (let passed = 0; passed < 40; passed++) {
      const healthy = ask(HEALTHY, 20);
      await settle();
      t.deepEqual(ended(healthy), Array(20).fill('completed'), `after ${passed} s`);
      clock.advance(1_000);
      await settle();
    }
    t.is(ended(waiting).length, hung * calls);
  });
}

test('clusters that responded before they hang keep the others waiting for a second at most', async (t) => {
  const { codeFor, clock, ask, ended, runs } = openClusters();
  t.is(await codeFor({ target: HEALTHY }), 'completed');
  for (let n = 0; n < 8; n++) ask(`was-${n}`, 20);
  await settle();
  t.true(runs.current <= 50);
  for (let n = 0; n < 8; n++) ask(`was-${n}`, 20);
  const first = ask(HEALTHY, 1);
  for (let passed = 0; passed < 1_250; passed += 250) {
    clock.advance(250);
    await settle();
  }
  t.deepEqual(ended(first), ['completed']);
  const all = ask(HEALTHY, 20);
  await settle();
  t.deepEqual(ended(all), Array(20).fill('completed'));
});

test('what waits too long for a cluster that does not respond is refused, the latest first', async (t) => {
  const { clock, ask, ended, runs } = openClusters();
  const calls = ask('hung', 120);
  ask('hung2', 120);
  await settle();
  t.deepEqual(ended(calls), []);
  t.is(runs.current, 8);
  clock.advance(1_000);
  await settle();
  t.deepEqual(ended(calls), Array(20).fill('cluster_busy'));
  t.is(ended(calls.slice(0, 100)).length, 0);
  const further = ask('hung', 3);
  await settle();
  t.deepEqual(ended(further), Array(3).fill('cluster_busy'));
});

test('clusters that do not respond share what can be held', async (t) => {
  const { clock, ask, ended } = openClusters();
  const all = Array.from({ length: 5 }, (_, n) => ask(`hung${n}`, 60));
  clock.advance(1_000);
  await settle();
  t.deepEqual(
    all.map((calls) => calls.length - ended(calls).length),
    Array(5).fill(40),
  );
});

test('a cluster gets its room back with its first response', async (t) => {
  const { clock, ask, ended, runs, release } = openClusters();
  const calls = ask('slow', 50);
  clock.advance(1_000);
  await settle();
  t.is(runs.current, 4);
  release('slow');
  await settle();
  t.is(runs.current, 20);
  t.is(ended(calls).length, 4);
  t.is(ended(ask('slow', 60)).length, 0);
});

test('calls that got no response for three seconds show that a cluster cannot be reached', async (t) => {
  const { clock, codeFor, ask, ended } = openClusters();
  const calls = [...ask('hung', 3, 3_000), ...ask('hung', 20, 30_000)];
  clock.advance(3_000);
  await settle();
  t.deepEqual(ended(calls), [...Array(3).fill('timeout'), ...Array(19).fill('cluster_unreachable')]);
  t.is(await codeFor({ target: 'hung' }), 'cluster_unreachable');
});

test('calls that never had their turn do not show that a cluster cannot be reached', async (t) => {
  const { codeFor, clock } = openRunner([held().action], { concurrency: 1 });
  void codeFor({ target: undefined });
  const waiting = Array.from({ length: 3 }, async () => codeFor({ timeoutMs: 4_000 }));
  clock.advance(4_000);
  t.deepEqual(await Promise.all(waiting), Array(3).fill('timeout'));
  const next = watched(codeFor());
  await settle();
  t.is(next(), undefined);
});

test('calls that wait are not refused before a cluster could not be reached three times', async (t) => {
  let failures = 2;
  const action = doing(async () => {
    if (failures-- > 0) throw new ActionError('cluster_unreachable', 'down');
    return {};
  });
  const { codeFor } = openRunner([action], { clusterConcurrency: 1 });
  const codes = Array.from({ length: 4 }, async () => codeFor());
  t.deepEqual(await Promise.all(codes), [
    'cluster_unreachable',
    'cluster_unreachable',
    'completed',
    'completed',
  ]);
});

test('the end of a call from before the pause lets no second one try the cluster', async (t) => {
  const { action, runs } = steered();
  const { ask, codeFor, clock } = openRunner([action]);
  const first = codeFor();
  for (let failed = 1; failed <= 3; failed++) {
    const code = codeFor();
    runs[failed]?.reject(new ActionError('cluster_unreachable', 'down'));
    t.is(await code, 'cluster_unreachable');
  }
  clock.advance(5_000);
  void codeFor();
  t.is(runs.length, 5);
  runs[0]?.reject(new ActionError('forbidden', 'says nothing of the cluster'));
  t.is(await first, 'forbidden');
  t.like(await ask(), { body: { code: 'cluster_unreachable', details: { retry_after_ms: 1_000 } } });
});

test('a short deadline does not show that a cluster cannot be reached', async (t) => {
  const { clock, ask, ended } = openClusters();
  for (let n = 0; n < 5; n++) {
    const calls = ask('slow', 3, 2_000);
    clock.advance(2_000);
    await settle();
    t.deepEqual(ended(calls), Array(3).fill('timeout'));
  }
});

test('after a pause one call tries the cluster, and the others are told when to call again', async (t) => {
  let tried = 0;
  const action = doing(async ({ signal }) => {
    tried++;
    if (tried <= 3) throw new ActionError('cluster_unreachable', 'down');
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  const { ask, codeFor, clock } = openRunner([action]);
  for (let n = 0; n < 3; n++) await codeFor();
  clock.advance(4_999);
  t.like(await ask(), { body: { code: 'cluster_unreachable', details: { retry_after_ms: 1 } } });
  clock.advance(1);
  const probe = watched(codeFor({ timeoutMs: 4_000 }));
  for (let n = 0; n < 10; n++) {
    t.like(await ask(), {
      status: 'error',
      body: { code: 'cluster_unreachable', details: { retry_after_ms: 1_000 } },
    });
  }
  t.is(tried, 4);
  clock.advance(4_000);
  await settle();
  t.is(probe(), 'timeout');
  // It had no response for as long as it ran: the next pause begins.
  t.like(await ask(), { body: { details: { retry_after_ms: 10_000 } } });
  t.is(tried, 4);
});

test('a call that tried a cluster and showed nothing lets the next one try', async (t) => {
  const codes = [
    'cluster_unreachable',
    'cluster_unreachable',
    'cluster_unreachable',
    'forbidden',
    'unit_failed',
  ];
  const action = doing(async () => {
    throw new ActionError(codes.shift() ?? '', 'so');
  });
  const { codeFor, clock } = openRunner([action]);
  for (let n = 0; n < 3; n++) await codeFor();
  clock.advance(5_000);
  t.is(await codeFor({ parameters: { unknown: 1 } }), 'invalid_parameters');
  t.is(await codeFor(), 'forbidden');
  t.is(await codeFor(), 'unit_failed');
});

test('a cluster that responded during a call which took too long can be reached', async (t) => {
  const action = doing(async ({ cluster, signal }) => {
    setImmediate(() => cluster && noteResponse(cluster));
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  const { codeFor, clock } = openRunner([action]);
  for (let n = 0; n < 5; n++) {
    const late = codeFor({ timeoutMs: 4_000 });
    clock.advance(500);
    await settle();
    clock.advance(3_500);
    t.is(await late, 'timeout');
  }
});

test('the transport is told how many calls are held for clusters that do not respond', async (t) => {
  const { clock, ask, withoutResponse } = openClusters();
  ask('hung', 30, 2_000);
  t.is(withoutResponse(), 30);
  clock.advance(1_000);
  await settle();
  t.is(withoutResponse(), 30);
  clock.advance(1_000);
  await settle();
  t.is(withoutResponse(), 0);
  ask(HEALTHY, 30);
  await settle();
  t.is(withoutResponse(), 0);
});

test('the transport is told of a single call for a cluster that does not respond, and of its end', async (t) => {
  const { clock, ask, withoutResponse } = openClusters();
  ask('hung', 1, 2_000);
  t.is(withoutResponse(), 1);
  clock.advance(2_000);
  await settle();
  t.is(withoutResponse(), 0);
});

test('the transport is told of a single call that waits for a cluster without a response, and of its end', async (t) => {
  const { codeFor, clock, events } = openRunner([held().action], { concurrency: 1 });
  const told: number[] = [];
  events.on('withoutResponse', ({ calls }) => told.push(calls));
  void codeFor({ target: undefined });
  const waiting = codeFor({ timeoutMs: 500 });
  clock.advance(500);
  t.is(await waiting, 'timeout');
  t.deepEqual(told, [1, 0]);
});

test('the transport is told when calls that wait for a cluster that does not respond end', async (t) => {
  const { clock, ask, withoutResponse } = openClusters();
  ask('hung', 4, 30_000);
  ask('hung', 6, 2_000);
  clock.advance(1_999);
  t.is(withoutResponse(), 10);
  clock.advance(1);
  t.is(withoutResponse(), 4);
});

test('clusters that do not respond keep one call each when they are as many as the calls that can be held', async (t) => {
  const { codeFor, clock } = openRunner([held().action], { maxCalls: 4, clusterConcurrency: 1 });
  const calls = ['a', 'b', 'c', 'd'].flatMap((target) =>
    [1, 2].map(() => watched(codeFor({ target, timeoutMs: 30_000 }))),
  );
  clock.advance(1_000);
  await settle();
  t.deepEqual(
    calls.map((code) => code()),
    calls.map((_, n) => (n % 2 === 0 ? undefined : 'cluster_busy')),
  );
});

test('the transport is told of clusters that responded before they hang, also when nothing waits', async (t) => {
  const { clock, ask, withoutResponse } = openClusters();
  ask('was-1', 8);
  await settle();
  t.is(withoutResponse(), 0);
  clock.advance(1_000);
  await settle();
  t.is(withoutResponse(), 8);
});

test('calls without a cluster are not taken for calls to one that hangs', async (t) => {
  const { clock, codeFor, ask, ended, runs } = openClusters();
  const calls = Array.from({ length: 100 }, () => watched(codeFor({ target: undefined, timeoutMs: 10_000 })));
  t.is(runs.current, 20);
  clock.advance(9_000);
  await settle();
  t.is(ended(calls).length, 0);
  t.is(ended(ask(HEALTHY, 1)).length, 0);
  await settle();
  t.is(await codeFor({ target: HEALTHY }), 'completed');
});

test('calls without a cluster that hang keep no call to a cluster waiting, and are no reason to refuse others of them', async (t) => {
  const { clock, codeFor, ask, ended } = openClusters();
  const ofNone = (count: number) =>
    Array.from({ length: count }, () => watched(codeFor({ target: undefined, timeoutMs: 10_000 })));
  for (let passed = 0; passed < 40; passed++) {
    const calls = ofNone(300);
    await settle();
    t.deepEqual(ended(calls), Array(passed % 10 === 0 ? 150 : 300).fill('cluster_busy'), `after ${passed} s`);
    const healthy = ask(HEALTHY, 20);
    await settle();
    t.deepEqual(ended(healthy), Array(20).fill('completed'), `after ${passed} s`);
    clock.advance(1_000);
    await settle();
  }
});

test('calls without a cluster that wait longer than they may time out, whatever those before them met', async (t) => {
  const { clock, codeFor, ended } = openClusters();
  const calls = Array.from({ length: 100 }, () => watched(codeFor({ target: undefined, timeoutMs: 10_000 })));
  clock.advance(10_000);
  await settle();
  t.deepEqual(ended(calls), Array(100).fill('timeout'));
});
