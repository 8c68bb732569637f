import { inspect } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { type Action, ActionError } from '../../src/plugin.js';
import { Cancelled, ConnectionLost, type Settled, Shutdown } from '../../src/core/call.js';
import { doing, held } from '../support/actions.js';
import { callOf, codeOf, openRunner } from '../support/open-runner.js';

/** Lets everything happen that waits for no time to pass. */
const settle = async () => new Promise(setImmediate);

/** What a promise has given so far; undefined: nothing yet. */
function watched<T>(promise: Promise<T>): () => T | undefined {
  let given: T | undefined;
  void promise.then((value) => (given = value));
  return () => given;
}

/** Runs for as long as the test lives, whatever it is told. */
const deaf = (definition: Parameters<typeof doing>[1] = {}) => doing(() => new Promise(() => {}), definition);

/** An action whose runs end as the test says, one after the other; each run keeps its signal. */
function steered(definition: Parameters<typeof doing>[1] = {}) {
  const runs: { signal: AbortSignal; resolve: (result: object) => void; reject: (error: unknown) => void }[] =
    [];
  const action = doing(
    async ({ signal }) =>
      new Promise<object>((resolve, reject) => {
        runs.push({ signal, resolve, reject });
      }),
    definition,
  );
  return { action, runs };
}

test('one cluster that is full delays only itself', async (t) => {
  const { action, begun, letGo } = held();
  const quick = doing(async () => ({}), { name: 'quick' });
  const { codeFor } = openRunner([action, quick], { clusterConcurrency: 2 });
  const busy = Array.from({ length: 5 }, () => codeFor({ target: 'busy' }));
  t.is(await codeFor({ action: 'quick', target: 'other' }), 'completed');
  t.is(begun(), 2);
  for (let n = 0; n < 5; n++) {
    letGo();
    await settle();
  }
  t.deepEqual(await Promise.all(busy), Array(5).fill('completed'));
});

for (const [prefetch, fits] of [
  [8, 6],
  [10, 8],
  [1, 1],
  [200, 150],
] as const) {
  test(`of ${prefetch} requests that can be held, ${fits} may be for one cluster, and further ones are refused`, async (t) => {
    const { action, begun, letGo } = held();
    const { codeFor } = openRunner([action], { prefetch, concurrency: 2, clusterConcurrency: 1 });
    const taken = Array.from({ length: fits }, () => codeFor({ target: 'busy' }));
    t.is(await codeFor({ target: 'busy' }), 'cluster_busy');
    const other = codeFor({ target: 'other' });
    t.is(begun(), 2);
    letGo();
    t.is(await other, 'completed');
    await settle();
    // One has ended, so there is room for one more.
    const next = codeFor({ target: 'busy' });
    t.is(await codeFor({ target: 'busy' }), 'cluster_busy');
    for (let n = 0; n < fits; n++) {
      letGo();
      await settle();
    }
    t.deepEqual(await Promise.all([...taken, next]), Array(fits + 1).fill('completed'));
  });
}

test('requests without a cluster are never refused for being too many for one', async (t) => {
  const { action, letGo } = held();
  const { codeFor } = openRunner([action], { prefetch: 4, concurrency: 8, clusterConcurrency: 8 });
  const all = Array.from({ length: 6 }, () => codeFor({ target: undefined }));
  await settle();
  letGo();
  t.deepEqual(await Promise.all(all), Array(6).fill('completed'));
});

test('a deadline counts from arrival, the time of waiting included', async (t) => {
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
  const { action, begun, letGo } = held();
  const { codeFor, clock } = openRunner([action], { prefetch: 4, concurrency: 1 });
  const running = codeFor();
  const waiting = [codeFor({ timeoutMs: 10 }), codeFor({ timeoutMs: 10 })];
  t.is(await codeFor(), 'cluster_busy');
  clock.advance(10);
  t.deepEqual(await Promise.all(waiting), ['timeout', 'timeout']);
  const next = codeFor();
  letGo();
  t.is(await running, 'completed');
  await settle();
  letGo();
  t.is(await next, 'completed');
  t.is(begun(), 2);
});

