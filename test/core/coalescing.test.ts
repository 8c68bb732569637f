import test from 'ava';
import fc from 'fast-check';
import { mixed, object, string } from 'yup';
import { Cancelled, type Call, ConnectionLost, type Settled, Shutdown } from '../../src/core/call.js';
import { ActionError } from '../../src/plugin.js';
import { doing } from '../support/actions.js';
import { collectGarbage } from '../support/collect-garbage.js';
import { codeOf, openRunner, settle, watched } from '../support/open-runner.js';

type Request = Parameters<Parameters<typeof doing>[0]>[0];

interface Run {
  request: Request;
  resolve: (result: object) => void;
  reject: (error: unknown) => void;
}

const parameters = object({
  text: string().meta({ description: 'Any text.' }),
  other: string().meta({ description: 'Any other text.' }),
});

/** A read whose equal calls share runs, and whose runs end as the test says. */
function open(
  settings: Parameters<typeof openRunner>[1] = {},
  definition: Parameters<typeof doing>[1] = { coalesce: true },
) {
  const runs: Run[] = [];
  const steered = (name: string) =>
    doing(async (request) => new Promise((resolve, reject) => runs.push({ request, resolve, reject })), {
      name,
      parameters,
      ...definition,
    });
  const opened = openRunner([steered('act'), steered('other_act')], settings);
  const watch = (changes?: Partial<Call>) => watched(opened.ask(changes));
  return {
    ...opened,
    runs,
    watch,
    watchAll: (count: number, changes?: Partial<Call>) =>
      Array.from({ length: count }, (_, n) => watch({ id: `r${n}`, ...changes })),
  };
}

const bodiesOf = (calls: readonly (() => Settled | undefined)[]) =>
  calls.map((call) => {
    const settled = call();
    return settled?.status === 'completed' ? settled.body : settled && codeOf(settled);
  });

const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

/** Until everything has happened that takes one turn of the event loop for each of so many calls. */
const turns = async (count: number) => {
  for (let left = count; left > 0; left--) await settle();
};

test('a read that comes while an equal one runs waits for the next run, which begins after it, and shares that', async (t) => {
  const { watch, watchAll, runs } = open();
  const first = watch();
  await settle();
  const later = watchAll(3);
  await settle();
  t.is(runs.length, 1);
  runs[0]?.resolve({ run: 1 });
  await settle();
  t.deepEqual(bodiesOf([first, ...later]), [{ run: 1 }, undefined, undefined, undefined]);
  t.is(runs.length, 2);
  const latest = watch();
  runs[1]?.resolve({ run: 2 });
  await turns(3);
  t.deepEqual(bodiesOf([...later, latest]), [{ run: 2 }, { run: 2 }, { run: 2 }, undefined]);
  t.is(runs.length, 3);
});

test('500 equal reads at once take two runs', async (t) => {
  const { watchAll, runs, clock } = open({ maxCalls: 1_000 });
  const calls = watchAll(500);
  await settle();
  runs[0]?.resolve({});
  await settle();
  runs[1]?.resolve({});
  await turns(500);
  t.deepEqual(bodiesOf(calls), times(500, {}));
  t.is(runs.length, 2);
  t.is(clock.pending, 0);
});

test('reads that come while an equal one waits for its turn share its run', async (t) => {
  const { watch, watchAll, runs } = open({ concurrency: 1 });
  watch({ action: 'other_act' });
  const calls = watchAll(3);
  runs[0]?.resolve({});
  await settle();
  t.is(runs.length, 2);
  runs[1]?.resolve({ run: 2 });
  await turns(3);
  t.deepEqual(bodiesOf(calls), times(3, { run: 2 }));
});

test('a run that calls share takes the place of one', async (t) => {
  const { watch, watchAll, runs } = open({ clusterConcurrency: 2 });
  watchAll(5);
  watch({ action: 'other_act' });
  await settle();
  t.deepEqual(
    runs.map(({ request }) => request.id),
    ['r0', 'r1'],
  );
});

