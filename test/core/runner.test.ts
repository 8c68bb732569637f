import test from 'ava';
import { type Action, ActionError } from '../../src/plugin.js';
import { Catalogue } from '../../src/core/catalogue.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { Dispatcher, type Outcome, type Request } from '../../src/core/runner.js';
import { doing, held } from '../support/actions.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

function dispatcherOf(
  actions: readonly Action[],
  options: { prefetch?: number; concurrency?: number; clusterConcurrency?: number } = {},
) {
  const clock = new ManualClock();
  const logs = logLines();
  const catalogue = new Catalogue(actions.map((each) => prepareAction(each, () => undefined)));
  const unhandled: unknown[] = [];
  const dispatcher = new Dispatcher({
    catalogue,
    clock,
    logFor: (fields) => logs.log.with(fields),
    prefetch: 200,
    concurrency: 50,
    clusterConcurrency: 20,
    onUnhandled: (failure) => unhandled.push(failure),
    ...options,
  });
  return { dispatcher, clock, logs, unhandled };
}

const origin = {};

function request(changes: Partial<Request> = {}): Request {
  return {
    id: 'r1',
    action: 'act',
    etcdToken: 'token',
    parameters: undefined,
    unknownKeys: [],
    timeoutMs: undefined,
    answerable: true,
    mayHaveBegun: false,
    origin,
    finish: (answer) => answer,
    ...changes,
  };
}

function codeOf(outcome: Outcome): string {
  if (outcome.kind !== 'answered') return outcome.kind;
  return outcome.answer.status === 'completed' ? 'completed' : outcome.answer.body.code;
}

test('one cluster that is full delays only itself', async (t) => {
  const { action, begun, letGo } = held();
  const quick = doing(async () => ({}), { name: 'quick' });
  const { dispatcher } = dispatcherOf([action, quick], { clusterConcurrency: 2 });
  const busy = Array.from({ length: 5 }, () => dispatcher.dispatch(request({ etcdToken: 'busy' })));
  t.is(codeOf(await dispatcher.dispatch(request({ action: 'quick', etcdToken: 'other' }))), 'completed');
  t.is(begun(), 2);
  for (let n = 0; n < 5; n++) {
    letGo();
    await new Promise(setImmediate);
  }
  t.deepEqual((await Promise.all(busy)).map(codeOf), Array(5).fill('completed'));
});

test('when one cluster fills three quarters of what is held, more for it is refused at once', async (t) => {
  const { action, letGo } = held();
  const { dispatcher } = dispatcherOf([action], { prefetch: 8, concurrency: 50, clusterConcurrency: 50 });
  const taken = Array.from({ length: 6 }, () => dispatcher.dispatch(request({ etcdToken: 'busy' })));
  t.is(codeOf(await dispatcher.dispatch(request({ etcdToken: 'busy' }))), 'cluster_busy');
  taken.push(dispatcher.dispatch(request({ etcdToken: 'other' })));
  letGo();
  t.deepEqual((await Promise.all(taken)).map(codeOf), Array(7).fill('completed'));
});

test('a deadline counts from arrival, the time of waiting included', async (t) => {
  const { action, begun } = held();
  const { dispatcher, clock } = dispatcherOf([action], { concurrency: 1 });
  const running = dispatcher.dispatch(request({ timeoutMs: 1_000 }));
  const waiting = dispatcher.dispatch(request({ timeoutMs: 500 }));
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
  const { dispatcher, clock } = dispatcherOf([short.action, long.action]);
  const first = dispatcher.dispatch(request({ action: 'short', timeoutMs: 60_000 }));
  const second = dispatcher.dispatch(request({ action: 'long', timeoutMs: 3_600_000 }));
  clock.advance(2_000);
  t.is(codeOf(await first), 'timeout');
  clock.advance(298_000);
  t.is(codeOf(await second), 'timeout');
});

test('a read that does not stop when told so is answered all the same', async (t) => {
  const deaf = doing(() => new Promise(() => {}));
  const { dispatcher, clock } = dispatcherOf([deaf]);
  const outcome = dispatcher.dispatch(request({ timeoutMs: 100 }));
  clock.advance(100);
  t.is(codeOf(await outcome), 'timeout');
});

test('a change past its deadline is asked what became of it before it is answered', async (t) => {
  let finish: (result: object) => void = () => {};
  const change = doing(() => new Promise((resolve) => (finish = resolve)), { effect: 'change' });
  const { dispatcher, clock } = dispatcherOf([change]);
  const outcome = dispatcher.dispatch(request({ timeoutMs: 100 }));
  clock.advance(10_000);
  finish({ restarted: true });
  t.is(codeOf(await outcome), 'completed');
  t.is(clock.pending, 0);
});

