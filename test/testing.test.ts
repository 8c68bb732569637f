import test from 'ava';
import { array, mixed, number, object, string } from 'yup';
import unitLogs from '../plugins/unit-logs/index.js';
import {
  ActionError,
  Actions,
  Clock,
  defineAction,
  EtcdResolver,
  FleetTransport,
  unitName,
} from '../src/plugin.js';
import { openAction, type RunOptions, type SandboxOptions } from '../src/testing.js';
import { eventually } from './support/eventually.js';
import { ManualClock } from './support/manual-clock.js';

const anything = { description: 'Anything.' };

/** An action that uses every port but the shell. */
const usePorts = defineAction({
  name: 'use_ports',
  summary: 'Uses its ports.',
  target: 'optional',
  effect: 'read',
  parameters: object({ hosts: number().integer().default(1).meta(anything) }),
  result: object({ now: number().required().meta(anything), machines: number().max(3).meta(anything) }),
  inject: { fleet: FleetTransport, etcd: EtcdResolver, clock: Clock },
  async handle({ parameters, cluster, signal, log }, { fleet, etcd, clock }) {
    if (cluster === undefined) return { now: 0, machines: 0 };
    const endpoints = await etcd.endpoints(cluster, { signal });
    log.info('found', { endpoints: endpoints.length, wanted: parameters.hosts });
    return { now: clock.now(), machines: (await fleet.machines(cluster, { signal })).length };
  },
});

async function open(t: { teardown(work: () => Promise<void>): void }, options: SandboxOptions = {}) {
  const opened = await openAction(usePorts, options);
  t.teardown(opened.stop);
  return opened;
}

test('an action runs on a sandbox with every port it injects, and its log can be read', async (t) => {
  const clock = new ManualClock();
  const { run, logged, description } = await open(t, { clock });
  t.deepEqual(await run({ hosts: 2 }), { now: clock.now(), machines: 3 });
  t.deepEqual(logged, [{ level: 'info', message: 'found', fields: { endpoints: 1, wanted: 2 } }]);
  t.is(description.name, 'use_ports');
});

test('parameters are checked as in the service', async (t) => {
  const { run, sandbox } = await open(t);
  await t.throwsAsync(run({ hosts: 'two' }), { code: 'invalid_parameters' });
  t.deepEqual(sandbox.discovery.requests, []);
});

test('a result that does not match the declared schema fails the run', async (t) => {
  const { run } = await open(t, {
    machines: Array.from({ length: 4 }, (_, n) => ({
      id: String(n).repeat(32),
      primaryIP: null,
      metadata: {},
    })),
  });
  await t.throwsAsync(run(), { message: /^the result does not match the declared schema: machines must be/ });
});

test('a fault of the sandbox reaches the action, and another cluster can be selected', async (t) => {
  const { run, sandbox } = await open(t);
  await t.throwsAsync(run({}, { cluster: 'nosuch' }), { code: 'cluster_not_found' });
  sandbox.cluster.fail({ kind: '503' });
  await t.throwsAsync(run(), { code: 'cluster_unhealthy' });
});

test('an action that uses the shell can run commands on machines', async (t) => {
  const { run, sandbox, stop } = await openAction(unitLogs);
  t.teardown(stop);
  t.regex(await run({ unit_name: 'web@1.service', lines: 2 }), /^.+\n.+\n$/);
  t.like(sandbox.ssh.commands.at(-1), { argv: { 0: 'journalctl' } });
});

test('an invalid action is refused, and its sandbox is stopped', async (t) => {
  const nameless = defineAction({
    name: '',
    summary: 'Has no name.',
    target: 'none',
    effect: 'read',
    parameters: object({}),
    result: string(),
    handle: async () => '',
  });
  await t.throwsAsync(openAction(nameless), { message: /its field 'name' must be snake_case/ });
});

type Handle = (request: {
  signal: AbortSignal;
  warn: (text: string) => void;
}) => Promise<object | string | boolean | undefined>;