test('the order of the keys of parameters does not matter', async (t) => {
  const { watch, runs } = open();
  watch({ parameters: { text: 'a', other: 'b' } });
  watch({ parameters: { other: 'b', text: 'a' } });
  await settle();
  t.is(runs.length, 1);
});

test('reads of other parameters, clusters or actions do not share runs', async (t) => {
  const { watch, runs, codeFor } = open();
  const first = codeFor();
  runs[0]?.resolve({});
  t.is(await first, 'completed');
  const different: Partial<Call>[] = [
    {},
    { parameters: { text: 'a' } },
    { parameters: { text: 'a', other: 'a' } },
    { parameters: { text: '{}' } },
    { target: 'another' },
    { target: undefined },
    { action: 'other_act' },
    // Too long to be compared.
    { parameters: { text: 'a'.repeat(10_000) } },
    { parameters: { text: 'a'.repeat(10_000) } },
  ];
  for (const each of different) watch(each);
  await settle();
  t.is(runs.length, 1 + different.length);
});

for (const [what, definition, changes] of [
  ['that do not opt in', {}, {}],
  ['that opt out', { coalesce: false }, {}],
  ['that were delivered before', { coalesce: true }, { delivery: 'repeated' }],
  ['that must run alone', { coalesce: true }, { mustRunAlone: true }],
  ['whose callers take parts', { coalesce: true }, { wantsParts: true }],
] as const) {
  test(`reads ${what} run for themselves`, async (t) => {
    const { watchAll, runs } = open({}, definition);
    watchAll(3, changes);
    await settle();
    t.is(runs.length, 3);
  });
}

test('changes run for themselves', async (t) => {
  const { watchAll, runs } = open({}, { effect: 'change' });
  watchAll(3);
  await settle();
  t.is(runs.length, 3);
});

test('each call ends at its own deadline, and the run has the latest one', async (t) => {
  const { watch, runs, clock } = open({ concurrency: 1 });
  watch({ action: 'other_act' });
  const begin = clock.now();
  const short = watch({ timeoutMs: 100 });
  const long = watch({ timeoutMs: 5_000 });
  const shorter = watch({ timeoutMs: 50 });
  runs[0]?.resolve({});
  await settle();
  t.is(runs[1]?.request.deadline, begin + 5_000);
  clock.advance(50);
  await settle();
  t.deepEqual(bodiesOf([short, long, shorter]), [undefined, undefined, 'timeout']);
  clock.advance(50);
  await settle();
  t.deepEqual(bodiesOf([short, long]), ['timeout', undefined]);
  t.false(runs[1]?.request.signal.aborted);
  runs[1]?.resolve({ run: 2 });
  await settle();
  t.deepEqual(bodiesOf([long]), [{ run: 2 }]);
});

test('a call whose time passes while it waits for the next run ends, and the run does not begin without calls', async (t) => {
  const { watch, runs, clock } = open();
  watch();
  const [one, two] = [watch({ timeoutMs: 10 }), watch({ timeoutMs: 20 })];
  clock.advance(20);
  await settle();
  t.deepEqual(bodiesOf([one, two]), ['timeout', 'timeout']);
  runs[0]?.resolve({});
  await settle();
  t.is(runs.length, 1);
  t.is(clock.pending, 0);
});

test('calls whose time passed while the process was stopped do not get a run', async (t) => {
  const { watch, runs, clock } = open();
  watch({ timeoutMs: 1_000 });
  const late = [watch({ timeoutMs: 10 }), watch({ timeoutMs: 10 })];
  clock.pass(10);
  runs[0]?.resolve({});
  await settle();
  t.deepEqual(bodiesOf(late), ['timeout', 'timeout']);
  t.is(runs.length, 1);
  const next = watch();
  runs[1]?.resolve({ run: 2 });
  await settle();
  t.deepEqual(bodiesOf([next]), [{ run: 2 }]);
});

