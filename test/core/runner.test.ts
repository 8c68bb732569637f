import test from 'ava';
import { ActionError } from '../../src/plugin.js';
import { Cancelled, ConnectionLost, Shutdown } from '../../src/core/call.js';
import type { Middleware } from '../../src/core/middleware.js';
import { doing, held } from '../support/actions.js';
import { callOf, codeOf, openRunner, settle, steered, watched } from '../support/open-runner.js';

test('a full cluster delays only itself', async (t) => {
  const { action, begun, finishRun } = held();
  const quick = doing(async () => ({}), { name: 'quick' });
  const { codeFor } = openRunner([action, quick], { clusterConcurrency: 2 });
  const busy = Array.from({ length: 5 }, () => codeFor({ target: 'busy' }));
  t.is(await codeFor({ action: 'quick', target: 'other' }), 'completed');
  t.is(begun(), 2);
  for (let n = 0; n < 5; n++) {
    finishRun();
    await settle();
  }
  t.deepEqual(await Promise.all(busy), Array(5).fill('completed'));
});

test('a deadline counts from arrival and includes the waiting time', async (t) => {
  const { action, begun } = held();
  const { codeFor, clock } = openRunner([action], { concurrency: 1 });
  const running = codeFor({ timeoutMs: 1_000 });
  const waiting = watched(codeFor({ timeoutMs: 500 }));
  clock.advance(499);
  await settle();
  t.is(waiting(), undefined);
  clock.advance(1);
  await settle();
  t.is(waiting(), 'timeout');
  clock.advance(500);
  t.is(await running, 'timeout');
  await settle();
  t.is(begun(), 1);
  t.is(clock.pending, 0);
});

test('a request whose deadline passes while it waits is never run, and makes room', async (t) => {
  const { action, begun, finishRun } = held();
  const { codeFor, clock } = openRunner([action], { maxCalls: 4, concurrency: 1 });
  const running = codeFor();
  const waiting = [codeFor({ timeoutMs: 10 }), codeFor({ timeoutMs: 10 })];
  t.is(await codeFor(), 'cluster_busy');
  clock.advance(10);
  t.deepEqual(await Promise.all(waiting), ['timeout', 'timeout']);
  const next = codeFor();
  finishRun();
  t.is(await running, 'completed');
  await settle();
  finishRun();
  t.is(await next, 'completed');
  t.is(begun(), 2);
});

test('a request whose time passed while the process was stopped is never run', async (t) => {
  const { action, begun, finishRun } = held({ effect: 'change' });
  const { codeFor, clock, runner } = openRunner([action], { concurrency: 1 });
  const running = codeFor();
  const waiting = [codeFor({ timeoutMs: 10 }), codeFor({ timeoutMs: 10 }), codeFor({ timeoutMs: 1_000 })];
  clock.pass(10);
  finishRun();
  t.is(await running, 'completed');
  t.deepEqual(await Promise.all(waiting.slice(0, 2)), ['timeout', 'timeout']);
  t.is(begun(), 2);
  t.is(runner.running().length, 1);
  finishRun();
  t.is(await waiting[2], 'completed');
  t.is(clock.pending, 0);
});

test('while it is paused requests wait within their deadlines, and then have their turns', async (t) => {
  const { action, begun, finishRun } = held();
  const { codeFor, clock, runner } = openRunner([action]);
  const running = codeFor();
  runner.pause();
  const waiting = [codeFor({ timeoutMs: 10 }), codeFor()];
  finishRun();
  t.is(await running, 'completed');
  clock.advance(10);
  t.is(await waiting[0], 'timeout');
  t.is(begun(), 1);
  runner.resume();
  t.is(begun(), 2);
  finishRun();
  t.is(await waiting[1], 'completed');
});

test('the time that a request waited in the transport counts', async (t) => {
  const { action, begun } = held();
  const { codeFor, clock } = openRunner([action]);
  const late = watched(codeFor({ timeoutMs: 1_000, waitedMs: 400 }));
  t.is(begun(), 1);
  clock.advance(599);
  await settle();
  t.is(late(), undefined);
  clock.advance(1);
  await settle();
  t.is(late(), 'timeout');
  t.is(await codeFor({ timeoutMs: 1_000, waitedMs: 1_000 }), 'timeout');
  t.is(begun(), 1);
});