/** An action with this handler, and a manual clock. */
async function openHandler(
  t: { teardown(work: () => Promise<void>): void },
  handle: Handle,
  effect: 'read' | 'change' = 'read',
) {
  const clock = new ManualClock();
  const action = defineAction({
    name: 'handle',
    summary: 'Does what the test says.',
    target: 'optional',
    effect,
    parameters: object({ unit_name: unitName().optional().meta(anything) }),
    result: mixed().meta({ ...anything, format: 'anything' }),
    timeoutMs: 20_000,
    handle,
  });
  const opened = await openAction(action, { clock });
  t.teardown(opened.stop);
  return { ...opened, clock };
}

test('an error of the action is what callers get, with the details, and the thrown error as its cause', async (t) => {
  const thrown = new ActionError('unit_not_found', 'No such unit', { details: { unit: 'a' } });
  const { run } = await openHandler(t, async ({ warn }) => {
    warn('not all machines are listed');
    throw thrown;
  });
  const error = await t.throwsAsync(run(), { instanceOf: ActionError, message: 'No such unit' });
  t.is(error.code, 'unit_not_found');
  t.deepEqual(error.details, { unit: 'a', warnings: ['not all machines are listed'] });
  t.is(error.cause, thrown);
});

test('any other error of the action is `internal`, and tells callers nothing', async (t) => {
  const thrown = new TypeError('secret is not a function');
  const { run } = await openHandler(t, () => {
    throw thrown;
  });
  const error = await t.throwsAsync(run(), { instanceOf: ActionError });
  t.like(error, { code: 'internal', cause: thrown });
  t.notRegex(error.message, /secret/);
});

test('a result that cannot be sent is `internal`, and the cause names the place', async (t) => {
  const { run } = await openHandler(t, async () => ({ size: Number.NaN }));
  const error = await t.throwsAsync(run(), { code: 'internal' });
  t.regex(String(error.cause), /result\.size/);
});

test('a read ends at its deadline, whatever it does', async (t) => {
  const { run, clock } = await openHandler(t, async () => new Promise(() => {}));
  const waiting = run({}, { timeoutMs: 2_000 });
  clock.advance(1_999);
  clock.advance(1);
  await t.throwsAsync(waiting, { code: 'timeout', message: /after 2000 ms/ });
  const longest = run();
  clock.advance(20_000);
  await t.throwsAsync(longest, { code: 'timeout', message: /after 20000 ms/ });
});

test('a change that ends with no report after its deadline has an unknown outcome', async (t) => {
  const stopped = async ({ signal }: { signal: AbortSignal }) =>
    new Promise<string>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const { run, clock } = await openHandler(t, stopped, 'change');
  const waiting = run();
  // A change begins a few turns later.
  await eventually('it runs', () => clock.pending > 0);
  clock.advance(20_000);
  const error = await t.throwsAsync(waiting, { code: 'outcome_unknown', instanceOf: ActionError });
  t.like(error, { details: { stopped_by: 'timeout' }, cause: { code: 'timeout' } });
});

test('a call whose caller has gone is cancelled', async (t) => {
  const { run } = await openHandler(t, async () => new Promise(() => {}));
  const caller = new AbortController();
  const waiting = run({}, { signal: caller.signal });
  caller.abort();
  await t.throwsAsync(waiting, { code: 'cancelled' });
});

test('a caller that may use only some units is refused the others', async (t) => {
  const { run } = await openHandler(t, async (request) => Object.keys(request).includes('cluster'));
  await t.throwsAsync(run({ unit_name: 'db.service' }, { units: ['web@*'] }), { code: 'forbidden' });
  t.true(await run({ unit_name: 'web@1.service' }, { units: ['web@*'] }));
});

test('a call may name no cluster', async (t) => {
  const { run } = await open(t);
  t.deepEqual(await run({}, { cluster: null }), { now: 0, machines: 0 });
});