test('a call that is cancelled leaves the run to the others, and the last one ends it', async (t) => {
  const { watch, runs, codeFor } = open({ concurrency: 1 });
  watch({ action: 'other_act' });
  const aborts = [new AbortController(), new AbortController(), new AbortController()];
  const calls = aborts.map(({ signal }) => watch({ signal }));
  // Before the run begins, and while it runs.
  aborts[0]?.abort(new Cancelled());
  runs[0]?.resolve({});
  await settle();
  aborts[1]?.abort(new Cancelled());
  await settle();
  t.deepEqual(bodiesOf(calls), ['cancelled', 'cancelled', undefined]);
  t.false(runs[1]?.request.signal.aborted);
  aborts[2]?.abort(new Cancelled());
  await settle();
  t.deepEqual(bodiesOf(calls), ['cancelled', 'cancelled', 'cancelled']);
  t.like(runs[1]?.request.signal.reason, { code: 'cancelled' });
  const next = codeFor();
  runs[2]?.resolve({});
  t.is(await next, 'completed');
});

test('a call gets a run also when all have left that waited for it before', async (t) => {
  const { watch, runs } = open({ concurrency: 1 });
  watch({ action: 'other_act' });
  const abort = new AbortController();
  watch({ signal: abort.signal });
  abort.abort(new Cancelled());
  const next = watch();
  runs[0]?.resolve({});
  await settle();
  runs[1]?.resolve({ run: 2 });
  await settle();
  t.deepEqual(bodiesOf([next]), [{ run: 2 }]);
});

test('nothing is kept of calls that have ended', async (t) => {
  const kept = object({ bytes: mixed().meta({ format: 'bytes', description: 'Bytes.' }) });
  const opened = open({ concurrency: 1 }, { coalesce: true, parameters: kept });
  const refs: WeakRef<object>[] = [];
  const ask = (changes?: Partial<Call>) => {
    // Bytes are passed on as they are, not copied.
    const bytes = new Uint8Array(1);
    refs.push(new WeakRef(bytes));
    return opened.codeFor({ parameters: { bytes }, ...changes });
  };
  const abort = new AbortController();
  const codes = [ask({ target: 'a' }), ask({ target: 'b', signal: abort.signal })];
  abort.abort(new Cancelled());
  opened.runs.splice(0).forEach(({ resolve }) => resolve({}));
  t.deepEqual(await Promise.all(codes), ['completed', 'cancelled']);
  await settle();
  collectGarbage();
  t.deepEqual(
    refs.map((ref) => ref.deref()),
    [undefined, undefined],
  );
});

test('an error is that of all its calls, and the next run begins', async (t) => {
  const { watch, watchAll, runs } = open();
  watch();
  const calls = watchAll(2);
  runs[0]?.reject(new ActionError('cluster_unreachable', 'Nothing answers'));
  await settle();
  const latest = watch();
  runs[1]?.reject(new ActionError('cluster_unhealthy', 'It is ill', { details: { host: 'a' } }));
  await turns(2);
  t.deepEqual(
    calls.map((call) => call()),
    times(2, {
      status: 'error',
      body: { errors: ['It is ill'], code: 'cluster_unhealthy', details: { host: 'a' } },
    }),
  );
  runs[2]?.resolve({});
  await settle();
  t.deepEqual(bodiesOf([latest]), [{}]);
});

test('an unexpected error names to each caller its own request, and is logged with each', async (t) => {
  const { watch, watchAll, runs, logs } = open();
  watch({ id: 'first' });
  const calls = watchAll(2);
  runs[0]?.resolve({});
  await settle();
  runs[1]?.reject(undefined);
  await turns(2);
  for (const [index, call] of calls.entries()) {
    const settled = call();
    t.true(settled?.status === 'error' && settled.body.errors.join().endsWith(` r${index}`));
  }
  t.deepEqual(
    logs.find(/action failed unexpectedly/).map(({ request }) => request),
    ['r0', 'r1'],
  );
});

