import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import anyTest from 'ava';
import { ConnectionLost } from '../../src/core/call.js';
import { MustRunAlone, NeverBegan } from '../../src/core/isolation.js';
import { ServiceDrain } from '../../src/core/service-drain.js';
import { ActionError } from '../../src/plugin.js';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { clusterSettings } from '../../src/sandbox/sandbox-settings.js';
import { systemClock } from '../../src/lib/clock.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { planted } from '../support/planted-secrets.js';
import { folder } from '../support/settings.js';
import { useUpFiles } from '../support/without-files.js';
import { openIsolation } from './open-isolation.js';

// Real processes, as the service forks them; one test after the other, as each starts some.
const test = anyTest.serial;

const isGone = (pid: unknown) => {
  try {
    return !process.kill(Number(pid), 0);
  } catch {
    return true;
  }
};

/** The log of a process is read apart from its results. */
const lineOf = (lines: Record<string, unknown>[], message: string) =>
  eventually(message, () => lines.find((line) => line.message === message));

test('a handler runs in another process, and gets what it gets in the service', async (t) => {
  const { act } = await openIsolation(t);
  t.not(await act('pid'), process.pid);
  const caller = { name: 'ops', verifiedBy: 'broker' } as const;
  const request = (await act('request', { id: '13', caller, token: 'secret', value: { n: 5n } })) as {
    leftMs: number;
    cluster: string;
  };
  t.like(request, { id: '13', caller, repeated: true, parameters: { value: { n: 5n } } });
  t.true(request.leftMs > 0 && request.leftMs <= 8 * 60_000, String(request.leftMs));
  t.regex(request.cluster, /^[0-9a-f]{10}$/);
});

test('a handler gets the settings there that the service has read', async (t) => {
  const settings = { key: planted('plugin'), hosts: ['a'] };
  const { act } = await openIsolation(t, { pluginSettings: { act: settings } });
  t.deepEqual(await act('settings'), { settings, isFrozen: true });
});

test('calls share one process', async (t) => {
  const { act, logs } = await openIsolation(t);
  t.deepEqual(logs.lines, [], 'none is started before the first call');
  const pids = await Promise.all([act('pid'), act('pid'), act('pid')]);
  t.is(new Set([...pids, await act('pid')]).size, 1);
  t.is(logs.find(/^handler process started$/).length, 1);
});

test('what a plugin sends itself to the service does no harm', async (t) => {
  const { act } = await openIsolation(t);
  t.is(await act('sends'), 'sent');
  t.is(await act('sends'), 'sent');
});