test("a deadline is at most the action's own, and at most five minutes", async (t) => {
  for (const [definition, timeoutMs, endsAfter] of [
    [{ timeoutMs: 2_000 }, 60_000, 2_000],
    [{ timeoutMs: 2_000 }, undefined, 2_000],
    [{ timeoutMs: 2_000 }, 1_999, 1_999],
    [{}, 3_600_000, 300_000],
    [{}, undefined, 300_000],
    [{}, null, 300_000],
    [{}, 299_999, 299_999],
  ] as const) {
    const { codeFor, clock } = openRunner([held(definition).action]);
    const code = watched(codeFor({ timeoutMs }));
    clock.advance(endsAfter - 1);
    await settle();
    t.is(code(), undefined);
    clock.advance(1);
    await settle();
    t.is(code(), 'timeout');
  }
});

test('a time limit is a number of milliseconds, or its digits', async (t) => {
  for (const [timeoutMs, endsAfter] of [
    [1, 1],
    ['1', 1],
    ['250', 250],
    ['00250', 250],
    [250, 250],
    [1.5, 1.5],
    ['999999999999999', 300_000],
  ] as const) {
    const { codeFor, clock } = openRunner([held().action]);
    const code = watched(codeFor({ timeoutMs }));
    clock.advance(endsAfter - 0.25);
    await settle();
    t.is(code(), undefined, String(timeoutMs));
    clock.advance(0.25);
    await settle();
    t.is(code(), 'timeout', String(timeoutMs));
  }
});

test('a time limit that is none is refused by its name, and nothing is run', async (t) => {
  const { ask } = openRunner([doing(async () => t.fail())]);
  const noTimes = [
    0,
    0.5,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    '0',
    '',
    ' 5',
    '5 ',
    '5ms',
    '1e3',
    '0x10',
    '2.5',
    '-1',
    '1234567890123456',
    'soon',
    true,
    5n,
    {},
    [5],
    new Date(5),
  ];
  for (const timeoutMs of noTimes) {
    const told = await ask({ timeoutMs });
    t.like(told, { status: 'error', body: { code: 'invalid_request' } }, inspect(timeoutMs));
    t.like(told, { body: { details: { fields: { 0: { field: 'timeout-ms' } } } } }, inspect(timeoutMs));
  }
});

test('a read at its deadline is answered at once, and its signal is aborted with the same reason', async (t) => {
  const { action, runs } = steered();
  const { ask, clock } = openRunner([action]);
  const told = ask({ timeoutMs: 100 });
  t.false(runs[0]?.signal.aborted);
  clock.advance(100);
  t.true(runs[0]?.signal.aborted);
  t.like(runs[0]?.signal.reason, { code: 'timeout' });
  t.like(await told, { status: 'error', body: { code: 'timeout' } });
  t.regex(JSON.stringify(await told), /after 100 ms/);
  t.is(clock.pending, 0);
});

test('a signal that is first asked for after the deadline is aborted as well', async (t) => {
  let goOn: () => void = () => {};
  let seen: AbortSignal | undefined;
  const action = doing(
    async (request) => {
      await new Promise<void>((resolve) => (goOn = resolve));
      seen = request.signal;
      return seen.aborted ? Promise.reject(seen.reason) : {};
    },
    { effect: 'change' },
  );
  const { codeFor, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  goOn();
  t.is(await code, 'timeout');
  t.true(seen?.aborted);
});

test('a read that does not stop when told so is answered all the same', async (t) => {
  const { codeFor, clock } = openRunner([deaf()]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  t.is(await code, 'timeout');
});

test('a read that does not stop gives its place to the next', async (t) => {
  const quick = doing(async () => ({}), { name: 'quick' });
  const { codeFor, clock } = openRunner([deaf(), quick], { concurrency: 1 });
  const stuck = codeFor({ timeoutMs: 100 });
  const next = codeFor({ action: 'quick' });
  clock.advance(100);
  t.is(await stuck, 'timeout');
  t.is(await next, 'completed');
});

test('a change past its deadline is asked what became of it before it is answered', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { ask, clock } = openRunner([action]);
  const told = ask({ timeoutMs: 100 });
  clock.advance(100);
  t.true(runs[0]?.signal.aborted);
  clock.advance(29_999);
  runs[0]?.resolve({ restarted: true });
  t.deepEqual(await told, { status: 'completed', body: { restarted: true } });
  t.is(clock.pending, 0);
});

test('a change that does not say what became of it within 30 s has an unknown outcome', async (t) => {
  const { codeFor, clock } = openRunner([deaf({ effect: 'change' })]);
  const code = watched(codeFor({ timeoutMs: 100 }));
  clock.advance(100);
  clock.advance(29_999);
  await settle();
  t.is(code(), undefined);
  clock.advance(1);
  await settle();
  t.is(code(), 'outcome_unknown');
  t.is(clock.pending, 0);
});

test('a change that keeps its deadline is not stopped', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(99);
  runs[0]?.resolve({});
  t.is(await code, 'completed');
  t.is(clock.pending, 0);
  clock.advance(60_000);
  t.false(runs[0]?.signal.aborted);
});