test('the warnings of a run are those of each of its calls, also of one that leaves it', async (t) => {
  const { watch, runs, clock } = open();
  watch();
  const calls = [watch(), watch(), watch({ timeoutMs: 10 })];
  runs[0]?.resolve({});
  await settle();
  runs[1]?.request.warn('Two machines are missing');
  clock.advance(10);
  runs[1]?.resolve({});
  await turns(2);
  const details = { warnings: ['Two machines are missing'] };
  t.like(calls[0]?.(), { status: 'completed', details });
  t.like(calls[1]?.(), { status: 'completed', details });
  t.like(calls[2]?.(), { status: 'error', body: { code: 'timeout', details } });
});

test('a run has the id of one of its calls and no caller, and each call has a line that names the run', async (t) => {
  const { watch, watchAll, runs, logs, running } = open();
  const caller = { name: 'someone', verifiedBy: 'broker' } as const;
  watch({ id: 'alone', caller });
  watchAll(2, { caller });
  runs[0]?.resolve({});
  await settle();
  t.deepEqual(
    running().map(({ id }) => id),
    ['r0', 'r1'],
  );
  runs[1]?.resolve({});
  await turns(2);
  t.deepEqual(
    runs.map(({ request: { id, caller: seen } }) => [id, seen.name]),
    [
      ['alone', 'anonymous'],
      ['r0', 'anonymous'],
    ],
  );
  t.deepEqual(
    logs.find(/request completed/).map((line) => [line.request, line.shared_run]),
    [
      ['alone', undefined],
      ['r0', 'r0'],
      ['r1', 'r0'],
    ],
  );
});

test('each call is told as begun when its run begins', async (t) => {
  const { watch, runs, events } = open();
  const begun: string[] = [];
  events.on('began', ({ call }) => begun.push(call.id));
  watch({ id: 'a' });
  watch({ id: 'b' });
  watch({ id: 'c' });
  t.deepEqual(begun, ['a']);
  runs[0]?.resolve({});
  await settle();
  t.deepEqual(begun, ['a', 'b', 'c']);
});

test('a drain releases the calls that wait for a run, and stops a run with all its calls', async (t) => {
  const { watch, runs, drain, clock } = open();
  watch();
  const sharing = [watch(), watch()];
  runs[0]?.resolve({});
  await settle();
  const waiting = [watch(), watch()];
  const drained = watched(drain(1_000).then(() => true));
  await settle();
  t.deepEqual(bodiesOf([...waiting, ...sharing]), ['released', 'released', undefined, undefined]);
  clock.advance(1_000);
  await settle();
  t.deepEqual(bodiesOf(sharing), ['cancelled', 'cancelled']);
  t.true(runs[1]?.request.signal.aborted);
  t.true(drained());
  t.is(runs.length, 2);
  t.is(clock.pending, 0);
});

test('a drain ends when a shared run has ended and each call has its result', async (t) => {
  const { watch, runs, drain } = open();
  watch();
  const sharing = [watch(), watch(), watch()];
  runs[0]?.resolve({});
  await settle();
  const drained = watched(drain(1_000).then(() => true));
  runs[1]?.resolve({ run: 2 });
  await turns(3);
  t.deepEqual(bodiesOf(sharing), times(3, { run: 2 }));
  t.true(drained());
});

for (const reason of [new ConnectionLost(), new Shutdown()]) {
  test(`${reason.name} releases a call that waits for a run, and only that`, async (t) => {
    const { watch, runs } = open();
    watch();
    const abort = new AbortController();
    const [lost, other] = [watch({ signal: abort.signal }), watch()];
    abort.abort(reason);
    runs[0]?.resolve({});
    await settle();
    runs[1]?.resolve({ run: 2 });
    await settle();
    t.deepEqual(bodiesOf([lost, other]), ['released', { run: 2 }]);
  });
}

test('a call that shares a run continues when its connection is lost', async (t) => {
  const { watch, runs } = open();
  watch();
  const abort = new AbortController();
  const calls = [watch({ signal: abort.signal }), watch({ signal: abort.signal })];
  runs[0]?.resolve({});
  await settle();
  abort.abort(new ConnectionLost());
  runs[1]?.resolve({ run: 2 });
  await turns(2);
  t.deepEqual(bodiesOf(calls), times(2, { run: 2 }));
});

