import test from 'ava';
import { ANONYMOUS } from '../../src/api/caller.js';
import { type Call, Cancelled, ConnectionLost, type Settled, Shutdown } from '../../src/core/call.js';
import { CallEventBus } from '../../src/core/call-events.js';
import { Catalogue, prepareAction } from '../../src/core/catalogue.js';
import type { Middleware } from '../../src/core/middleware.js';
import { Runner } from '../../src/core/runner.js';
import { type Action, ActionError } from '../../src/plugin.js';
import { doing, held } from '../support/actions.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

interface Options {
  prefetch?: number;
  concurrency?: number;
  clusterConcurrency?: number;
  middlewares?: readonly Middleware[];
}

function runnerOf(actions: readonly Action[], options: Options = {}) {
  const clock = new ManualClock();
  const logs = logLines();
  const logFor = (fields: Record<string, unknown>) => logs.log.with(fields);
  const catalogue = new Catalogue(actions.map((each) => prepareAction(each, () => undefined)));
  const events = new CallEventBus();
  const runner = new Runner({
    catalogue,
    events,
    names: { action: 'action', target: 'target', parameters: 'parameters', timeout: 'timeout' },
    clock,
    logFor,
    prefetch: 200,
    concurrency: 50,
    clusterConcurrency: 20,
    ...options,
  });
  return { runner, clock, logs, events };
}

function call(changes: Partial<Call> = {}): Call {
  return {
    id: 'r1',
    action: 'act',
    target: 'token',
    parameters: undefined,
    timeoutMs: undefined,
    caller: ANONYMOUS,
    context: {},
    delivery: 'first',
    wantsReply: true,
    wantsParts: false,
    signal: new AbortController().signal,
    ...changes,
  };
}

function codeOf(settled: Settled): string {
  return settled.status === 'error' ? settled.body.code : settled.status;
}

test('one cluster that is full delays only itself', async (t) => {
  const { action, begun, letGo } = held();
  const quick = doing(async () => ({}), { name: 'quick' });
  const { runner } = runnerOf([action, quick], { clusterConcurrency: 2 });
  const busy = Array.from({ length: 5 }, () => runner.run(call({ target: 'busy' })));
  t.is(codeOf(await runner.run(call({ action: 'quick', target: 'other' }))), 'completed');
  t.is(begun(), 2);
  for (let n = 0; n < 5; n++) {
    letGo();
    await new Promise(setImmediate);
  }
  t.deepEqual((await Promise.all(busy)).map(codeOf), Array(5).fill('completed'));
});

test('when one cluster fills three quarters of what is held, more for it is refused at once', async (t) => {
  const { action, letGo } = held();
  const { runner } = runnerOf([action], { prefetch: 8, concurrency: 50, clusterConcurrency: 50 });
  const taken = Array.from({ length: 6 }, () => runner.run(call({ target: 'busy' })));
  t.is(codeOf(await runner.run(call({ target: 'busy' }))), 'cluster_busy');
  taken.push(runner.run(call({ target: 'other' })));
  letGo();
  t.deepEqual((await Promise.all(taken)).map(codeOf), Array(7).fill('completed'));
});

test('a deadline counts from arrival, the time of waiting included', async (t) => {
  const { action, begun } = held();
  const { runner, clock } = runnerOf([action], { concurrency: 1 });
  const running = runner.run(call({ timeoutMs: 1_000 }));
  const waiting = runner.run(call({ timeoutMs: 500 }));
  clock.advance(500);
  t.is(codeOf(await waiting), 'timeout');
  clock.advance(500);
  t.is(codeOf(await running), 'timeout');
  t.is(begun(), 1);
  t.is(clock.pending, 0);
});

test("a deadline is at most the action's own, and at most five minutes", async (t) => {
  const short = held({ name: 'short', timeoutMs: 2_000 });
  const long = held({ name: 'long' });
  const { runner, clock } = runnerOf([short.action, long.action]);
  const first = runner.run(call({ action: 'short', timeoutMs: 60_000 }));
  const second = runner.run(call({ action: 'long', timeoutMs: 3_600_000 }));
  clock.advance(2_000);
  t.is(codeOf(await first), 'timeout');
  clock.advance(298_000);
  t.is(codeOf(await second), 'timeout');
});

test('a read that does not stop when told so is answered all the same', async (t) => {
  const deaf = doing(() => new Promise(() => {}));
  const { runner, clock } = runnerOf([deaf]);
  const outcome = runner.run(call({ timeoutMs: 100 }));
  clock.advance(100);
  t.is(codeOf(await outcome), 'timeout');
});

