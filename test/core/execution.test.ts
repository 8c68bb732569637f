import test from 'ava';
import { ActionError } from '../../src/plugin.js';
import { doing } from '../support/actions.js';
import { hostileValues } from '../support/hostile-values.js';
import { callOf, deaf, openRunner, settle, steered, watched } from '../support/open-runner.js';

/** An action whose runs end with these codes in turn, including `completed`; the last one repeats. */
function ending(codes: readonly string[]) {
  let tried = 0;
  const action = doing(async () => {
    const code = codes[Math.min(tried++, codes.length - 1)] ?? '';
    if (code === 'completed') return {};
    throw code === 'internal' ? new Error('a defect') : new ActionError(code, 'so');
  });
  return { action, tried: () => tried };
}

test('a read at its deadline is settled immediately, and its signal is aborted with the same reason', async (t) => {
  const { action, runs } = steered();
  const { ask, clock } = openRunner([action]);
  const reply = ask({ timeoutMs: 100 });
  t.false(runs[0]?.signal.aborted);
  clock.advance(100);
  t.true(runs[0]?.signal.aborted);
  t.like(runs[0]?.signal.reason, { code: 'timeout' });
  t.like(await reply, { status: 'error', body: { code: 'timeout' } });
  t.regex(JSON.stringify(await reply), /after 100 ms/);
  t.is(clock.pending, 0);
});

test('a signal that is first read after the deadline is aborted', async (t) => {
  let finish: () => void = () => {};
  let seen: AbortSignal | undefined;
  const action = doing(
    async (request) => {
      await new Promise<void>((resolve) => (finish = resolve));
      seen = request.signal;
      return seen.aborted ? Promise.reject(seen.reason) : {};
    },
    { effect: 'change' },
  );
  const { codeFor, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  finish();
  t.is(await code, 'outcome_unknown');
  t.true(seen?.aborted);
});

test('a read that ignores its signal gets a reply anyway', async (t) => {
  const { codeFor, clock } = openRunner([deaf()]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  t.is(await code, 'timeout');
});

test('a read that does not stop frees its place for the next', async (t) => {
  const quick = doing(async () => ({}), { name: 'quick' });
  const { codeFor, clock } = openRunner([deaf(), quick], { concurrency: 1 });
  const stuck = codeFor({ timeoutMs: 100 });
  const next = codeFor({ action: 'quick' });
  clock.advance(100);
  t.is(await stuck, 'timeout');
  t.is(await next, 'completed');
});

test('a change past its deadline gets time to report its outcome', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { ask, clock } = openRunner([action]);
  const reply = ask({ timeoutMs: 100 });
  clock.advance(100);
  t.true(runs[0]?.signal.aborted);
  clock.advance(29_999);
  runs[0]?.resolve({ restarted: true });
  t.deepEqual(await reply, { status: 'completed', body: { restarted: true } });
  t.is(clock.pending, 0);
});

test('a change that does not report its outcome within 30 s has an unknown outcome', async (t) => {
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

test('a change that meets its deadline is not stopped', async (t) => {
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

test('a read that throws because its signal was aborted reports the abort reason', async (t) => {
  const { action, runs } = steered();
  const { ask, clock } = openRunner([action]);
  const reply = ask({ timeoutMs: 100 });
  clock.advance(100);
  runs[0]?.reject(new Error('the socket was closed'));
  t.like(await reply, { status: 'error', body: { code: 'timeout' } });
});

for (const [what, thrown] of [
  ['the abort reason', (reason: unknown) => reason],
  ['an unexpected error', () => new Error('the socket was closed')],
] as const) {
  test(`a change that was stopped and throws ${what} has an unknown outcome, and the reply says why`, async (t) => {
    const { action, runs } = steered({ effect: 'change' });
    const { ask, clock } = openRunner([action]);
    const reply = ask({ timeoutMs: 100 });
    clock.advance(100);
    runs[0]?.reject(thrown(runs[0].signal.reason));
    t.deepEqual(await reply, {
      status: 'error',
      body: {
        errors: [
          'The change was stopped and did not report its outcome: Request has timed out during execution! (after 100 ms)',
        ],
        code: 'outcome_unknown',
        details: { stopped_by: 'timeout' },
      },
    });
  });
}

test('a change that waits for its turn at its deadline has not begun: timeout', async (t) => {
  const { codeFor, clock } = openRunner([deaf({ effect: 'change' })], { concurrency: 1 });
  void codeFor();
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  t.is(await code, 'timeout');
});

test('a stopped change that says that nothing was changed keeps its own code', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  runs[0]?.reject(new ActionError('timeout', 'nothing was changed'));
  t.is(await code, 'timeout');
});

test('a result that cannot be sent is an internal error, and the log names the place', async (t) => {
  const { ask, logs } = openRunner([doing(async () => ({ units: [{}, { states: new Map() }] }))]);
  t.like(await ask(), { status: 'error', body: { code: 'internal' } });
  const [line] = logs.find(/^action failed unexpectedly$/);
  t.regex(String(line?.error), /result\.units\[1\]\.states is an instance of Map/);
});

test('a pause of a cluster lasts as long when the time of the system is set back or forward', async (t) => {
  const { action, tried } = ending([
    'cluster_unreachable',
    'cluster_unreachable',
    'cluster_unreachable',
    'completed',
  ]);
  const { ask, codeFor, clock } = openRunner([action]);
  for (let n = 0; n < 3; n++) await codeFor();
  clock.stepWallTime(-3_600_000);
  t.like(await ask(), { body: { code: 'cluster_unreachable', details: { retry_after_ms: 5_000 } } });
  clock.stepWallTime(7_200_000);
  t.is(await codeFor(), 'cluster_unreachable');
  t.is(tried(), 3);
  clock.advance(5_000);
  t.is(await codeFor(), 'completed');
});

test('the reply to a stopped change is the outcome that it reports', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  clock.advance(100);
  runs[0]?.reject(new ActionError('unit_stopped', 'it is now stopped'));
  t.is(await code, 'unit_stopped');
});

test('a change that is past its deadline is not asked to stop again at shutdown', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, drain, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 100 });
  const drained = drain(1_000);
  clock.advance(100);
  clock.advance(900);
  t.like(runs[0]?.signal.reason, { code: 'timeout' });
  runs[0]?.reject(new Error('it stops'));
  t.is(await code, 'outcome_unknown');
  await drained;
  t.is(clock.pending, 0);
});

