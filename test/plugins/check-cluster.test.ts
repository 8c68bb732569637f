import test from 'ava';
import checkCluster from '../../plugins/check-cluster/index.js';
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

test('a member of discovery that has no valid host is found', async (t) => {
  const { run, sandbox } = await openAction(t, checkCluster, WORLD);
  sandbox.cluster.members = [...sandbox.cluster.members, 'odd=nonsense'];
  t.deepEqual(await kinds(run()), ["warning member_invalid 'nonsense'"]);
});

test('the error of a cluster that discovery does not know is passed on', async (t) => {
  const { run } = await openAction(t, checkCluster, WORLD);
  await t.throwsAsync(run({}, { cluster: 'unknown' }), { code: 'cluster_not_found' });
});