test('the ports work there, and the service is told of the responses of the cluster', async (t) => {
  const sandbox = await startSandbox({});
  t.teardown(async () => sandbox.stop());
  const { discoveryUrl, fleetPort } = clusterSettings(sandbox);
  const env = {
    ETCD_DISCOVERY_URL: discoveryUrl,
    FLEET_API_PORT: String(fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
  };
  const { act } = await openIsolation(t, { env });
  let responses = 0;
  const machines = await act('', {
    action: 'list_machines',
    parameters: {},
    token: sandbox.token,
    onResponse: () => responses++,
  });
  t.deepEqual(machines, sandbox.cluster.machines);
  t.true(responses > 0);
});

test('every value that a result may contain arrives', async (t) => {
  const { act } = await openIsolation(t);
  t.deepEqual(await act('types'), {
    big: 2n ** 70n,
    at: new Date(0).toJSON(),
    own: { text: 'from toJSON' },
    none: undefined,
    list: [null, 'é', 1.5, false],
  });
});

test('a result of 8 MB arrives whole, and others arrive meanwhile', async (t) => {
  const { act } = await openIsolation(t);
  const [rows, pid] = await Promise.all([act('large'), act('pid')]);
  t.is((rows as unknown[]).length, 8 * 1024);
  t.is(JSON.stringify((rows as unknown[]).at(-1)), JSON.stringify({ n: 8_191, text: 'x'.repeat(1_000) }));
  t.is(typeof pid, 'number');
});

test('a result that is larger than any reply is refused there, and not sent to the service', async (t) => {
  const { act } = await openIsolation(t);
  const error = await t.throwsAsync(act('huge'), { instanceOf: ActionError });
  t.like(error, { code: 'answer_too_large', details: { limit: 16 * 1024 * 1024 } });
});

test('what cannot be sent is an unexpected error, and the process runs on', async (t) => {
  const { act } = await openIsolation(t);
  const pid = await act('pid');
  for (const [does, message] of [
    ['row', 'result.rows[0] is an instance of Row'],
    ['map', 'result.states is an instance of Map'],
    ['stream', 'result.log is a stream'],
    ['function', 'result.run is a function'],
    ['circular', 'result.self contains itself'],
    ['nothing', 'undefined'],
    ['badCode', "an error code must be snake_case, not 'Not Allowed'"],
  ] as const) {
    const error = await t.throwsAsync(act(does));
    t.false(error instanceof ActionError);
    t.true(error?.message.includes(message), error?.message);
  }
  t.is(await act('pid'), pid);
});

test('parameters that cannot be copied are an unexpected error, and the process runs on', async (t) => {
  const { act } = await openIsolation(t);
  const pid = await act('pid');
  await t.throwsAsync(act('pid', { value: () => {} }), { message: /could not be cloned/ });
  t.is(await act('pid'), pid);
});

test('an error for the caller arrives with its code, text and details', async (t) => {
  const { act, lines } = await openIsolation(t);
  const error = await t.throwsAsync(act('report'), { instanceOf: ActionError });
  t.like(error, { code: 'unit_not_found', message: 'no such unit', details: { units: [1n] } });
  const other = await t.throwsAsync(act('badDetails', { id: '13' }), { instanceOf: ActionError });
  t.like(other, { code: 'known', message: 'so', details: undefined });
  const line = await lineOf(lines, 'error details left out');
  t.like(line, { request: '13', reason: 'details.run is a function' });
});

test('the stack of an unexpected error arrives with its cause', async (t) => {
  const { act } = await openIsolation(t);
  const error = await t.throwsAsync(act('defect'));
  t.regex(error?.stack ?? '', /^TypeError: a defect\n +at .*index\.js[^]*caused by: Error: the cause\n/);
});

test('a handler that stops when its signal is aborted rejects with the very reason', async (t) => {
  const { act, runs } = await openIsolation(t);
  const abort = new AbortController();
  const stopped = act('aborted', { id: '13', signal: abort.signal });
  await eventually('it runs', async () => (await runs('13')).length === 1);
  const reason = new ActionError('timeout', 'the time is up');
  abort.abort(reason);
  t.is(await t.throwsAsync(stopped), reason);
});

test('handlers learn that the service begins to stop, and by when they must report, before and after they begin', async (t) => {
  const { act, runs } = await openIsolation(t);
  const drain = new ServiceDrain();
  const draining = act('drains', { id: 'first', drain });
  await eventually('it runs', async () => (await runs('first')).length === 1);
  drain.begin(new Error('the service stops'), systemClock.now() + HUNG_MS);
  const seen = (await draining) as { leftMs: number; stopped: boolean };
  t.true(seen.leftMs > 0 && seen.leftMs <= HUNG_MS, `${seen.leftMs} ms`);
  t.false(seen.stopped);
  t.like(await act('drains', { drain }), { stopped: false });
  const other = await openIsolation(t);
  t.like(await other.act('drains', { drain }), { stopped: false });
});

test('a handler reads why it is stopped, and reports an outcome', async (t) => {
  const { act, runs } = await openIsolation(t);
  const abort = new AbortController();
  const stopped = act('reports', { id: '13', signal: abort.signal });
  await eventually('it runs', async () => (await runs('13')).length === 1);
  abort.abort(new ActionError('cancelled', 'it stops'));
  const error = await t.throwsAsync(stopped, { instanceOf: ActionError });
  t.like(error, { code: 'unit_stopped', message: 'cancelled: it stops' });
});

test('a call that is stopped before a process is ready does not run', async (t) => {
  const { act, runs } = await openIsolation(t);
  const abort = new AbortController();
  const stopped = act('pid', { id: '13', signal: abort.signal });
  const reason = new ActionError('timeout', 'the time is up');
  abort.abort(reason);
  t.is(await t.throwsAsync(stopped), reason);
  await act('pid');
  t.deepEqual(await runs('13'), []);
});

test('warnings arrive, each once, and so do their facts', async (t) => {
  const { act } = await openIsolation(t);
  const warned: unknown[] = [];
  t.is(await act('warns', { onWarning: (...warning) => warned.push(warning) }), 'warned');
  const unreachable = (host: string) => ({ unreachable: [{ host, code: 'c', reason: 'r' }] });
  t.deepEqual(warned, [
    ['warning 0'],
    ['warning 1'],
    ['warning 2', unreachable('h0')],
    ['warning 2', unreachable('h1')],
  ]);
});

test('its log lines have the fields of the request, and the console is a part of the log', async (t) => {
  const { act, lines } = await openIsolation(t);
  await act('logs', { id: '13' });
  await eventually('both are read', () => lines.length >= 2);
  t.like(lines[0], { level: 'info', message: 'it logs', request: '13', action: 'act', n: 1 });
  t.like(lines[1], { message: 'output written', stream: 'stdout', text: 'it prints' });
});

test('no secret is in the arguments or in the environment of the process', async (t) => {
  const { act } = await openIsolation(t, { env: { SSH_PASSPHRASE: 'Zqsecret' } });
  const seen = (await act('argv')) as string[];
  t.true(seen.length > 0);
  t.false(seen.some((each) => each.includes('Zqsecret')));
});

test('the process ignores the signals that stop the service', async (t) => {
  const { act } = await openIsolation(t);
  t.is(await act('signals'), 'alive');
});

for (const [does, how] of [
  ['exit', 'exit code 7'],
  ['kill', 'SIGKILL'],
  ['uncaught', 'exit code 1'],
] as const) {
  test(`a call that ends its process runs once more, in a new one: ${does}`, async (t) => {
    const { act, logs, runs } = await openIsolation(t);
    t.is(await act(does, { id: '13', times: 1 }), 'ran');
    const [first, second, ...more] = await runs('13');
    t.not(first, second);
    t.deepEqual(more, []);
    const ended = logs.find(/^handler process ended$/);
    t.is(ended.length, 1);
    t.like(ended[0], {
      level: 'warn',
      pid: Number(first),
      how,
      requests: [{ request: '13', action: 'act' }],
    });
  });

  test(`a call that ends its process twice is not run again: ${does}`, async (t) => {
    const { act, logs, runs } = await openIsolation(t);
    const error = await t.throwsAsync(act(does, { id: '13' }), { instanceOf: ActionError });
    t.is(error.code, 'worker_lost');
    t.is((await runs('13')).length, 2);
    t.is(logs.find(/^handler process ended$/).length, 2);
    t.is(typeof (await act('pid')), 'number', 'others are served');
  });
}

test('a call that is to be given back does not run again here when its shared process has ended', async (t) => {
  const { act, runs } = await openIsolation(t);
  const error = await t.throwsAsync(act('exit', { id: '13', onProcessEnd: 'give-back' }), {
    instanceOf: MustRunAlone,
  });
  t.regex(error?.message ?? '', /exit code 7/);
  t.is((await runs('13')).length, 1);
});

test('a call that must be alone runs once, in a process of its own', async (t) => {
  const { act, runs } = await openIsolation(t);
  const shared = await act('pid');
  t.not(await act('pid', { isAlone: true, onProcessEnd: 'give-back' }), shared);
  for (const [onProcessEnd, code] of [
    ['give-back', 'worker_lost'],
    ['run-alone', 'worker_lost'],
    ['unknown', 'outcome_unknown'],
  ] as const) {
    const call = act('exit', { id: onProcessEnd, onProcessEnd, isAlone: true });
    t.like(await t.throwsAsync(call), { code });
    t.is((await runs(onProcessEnd)).length, 1);
  }
  t.is(await act('pid'), shared);
});

test('an uncaught exception is in the log of the process', async (t) => {
  const { act, lines } = await openIsolation(t);
  await act('uncaught', { times: 1 });
  t.regex(String((await lineOf(lines, 'uncaught exception')).error), /^Error: in a timer/);
});

test('calls that shared the process of another that ended it run once more, each alone', async (t) => {
  const { act, logs, runs } = await openIsolation(t);
  const ids = ['a', 'b', 'c'];
  const innocent = ids.map(async (id) => act('never', { id, times: 1 }));
  for (const id of ids) await eventually(`${id} runs`, async () => (await runs(id)).length === 1);
  const poison = await t.throwsAsync(act('exit', { id: 'poison' }), { instanceOf: ActionError });
  t.is(poison.code, 'worker_lost');
  t.deepEqual(await Promise.all(innocent), ['ran', 'ran', 'ran']);
  const [{ requests } = {}] = logs.find(/^handler process ended$/);
  t.is((requests as unknown[]).length, 4);
  const all = await Promise.all([...ids, 'poison'].map(runs));
  t.is(new Set(all.map(([first]) => first)).size, 1, 'first together');
  t.is(new Set(all.map(([, second]) => second)).size, 4, 'then each alone');
});

test('ten calls share a process, the next ones another, and what is more than two of them take shares these too', async (t) => {
  const { act, runs, logs } = await openIsolation(t);
  const abort = new AbortController();
  const reason = new ActionError('timeout', 'the time is up');
  const ids = Array.from({ length: 22 }, (_, n) => `call ${n}`);
  const held = ids.map(async (id) => t.throwsAsync(act('aborted', { id, signal: abort.signal })));
  const calls = new Map<string, number>();
  for (const id of ids) {
    await eventually('it runs', async () => (await runs(id)).length === 1);
    const [pid = ''] = await runs(id);
    calls.set(pid, (calls.get(pid) ?? 0) + 1);
  }
  t.deepEqual(
    [...calls.values()].toSorted((a, b) => a - b),
    [11, 11],
  );
  abort.abort(reason);
  await Promise.all(held);
  t.true(calls.has(String(await act('pid'))));
  t.is(logs.find(/^handler process started$/).length, 2);
});

test('calls that are given back share no process with others', async (t) => {
  const { act } = await openIsolation(t);
  const kinds = ['give-back', 'unknown', 'run-alone', 'give-back'] as const;
  const [read, change, probe, other] = await Promise.all(
    kinds.map(async (onProcessEnd) => act('pid', { onProcessEnd })),
  );
  t.is(read, other);
  t.is(change, probe);
  t.not(read, change);
});

test('a place is given in a process that responds, so not in one that is blocked', async (t) => {
  const { isolation, act, callOf, runs, logs } = await openIsolation(t, { env: { WATCHDOG_SECONDS: '3' } });
  const blocked = act('blocks', { id: 'poison', times: 1 });
  await eventually('it blocks', async () => (await runs('poison')).length === 1);
  let hasPlace = false;
  const entering = isolation.enter(callOf('pid')).then((place) => {
    hasPlace = true;
    return place;
  });
  await eventually('the process has ended', () => {
    const [ended] = logs.find(/^handler process ended$/);
    t.false(hasPlace && ended === undefined);
    return ended !== undefined;
  });
  const place = await entering;
  t.not(String(await place.run(callOf('pid'))), (await runs('poison'))[0]);
  await blocked;
});

test('a change runs alone when its process had not begun it when that ended', async (t) => {
  const { isolation, act, callOf, runs } = await openIsolation(t, { env: { WATCHDOG_SECONDS: '3' } });
  const change = callOf('pid', { id: 'change', onProcessEnd: 'unknown' });
  const place = await isolation.enter(change);
  const blocked = act('blocks', { id: 'poison', times: 1 });
  await eventually('it blocks', async () => (await runs('poison')).length === 1);
  const pid = await place.run(change);
  t.not(String(pid), (await runs('poison'))[0]);
  t.deepEqual(await runs('change'), [String(pid)]);
  await blocked;
});

test('a change runs alone when its process has ended before it came', async (t) => {
  const { isolation, act, callOf, runs, logs } = await openIsolation(t);
  const change = callOf('pid', { id: 'change', onProcessEnd: 'unknown' });
  const place = await isolation.enter(change);
  await act('exit', { id: 'poison', times: 1 });
  t.is(logs.find(/^handler process ended$/).length, 1);
  const pid = String(await place.run(change));
  t.deepEqual(await runs('change'), [pid]);
  t.false((await runs('poison')).includes(pid));
});

test('a change that is stopped while its process is blocked is known not to have begun', async (t) => {
  const { isolation, act, callOf, runs } = await openIsolation(t, { env: { WATCHDOG_SECONDS: '3' } });
  const abort = new AbortController();
  const change = callOf('pid', { id: 'change', onProcessEnd: 'unknown', signal: abort.signal });
  const place = await isolation.enter(change);
  const blocked = act('blocks', { id: 'poison', times: 1 });
  await eventually('it blocks', async () => (await runs('poison')).length === 1);
  const running = place.run(change);
  const reason = new ActionError('timeout', 'the time is up');
  abort.abort(reason);
  t.is((await t.throwsAsync(running, { instanceOf: NeverBegan }))?.cause, reason);
  await blocked;
  t.deepEqual(await runs('change'), []);
});

test('a change that is stopped while it waits to run alone is known not to have begun', async (t) => {
  const { isolation, act, callOf, runs } = await openIsolation(t);
  const abort = new AbortController();
  const change = callOf('pid', { id: 'change', onProcessEnd: 'unknown', signal: abort.signal });
  const place = await isolation.enter(change);
  await act('exit', { id: 'poison', times: 1 });
  const others = [1, 2].map(async () => isolation.enter(callOf('pid', { isAlone: true })));
  const running = place.run(change);
  const reason = new ActionError('cancelled', 'enough');
  abort.abort(reason);
  t.is((await t.throwsAsync(running, { instanceOf: NeverBegan }))?.cause, reason);
  for (const other of others) (await other).leave();
  t.deepEqual(await runs('change'), []);
});

test('a call that must be alone gets another process when its own has ended before it came', async (t) => {
  const { isolation, callOf, runs, logs } = await openIsolation(t);
  for (const onProcessEnd of ['unknown', 'give-back'] as const) {
    const call = callOf('pid', { id: onProcessEnd, onProcessEnd, isAlone: true });
    const place = await isolation.enter(call);
    const { pid } = logs.find(/^handler process started$/).at(-1) ?? {};
    process.kill(Number(pid), 'SIGKILL');
    await eventually('it has ended', () =>
      logs.find(/^handler process ended$/).some((line) => line.pid === pid),
    );
    const other = await place.run(call);
    t.not(other, pid);
    t.deepEqual(await runs(onProcessEnd), [String(other)]);
  }
});

test('a process in which nothing runs is killed when it does not respond for 30 s', async (t) => {
  const clock = new ManualClock();
  const { isolation, act, callOf, logs } = await openIsolation(t, { clock });
  const pid = Number(await act('pid'));
  process.kill(pid, 'SIGSTOP');
  const entering = isolation.enter(callOf('pid'));
  await new Promise(setImmediate);
  clock.advance(29_999);
  t.false(isGone(pid));
  clock.advance(1);
  const place = await entering;
  t.not(await place.run(callOf('pid')), pid);
  t.like(logs.find(/^handler process ended$/)[0], { pid, reason: 'it did not respond for 30000 ms' });
});

test('two calls run alone at a time, and the next waits until a place is left', async (t) => {
  const { isolation, callOf } = await openIsolation(t);
  const needs = callOf('pid', { isAlone: true });
  const [first, second] = await Promise.all([isolation.enter(needs), isolation.enter(needs)]);
  let hasPlace = false;
  const third = isolation.enter(needs).then((place) => {
    hasPlace = true;
    return place;
  });
  const pids = [await second.run(needs)];
  await eventually('the next has the place', () => hasPlace);
  const fourth = isolation.enter(needs);
  first.leave();
  first.leave();
  for (const place of [await third, await fourth]) pids.push(await place.run(needs));
  t.is(new Set(pids).size, 3);
});

test('while a call runs alone, others share a process', async (t) => {
  const { act, runs } = await openIsolation(t);
  const abort = new AbortController();
  const alone = act('aborted', { id: 'alone', isAlone: true, signal: abort.signal });
  await eventually('it runs', async () => (await runs('alone')).length === 1);
  const shared = await Promise.all([act('pid'), act('pid')]);
  t.is(new Set([...shared.map(String), ...(await runs('alone'))]).size, 2);
  abort.abort(new ActionError('timeout', 'the time is up'));
  await t.throwsAsync(alone, { instanceOf: ActionError });
});

test('a change that may not run again has an unknown outcome when its process ends', async (t) => {
  const { act, runs } = await openIsolation(t);
  const error = await t.throwsAsync(act('exit', { id: '13', onProcessEnd: 'unknown' }), {
    instanceOf: ActionError,
  });
  t.like(error, { code: 'outcome_unknown', details: { stopped_by: 'worker_lost' } });
  t.is((await runs('13')).length, 1);
});

test('a stopped call whose process ends is not run again', async (t) => {
  const { act, runs } = await openIsolation(t);
  const abort = new AbortController();
  const stopped = act('never', { id: '13', signal: abort.signal });
  await eventually('it runs', async () => (await runs('13')).length === 1);
  const reason = new ActionError('timeout', 'the time is up');
  abort.abort(reason);
  await act('exit', { times: 1 });
  t.is(await t.throwsAsync(stopped), reason);
  t.is((await runs('13')).length, 1);
});

test('a call that ends its process when it is stopped is stopped, and not lost', async (t) => {
  const { act, runs } = await openIsolation(t);
  const abort = new AbortController();
  const stopped = act('exitWhenStopped', { id: '13', signal: abort.signal });
  await eventually('it runs', async () => (await runs('13')).length === 1);
  const other = act('exit', { times: 1 });
  await eventually('it runs alone', async () => (await runs('13')).length === 2);
  const reason = new ActionError('timeout', 'the time is up');
  abort.abort(reason);
  t.is(await t.throwsAsync(stopped), reason);
  t.is(await other, 'ran');
});

test('a process without calls for a minute cleans up and ends, and the next call starts a new one', async (t) => {
  const clock = new ManualClock();
  const { act, runs, logs } = await openIsolation(t, { clock });
  const pid = await act('pid');
  clock.advance(59_999);
  t.is(await act('pid'), pid);
  clock.advance(59_999);
  t.is(await act('pid'), pid);
  clock.advance(60_000);
  t.not(await act('pid'), pid);
  t.true(isGone(pid), 'there are never two that are shared');
  t.deepEqual(await runs('disposed'), [String(pid)]);
  t.deepEqual(logs.find(/^handler process ended$/), []);
});

test('a process with a call is not ended, however long it runs', async (t) => {
  const clock = new ManualClock();
  const { act, runs } = await openIsolation(t, { clock });
  const abort = new AbortController();
  const long = act('aborted', { id: 'long', signal: abort.signal });
  await eventually('it runs', async () => (await runs('long')).length === 1);
  const pid = await act('pid');
  clock.advance(120_000);
  t.is(await act('pid'), pid);
  abort.abort(new ActionError('timeout', 'the time is up'));
  await t.throwsAsync(long);
});

test('a process is killed when all that runs in it ignores for 30 s that it is stopped', async (t) => {
  const clock = new ManualClock();
  const { act, runs, logs } = await openIsolation(t, { clock });
  const reason = new ActionError('timeout', 'the time is up');
  const abort = new AbortController();
  const stopped = ['a', 'b'].map((id) => act('never', { id, signal: abort.signal }));
  const other = new AbortController();
  const kept = act('aborted', { id: 'c', signal: other.signal });
  for (const id of ['a', 'b', 'c']) await eventually(`${id} runs`, async () => (await runs(id)).length === 1);
  const pid = await act('pid');
  abort.abort(reason);
  clock.advance(30_000);
  t.is(await act('pid'), pid, 'another call runs in it');
  other.abort(reason);
  await t.throwsAsync(kept);
  for (const each of stopped) t.is(await t.throwsAsync(each), reason);
  const [ended] = logs.find(/^handler process ended$/);
  t.like(ended, { pid, how: 'SIGKILL', requests: ['a', 'b'].map((request) => ({ request, action: 'act' })) });
  t.regex(String(ended?.reason), /did not end within 30000 ms after they were stopped/);
});

test('a process is killed at once when all that runs in it is released, and none of it runs once more', async (t) => {
  const { act, runs, logs } = await openIsolation(t);
  const connection = new AbortController();
  const lost = new ConnectionLost('lost');
  const calls: Promise<unknown>[] = [];
  for (const [id, does] of Object.entries({ a: 'never', b: 'blocks' })) {
    calls.push(act(does, { id, signal: connection.signal }));
    await eventually(`${id} runs`, async () => (await runs(id)).length === 1);
  }
  connection.abort(lost);
  for (const call of calls) t.is(await t.throwsAsync(call), lost);
  const [ended] = logs.find(/^handler process ended$/);
  t.like(ended, { how: 'SIGKILL', reason: 'all of its requests were given back to the queue' });
  t.deepEqual([(await runs('a')).length, (await runs('b')).length], [1, 1]);
});

test('a process in which anything else runs is not killed when calls in it are released', async (t) => {
  const { act, runs, logs } = await openIsolation(t);
  const [connection, other] = [new AbortController(), new AbortController()];
  const [released, kept] = [
    act('never', { id: 'a', signal: connection.signal }),
    act('aborted', { id: 'b', signal: other.signal }),
  ];
  for (const id of ['a', 'b']) await eventually(`${id} runs`, async () => (await runs(id)).length === 1);
  const lost = new ConnectionLost('lost');
  connection.abort(lost);
  t.deepEqual([await act('pid')], (await runs('a')).map(Number));
  t.is(logs.find(/^handler process ended$/).length, 0);
  const reason = new ActionError('timeout', 'the time is up');
  other.abort(reason);
  t.is(await t.throwsAsync(kept), reason);
  t.is(await t.throwsAsync(released), lost);
});

test('a call whose process cannot be started fails before its deadline, and the log has the reason', async (t) => {
  const clock = new ManualClock();
  const { act, logs } = await openIsolation(t, { clock, env: { PLUGIN_PATHS: '/nonexistent/plugins' } });
  const failed = act('pid', { deadline: clock.now() + 3_000 });
  let done = false;
  void failed.then(null, () => (done = true));
  await eventually('it has failed', () => {
    const starts = logs.find(/^handler process not started$/).length;
    // The pause after the first failure has been begun.
    if (starts > 0) clock.advance(500);
    return done || starts > 20;
  });
  t.true(done);
  const error = await t.throwsAsync(failed, { instanceOf: ActionError });
  t.is(error.code, 'service_unavailable');
  const lines = logs.find(/^handler process not started$/);
  t.true(lines.length >= 2, 'it was tried again');
  t.regex(String(lines[0]?.reason), /\/nonexistent\/plugins.* cannot be read/);
  t.deepEqual(logs.find(/^handler process ended$/), []);
});

test('a call runs once its process can be started, and the failures do not count', async (t) => {
  const directory = await folder(t);
  const gate = join(directory, 'gate');
  const module = join(directory, 'module.mjs');
  const real = new URL('../../src/isolated-handlers.js', import.meta.url).href;
  await writeFile(
    module,
    `import { existsSync } from 'node:fs';
     if (existsSync(${JSON.stringify(gate)})) await import(${JSON.stringify(real)});
     else process.exit(3);`,
  );
  const { act, logs } = await openIsolation(t, { module: pathToFileURL(module) });
  const ran = act('exit', { times: 1 });
  await eventually('two starts have failed', () => logs.find(/^handler process not started$/).length >= 2);
  t.is(logs.find(/^handler process not started$/)[0]?.reason, 'exit code 3');
  await writeFile(gate, '');
  t.is(await ran, 'ran');
});

test('a process that makes no progress for a minute while it starts is killed, and the start is tried again', async (t) => {
  const clock = new ManualClock();
  const module = join(await folder(t), 'module.mjs');
  await writeFile(module, 'setInterval(() => {}, 1_000);');
  const { act, logs } = await openIsolation(t, { clock, module: pathToFileURL(module) });
  const abort = new AbortController();
  const waiting = act('pid', { signal: abort.signal });
  clock.advance(60_000);
  await eventually('it is killed', () => logs.find(/^handler process not started$/).length === 1);
  t.is(
    logs.find(/^handler process not started$/)[0]?.reason,
    'it made no progress for 60000 ms while it started',
  );
  const reason = new ActionError('timeout', 'the time is up');
  abort.abort(reason);
  t.is(await t.throwsAsync(waiting), reason);
});

test('the time limit of the start begins anew with each plugin that is loaded', async (t) => {
  const clock = new ManualClock();
  let limits = 0;
  const after = clock.after.bind(clock);
  clock.after = (ms, ring) => {
    if (ms === 60_000) limits++;
    return after(ms, ring);
  };
  const directory = await folder(t);
  const gates = ['first', 'second'].map((name) => join(directory, name));
  const module = join(directory, 'module.mjs');
  const real = new URL('../../src/isolated-handlers.js', import.meta.url).href;
  await writeFile(
    module,
    `import { existsSync } from 'node:fs';
     import { setTimeout as sleep } from 'node:timers/promises';
     const [first, second] = ${JSON.stringify(gates)};
     while (!existsSync(first)) await sleep(20);
     process.send({ type: 'loading' });
     while (!existsSync(second)) await sleep(20);
     await import(${JSON.stringify(real)});`,
  );
  const { act, logs } = await openIsolation(t, { clock, module: pathToFileURL(module) });
  const ran = act('pid');
  t.is(limits, 1);
  clock.advance(59_999);
  await writeFile(join(directory, 'first'), '');
  await eventually('it tells that it loads a plugin', () => limits === 2);
  clock.advance(59_999);
  await writeFile(join(directory, 'second'), '');
  t.is(typeof (await ran), 'number');
  t.true(limits > 3, 'the program tells it of each plugin');
  t.deepEqual(logs.find(/^handler process not started$/), []);
});

if (process.platform === 'linux') {
  test('a call waits while the service has no file descriptors left to start a process', async (t) => {
    const listeners = process.listenerCount('exit');
    const { act, logs, isolation } = await openIsolation(t);
    const giveBack = useUpFiles(t);
    const ran = act('exit', { times: 1 });
    await eventually('no start', () => logs.find(/^handler process not started$/).length === 1);
    t.regex(String(logs.find(/^handler process not started$/)[0]?.reason), /EMFILE/);
    giveBack();
    t.is(await ran, 'ran');
    await isolation.close(1_000);
    t.is(process.listenerCount('exit'), listeners);
  });
}

test('a program that cannot be started is tried again', async (t) => {
  const { execPath } = process;
  t.teardown(() => (process.execPath = execPath));
  process.execPath = '/nonexistent/node';
  const { act, logs } = await openIsolation(t);
  const ran = act('pid');
  await eventually('no start', () => logs.find(/^handler process not started$/).length === 1);
  t.regex(String(logs.find(/^handler process not started$/)[0]?.reason), /ENOENT/);
  process.execPath = execPath;
  t.is(typeof (await ran), 'number');
});

test('close ends the processes, also one that is blocked, and nothing runs after it', async (t) => {
  const { act, isolation, runs } = await openIsolation(t);
  const pid = await act('pid');
  const blocked = act('blocks', { id: '13' });
  await eventually('it runs', async () => (await runs('13')).length === 1);
  const lost = t.throwsAsync(blocked, { instanceOf: ActionError });
  await isolation.close(100);
  t.true(isGone(pid));
  await t.throwsAsync(act('pid'), { message: /No process could be started/ });
  t.is((await lost).code, 'service_unavailable');
});