test('a change that is stopped at shutdown is not stopped again at its deadline', async (t) => {
  const { action, runs } = steered({ effect: 'change' });
  const { codeFor, drain, clock } = openRunner([action]);
  const code = codeFor({ timeoutMs: 1_000 });
  const drained = drain(100);
  clock.advance(100);
  clock.advance(900);
  t.like(runs[0]?.signal.reason, { code: 'cancelled' });
  runs[0]?.reject(new Error('it stops'));
  t.is(await code, 'outcome_unknown');
  await drained;
  t.is(clock.pending, 0);
});

test('a shutdown does not give a change that is past its deadline another 30 s', async (t) => {
  const { codeFor, drain, clock } = openRunner([deaf({ effect: 'change' })]);
  const code = watched(codeFor({ timeoutMs: 100 }));
  clock.advance(100);
  const drained = watched(drain(600_000).then(() => 'drained'));
  clock.advance(29_999);
  await settle();
  t.is(code(), undefined);
  t.is(drained(), undefined);
  clock.advance(1);
  await settle();
  t.is(code(), 'outcome_unknown');
  t.is(drained(), 'drained');
  t.is(clock.pending, 0);
});

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

test('a cluster that is down affects no other cluster, and no request without one', async (t) => {
  const { action, tried } = ending([...Array(3).fill('cluster_unreachable'), 'completed']);
  const { codeFor } = openRunner([action]);
  for (let n = 0; n < 4; n++) await codeFor({ target: 'down' });
  t.is(tried(), 3);
  t.is(await codeFor({ target: 'other' }), 'completed');
  t.is(await codeFor({ target: undefined }), 'completed');
});

test('requests without a cluster do not count for any cluster', async (t) => {
  const { action, tried } = ending(['cluster_unreachable']);
  const { codeFor } = openRunner([action]);
  for (let n = 0; n < 5; n++) await codeFor({ target: undefined });
  t.is(tried(), 5);
});