test('a change that another worker may have begun is not run again, and a read is', async (t) => {
  const change = await openHandler(t, async () => 'done', 'change');
  await t.throwsAsync(change.run({}, { repeated: true }), { code: 'outcome_unknown' });
  const read = await openHandler(t, async (request) => Reflect.get(request, 'repeated'));
  t.true(await read.run({}, { repeated: true }));
});

test('the warnings of a run can be read', async (t) => {
  const { run, warnings } = await openHandler(t, async ({ warn }) => {
    warn('one machine is silent');
    return '';
  });
  await run();
  t.deepEqual(warnings, ['one machine is silent']);
});

test('settings are checked as in the service, and the action gets them with defaults', async (t) => {
  const configured = defineAction({
    name: 'count_units',
    summary: 'Shows its settings.',
    target: 'none',
    effect: 'read',
    parameters: object({}),
    result: string(),
    settings: object({
      url: string().required().meta(anything),
      limit: number().default(3).meta(anything),
    }),
    handle: async ({ settings: { url, limit } }) => url.repeat(limit),
  });
  const { run, stop } = await openAction(configured, { settings: { url: 'a' } });
  t.teardown(stop);
  t.is(await run(), 'aaa');
  await t.throwsAsync(openAction(configured, { settings: { limit: 'x', uri: 'a' } }), {
    message:
      /^the settings are wrong: the action declares no setting 'uri'; PLUGIN_COUNT_UNITS_URL is not set, .*; PLUGIN_COUNT_UNITS_LIMIT must be a number$/,
  });
});

test('an action calls the real actions of the service, and others in place of them', async (t) => {
  const caller = defineAction({
    name: 'call_others',
    summary: 'Calls other actions.',
    target: 'cluster',
    effect: 'read',
    parameters: object({}),
    result: array(number().required()).required(),
    inject: { actions: Actions },
    async handle(_request, { actions }) {
      const [machines, units] = await Promise.all(
        ['list_machines', 'list_units'].map((name) => actions.call<unknown[]>(name)),
      );
      return [machines?.length ?? 0, units?.length ?? 0];
    },
  });
  const listUnits = defineAction({
    name: 'list_units',
    summary: 'Lists one unit.',
    target: 'cluster',
    effect: 'read',
    parameters: object({}),
    result: mixed().meta({ ...anything, format: 'anything' }),
    handle: async () => ['one'],
  });
  const units = [{ name: 'a.service' }, { name: 'b.service' }];
  for (const [actions, expected] of [
    [[], [3, 2]],
    [[listUnits], [3, 1]],
  ] as const) {
    const { run, stop } = await openAction(caller, { units, actions });
    t.teardown(stop);
    // What it returns has the type that the action declares.
    const found: number[] = await run();
    t.deepEqual(found, [...expected]);
  }
});

test('what a test says of the sandbox is checked', async (t) => {
  const wrong = { units: [{ name: 'a.service', state: 'failed' }] };
  await t.throwsAsync(openAction(usePorts, wrong), {
    message: /has no field 'state': .* name, options, desiredState, behaviour; .* 'fails-at-start'$/,
  });
  const { sandbox } = await open(t);
  t.throws(() => sandbox.ssh, { message: /^the action does not inject RemoteShell/ });
  const logs = await openAction(unitLogs);
  t.teardown(logs.stop);
  t.throws(() => logs.sandbox.ssh.fail({ kind: 'refuse', machine: '127.0.0.9' }), {
    message: /127\.0\.0\.9/,
  });
});

test('a reply that the service could not send fails the run, and so does an option that there is not', async (t) => {
  const { run } = await openHandler(t, async () => 'x'.repeat(17 * 1024 * 1024));
  await t.throwsAsync(run({}), { code: 'answer_too_large' });
  await t.throwsAsync(run({}, { timeout: 1 } as RunOptions), { message: /^run has no option 'timeout'/ });
});