test('a change past its deadline is asked what became of it before it is answered', async (t) => {
  let finish: (result: object) => void = () => {};
  const change = doing(() => new Promise((resolve) => (finish = resolve)), { effect: 'change' });
  const { runner, clock } = runnerOf([change]);
  const outcome = runner.run(call({ timeoutMs: 100 }));
  clock.advance(10_000);
  finish({ restarted: true });
  t.is(codeOf(await outcome), 'completed');
  t.is(clock.pending, 0);
});

test('a change that never says what became of it has an unknown outcome', async (t) => {
  const change = doing(() => new Promise(() => {}), { effect: 'change' });
  const { runner, clock } = runnerOf([change]);
  const outcome = runner.run(call({ timeoutMs: 100 }));
  clock.advance(100);
  clock.advance(30_000);
  t.is(codeOf(await outcome), 'outcome_unknown');
});

test('a cluster that cannot be reached three times in a row fails fast for a few seconds', async (t) => {
  let tried = 0;
  let away = true;
  const action = doing(async () => {
    tried++;
    if (away) throw new ActionError('cluster_unreachable', 'away');
    return {};
  });
  const { runner, clock } = runnerOf([action]);
  for (let n = 0; n < 5; n++) t.is(codeOf(await runner.run(call())), 'cluster_unreachable');
  t.is(tried, 3);
  await runner.run(call({ target: 'other' }));
  t.is(tried, 4);
  clock.advance(5_000);
  away = false;
  t.is(codeOf(await runner.run(call())), 'completed');
  away = true;
  await runner.run(call());
  t.is(codeOf(await runner.run(call())), 'cluster_unreachable');
  t.is(tried, 7);
});

test('a cluster that answers, if only with an error, has been reached', async (t) => {
  let tried = 0;
  const action = doing(async () => {
    throw new ActionError(tried++ % 2 === 0 ? 'cluster_unreachable' : 'unit_not_found', 'so');
  });
  const { runner } = runnerOf([action]);
  for (let n = 0; n < 10; n++) await runner.run(call());
  t.is(tried, 10);
});

test('a request that may have begun elsewhere is not run again when the action refuses that', async (t) => {
  const { runner } = runnerOf([doing(async () => t.fail(), { effect: 'change' })]);
  t.is(codeOf(await runner.run(call({ delivery: 'repeated' }))), 'outcome_unknown');
});

test('what waits is released when its connection is lost; what runs goes on', async (t) => {
  const { action, begun, letGo } = held();
  const { runner, clock } = runnerOf([action], { concurrency: 1 });
  const connection = new AbortController();
  const { signal } = connection;
  const running = runner.run(call({ signal }));
  const waiting = runner.run(call({ signal }));
  const other = runner.run(call());
  connection.abort(new ConnectionLost('cut'));
  t.is(codeOf(await waiting), 'released');
  letGo();
  t.is(codeOf(await running), 'completed');
  await new Promise(setImmediate);
  letGo();
  t.is(codeOf(await other), 'completed');
  t.is(begun(), 2);
  t.is(clock.pending, 0);
});

test('draining begins nothing, gives what runs its grace time, then stops it', async (t) => {
  const { action, begun } = held();
  const { runner, clock } = runnerOf([action], { concurrency: 1 });
  const running = runner.run(call());
  const waiting = runner.run(call());
  const drained = runner.drain(1_000);
  t.is(codeOf(await waiting), 'released');
  t.is(codeOf(await runner.run(call())), 'released');
  clock.advance(1_000);
  t.is(codeOf(await running), 'cancelled');
  await drained;
  t.is(begun(), 1);
});

test('what runs can be seen, with its cluster as a hash', async (t) => {
  const { action, letGo } = held();
  const { runner, clock } = runnerOf([action]);
  const outcome = runner.run(call({ target: 'very-secret-token' }));
  clock.advance(250);
  const [running] = runner.running();
  t.like(running, { id: 'r1', action: 'act', runningMs: 250 });
  t.false(JSON.stringify(running).includes('very-secret-token'));
  letGo();
  await outcome;
  t.deepEqual(runner.running(), []);
});

test('a call whose caller does not wait any more is stopped, whether it waits or runs', async (t) => {
  const { action, begun } = held();
  const { runner, clock } = runnerOf([action], { concurrency: 1 });
  const gone = new AbortController();
  const { signal } = gone;
  const running = runner.run(call({ signal }));
  const waiting = runner.run(call({ signal }));
  gone.abort(new Cancelled());
  t.is(codeOf(await running), 'cancelled');
  t.is(codeOf(await waiting), 'cancelled');
  t.is(codeOf(await runner.run(call({ signal }))), 'cancelled');
  t.is(begun(), 1);
  t.is(clock.pending, 0);
});

