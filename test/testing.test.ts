import test from 'ava';
import { number, object, string } from 'yup';
import unitLogs from '../plugins/unit-logs/index.js';
import { Clock, defineAction, EtcdResolver, FleetTransport } from '../src/plugin.js';
import { openAction, type SandboxOptions } from '../src/testing.js';
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
  t.regex(String(await run({ unit_name: 'web@1.service', lines: 2 })), /^.+\n.+\n$/);
  t.like(sandbox.ssh?.commands.at(-1), { argv: { 0: 'journalctl' } });
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
      /^the settings are wrong: the action declares no setting 'uri'; PLUGIN_COUNT_UNITS_URL is not set, .*; PLUGIN_COUNT_UNITS_LIMIT must be a `number` type$/,
  });
});
