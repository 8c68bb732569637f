import test from 'ava';
import checkCluster from '../../plugins/check-cluster/index.js';
import type { Finding } from '../../plugins/check-cluster/finding.js';
import { type Action, ActionError, type RemoteShell, unitFileHash } from '../../src/plugin.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { MACHINE_A, MACHINE_B, service, TWO_MACHINES } from '../support/open-sandbox.js';
import { openAction } from './open-action.js';

/** Why a machine does not let in a service without the right key. */
const REFUSED = new ActionError('login_refused', '127.0.0.1 refused the login of core');
const ONESHOT = { section: 'Service', name: 'Type', value: 'oneshot' };
/** The hosts that were asked, one for each round trip. */
const asked: string[] = [];

/** The action with another shell than that of the sandbox. */
const withShell = (change: (shell: RemoteShell) => RemoteShell): Action => ({
  ...checkCluster,
  handle: async (request, injected) =>
    checkCluster.handle(request, { ...injected, shell: change(injected.shell as RemoteShell) }),
});
const withoutKey = withShell(() => ({ run: async () => Promise.reject(REFUSED) }));
const countingRuns = withShell((shell) => ({
  run: async (host, ...rest) => {
    asked.push(host);
    return shell.run(host, ...rest);
  },
}));

const TWO_HOSTS = ['127.0.0.1', '127.0.0.2'];
const on = (machine: string) => service('/bin/sleep 1d', { MachineID: machine });
const WORLD = {
  machines: TWO_MACHINES,
  fleetHosts: TWO_HOSTS,
  units: [
    { name: 'a.service', options: on(MACHINE_A) },
    { name: 'b.service', options: on(MACHINE_B) },
  ],
};

const findingsIn = async (answer: Promise<unknown>) => (await answer) as Finding[];

const kinds = async (answer: Promise<unknown>) =>
  (await findingsIn(answer)).map(({ kind, subject, severity }) => `${severity} ${kind} ${subject}`);

/** The only finding of a kind. */
const only = (findings: readonly Finding[], kind: string): Finding => {
  const [found, ...others] = findings.filter((each) => each.kind === kind);
  if (found === undefined || others.length > 0) throw new Error(`${others.length + (found ? 1 : 0)} ${kind}`);
  return found;
};

test('a healthy cluster has no findings', async (t) => {
  const { run, description } = await openAction(t, checkCluster, WORLD);
  t.like(description, { name: 'check_cluster', target: 'cluster', effect: 'read', redelivery: 'run-again' });
  t.deepEqual(await run(), []);
});