test('what a stopped action throws is told by the reason why it was stopped', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, clock, unexpected } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  runs[0]?.reject(new Error('the socket was closed'));
  t.is(await code, 'timeout');
  t.deepEqual(unexpected.length, 1);
  t.like(unexpected[0], { action: 'act', code: 'timeout' });
});

test('a stopped change that says itself what became of it is told by its own word', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  runs[0]?.reject(new ActionError('unit_stopped', 'it is now stopped'));
  t.is(await code, 'unit_stopped');
});

test('a change that is past its deadline is not told to stop once more at shutdown', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, drain, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  const drained = drain(1_000);
  clock.advance(100);
  clock.advance(900);
  t.like(runs[0]?.signal.reason, { code: 'timeout' });
  runs[0]?.reject(new Error('it stops'));
  t.is(await code, 'timeout');
  await drained;
  t.is(clock.pending, 0);
});

test('a change that is told to stop at shutdown is not told once more at its deadline', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, drain, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 1_000 });
  const drained = drain(100);
  clock.advance(100);
  clock.advance(900);
  t.like(runs[0]?.signal.reason, { code: 'cancelled' });
  runs[0]?.reject(new Error('it stops'));
  t.is(await code, 'cancelled');
  await drained;
  t.is(clock.pending, 0);
});

test('the 30 s that a change has to stop begin with the first order to stop', async (t) => {
  const { codeFor, drain, clock } = openRunner([deaf({ effect: 'change' })]);
  const code = watched(codeFor({ timeoutMs: 100 }));
  const drained = watched(drain(10_000).then(() => 'drained'));
  clock.advance(100);
  clock.advance(9_900);
  clock.advance(20_099);
  await settle();
  t.is(code(), undefined);
  t.is(drained(), undefined);
  clock.advance(1);
  await settle();
  t.is(code(), 'outcome_unknown');
  t.is(drained(), 'drained');
  t.is(clock.pending, 0);
});

/** An action whose runs end with these codes in turn, `completed` among them; the last one stays. */
function ending(codes: readonly string[]) {
  let tried = 0;
  const action = doing(async () => {
    const code = codes[Math.min(tried++, codes.length - 1)] ?? '';
    if (code === 'completed') return {};
    throw code === 'internal' ? new Error('a defect') : new ActionError(code, 'so');
  });
  return { action, tried: () => tried };
}

test('a cluster that cannot be reached three times in a row is not tried for five seconds', async (t) => {
  const { action, tried } = ending(['cluster_unreachable']);
  const { ask, codeFor, clock } = openRunner([action]);
  for (let n = 1; n <= 3; n++) {
    t.is(await codeFor(), 'cluster_unreachable');
    t.is(tried(), n);
  }
  clock.advance(3_000);
  t.deepEqual(await ask(), {
    status: 'error',
    body: {
      errors: [
        'This cluster could not be reached several times in a row; the next attempt is possible in 2 s',
      ],
      code: 'cluster_unreachable',
      details: { retry_after_ms: 2_000 },
    },
  });
  clock.advance(1_999);
  t.is(await codeFor(), 'cluster_unreachable');
  t.is(tried(), 3);
  clock.advance(1);
  await codeFor();
  t.is(tried(), 4);
});

test('a cluster that is away concerns no other cluster, and no request without one', async (t) => {
  const { action, tried } = ending([...Array(3).fill('cluster_unreachable'), 'completed']);
  const { codeFor } = openRunner([action]);
  for (let n = 0; n < 4; n++) await codeFor({ target: 'away' });
  t.is(tried(), 3);
  t.is(await codeFor({ target: 'other' }), 'completed');
  t.is(await codeFor({ target: undefined }), 'completed');
});