for (const [effect, delivery, code] of [
  ['change', 'first', 'timeout'],
  ['read', 'repeated', 'timeout'],
  ['change', 'repeated', 'outcome_unknown'],
] as const)
  test(`a ${effect} whose time passes before it is run, delivered as ${delivery}, ends with ${code}`, async (t) => {
    const { action, begun } = held({ effect, redelivery: 'run-again' });
    const { codeFor, clock } = openRunner([action], { concurrency: 1 });
    void codeFor();
    const waiting = codeFor({ timeoutMs: 1_000, delivery });
    clock.advance(1_000);
    t.is(await waiting, code);
    t.is(await codeFor({ timeoutMs: 1_000, waitedMs: 1_000, delivery }), code);
    t.is(begun(), 1);
  });

test('a waiting request is released when its connection is lost; a running one continues', async (t) => {
  const { action, begun, finishRun } = held();
  const { codeFor, clock } = openRunner([action], { concurrency: 1 });
  const connection = new AbortController();
  const { signal } = connection;
  const running = codeFor({ signal });
  const waiting = [codeFor({ signal }), codeFor({ signal })];
  const other = codeFor();
  connection.abort(new ConnectionLost('cut'));
  t.deepEqual(await Promise.all(waiting), ['released', 'released']);
  finishRun();
  t.is(await running, 'completed');
  await settle();
  finishRun();
  t.is(await other, 'completed');
  await settle();
  t.is(begun(), 2);
  t.is(clock.pending, 0);
});

test('a released call does not time out', async (t) => {
  const { action } = held();
  const { codeFor, clock, logs } = openRunner([action], { concurrency: 1 });
  const running = codeFor({ timeoutMs: 1_000 });
  const connection = new AbortController();
  const waiting = codeFor({ signal: connection.signal, timeoutMs: 500 });
  connection.abort(new ConnectionLost('cut'));
  t.is(await waiting, 'released');
  // Of the running call: its deadline, and the check whether its cluster responds.
  t.is(clock.pending, 2);
  clock.advance(1_000);
  t.is(await running, 'timeout');
  t.is(logs.find(/request failed/).length, 1);
});

test('draining starts nothing, gives running requests the grace time, then stops them', async (t) => {
  const { action, begun } = held();
  const { codeFor, drain, clock } = openRunner([action], { concurrency: 1 });
  const running = watched(codeFor());
  const waiting = codeFor();
  const drained = watched(drain(1_000).then(() => 'drained'));
  t.is(await waiting, 'released');
  t.is(await codeFor(), 'released');
  clock.advance(999);
  await settle();
  t.is(running(), undefined);
  t.is(drained(), undefined);
  clock.advance(1);
  await settle();
  t.is(running(), 'cancelled');
  t.is(drained(), 'drained');
  t.is(begun(), 1);
  t.is(clock.pending, 0);
});

test('draining ends when the last running request has ended within its grace time', async (t) => {
  const { action, runs } = steered();
  const { codeFor, drain, clock } = openRunner([action]);
  const outcomes = [codeFor(), codeFor()];
  const drained = watched(drain(1_000).then(() => 'drained'));
  runs[0]?.resolve({});
  await settle();
  t.is(drained(), undefined);
  runs[1]?.resolve({});
  t.deepEqual(await Promise.all(outcomes), ['completed', 'completed']);
  await settle();
  t.is(drained(), 'drained');
  t.is(clock.pending, 0);
});

for (const [graceMs, stoppedAfter, endedAfter] of [
  [20_000, 10_000, 20_000],
  [60_000, 30_000, 60_000],
  [300_000, 270_000, 300_000],
  [2_000, 1_000, 2_500],
  [0, 0, 1_500],
] as const) {
  test(`draining within ${graceMs} ms stops a change in time for its outcome, and waits for that`, async (t) => {
    const { action, runs } = steered({ effect: 'change' });
    const { codeFor, drain, clock } = openRunner([action]);
    const code = codeFor();
    const drained = watched(drain(graceMs).then(() => 'drained'));
    clock.advance(Math.max(0, stoppedAfter - 1));
    t.is(runs[0]?.signal.aborted, stoppedAfter === 0);
    clock.advance(1);
    t.like(runs[0]?.signal.reason, { code: 'cancelled' });
    clock.advance(endedAfter - stoppedAfter - 2);
    await settle();
    t.is(drained(), undefined);
    runs[0]?.resolve({});
    t.is(await code, 'completed');
    await settle();
    t.is(drained(), 'drained');
    t.is(clock.pending, 0);
  });
}