test('calls that share runs count in what one cluster may hold, until they have ended', async (t) => {
  const { watchAll, codeFor, runs } = open({ maxCalls: 8 });
  watchAll(6);
  t.is(await codeFor(), 'cluster_busy');
  t.is(await codeFor({ action: 'other_act' }), 'cluster_busy');
  runs[0]?.resolve({});
  await settle();
  const latest = watchAll(1);
  t.is(await codeFor(), 'cluster_busy');
  runs[1]?.resolve({});
  await turns(6);
  t.is(runs.length, 3);
  const more = watchAll(5);
  t.is(await codeFor(), 'cluster_busy');
  runs[2]?.resolve({});
  await settle();
  runs[3]?.resolve({});
  await turns(6);
  t.deepEqual(bodiesOf([...latest, ...more]), times(6, {}));
});

test('calls that wait for a run are refused with the others when their cluster does not respond', async (t) => {
  const { watchAll, clock, events } = open({ maxCalls: 40 });
  let withoutResponse = 0;
  events.on('withoutResponse', ({ calls }) => (withoutResponse = calls));
  const calls = [watchAll(30), watchAll(15, { target: 'b' })];
  t.is(withoutResponse, 45);
  clock.advance(1_250);
  await settle();
  const ended = calls.map((each) => bodiesOf(each).filter((body) => body !== undefined));
  t.deepEqual(ended, [Array(10).fill('cluster_busy'), []]);
  t.deepEqual(
    bodiesOf(calls.flat().slice(20, 30)),
    Array(10).fill('cluster_busy'),
    'the latest are refused first',
  );
  t.is(withoutResponse, 35);
});

test('a run that gets no response counts once as a failure to reach the cluster', async (t) => {
  const { watch, watchAll, runs, clock, codeFor } = open({ concurrency: 1 });
  watch({ action: 'other_act', target: undefined });
  const hang = async (calls: (() => Settled | undefined)[]) => {
    await settle();
    clock.advance(5_000);
    await settle();
    t.deepEqual(new Set(bodiesOf(calls)), new Set(['timeout']));
  };
  const calls = watchAll(5, { timeoutMs: 5_000 });
  runs[0]?.resolve({});
  await hang(calls);
  await hang(watchAll(1, { timeoutMs: 5_000 }));
  // After the third in a row, the cluster is not tried for a time.
  const third = watchAll(2, { timeoutMs: 5_000 });
  const refused = codeFor();
  await hang(third.slice(0, 1));
  t.is(await refused, 'cluster_unreachable');
});

test('a run that hangs keeps those that come after it waiting for five seconds', async (t) => {
  const { watch, runs, clock } = open();
  const hung = watch();
  clock.advance(1_000);
  const [one, two] = [watch(), watch()];
  clock.advance(4_999);
  await settle();
  t.is(runs.length, 1);
  clock.advance(1);
  await settle();
  t.is(runs.length, 2);
  runs[1]?.resolve({ run: 2 });
  await turns(2);
  t.deepEqual(bodiesOf([hung, one, two]), [undefined, { run: 2 }, { run: 2 }]);
  runs[0]?.resolve({ run: 1 });
  await settle();
  t.deepEqual(bodiesOf([hung]), [{ run: 1 }]);
});

test('results are handed out in turns of the event loop, and not while replies wait to be sent', async (t) => {
  const { watch, runs, runner, clock } = open();
  watch();
  const calls = [watch(), watch(), watch({ timeoutMs: 100 }), watch()];
  runs[0]?.resolve({});
  await settle();
  runner.pause();
  runs[1]?.resolve({ run: 2 });
  await turns(5);
  t.deepEqual(bodiesOf(calls), [{ run: 2 }, undefined, undefined, undefined]);
  clock.advance(100);
  await settle();
  t.deepEqual(bodiesOf(calls), [{ run: 2 }, undefined, 'timeout', undefined]);
  runner.resume();
  await settle();
  t.is(bodiesOf(calls).filter((body) => body !== undefined).length, 3);
  await turns(2);
  t.deepEqual(bodiesOf(calls), [{ run: 2 }, { run: 2 }, 'timeout', { run: 2 }]);
});

