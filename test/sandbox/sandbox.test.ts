import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import test from 'ava';
import { isUnitName } from '../../src/api/grammar.js';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { ask, openSandbox } from '../support/open-sandbox.js';
import { REPOSITORY } from '../support/repository.js';

test('the ready-made cluster is found under its token and shows what an operator sees', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  t.is(sandbox.token, 'sandbox');
  t.is((await ask(`${sandbox.discoveryUrl}/${sandbox.token}`)).status, 200);

  const { machines } = (await fleet('/machines')).body as { machines: { id: string; primaryIP: string }[] };
  t.deepEqual(
    machines.map(({ primaryIP }) => primaryIP),
    ['127.0.0.1', '127.0.0.2', '127.0.0.3'],
  );
  for (const { id } of machines) t.regex(id, /^[0-9a-f]{32}$/);

  const units = sandbox.cluster.units();
  const states = sandbox.cluster.states();
  t.true(units.length >= 40);
  t.true(units.every(({ name }) => isUnitName(name)));
  t.true(
    states.some(({ systemdActiveState }) => systemdActiveState === 'failed'),
    'one has failed',
  );
  t.true(
    units.some(({ desiredState, machineID, name }) => {
      const rows = states.filter((row) => row.name === name);
      return desiredState === 'launched' && machineID === null && rows.length === 0;
    }),
    'one is not scheduled',
  );
  t.true(
    units.some(({ name }) => states.filter((row) => row.name === name).length === machines.length),
    'one is global',
  );
  t.truthy(units.find(({ name }) => name === '-.mount'));
});

test('each further cluster has its own addresses and the common port', async (t) => {
  const { sandbox, fleet } = await openSandbox(t, { units: [{ name: 'first.service' }] });
  const other = await sandbox.addCluster('other', { units: [{ name: 'second.service' }] });
  t.is(other.token, 'other');
  const [host] = other.hosts;
  t.is((await ask(`http://${host}:${sandbox.fleetPort}/fleet/v1/units/second.service`)).status, 200);
  t.is((await fleet('/units/second.service')).status, 404);
  t.true(JSON.stringify((await ask(`${sandbox.discoveryUrl}/other`)).body).includes(`http://${host}:2380`));
  t.is(other.requests.length, 1);
  t.is(sandbox.cluster.requests.length, 1);
});

test('a cluster responds on its configured addresses', async (t) => {
  const { sandbox } = await openSandbox(t);
  const hosts = ['127.0.0.31', '127.0.0.32'];
  await sandbox.addCluster('other', { hosts });
  for (const host of hosts) {
    t.is((await ask(`http://${host}:${sandbox.fleetPort}/fleet/v1/machines`)).status, 200);
  }
});

test('a token can point to any members, without a cluster behind it', async (t) => {
  const { sandbox } = await openSandbox(t);
  const alias = await sandbox.addCluster('alias', { members: ['http://127.0.0.1:2380'] });
  t.deepEqual(alias.hosts, []);
  t.true(JSON.stringify((await ask(`${sandbox.discoveryUrl}/alias`)).body).includes('127.0.0.1'));
});

test('a token and an address can be used only once', async (t) => {
  const { sandbox } = await openSandbox(t);
  await t.throwsAsync(sandbox.addCluster('sandbox'), { instanceOf: TypeError });
  await t.throwsAsync(sandbox.addCluster('other', { hosts: ['127.0.0.1'] }), {
    message: `the sandbox cannot listen on port ${sandbox.fleetPort} of 127.0.0.1`,
  });
  t.is((await ask(`${sandbox.discoveryUrl}/other`)).status, 404, 'what could not start is not listed');
});

test('the fleet port can be chosen; a port in use stops the start and leaves nothing behind', async (t) => {
  const { sandbox } = await openSandbox(t);
  await t.throwsAsync(startSandbox({ fleetPort: sandbox.fleetPort }), { message: /cannot listen on port/ });
  await sandbox.stop();
  const again = await startSandbox({ fleetPort: sandbox.fleetPort });
  t.teardown(() => again.stop());
  t.is(again.fleetPort, sandbox.fleetPort);
});

test('stopping refuses new connections, and stopping twice does no harm', async (t) => {
  const { sandbox, fleet } = await openSandbox(t);
  await fleet('/machines');
  await sandbox.stop();
  await t.throwsAsync(fleet('/machines'));
  await t.throwsAsync(fetch(`${sandbox.discoveryUrl}/sandbox`));
  await sandbox.stop();
});

test('stopping drops pending responses', async (t) => {
  const { sandbox, clock, fleet } = await openSandbox(t, { delays: { answer: 1000 } });
  const rejected = t.throwsAsync(fleet('/machines'));
  while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
  await sandbox.stop();
  await rejected;
  t.is(clock.pending, 0);
});

test('nothing keeps the process alive once the sandbox has stopped', async (t) => {
  const script = `
    import { startSandbox } from '${import.meta.resolve('../../src/sandbox/sandbox.js')}';
    const sandbox = await startSandbox({ delays: { answer: 600_000 } });
    const url = 'http://127.0.0.1:' + sandbox.fleetPort + '/fleet/v1';
    const answer = fetch(url + '/units').catch(() => 'cut');
    sandbox.cluster.fail({ kind: 'hang', path: '/fleet/v1/state' });
    const hung = fetch(url + '/state').catch(() => 'cut');
    while (sandbox.cluster.requests.length < 2) await new Promise((done) => setImmediate(done));
    sandbox.cluster.setUnit('mailer.service', { desiredState: 'inactive' });
    await sandbox.stop();
    console.log(await answer, await hung);
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: REPOSITORY,
    timeout: 8 * 60_000,
  });
  t.is(stdout.trim(), 'cut cut');
});
