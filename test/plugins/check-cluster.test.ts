import test from 'ava';
import checkCluster from '../../plugins/check-cluster/index.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { openAction } from './open-action.js';

const TWO_HOSTS = ['127.0.0.1', '127.0.0.2'];
const on = (machine: string) => service('/bin/sleep 1d', { MachineID: machine });
const WORLD = {
  machines: TWO_MACHINES,
  fleetHosts: TWO_HOSTS,
  units: [
    { name: 'a.service', options: on(MACHINE_A) },
    { name: 'b.service', options: on(MACHINE_B) },
    { name: 'nowhere.service', options: on('c'.repeat(32)) },
  ],
};

const kinds = async (answer: Promise<unknown>) =>
  ((await answer) as { kind: string; subject: string; severity: string }[]).map(
    ({ kind, subject, severity }) => `${severity} ${kind} ${subject}`,
  );

test('a healthy cluster has no findings', async (t) => {
  const { run, description } = await openAction(t, checkCluster, WORLD);
  t.like(description, { name: 'check_cluster', target: 'cluster', effect: 'read', redelivery: 'run-again' });
  t.deepEqual(await run(), []);
});

test('the units of the example, some of which fail or are not scheduled, are no findings', async (t) => {
  const { run } = await openAction(t, checkCluster);
  t.deepEqual(await run(), []);
});

test('after an outage, what fleet does not list is found until it is listed', async (t) => {
  const clock = new ManualClock();
  const { run, sandbox } = await openAction(t, checkCluster, { ...WORLD, clock });
  sandbox.cluster.recover({ machines: 1, states: 1, lasts: 24_000 });
  t.deepEqual(await kinds(run()), ['error machine_not_listed 127.0.0.2', 'warning state_missing b.service']);
  clock.advance(24_000);
  t.deepEqual(await run(), []);
});

test('a global unit without a state on a machine that should run it is found, with the machine', async (t) => {
  const everywhere = { name: 'everywhere.service', options: service('/bin/sleep 1d', { Global: 'true' }) };
  const { run, sandbox } = await openAction(t, checkCluster, { ...WORLD, units: [everywhere] });
  t.deepEqual(await run(), []);
  const states = sandbox.cluster.listedStates.bind(sandbox.cluster);
  sandbox.cluster.listedStates = () => states().filter(({ machineID }) => machineID !== MACHINE_B);
  const findings = (await run()) as { message: string }[];
  t.like(findings, [{ severity: 'warning', kind: 'state_missing', subject: 'everywhere.service' }]);
  t.is(findings.length, 1);
  t.is(
    findings[0]?.message,
    `everywhere.service should run, but 1 of its 2 machines report no state of it: ${MACHINE_B}`,
  );
  sandbox.cluster.listedStates = () => [];
  t.deepEqual(await kinds(run()), ['warning state_missing everywhere.service']);
});

test('a host whose fleet API fails is found, and the others are still checked', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.cluster.fail({ kind: '503', host: '127.0.0.2' });
  const [finding, ...others] = (await run()) as { message: string; advice: string }[];
  t.like(finding, { kind: 'host_not_answering', subject: `127.0.0.2:${sandbox.fleetPort}` });
  t.regex(finding?.message ?? '', /HTTP 503 fleet server unable to communicate with etcd/);
  t.regex(finding?.advice ?? '', /fleet\.service/);
  t.deepEqual(others, []);
});

test('a cluster of which no host answers has a finding for each host', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.cluster.fail({ kind: 'refuse' });
  t.deepEqual(
    (await kinds(run())).toSorted(),
    TWO_HOSTS.map((host) => `error host_not_answering ${host}:${sandbox.fleetPort}`),
  );
});

test('a host on which another program answers is found with what it answers, and the others are still checked', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.cluster.fail({ kind: 'redirect', host: '127.0.0.2' });
  const [finding, ...others] = (await run()) as { message: string; advice: string }[];
  t.like(finding, { kind: 'host_not_answering', subject: `127.0.0.2:${sandbox.fleetPort}` });
  t.regex(finding?.message ?? '', /HTTP 302 .*, which is not from fleet/);
  t.regex(finding?.advice ?? '', /another program/);
  t.deepEqual(others, []);
});

test('machines whose address is missing or invalid are found', async (t) => {
  const machines = [
    { id: MACHINE_A, primaryIP: null, metadata: {} },
    { id: MACHINE_B, primaryIP: '10.0.0', metadata: {} },
  ];
  const { run } = await openAction(t, checkCluster, { machines, units: [] });
  t.deepEqual(await kinds(run()), [
    `error machine_without_address ${MACHINE_A}`,
    `error machine_without_address ${MACHINE_B}`,
  ]);
});

test('a machine that is listed twice is found', async (t) => {
  const copy = { id: MACHINE_A, primaryIP: '10.0.0.9', metadata: {} };
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.cluster.listedMachines = () => [copy, ...TWO_MACHINES];
  const findings = (await run()) as { kind: string; subject: string; message: string }[];
  t.like(findings, [{ kind: 'list_incomplete', subject: 'machines' }]);
  t.true(findings[0]?.message.includes(`"${MACHINE_A}" is listed twice`));
});

test('a list that cannot be read is found, and the others are still checked', async (t) => {
  const machines = [{ id: MACHINE_A, primaryIP: null, metadata: {} }];
  const { run, sandbox } = await openAction(t, checkCluster, { machines, units: [] });
  sandbox.cluster.fail({ kind: 'garbage', path: '/fleet/v1/units' });
  sandbox.cluster.fail({ kind: 'garbage', path: '/fleet/v1/state' });
  t.deepEqual(await kinds(run()), [
    `error machine_without_address ${MACHINE_A}`,
    'error list_unreadable units',
    'error list_unreadable states',
  ]);
});

test('a member of discovery that has no valid host is found', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.cluster.members = [...sandbox.cluster.members, 'odd=nonsense'];
  t.deepEqual(await kinds(run()), ["warning member_invalid 'nonsense'"]);
});

test('the error of a cluster that discovery does not know is passed on', async (t) => {
  const { run } = await openAction(t, checkCluster, WORLD);
  await t.throwsAsync(run({}, { cluster: 'unknown' }), { code: 'cluster_not_found' });
});

test('with little time, a host that hangs is found before the deadline, and the others are still checked', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.cluster.fail({ kind: 'hang', host: '127.0.0.1' });
  const findings = (await run({}, { timeoutMs: 10_000 })) as { kind: string; message: string }[];
  t.like(findings, [{ kind: 'host_not_answering', subject: `127.0.0.1:${sandbox.fleetPort}` }]);
  t.is(findings.length, 1);
  t.regex(findings[0]?.message ?? '', /no response within \d+ ms/);
});

test('a list that takes as long as the request may is found before the deadline', async (t) => {
  const clock = new ManualClock();
  const { run, sandbox } = await openAction(t, checkCluster, { ...WORLD, clock });
  sandbox.cluster.fail({ kind: 'hang', path: '/fleet/v1/units' });
  const findings = run({}, { timeoutMs: 2_000 });
  await eventually('the units are asked for', () =>
    sandbox.cluster.requests.some(({ path }) => path.startsWith('/fleet/v1/units')),
  );
  clock.advance(1_000);
  const [found] = (await findings) as { kind: string; message: string }[];
  t.is(found?.kind, 'list_unreadable');
  t.regex(found?.message ?? '', /within the time of the request/);
});