test('a shutdown releases what waits and stops what runs', async (t) => {
  const { action } = held();
  const { runner } = runnerOf([action], { concurrency: 1 });
  const service = new AbortController();
  const { signal } = service;
  const running = runner.run(call({ signal }));
  const waiting = runner.run(call({ signal }));
  service.abort(new Shutdown());
  t.is(codeOf(await running), 'cancelled');
  t.is(codeOf(await waiting), 'released');
});

test('a call that comes by a connection which is lost already is released', async (t) => {
  const { runner } = runnerOf([doing(async () => t.fail())]);
  t.is(codeOf(await runner.run(call({ signal: AbortSignal.abort(new ConnectionLost('cut')) }))), 'released');
});

test('what the transport found wrong is refused under the name of its field', async (t) => {
  const { runner } = runnerOf([doing(async () => t.fail())]);
  const malformed = { field: 'body.x', message: 'body.x is not part of a request' };
  t.like(await runner.run(call({ malformed })), {
    status: 'error',
    body: { code: 'invalid_request', errors: [malformed.message], details: { fields: [malformed] } },
  });
});

test('fields are called in errors what the callers of the transport call them', async (t) => {
  const { runner } = runnerOf([doing(async () => t.fail(), { target: 'cluster' })]);
  for (const [changes, field] of [
    [{ action: 7 }, 'action'],
    [{ target: undefined }, 'target'],
    [{ target: '../etc' }, 'target'],
    [{ timeoutMs: 'soon' }, 'timeout'],
  ] as const) {
    const settled = await runner.run(call(changes));
    t.like(settled, { body: { code: 'invalid_request', details: { fields: [{ field }] } } });
  }
});

test('a handler is given its deadline, its caller, and whether it may have begun before', async (t) => {
  const seen: unknown[] = [];
  const action = doing(async ({ deadline, caller, repeated, authorize, emit }) => {
    emit({ half: true });
    seen.push({ deadline, caller, repeated, allowed: authorize('web.service') });
    return {};
  });
  const { runner, clock } = runnerOf([action]);
  const caller = { name: 'deploy', verifiedBy: 'broker' } as const;
  await runner.run(call({ timeoutMs: 1_500, caller, delivery: 'repeated' }));
  t.deepEqual(seen, [{ deadline: clock.now() + 1_500, caller, repeated: true, allowed: true }]);
});

test('every change of a call is an event, in order', async (t) => {
  const { action, letGo } = held();
  const { runner, events } = runnerOf([action], { concurrency: 1 });
  const seen: string[] = [];
  for (const type of ['received', 'admitted', 'began', 'settled', 'released'] as const)
    events.on(type, ({ call: { id } }) => seen.push(`${id} ${type}`));
  const first = runner.run(call({ id: 'a' }));
  const second = runner.run(call({ id: 'b' }));
  await runner.run(call({ id: 'c', action: 'none' }));
  const drained = runner.drain(60_000);
  letGo();
  await Promise.all([first, second, drained]);
  t.deepEqual(seen, [
    'a received',
    'a admitted',
    'a began',
    'b received',
    'b admitted',
    'c received',
    'c settled',
    'b released',
    'a settled',
  ]);
});

test('middleware sees every call, those that are refused or late too, and may answer in its place', async (t) => {
  const seen: string[] = [];
  const count: Middleware = async (each, next) => {
    const settled = await next(each);
    seen.push(`${String(each.action)} ${codeOf(settled)}`);
    return settled;
  };
  const veto: Middleware = async (each, next) =>
    each.action === 'forbidden'
      ? { status: 'error', body: { errors: ['not for you'], code: 'forbidden' } }
      : next(each);
  const { action } = held();
  const { runner, clock } = runnerOf([action, doing(async () => t.fail(), { name: 'forbidden' })], {
    concurrency: 1,
    middlewares: [count, veto],
  });
  const running = runner.run(call({ timeoutMs: 200 }));
  const waiting = runner.run(call({ timeoutMs: 100 }));
  t.is(codeOf(await runner.run(call({ action: 'forbidden' }))), 'forbidden');
  await runner.run(call({ action: 'unknown' }));
  clock.advance(100);
  await waiting;
  clock.advance(100);
  await running;
  t.deepEqual(seen, ['forbidden forbidden', 'unknown unknown_action', 'act timeout', 'act timeout']);
});

test('a middleware that fails makes an internal error of its call, and no other', async (t) => {
  const defect = new Error('defect');
  const failing: Middleware = async (each, next) => {
    if (each.id === 'bad') throw defect;
    return next(each);
  };
  const { runner } = runnerOf([doing(async () => ({}))], { middlewares: [failing] });
  t.like(await runner.run(call({ id: 'bad' })), { body: { code: 'internal' }, cause: defect });
  t.is(codeOf(await runner.run(call())), 'completed');
});
