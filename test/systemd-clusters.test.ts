import test, { type ExecutionContext } from 'ava';
import { eventually, HUNG_MS } from './support/eventually.js';
import { noteSkipped } from './support/note-skipped.js';
import { systemdCluster } from './support/systemd-cluster.js';
import { machinePool, machinesCanRun, type SystemdMachine } from './support/systemd-machines.js';

// Clusters of plain systemd hosts as callers use them: a message in RabbitMQ, and an entry of CLUSTERS_FILE.
const WHAT = 'clusters of plain systemd hosts';
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped(`${WHAT} over RabbitMQ`, 'RABBITMQ_URL');

if (rabbitmqUrl !== undefined && (await machinesCanRun(WHAT))) {
  const { booted, takeMachine } = machinePool(test, 4);

  /** A service with a cluster `lab` of these machines. */
  const world = async (t: ExecutionContext, machines: readonly SystemdMachine[]) => {
    const cluster = await systemdCluster(t, rabbitmqUrl, booted(), machines);
    return { ...cluster, worker: await cluster.start({ SSH_SUDO: 'false' }) };
  };

  const unitFile = (name: string) =>
    `printf '[Service]\\nExecStart=/bin/sh -c "echo hello from ${name}; exec sleep infinity"\\n[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/${name}
systemctl enable --quiet --now ${name}`;

  test('the reads of a fleet cluster work on plain systemd hosts too', async (t) => {
    const [first, second] = [takeMachine(), takeMachine()];
    await Promise.all([
      first.run(`${unitFile('one.service')}\n${unitFile('both.service')}`),
      second.run(unitFile('both.service')),
    ]);
    const { lab, client } = await world(t, [first, second]);
    t.deepEqual(await client.call('list_clusters', { timeoutMs: HUNG_MS }), [
      { name: 'lab', kind: 'systemd', machines: 2 },
    ]);
    t.deepEqual(await client.call('list_machines', { ...lab, parameters: { metadata: { number: '2' } } }), [
      { id: second.machine.id, primaryIP: second.address, metadata: { number: '2' } },
    ]);
    const units = await client.call('list_units', lab);
    t.deepEqual(
      units.map(({ name, desiredState, currentState, machineID }) => [
        name,
        desiredState,
        currentState,
        machineID,
      ]),
      [
        ['both.service', 'launched', 'launched', null],
        ['one.service', 'launched', 'launched', first.machine.id],
      ],
    );
    const states = await client.call('list_unit_states', {
      ...lab,
      parameters: { unit_name: 'both.service' },
    });
    t.deepEqual(
      new Set(states.map(({ machineID }) => machineID)),
      new Set([first.machine.id, second.machine.id]),
    );
    t.true(states.every(({ systemdActiveState }) => systemdActiveState === 'active'));
    const logs = await eventually('it has written its line', async () => {
      const text = await client.call('unit_logs', { ...lab, parameters: { unit_name: 'one.service' } });
      return text.includes('hello from one.service') ? text : undefined;
    });
    t.regex(logs, /hello from one\.service/);
    await t.throwsAsync(client.call('load_unit', { ...lab, parameters: { unit_name: 'one.service' } }), {
      code: 'unsupported_by_cluster',
    });
    t.is((await first.run('systemctl is-active one.service')).trim(), 'active');
  });

  test('a machine that is gone is named beside the others, and the file is read again when it changes', async (t) => {
    const [first, second] = [takeMachine(), takeMachine()];
    const { lab, client, rewrite, entryOf, worker } = await world(t, [first, second]);
    await second.control('kill');
    const reply = await client.request('list_machines', lab);
    t.like(reply, { status: 'completed', response_body: { length: 1 } });
    t.like(reply.details, { unreachable: [{ host: second.address, code: 'host_unreachable' }] });
    // States are not compared with units of the same machines: that would ask all of them once more, and warn once more.
    const states = await client.request('list_unit_states', lab);
    t.like(states.details, { warnings: { length: 1 }, unreachable: { length: 1 } });
    await rewrite(`${entryOf([first])}\nbroken: { kind: systemd }\n`);
    worker.process.kill('SIGHUP');
    await eventually('it is read', () => worker.lines.some(({ message }) => message === 'clusters reloaded'));
    t.is((await client.call('list_machines', lab)).length, 1);
    await t.throwsAsync(client.call('list_machines', { cluster: 'broken', timeoutMs: HUNG_MS }), {
      code: 'cluster_entry_invalid',
    });
  });
}