test('what is wrong with the example is found', async (t) => {
  const clock = new ManualClock();
  const { run, sandbox, warnings } = await openAction(t, checkCluster, { clock });
  t.deepEqual(await kinds(run()), [
    'error unit_unsatisfiable recommender.service',
    'error unit_failed mailer.service',
    'warning disk_nearly_full 127.0.0.3',
  ]);
  // The flapping unit waits for its restart half of the time.
  clock.advance(150);
  const findings = await findingsIn(run());
  t.deepEqual(
    findings.map(({ kind }) => kind),
    ['unit_unsatisfiable', 'unit_failed', 'unit_flaps', 'disk_nearly_full'],
  );
  const [needy, failed, flapping, full] = findings;
  const machineOf = (name: string) =>
    sandbox.cluster.states().find((state) => state.name === name)?.machineID;
  const hostOf = (id = '') => sandbox.cluster.machines.find((machine) => machine.id === id)?.primaryIP;
  t.deepEqual(needy?.evidence, { machine_id: null, metadata: { gpu: ['true'] }, machines: 3 });
  t.regex(needy?.message ?? '', /none of 3 machines meets its requirements: gpu=true$/);
  const mailer = machineOf('mailer.service') ?? undefined;
  t.deepEqual(failed?.evidence, {
    count: 1,
    machines: [{ machine_id: mailer, host: hostOf(mailer), load: 'loaded', active: 'failed', sub: 'failed' }],
  });
  t.like(flapping, { severity: 'error', subject: 'search-indexer.service' });
  t.like(flapping?.evidence.machines, [{ active: 'activating', sub: 'auto-restart', restarts: null }]);
  t.like(full?.evidence, { host: '127.0.0.3', mount: '/', of: 'space', used_percent: 91 });
  t.deepEqual(warnings, []);
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

test('a unit that should run and is not active on its machine is found, one that is starting or stopped by its own design is not', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, {
    ...WORLD,
    units: [
      { name: 'down.service', options: on(MACHINE_A) },
      { name: 'done.service', options: [...on(MACHINE_A), ONESHOT] },
      { name: 'loaded.service', options: on(MACHINE_A), desiredState: 'loaded' },
      { name: 'slow.service', options: on(MACHINE_B), behaviour: 'never-starts' },
      { name: 'waiting.service', options: on(MACHINE_B), behaviour: 'never-scheduled' },
    ],
  });
  sandbox.cluster.setState('down.service', { systemdActiveState: 'inactive', systemdSubState: 'dead' });
  const findings = await findingsIn(run());
  t.deepEqual(await kinds(Promise.resolve(findings)), [
    'warning unit_not_active down.service',
    'warning unit_not_active slow.service',
    'warning unit_not_active waiting.service',
  ]);
  const [down, slow, waiting] = findings;
  t.is(down?.message, 'down.service, which fleet should run, is inactive (dead) on 127.0.0.1');
  t.regex(slow?.message ?? '', /is activating \(start\) on 127\.0\.0\.2$/);
  t.deepEqual(waiting?.evidence, { count: 0, machines: [], able: 1 });
});

test('a global unit that is down on one of its machines is found there, one of several states is enough for others', async (t) => {
  const options = service('/bin/sleep 1d', { Global: 'true' });
  const { run, sandbox } = await openAction(t, checkCluster, {
    ...WORLD,
    units: [{ name: 'all.service', options }],
  });
  sandbox.cluster.setState('all.service', { systemdActiveState: 'inactive' }, MACHINE_B);
  const { evidence } = only(await findingsIn(run()), 'unit_not_active');
  t.like(evidence, { count: 1, machines: [{ machine_id: MACHINE_B, host: '127.0.0.2' }] });
});

test('a unit that runs with an older file than fleet has is found', async (t) => {
  const clock = new ManualClock();
  const { run, sandbox } = await openAction(t, checkCluster, { ...WORLD, clock });
  const [before] = sandbox.cluster.states();
  const options = service('/bin/sleep 2d', { MachineID: MACHINE_A });
  sandbox.cluster.setUnit('a.service', { options, desiredState: 'launched' });
  const [outdated, ...others] = await findingsIn(run());
  t.deepEqual(others, []);
  t.like(outdated, { severity: 'warning', kind: 'unit_outdated', subject: 'a.service' });
  t.deepEqual(outdated?.evidence, {
    hash: unitFileHash(options),
    count: 1,
    machines: [{ machine_id: MACHINE_A, host: '127.0.0.1', reason: 'other_file', hash: before?.hash ?? '' }],
  });
  clock.advance(1_000);
  t.deepEqual(await run(), []);
});

test('what is left of a unit that was removed is found until it has gone', async (t) => {
  const clock = new ManualClock();
  const { run, sandbox } = await openAction(t, checkCluster, { ...WORLD, clock });
  sandbox.cluster.removeUnit('a.service');
  const { severity, subject, evidence } = only(await findingsIn(run()), 'unit_left_behind');
  t.deepEqual([severity, subject], ['warning', 'a.service']);
  t.deepEqual(evidence, {
    count: 1,
    machines: [{ machine_id: MACHINE_A, host: '127.0.0.1', left: 'file', active: 'active' }],
  });
  clock.advance(1_000);
  t.deepEqual(await run(), []);
});