test('requests without a cluster say nothing of any', async (t) => {
  const { action, tried } = ending(['cluster_unreachable']);
  const { codeFor } = openRunner([action]);
  for (let n = 0; n < 5; n++) await codeFor({ target: undefined });
  t.is(tried(), 5);
});

test('a cluster that is away after the pause too is paused again at once; one that is back is not', async (t) => {
  const away = 'cluster_unreachable';
  const { action, tried } = ending([away, away, away, away, 'completed', away, away, 'completed']);
  const { codeFor, clock } = openRunner([action]);
  for (let n = 0; n < 3; n++) await codeFor();
  clock.advance(5_000);
  t.is(await codeFor(), away);
  t.is(await codeFor(), away);
  t.is(tried(), 4);
  clock.advance(5_000);
  for (const code of ['completed', away, away, 'completed']) t.is(await codeFor(), code);
  t.is(tried(), 8);
});

for (const code of ['completed', 'unit_not_found', 'cluster_unhealthy']) {
  test(`a cluster that has answered with ${code} has been reached`, async (t) => {
    const away = 'cluster_unreachable';
    const { action, tried } = ending([away, away, code, away, away, 'completed']);
    const { codeFor } = openRunner([action]);
    for (let n = 0; n < 6; n++) await codeFor();
    t.is(tried(), 6);
    t.is(await codeFor(), 'completed');
  });
}

for (const code of [
  'timeout',
  'cancelled',
  'outcome_unknown',
  'invalid_parameters',
  'forbidden',
  'discovery_unreachable',
  'internal',
]) {
  test(`a request that ends with ${code} does not say that its cluster was reached`, async (t) => {
    const away = 'cluster_unreachable';
    const { action, tried } = ending([away, away, code, away]);
    const { codeFor } = openRunner([action]);
    for (const each of [away, away, code, away, away]) t.is(await codeFor(), each);
    t.is(tried(), 4);
  });
}