test('a call whose result waits to be handed out ends at its deadline, also the last one', async (t) => {
  const { watch, runs, runner, clock, codeFor } = open({ maxCalls: 4 });
  watch();
  const calls = [watch(), watch({ timeoutMs: 100 })];
  runs[0]?.resolve({});
  await settle();
  runner.pause();
  runs[1]?.resolve({ run: 2 });
  await turns(2);
  clock.advance(100);
  await settle();
  t.deepEqual(bodiesOf(calls), [{ run: 2 }, 'timeout']);
  runner.resume();
  const more = [watch(), watch(), watch()];
  t.is(await codeFor(), 'cluster_busy');
  runs[2]?.resolve({});
  await settle();
  runs[3]?.resolve({});
  await turns(2);
  t.deepEqual(bodiesOf(more), times(3, {}));
});

test('whatever comes when, each call ends, with a run that began after it came', async (t) => {
  const texts = ['a', 'b'];
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ what: fc.constant('call' as const), text: fc.constantFrom(...texts) }),
    },
    { weight: 3, arbitrary: fc.record({ what: fc.constant('end' as const), run: fc.nat(3) }) },
    { weight: 1, arbitrary: fc.record({ what: fc.constant('fail' as const), run: fc.nat(3) }) },
    { weight: 1, arbitrary: fc.record({ what: fc.constant('cancel' as const), call: fc.nat(20) }) },
    {
      weight: 1,
      arbitrary: fc.record({ what: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 900 }) }),
    },
    { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('pause' as const, 'resume' as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      async (steps, concurrency) => {
        const { ask, runs, clock, runner } = open({ concurrency });
        const calls: {
          came: number;
          text: string;
          abort: AbortController;
          settled: () => Settled | undefined;
        }[] = [];
        const ended = new Set<number>();
        const endRun = (index: number, work: (run: Run) => void) => {
          const inProgress = [...runs.keys()].filter((each) => !ended.has(each));
          const chosen = inProgress[index % inProgress.length];
          const run = chosen === undefined ? undefined : runs[chosen];
          if (chosen === undefined || run === undefined) return;
          ended.add(chosen);
          work(run);
        };
        for (const each of steps) {
          if (each.what === 'call') {
            const abort = new AbortController();
            const call = { parameters: { text: each.text }, signal: abort.signal, timeoutMs: 4_000 };
            calls.push({ came: runs.length, text: each.text, abort, settled: watched(ask(call)) });
          } else if (each.what === 'end')
            endRun(each.run, (run) =>
              run.resolve({ run: runs.indexOf(run), parameters: run.request.parameters }),
            );
          else if (each.what === 'fail')
            endRun(each.run, ({ reject }) => reject(new ActionError('cluster_unhealthy', 'It is ill')));
          else if (each.what === 'cancel') calls[each.call]?.abort.abort(new Cancelled());
          else if (each.what === 'pass') clock.advance(each.ms);
          else runner[each.what]();
          await settle();
          const running = runs.filter(({ request }, index) => !ended.has(index) && !request.signal.aborted);
          const inProgress = running.map(({ request }) => JSON.stringify(request.parameters));
          if (new Set(inProgress).size !== inProgress.length) throw new Error('equal runs are in progress');
        }
        runner.resume();
        await turns(3);
        clock.advance(4_000);
        await turns(3);
        for (const { came, text, settled } of calls) {
          const end = settled();
          if (end === undefined) throw new Error('a call has not ended');
          if (end.status !== 'completed') continue;
          const { run, parameters: sent } = end.body as { run: number; parameters: { text: string } };
          if (run < came) throw new Error('a result is older than its call');
          if (sent.text !== text) throw new Error('a result is that of other parameters');
        }
        if (runner.running().length > 0 || clock.pending > 0) throw new Error('something is left');
      },
    ),
    { numRuns: 200 },
  );
  t.pass();
});