test('a machine that is cut off and runs on what fleet has moved to another one is found, with the unit', async (t) => {
  const clock = new ManualClock();
  const { run, sandbox } = await openAction(t, checkCluster, {
    ...WORLD,
    clock,
    units: [{ name: 'moves.service', options: service('/bin/sleep 1d') }],
  });
  const [placed] = sandbox.cluster.units();
  const from = placed?.machineID ?? '';
  sandbox.cluster.silenceAgent(from);
  clock.advance(60_000);
  const findings = await findingsIn(run());
  const host = from === MACHINE_A ? '127.0.0.1' : '127.0.0.2';
  t.deepEqual(await kinds(Promise.resolve(findings)), [
    `error machine_not_listed ${host}`,
    'warning unit_left_behind moves.service',
  ]);
  const [unlisted, left] = findings;
  t.deepEqual(unlisted?.evidence, { host, answers_ssh: true, machine_id: from });
  t.regex(unlisted?.message ?? '', /though it answers by SSH$/);
  t.like(left?.evidence.machines, [{ machine_id: from, left: 'file', active: 'active' }]);
});

test('a machine that fleet lists and that does not answer by SSH costs only itself', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.ssh.fail({ kind: 'drop', machine: '127.0.0.2' });
  const findings = await findingsIn(run());
  t.deepEqual(await kinds(Promise.resolve(findings)), ['error machine_not_answering 127.0.0.2']);
  t.like(findings[0]?.evidence, { machine_id: MACHINE_B, host: '127.0.0.2', code: 'host_unreachable' });
});

test('a cluster whose machines let the service in nowhere is green, and that is said once', async (t) => {
  const { run, warnings } = await openAction(t, withoutKey, WORLD);
  t.deepEqual(await run(), []);
  t.is(warnings.length, 1);
  t.regex(warnings.join(), /^No machine of the cluster lets the service in by SSH.*SSH_KEY_FILE/s);
});

test('each machine is asked in one round trip', async (t) => {
  const { run, sandbox } = await openAction(t, countingRuns, WORLD);
  await run();
  t.deepEqual(asked.toSorted(), TWO_HOSTS);
  t.true(sandbox.ssh.commands.length > asked.length);
});

test('disks without inodes are found, and what of a machine cannot be read is told', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  const header = 'Filesystem      Inodes IUsed IFree IUse% Mounted on\n';
  sandbox.ssh.on((argv) => argv[0] === 'df' && argv[2] === '-i', {
    stdout: `${header}/dev/sda9 1000 991 9 99% /\n`,
  });
  sandbox.ssh.on(
    (argv) => argv[0] === 'systemctl',
    { stderr: 'Failed to list units: Connection timed out\n', status: 1 },
    { machine: '127.0.0.2' },
  );
  const findings = await findingsIn(run());
  t.deepEqual(await kinds(Promise.resolve(findings)), [
    'warning machine_unreadable 127.0.0.2',
    'error disk_nearly_full 127.0.0.1',
    'error disk_nearly_full 127.0.0.2',
  ]);
  t.deepEqual(findings[1]?.evidence, {
    machine_id: MACHINE_A,
    host: '127.0.0.1',
    mount: '/',
    of: 'inodes',
    used_percent: 99,
    inodes: 1_000,
    free: 9,
  });
  t.regex(findings[0]?.message ?? '', /its units \(systemctl .* Connection timed out\)/);
});

test('what is wrong with the example of plain hosts is found, without a word of fleet', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster);
  const cluster = sandbox.systemd.name;
  const findings = await findingsIn(run({}, { cluster }));
  t.deepEqual(await kinds(Promise.resolve(findings)), [
    'error unit_failed payments-import.service',
    'warning unit_not_active seat-map.service',
  ]);
  t.like(findings[0]?.evidence.machines, [{ host: '127.0.0.13', active: 'failed' }]);
  sandbox.ssh.fail({ kind: 'drop', machine: '127.0.0.11' });
  const [silent, ...others] = await findingsIn(run({}, { cluster }));
  t.like(silent, { severity: 'error', kind: 'host_not_answering', subject: '127.0.0.11' });
  t.deepEqual(others, findings);
  t.false(JSON.stringify([silent, ...others]).includes('fleet '));
});