test('a request that is stopped at its deadline does not say that its cluster was reached', async (t) => {
  let tried = 0;
  const action = doing(async ({ signal }) => {
    tried++;
    if (tried !== 3) throw new ActionError('cluster_unreachable', 'away');
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  const { codeFor, clock } = openRunner([action]);
  await codeFor();
  await codeFor();
  const late = codeFor({ timeoutMs: 10 });
  clock.advance(10);
  t.is(await late, 'timeout');
  await codeFor();
  await codeFor();
  t.is(tried, 4);
});

test('of clusters that cannot be reached, the thousand that failed last are remembered', async (t) => {
  const tried = new Map<string, number>();
  const action = doing(async ({ cluster }) => {
    const hash = cluster?.hash ?? '';
    tried.set(hash, (tried.get(hash) ?? 0) + 1);
    throw new ActionError('cluster_unreachable', 'away');
  });
  const { codeFor } = openRunner([action]);
  const triedFor = async (target: string) => {
    const before = [...tried.values()].reduce((sum, each) => sum + each, 0);
    await codeFor({ target });
    return [...tried.values()].reduce((sum, each) => sum + each, 0) - before;
  };
  await codeFor({ target: 'first' });
  await codeFor({ target: 'again' });
  for (let n = 0; n < 998; n++) await codeFor({ target: `other_${n}` });
  for (const target of ['first', 'first', 'again', 'again', 'again']) await codeFor({ target });
  // A thousand are known; `other_0` is now the one that failed longest ago.
  t.is(await triedFor('first'), 0);
  await codeFor({ target: 'one_more' });
  t.is(await triedFor('first'), 0);
  t.is(await triedFor('again'), 0);
  for (let n = 0; n < 997; n++) await codeFor({ target: `further_${n}` });
  t.is(await triedFor('first'), 0);
  await codeFor({ target: 'the_last' });
  t.is(await triedFor('first'), 1);
});

test('a repeated delivery is run again only where its action allows that', async (t) => {
  const ran: string[] = [];
  const actionOf = (name: string, definition: Parameters<typeof doing>[1]) =>
    doing(
      async () => {
        ran.push(name);
        return {};
      },
      { name, ...definition },
    );
  const { ask, codeFor } = openRunner([
    actionOf('read', { effect: 'read' }),
    actionOf('read_once', { effect: 'read', redelivery: 'refuse' }),
    actionOf('change', { effect: 'change' }),
    actionOf('change_again', { effect: 'change', redelivery: 'run-again' }),
  ]);
  const repeated = async (action: string) => codeFor({ action, delivery: 'repeated' });
  t.is(await repeated('read'), 'completed');
  t.is(await repeated('read_once'), 'outcome_unknown');
  t.is(await repeated('change'), 'outcome_unknown');
  t.is(await repeated('change_again'), 'completed');
  t.deepEqual(ran, ['read', 'change_again']);
  for (const action of ['read', 'read_once', 'change', 'change_again'])
    t.is(await codeFor({ action, delivery: 'first' }), 'completed');
  const told = await ask({ action: 'change', delivery: 'repeated' });
  t.regex(JSON.stringify(told), /change may or may not have been done/);
});

test('a repeated delivery that no worker can have run is told what is wrong with it', async (t) => {
  const { codeFor } = openRunner([doing(async () => t.fail(), { effect: 'change' })]);
  t.is(await codeFor({ delivery: 'repeated', parameters: { no: 1 } }), 'invalid_parameters');
  t.is(await codeFor({ delivery: 'repeated', target: '../bad' }), 'invalid_request');
  t.is(await codeFor({ delivery: 'repeated', timeoutMs: 0 }), 'invalid_request');
});

test('a read that nobody waits for is not run, a change is', async (t) => {
  const ran: string[] = [];
  const actionOf = (effect: 'read' | 'change') =>
    doing(
      async () => {
        ran.push(effect);
        return {};
      },
      { name: effect, effect },
    );
  const { codeFor, clock } = openRunner([actionOf('read'), actionOf('change')]);
  t.is(await codeFor({ action: 'read', wantsReply: false }), 'invalid_request');
  t.is(await codeFor({ action: 'change', wantsReply: false }), 'completed');
  t.deepEqual(ran, ['change']);
  t.is(clock.pending, 0);
});

test('what waits is released when the connection that it came by is lost; what runs goes on', async (t) => {
  const { action, begun, letGo } = held();
  const { codeFor, clock } = openRunner([action], { concurrency: 1 });
  const connection = new AbortController();
  const { signal } = connection;
  const running = codeFor({ signal });
  const waiting = [codeFor({ signal }), codeFor({ signal })];
  const other = codeFor();
  connection.abort(new ConnectionLost('cut'));
  t.deepEqual(await Promise.all(waiting), ['released', 'released']);
  letGo();
  t.is(await running, 'completed');
  await settle();
  letGo();
  t.is(await other, 'completed');
  await settle();
  t.is(begun(), 2);
  t.is(clock.pending, 0);
});

test('what is released is not answered when its deadline would have passed', async (t) => {
  const { action } = held();
  const { codeFor, clock, logs } = openRunner([action], { concurrency: 1 });
  const running = codeFor({ timeoutMs: 1_000 });
  const connection = new AbortController();
  const waiting = codeFor({ signal: connection.signal, timeoutMs: 500 });
  connection.abort(new ConnectionLost('cut'));
  t.is(await waiting, 'released');
  t.is(clock.pending, 1);
  clock.advance(1_000);
  t.is(await running, 'timeout');
  t.is(logs.find(/request failed/).length, 1);
});

test('draining begins nothing, gives what runs its grace time, then stops it', async (t) => {
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

test('draining ends when the last that runs has ended, within its grace time', async (t) => {
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

test('draining stops a change too, and waits for what it says', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, drain, clock } = openRunner([action]);
  const code = codeFor();
  const drained = watched(drain(0).then(() => 'drained'));
  clock.advance(0);
  t.like(runs[0]?.signal.reason, { code: 'cancelled' });
  await settle();
  t.is(drained(), undefined);
  runs[0]?.resolve({});
  t.is(await code, 'completed');
  await settle();
  t.is(drained(), 'drained');
});

test('draining ends at once when nothing runs', async (t) => {
  const { drain, clock } = openRunner([]);
  await t.notThrowsAsync(drain(1_000));
  t.is(clock.pending, 0);
});

test('a request that is wrong is released while draining, not answered', async (t) => {
  const { codeFor, drain } = openRunner([]);
  await drain(0);
  t.is(await codeFor({ action: 'no_such_action' }), 'released');
});

test('an action that does not exist is told, with those that do', async (t) => {
  const { ask } = openRunner([
    doing(async () => ({}), { name: 'b_act' }),
    doing(async () => ({}), { name: 'a_act' }),
  ]);
  const told = await ask({ action: 'x'.repeat(101) });
  const message = `The following FleetManager action is not supported:  ${'x'.repeat(100)}`;
  t.deepEqual(told, {
    status: 'error',
    body: {
      errors: [message],
      code: 'unknown_action',
      details: { fields: [{ field: 'request_body.action', message }], actions: ['a_act', 'b_act'] },
    },
  });
});

test('an action that has no name is an invalid request', async (t) => {
  const { ask } = openRunner([]);
  for (const action of ['', undefined, null, 3, {}, ['act']]) {
    t.like(await ask({ action }), {
      body: { code: 'invalid_request', details: { fields: { 0: { field: 'request_body.action' } } } },
    });
  }
});

/** The field that is told as wrong. */
async function wrongField(t: ExecutionContext, told: Promise<Settled>): Promise<unknown> {
  const answer = await told;
  t.is(codeOf(answer), 'invalid_request');
  const fields = (answer as { body: { details?: { fields?: { field: string }[] } } }).body.details?.fields;
  return fields?.[0]?.field;
}

test('an action gets the cluster that its target allows', async (t) => {
  const clusters: unknown[] = [];
  const actionOf = (target: Action['target']) =>
    doing(
      async ({ cluster }) => {
        clusters.push(cluster === undefined ? undefined : 'a cluster');
        return {};
      },
      { name: `with_${target}`, target },
    );
  const { ask, codeFor } = openRunner([actionOf('cluster'), actionOf('optional'), actionOf('none')]);
  const field = 'request_body.etcd_token';
  for (const target of [undefined, null]) {
    t.is(await wrongField(t, ask({ action: 'with_cluster', target })), field);
    t.is(await codeFor({ action: 'with_optional', target }), 'completed');
    t.is(await codeFor({ action: 'with_none', target }), 'completed');
  }
  t.is(await codeFor({ action: 'with_cluster' }), 'completed');
  t.is(await codeFor({ action: 'with_optional' }), 'completed');
  t.is(await wrongField(t, ask({ action: 'with_none' })), field);
  t.deepEqual(clusters, [undefined, undefined, undefined, undefined, 'a cluster', 'a cluster']);
});

test('an etcd token is 1 to 128 of the characters A-Z a-z 0-9 _ -', async (t) => {
  const { ask, codeFor } = openRunner([doing(async () => ({}), { target: 'cluster' })]);
  for (const target of ['a', 'aZ09_-', 'a'.repeat(128)]) t.is(await codeFor({ target }), 'completed');
  for (const target of ['', 'a'.repeat(129), 'a/b', 'a.b', 'a b', 'a\n', 'é', 5, true, {}, ['a']])
    t.is(await wrongField(t, ask({ target })), 'request_body.etcd_token', inspect(target));
});

test('parameters that do not fit are refused, and nothing is run', async (t) => {
  const { codeFor, clock } = openRunner([doing(async () => t.fail())]);
  t.is(await codeFor({ parameters: { text: 5 } }), 'invalid_parameters');
  t.is(clock.pending, 0);
});

test('a failure tells its details only where it has some', async (t) => {
  const failures = [
    new ActionError('unit_not_found', 'no unit x'),
    new ActionError('unit_not_found', 'no unit x', { details: { unit: 'x' } }),
  ];
  const { ask } = openRunner([
    doing(async () => {
      throw failures.shift();
    }),
  ]);
  const body = { errors: ['no unit x'], code: 'unit_not_found' };
  t.deepEqual(await ask(), { status: 'error', body });
  t.deepEqual(await ask(), { status: 'error', body: { ...body, details: { unit: 'x' } } });
});

test('an unexpected failure is answered without what was thrown; the log has it, with where it was thrown', async (t) => {
  const failures = [new Error('secret detail'), 'secret text', undefined];
  const { ask, logs, unexpected } = openRunner([
    doing(async () => {
      throw failures.shift();
    }),
  ]);
  for (let n = 0; n < 3; n++) {
    t.like(await ask({ id: 'r7' }), {
      status: 'error',
      body: {
        errors: ["An unexpected failure; the service's log has the reason under the request id r7"],
        code: 'internal',
      },
    });
  }
  const [first, second] = logs.find(/^action failed unexpectedly$/);
  t.regex(String(first?.error), /secret detail\n +at /);
  t.is(second?.error, 'secret text');
  t.is(unexpected.length, 3);
  t.false(JSON.stringify(unexpected).includes('secret'));
});

test('what runs can be seen, with its cluster as a hash', async (t) => {
  const { action, letGo } = held();
  const { codeFor, running, clock } = openRunner([action], { concurrency: 1 });
  const codes = [codeFor({ target: 'very-secret-token' }), codeFor({ id: 'r2' })];
  clock.advance(250);
  t.is(running().length, 1);
  const [first] = running();
  t.like(first, { id: 'r1', action: 'act', runningMs: 250 });
  t.false(JSON.stringify(first).includes('very-secret-token'));
  letGo();
  await codes[0];
  await settle();
  t.like(running(), { length: 1, 0: { id: 'r2', runningMs: 0 } });
  letGo();
  await Promise.all(codes);
  t.deepEqual(running(), []);
});

test('each line of a request is bound to it, one line tells its end, and no line tells its token', async (t) => {
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

test('the line of the end tells how long the request waited and how long it ran', async (t) => {
  const { action, letGo } = held();
  const { codeFor, clock, logs } = openRunner([action], { concurrency: 1 });
  const first = codeFor({ id: 'r1' });
  const second = codeFor({ id: 'r2' });
  const third = codeFor({ id: 'r3', timeoutMs: 150 });
  clock.advance(100);
  letGo();
  await first;
  await settle();
  clock.advance(50);
  await third;
  clock.advance(20);
  letGo();
  await second;
  const told = [...logs.find(/request completed/), ...logs.find(/request failed/)];
  t.deepEqual(
    told.map((line) => [line.request, line.waited_ms, line.took_ms]),
    [
      ['r1', 0, 100],
      ['r2', 100, 70],
      ['r3', 150, 0],
    ],
  );
});

test('failures that are nobody else’s mistake are told to whoever listens', async (t) => {
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

test('a call whose caller does not wait any more is stopped, whether it waits or runs', async (t) => {
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

test('a shutdown releases what waits and stops what runs', async (t) => {
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

test('a call that comes by a connection which is lost already is released', async (t) => {
  const { runner } = openRunner([doing(async () => t.fail())]);
  t.is(
    codeOf(await runner.run(callOf({ signal: AbortSignal.abort(new ConnectionLost('cut')) }))),
    'released',
  );
});

test('what the transport found wrong is refused under the name of its field', async (t) => {
  const { runner } = openRunner([doing(async () => t.fail())]);
  const malformed = { field: 'body.x', message: 'body.x is an unknown key' };
  t.like(await runner.run(callOf({ malformed })), {
    status: 'error',
    body: { code: 'invalid_request', errors: [malformed.message], details: { fields: [malformed] } },
  });
});

test('fields are called in errors what the callers of the transport call them', async (t) => {
  const { runner } = openRunner([doing(async () => t.fail(), { target: 'cluster' })]);
  for (const [changes, field] of [
    [{ action: 7 }, 'request_body.action'],
    [{ target: undefined }, 'request_body.etcd_token'],
    [{ target: '../etc' }, 'request_body.etcd_token'],
    [{ timeoutMs: 'soon' }, 'timeout-ms'],
  ] as const) {
    const settled = await runner.run(callOf(changes));
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
  const { runner, clock } = openRunner([action]);
  const caller = { name: 'deploy', verifiedBy: 'broker' } as const;
  await runner.run(callOf({ timeoutMs: 1_500, caller, delivery: 'repeated' }));
  t.deepEqual(seen, [{ deadline: clock.now() + 1_500, caller, repeated: true, allowed: true }]);
});