test('a change that has not reported its outcome in the grace time has an unknown outcome, and draining ends', async (t) => {
  const { action } = steered({ effect: 'change' });
  const { ask, drain, clock } = openRunner([action]);
  // One that is stopped by the drain, and one that was stopped by its own deadline just before.
  const replies = [ask(), ask({ timeoutMs: 9_000 })];
  const drained = watched(drain(10_000).then(() => 'drained'));
  clock.advance(5_000);
  clock.advance(4_999);
  await settle();
  t.is(drained(), undefined);
  clock.advance(1);
  const unknown = (by: string) => ({ body: { code: 'outcome_unknown', details: { stopped_by: by } } });
  t.like(await replies[0], unknown('cancelled'));
  t.like(await replies[1], unknown('cancelled'));
  await settle();
  t.is(drained(), 'drained');
  t.is(clock.pending, 0);
});

test('draining ends immediately when nothing runs', async (t) => {
  const { drain, clock } = openRunner([]);
  await t.notThrowsAsync(drain(1_000));
  t.is(clock.pending, 0);
});

test('an invalid request is released while draining, not refused', async (t) => {
  const { codeFor, drain } = openRunner([]);
  await drain(0);
  t.is(await codeFor({ action: 'no_such_action' }), 'released');
});

test('running requests are listed, with the cluster as a hash', async (t) => {
  const { action, finishRun } = held();
  const { codeFor, running, clock } = openRunner([action], { concurrency: 1 });
  const codes = [codeFor({ target: 'very-secret-token' }), codeFor({ id: 'r2' })];
  clock.advance(250);
  t.is(running().length, 1);
  const [first] = running();
  t.like(first, { id: 'r1', action: 'act', runningMs: 250 });
  t.false(JSON.stringify(first).includes('very-secret-token'));
  finishRun();
  await codes[0];
  await settle();
  t.like(running(), { length: 1, 0: { id: 'r2', runningMs: 0 } });
  finishRun();
  await Promise.all(codes);
  t.deepEqual(running(), []);
});

test('each line of a request has its id, one line reports its end, and no line contains its token', async (t) => {
  const action = doing(async ({ log, cluster }) => {
    log.info('working', { cluster_object: cluster });
    return {};
  });
  const { ask, logs } = openRunner([action]);
  await ask({ target: 'very-secret-token', id: 'r7' });
  await ask({ target: '../bad', id: 'r8' });
  const own = logs.lines.filter((line) => line.request === 'r7');
  t.deepEqual(
    own.map(({ message }) => message),
    ['working', 'request completed'],
  );
  t.true(own.every((line) => line.action === 'act' && typeof line.cluster === 'string'));
  t.is(typeof own[1]?.took_ms, 'number');
  t.like(logs.find(/request failed/)[0], { request: 'r8', code: 'invalid_request' });
  t.false(JSON.stringify(logs.lines).includes('very-secret-token'));
});

test('the last line says how long the request waited and how long it ran', async (t) => {
  const { action, finishRun } = held();
  const { codeFor, clock, logs } = openRunner([action], { concurrency: 1 });
  const first = codeFor({ id: 'r1' });
  const second = codeFor({ id: 'r2' });
  const third = codeFor({ id: 'r3', timeoutMs: 150 });
  clock.advance(100);
  finishRun();
  await first;
  await settle();
  clock.advance(50);
  await third;
  clock.advance(20);
  finishRun();
  await second;
  const lines = [...logs.find(/request completed/), ...logs.find(/request failed/)];
  t.deepEqual(
    lines.map((line) => [line.request, line.waited_ms, line.took_ms]),
    [
      ['r1', 0, 100],
      ['r2', 100, 70],
      ['r3', 150, 0],
    ],
  );
});