test('a change that never says what became of it has an unknown outcome', async (t) => {
  const change = doing(() => new Promise(() => {}), { effect: 'change' });
  const { dispatcher, clock, logs } = dispatcherOf([change]);
  const outcome = dispatcher.dispatch(request({ timeoutMs: 100 }));
  clock.advance(100);
  clock.advance(30_000);
  t.is(codeOf(await outcome), 'outcome_unknown');
  t.is(logs.find(/did not stop/).length, 1);
});

test('a cluster that cannot be reached three times in a row fails fast for a few seconds', async (t) => {
  let tried = 0;
  let away = true;
  const action = doing(async () => {
    tried++;
    if (away) throw new ActionError('cluster_unreachable', 'away');
    return {};
  });
  const { dispatcher, clock } = dispatcherOf([action]);
  for (let n = 0; n < 5; n++) t.is(codeOf(await dispatcher.dispatch(request())), 'cluster_unreachable');
  t.is(tried, 3);
  await dispatcher.dispatch(request({ etcdToken: 'other' }));
  t.is(tried, 4);
  clock.advance(5_000);
  away = false;
  t.is(codeOf(await dispatcher.dispatch(request())), 'completed');
  away = true;
  await dispatcher.dispatch(request());
  t.is(codeOf(await dispatcher.dispatch(request())), 'cluster_unreachable');
  t.is(tried, 7);
});

test('a cluster that answers, if only with an error, has been reached', async (t) => {
  let tried = 0;
  const action = doing(async () => {
    throw new ActionError(tried++ % 2 === 0 ? 'cluster_unreachable' : 'unit_not_found', 'so');
  });
  const { dispatcher } = dispatcherOf([action]);
  for (let n = 0; n < 10; n++) await dispatcher.dispatch(request());
  t.is(tried, 10);
});

test('a request that may have begun elsewhere is not run again when the action refuses that', async (t) => {
  const { dispatcher } = dispatcherOf([doing(async () => t.fail(), { effect: 'change' })]);
  t.is(codeOf(await dispatcher.dispatch(request({ mayHaveBegun: true }))), 'outcome_unknown');
});

test('what waits is let go when its origin is lost; what runs goes on', async (t) => {
  const { action, begun, letGo } = held();
  const { dispatcher, clock } = dispatcherOf([action], { concurrency: 1 });
  const [lost, kept] = [{}, {}];
  const running = dispatcher.dispatch(request({ origin: lost }));
  const waiting = dispatcher.dispatch(request({ origin: lost }));
  const other = dispatcher.dispatch(request({ origin: kept }));
  dispatcher.dropWaiting(lost);
  t.is(codeOf(await waiting), 'not-begun');
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
  const { dispatcher, clock } = dispatcherOf([action], { concurrency: 1 });
  const running = dispatcher.dispatch(request());
  const waiting = dispatcher.dispatch(request());
  const drained = dispatcher.drain(1_000);
  t.is(codeOf(await waiting), 'not-begun');
  t.is(codeOf(await dispatcher.dispatch(request())), 'not-begun');
  clock.advance(1_000);
  t.is(codeOf(await running), 'cancelled');
  await drained;
  t.is(begun(), 1);
});

test('what runs can be seen, with its cluster as a hash', async (t) => {
  const { action, letGo } = held();
  const { dispatcher, clock } = dispatcherOf([action]);
  const outcome = dispatcher.dispatch(request({ etcdToken: 'very-secret-token' }));
  clock.advance(250);
  const [running] = dispatcher.running();
  t.like(running, { id: 'r1', action: 'act', runningMs: 250 });
  t.false(JSON.stringify(running).includes('very-secret-token'));
  letGo();
  await outcome;
  t.deepEqual(dispatcher.running(), []);
});

test('each line of a request is bound to it, one line tells its end, and no line tells its token', async (t) => {
  const action = doing(async ({ log, cluster }) => {
    log.info('working', { cluster_object: cluster });
    return {};
  });
  const { dispatcher, logs } = dispatcherOf([action]);
  await dispatcher.dispatch(request({ etcdToken: 'very-secret-token', id: 'r7' }));
  await dispatcher.dispatch(request({ etcdToken: '../bad', id: 'r8' }));
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

test('failures that are nobody else’s mistake are told to whoever listens', async (t) => {
  const outcomes = [new Error('defect'), new ActionError('unit_not_found', 'no such unit')];
  const action = doing(async () => {
    throw outcomes.shift();
  });
  const { dispatcher, unhandled } = dispatcherOf([action, held({ name: 'slow', timeoutMs: 10 }).action]);
  await dispatcher.dispatch(request());
  await dispatcher.dispatch(request());
  t.is(unhandled.length, 1);
  t.like(unhandled[0], { action: 'act', code: 'internal' });
});
