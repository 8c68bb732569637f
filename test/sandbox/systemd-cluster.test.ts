import test, { type ExecutionContext } from 'ava';
import listUnits from '../../plugins/list-units/index.js';
import nodeInfo from '../../plugins/node-info/index.js';
import restartUnit from '../../plugins/restart-unit/index.js';
import startUnit from '../../plugins/start-unit/index.js';
import unitLogs from '../../plugins/unit-logs/index.js';
import { ManualClock } from '../support/manual-clock.js';
import type { Action } from '../../src/plugin.js';
import { openAction as open, type OpenAction, type OpenActionOptions } from '../../src/testing.js';

/** An action on a sandbox, and how it runs on the cluster of plain systemd hosts. */
async function openOnHosts(t: ExecutionContext, action: Action, options: OpenActionOptions = {}) {
  const opened: OpenAction = await open(action, options);
  t.teardown(opened.stop);
  const { run, sandbox } = opened;
  const cluster = sandbox.systemd.name;
  return {
    ...opened,
    hosts: sandbox.systemd,
    run: async (parameters: object, more = {}) => run(parameters, { cluster, ...more }),
  };
}

const [FIRST, SECOND] = ['127.0.0.11', '127.0.0.12'];

test('the ready-made hosts show what an operator sees', async (t) => {
  const { run } = await openOnHosts(t, listUnits, { ssh: true });
  const units = (await run({})) as {
    name: string;
    desiredState: string;
    currentState: string;
    machineID: string | null;
  }[];
  const rowOf = (wanted: string) => {
    const unit = units.find(({ name }) => name === wanted);
    return [unit?.desiredState, unit?.currentState, unit?.machineID === null].join();
  };
  t.is(rowOf('tickets.service'), 'launched,launched,true', 'on two machines');
  t.is(rowOf('seats.service'), 'launched,launched,true', 'made from a quadlet');
  t.is(rowOf('mailer@.service'), 'loaded,loaded,false', 'a template');
  t.is(rowOf('mailer@1.service'), 'launched,launched,false');
  t.is(rowOf('invoices.timer'), 'launched,launched,false');
  t.is(rowOf('payments-import.service'), 'launched,loaded,false', 'it has failed');
  t.is(rowOf('seat-map.service'), 'launched,loaded,false', 'enabled, and stopped');
  t.false(
    units.some(({ name }) => name === 'ssh.service'),
    'those of the distribution are not listed',
  );
});

test('node_info of the ready-made hosts tells Podman, their failed units and that their system is not updated as a whole', async (t) => {
  const { run } = await openOnHosts(t, nodeInfo, { ssh: true });
  const info = (await run({})) as Record<string, object>;
  t.is(Object.keys(info).length, 3);
  for (const node of Object.values(info))
    t.like(node, {
      os: { id: 'debian', version: '12' },
      podman: { version: '4.3.1', answers: true },
      os_image: null,
      errors: [],
    });
  t.like(info['127.0.0.13'], { failed_units: { count: 1, names: ['payments-import.service'] } });
});

test('a test adds units, says how their programs behave, and sees what happened', async (t) => {
  const { run, hosts } = await openOnHosts(t, startUnit);
  const text = '[Service]\nExecStart=/opt/a\n';
  hosts.addUnits([{ name: 'a.service', text, started: false, machines: [FIRST] }]);
  t.is(hosts.file('a.service', FIRST), text);
  t.is(hosts.file('a.service', SECOND), undefined);
  t.like(await run({ unit_name: 'a.service' }), { changes: { 0: { host: FIRST, did: 'started' } } });
  const [state] = hosts.states('a.service');
  t.like(state, { load: 'loaded', active: 'active', sub: 'running', restarts: 0, enabled: false });
  t.deepEqual(
    hosts.history('a.service').map(({ what }) => what),
    ['started'],
  );
  hosts.addUnits([{ name: 'b.service', text, started: false, behaviour: 'fails-at-start' }]);
  await t.throwsAsync(run({ unit_name: 'b.service' }), { code: 'unit_failed' });
  hosts.behave('b.service', 'flaps');
  await t.throwsAsync(run({ unit_name: 'b.service' }), { code: 'unit_flaps' });
  hosts.behave('b.service', 'well');
  hosts.removeUnit('a.service');
  t.is(hosts.states('a.service')[0]?.load, 'not-found');
  t.is(hosts.states('a.service')[0]?.active, 'active', 'what runs goes on without its file');
});

test('a lost connection starts no unit twice', async (t) => {
  const { run, hosts, sandbox } = await openOnHosts(t, restartUnit);
  sandbox.ssh.fail({ kind: 'drop', command: /requests dir=/, times: 1, machine: FIRST });
  const report = String(await run({ unit_name: 'tickets.service' }));
  t.regex(report, /was restarted on machine 2b7e1516.*; restarted on machine 603deb10/);
  const started = hosts.history('tickets.service').filter(({ what }) => what === 'started');
  t.is(started.length, 2, 'once on each machine');
});

test('the log of a unit tells what systemd did', async (t) => {
  const clock = new ManualClock();
  const { run, hosts } = await openOnHosts(t, unitLogs, { clock });
  const text = '[Unit]\nDescription=See\n[Service]\nExecStart=/opt/see\n';
  hosts.addUnits([{ name: 'c.service', text, behaviour: 'flaps', machines: [FIRST] }]);
  clock.pass(1_500);
  t.regex(
    String(await run({ unit_name: 'c.service', lines: 6 })),
    /Started c\.service - See\.\n.*Main process exited, code=exited, status=1\/FAILURE\n.*Failed with result 'exit-code'\.\n.*restart counter is at 1\.\n/,
  );
});

test('without SSH the hosts say how to get them', async (t) => {
  const { sandbox, stop } = await open(listUnits);
  t.teardown(stop);
  t.throws(() => sandbox.systemd, { message: /open it with the option ssh: true/ });
});

test('what no unit or machine can be is refused', async (t) => {
  const { hosts } = await openOnHosts(t, startUnit);
  t.throws(() => hosts.addUnits([{ name: 'no name', text: '[Unit]\n' }]), { instanceOf: TypeError });
  t.throws(() => hosts.addUnits([{ name: 'new@1.service' }]), { message: /that of its template before/ });
  t.throws(() => hosts.addUnits([{ name: 'a.service', text: '[Unit]\n', machines: ['10.0.0.1'] }]), {
    message: 'sandbox-systemd has no machine 10.0.0.1',
  });
});