test('a cluster that is still down after the pause is paused again, for longer; one that is back is not', async (t) => {
  const down = 'cluster_unreachable';
  const { action, tried } = ending([down, down, down, down, 'completed', down, down, 'completed']);
  const { codeFor, clock } = openRunner([action]);
  for (let n = 0; n < 3; n++) await codeFor();
  clock.advance(5_000);
  t.is(await codeFor(), down);
  t.is(await codeFor(), down);
  t.is(tried(), 4);
  clock.advance(9_999);
  t.is(await codeFor(), down);
  t.is(tried(), 4);
  clock.advance(1);
  for (const code of ['completed', down, down, 'completed']) t.is(await codeFor(), code);
  t.is(tried(), 8);
});

for (const code of ['completed', 'unit_not_found', 'cluster_unhealthy']) {
  test(`a result with ${code} counts as having reached the cluster`, async (t) => {
    const down = 'cluster_unreachable';
    const { action, tried } = ending([down, down, code, down, down, 'completed']);
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
  'cluster_not_found',
  'cluster_empty',
  'cluster_busy',
  'internal',
]) {
  test(`a request that ends with ${code} does not count as reaching its cluster`, async (t) => {
    const down = 'cluster_unreachable';
    const { action, tried } = ending([down, down, code, down]);
    const { codeFor } = openRunner([action]);
    for (const each of [down, down, code, down, down]) t.is(await codeFor(), each);
    t.is(tried(), 4);
  });
}

test('a request that is stopped at its deadline does not count as reaching its cluster', async (t) => {
  let tried = 0;
  const action = doing(async ({ signal }) => {
    tried++;
    if (tried !== 3) throw new ActionError('cluster_unreachable', 'down');
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

test('the thousand clusters that failed last are remembered as unreachable', async (t) => {
  const tried = new Map<string, number>();
  const action = doing(async ({ cluster }) => {
    const hash = cluster?.hash ?? '';
    tried.set(hash, (tried.get(hash) ?? 0) + 1);
    throw new ActionError('cluster_unreachable', 'down');
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
  // A thousand are remembered; `other_0` is now the one that failed longest ago.
  t.is(await triedFor('first'), 0);
  await codeFor({ target: 'one_more' });
  t.is(await triedFor('first'), 0);
  t.is(await triedFor('again'), 0);
  for (let n = 0; n < 997; n++) await codeFor({ target: `further_${n}` });
  t.is(await triedFor('first'), 0);
  await codeFor({ target: 'the_last' });
  t.is(await triedFor('first'), 1);
});

test('an error has details only when its action gave some', async (t) => {
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

test('an unexpected failure is reported without the original error; the log has it, with where it was thrown', async (t) => {
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

for (const [what, thrown] of hostileValues()) {
  test(`a handler that throws ${what} ends its call only, with internal`, async (t) => {
    const action = doing(async ({ id }) => {
      if (id === 'throws') throw thrown;
      return {};
    });
    const { codeFor, drain, logs } = openRunner([action], { concurrency: 1 });
    t.is(await codeFor({ target: 'c', id: 'throws' }), 'internal');
    t.is(await codeFor({ target: 'c' }), 'completed');
    await drain(1_000);
    t.is(logs.find(/^action failed unexpectedly$/).length, 1);
    t.is(logs.find(/^request failed$/).length, 1);
  });
}

for (const effect of ['read', 'change'] as const) {
  test(`details of an error that can be read only once end the call of a ${effect} that has warned, with internal`, async (t) => {
    let reads = 0;
    const details = {
      get unit() {
        if (reads++ > 0) throw new Error('it was read before');
        return 'web.service';
      },
    };
    const action = doing(
      async ({ id, warn }) => {
        warn('a machine is missing');
        if (id === 'throws') throw new ActionError('unit_failed', 'It failed', { details });
        return {};
      },
      { effect },
    );
    const { codeFor, running } = openRunner([action], { concurrency: 1 });
    const first = watched(codeFor({ target: 'c', id: 'throws' }));
    const second = watched(codeFor({ target: 'c' }));
    await settle();
    t.deepEqual([first(), second()], ['internal', 'completed']);
    t.deepEqual(running(), []);
  });
}

test('a handler gets its deadline, its caller, and whether it may have begun before', async (t) => {
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