test('each request is told as received and admitted, and as settled or released', async (t) => {
  const { action } = held();
  const { codeFor, clock, events, runner } = openRunner([action], { concurrency: 1 });
  const told: unknown[] = [];
  events.on('received', ({ call, at }) => told.push(['received', call.id, at - begin]));
  events.on('admitted', ({ call, at }) => told.push(['admitted', call.id, at - begin]));
  events.on('settled', ({ call, settled, at }) => told.push([codeOf(settled), call.id, at - begin]));
  events.on('released', ({ call, at }) => told.push(['released', call.id, at - begin]));
  const begin = clock.now();
  const ran = codeFor({ id: 'runs', timeoutMs: 100 });
  const waited = codeFor({ id: 'waits' });
  t.is(await codeFor({ id: 'refused', action: 'none' }), 'unknown_action');
  clock.advance(50);
  const drained = runner.drain(50);
  t.is(await waited, 'released');
  clock.advance(50);
  t.is(await ran, 'timeout');
  await drained;
  t.deepEqual(told, [
    ['received', 'runs', 0],
    ['admitted', 'runs', 0],
    ['received', 'waits', 0],
    ['admitted', 'waits', 0],
    ['received', 'refused', 0],
    ['unknown_action', 'refused', 0],
    ['released', 'waits', 50],
    ['timeout', 'runs', 100],
  ]);
});

test('middlewares wrap every run, the first around the others', async (t) => {
  const seen: string[] = [];
  const wrap =
    (name: string): Middleware =>
    async (_call, next) => {
      seen.push(`${name} begins`);
      const settled = await next();
      seen.push(`${name} ends with ${codeOf(settled)}`);
      return settled;
    };
  const { codeFor } = openRunner([doing(async () => ({}))], { middlewares: [wrap('outer'), wrap('inner')] });
  t.is(await codeFor(), 'completed');
  t.deepEqual(seen, [
    'outer begins',
    'inner begins',
    'inner ends with completed',
    'outer ends with completed',
  ]);
});

test('unexpected failures are visible as events', async (t) => {
  const outcomes = [new Error('defect'), new ActionError('unit_not_found', 'no such unit')];
  const action = doing(async () => {
    throw outcomes.shift();
  });
  const { codeFor, unexpected, clock } = openRunner([action, held({ name: 'slow', timeoutMs: 10 }).action]);
  await codeFor();
  await codeFor();
  const late = codeFor({ action: 'slow' });
  clock.advance(10);
  await late;
  await codeFor({ action: 'no_such_action' });
  t.is(unexpected.length, 2);
  t.like(unexpected[0], { action: 'act', code: 'internal' });
  t.like(unexpected[1], { action: 'slow', code: 'timeout' });
});

test('a call whose caller no longer waits is stopped, whether it waits or runs', async (t) => {
  const { action, begun } = held();
  const { runner, clock } = openRunner([action], { concurrency: 1 });
  const gone = new AbortController();
  const { signal } = gone;
  const running = runner.run(callOf({ signal }));
  const waiting = runner.run(callOf({ signal }));
  gone.abort(new Cancelled());
  t.is(codeOf(await running), 'cancelled');
  t.is(codeOf(await waiting), 'cancelled');
  t.is(codeOf(await runner.run(callOf({ signal }))), 'cancelled');
  t.is(begun(), 1);
  t.is(clock.pending, 0);
});

test('a shutdown releases waiting calls and stops running ones', async (t) => {
  const { action } = held();
  const { runner } = openRunner([action], { concurrency: 1 });
  const service = new AbortController();
  const { signal } = service;
  const running = runner.run(callOf({ signal }));
  const waiting = runner.run(callOf({ signal }));
  service.abort(new Shutdown());
  t.is(codeOf(await running), 'cancelled');
  t.is(codeOf(await waiting), 'released');
});

test('a call whose connection is already lost is released', async (t) => {
  const { runner } = openRunner([doing(async () => t.fail())]);
  t.is(
    codeOf(await runner.run(callOf({ signal: AbortSignal.abort(new ConnectionLost('cut')) }))),
    'released',
  );
});
