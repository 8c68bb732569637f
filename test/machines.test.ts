import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { connect as openTcp, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError, type KnownActions } from '../src/client/client.js';
import { type Sandbox, startSandbox } from '../src/sandbox/sandbox.js';
import { hasEtcd, ownEtcd } from './support/own-etcd.js';
import { eventually, HUNG_MS } from './support/eventually.js';
import { noteSkipped } from './support/note-skipped.js';
import { type JournalEntry, startMachines } from './support/machines.js';
import { service } from './support/open-sandbox.js';
import { startWorker } from './support/worker.js';
import { queuesOf } from '../src/rpc/queues.js';

// The actions on machines as callers use them: a message in RabbitMQ, real SSH servers, the real journalctl.
const rabbitmqUrl =
  process.env.RABBITMQ_URL ?? noteSkipped('the actions on machines over RabbitMQ', 'RABBITMQ_URL');
const hasServers = ['/usr/sbin/sshd', '/lib/systemd/systemd-journal-remote'].every((file) =>
  existsSync(file),
);
if (!hasServers) noteSkipped('the actions on real machines', 'openssh-server and systemd-journal-remote');

const ADDRESSES = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];
const NOON = Date.UTC(2024, 4, 1, 12) / 1_000;
const UNITS = ['web.service', '-.mount', 'a\\x2db.service', 'web@1.service'];

const JOURNAL: JournalEntry[] = UNITS.flatMap((unit) =>
  Array.from({ length: 20 }, (_, n) => ({ unit, message: `${unit} says ${n}`, at: NOON + n * 60 })),
);

interface World {
  sandbox: Sandbox;
  queue: string;
  env: Record<string, string>;
  client: FleetManagerClient;
}

async function world(t: ExecutionContext, broker: string, env: Record<string, string>): Promise<World> {
  const sandbox = await startSandbox({ delays: { change: 1_000 } });
  t.teardown(async () => sandbox.stop());
  sandbox.cluster.addUnits(
    UNITS.filter((name) => sandbox.cluster.unit(name) === undefined).map((name) => ({
      name,
      options: service('/bin/x'),
    })),
  );
  const queue = `machines_${randomUUID()}`;
  const client = new FleetManagerClient({ urls: [broker], queue });
  t.teardown(async () => {
    await client.close();
    const connection = await connect(broker);
    const channel = await connection.createChannel();
    for (const name of queuesOf(queue)) await channel.deleteQueue(name);
    await connection.close();
  });
  const settings = {
    AMQP_URL: broker,
    QUEUE_NAME: queue,
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/24',
    TZ: 'UTC',
    ...env,
  };
  return { sandbox, queue, env: settings, client };
}

const failure = (error: unknown) => (error instanceof FleetManagerError ? error : undefined);

if (rabbitmqUrl !== undefined && hasServers) {
  test('unit_logs returns what the unit wrote to the journal of its machine', async (t) => {
    const machines = await startMachines(t, ADDRESSES, JOURNAL);
    const { sandbox, env, client } = await world(t, rabbitmqUrl, machines.env);
    await startWorker(t, env);
    const logs = async (parameters: KnownActions['unit_logs']['parameters']) =>
      client.call('unit_logs', { cluster: sandbox.token, parameters });
    for (const name of UNITS) {
      const text = await logs({ unit_name: name });
      const said = [...text.matchAll(/says (\d+)/g)].map(([, n]) => Number(n));
      t.deepEqual(said, [10, 11, 12, 13, 14, 15, 16, 17, 18, 19], name);
      t.false(text.includes('==>'));
    }
    const between = await logs({
      unit_name: 'web.service',
      since: '2024-05-01 12:02 UTC',
      until: '2024-05-01 12:04 UTC',
    });
    t.deepEqual(
      [...between.matchAll(/says (\d+)/g)].map(([, n]) => Number(n)),
      [2, 3, 4],
    );
    const last = await logs({
      unit_name: 'web.service',
      lines: 2,
      since: `@${NOON}`,
      until: `@${NOON + 330}`,
    });
    t.deepEqual(
      [...last.matchAll(/says (\d+)/g)].map(([, n]) => Number(n)),
      [4, 5],
    );
    t.regex(await logs({ unit_name: 'web.service', lines: 1, until: `@${NOON + 60}` }), /says 1$/m);
    t.regex(await logs({ unit_name: 'web.service', since: 'now' }), /^(-- No entries --\n)?$/);
  });

  test('unit_logs returns the newest of more lines than a reply has room for, and none about reboots', async (t) => {
    const machines = await startMachines(t, ADDRESSES, [
      ...Array.from({ length: 1_500 }, (_, n) => ({
        unit: 'web.service',
        message: `says ${n} ${'x'.repeat(1_000)}`,
        at: NOON + n,
      })),
      { unit: 'web@1.service', message: 'says 0', at: NOON },
      { unit: 'web@1.service', message: 'says 1', at: NOON + 60, boot: 'f'.repeat(32) },
    ]);
    const { sandbox, env, client } = await world(t, rabbitmqUrl, machines.env);
    await startWorker(t, env);
    const logs = async (parameters: KnownActions['unit_logs']['parameters']) =>
      client.call('unit_logs', { cluster: sandbox.token, parameters });
    for (const bounds of [{}, { since: '2024-05-01', until: '2024-05-02' }]) {
      const [mark, ...lines] = (await logs({ unit_name: 'web.service', lines: 10_000, ...bounds }))
        .trimEnd()
        .split('\n');
      t.is(mark, '[older lines are left out: there are more than 1048576 bytes]');
      const said = lines.map((line) => Number(/says (\d+) x{1000}$/.exec(line)?.[1]));
      t.true(said.length > 900 && said.length < 1_100, String(said.length));
      t.deepEqual(
        said,
        Array.from(said, (_, index) => 1_500 - said.length + index),
      );
    }
    const rebooted = await logs({ unit_name: 'web@1.service' });
    t.regex(rebooted, /^[^\n]* says 0\n[^\n]* says 1\n$/);
  });

  test('unit_logs distinguishes an unknown unit from one that is nowhere', async (t) => {
    const machines = await startMachines(t, ADDRESSES);
    const { sandbox, env, client } = await world(t, rabbitmqUrl, machines.env);
    await startWorker(t, env);
    const code = async (unit: string, more: Record<string, unknown> = {}) =>
      client
        .call('unit_logs', { cluster: sandbox.token, parameters: { unit_name: unit, ...more } })
        .catch((error: unknown) => failure(error)?.code);
    t.is(await code('no-such.service'), 'unit_not_found');
    t.is(await code('recommender.service'), 'unit_not_scheduled');
    t.is(await code('web.service', { machine_id: 'f'.repeat(32) }), 'unit_not_scheduled');
  });

  test('nothing that a caller sends runs: what the grammar refuses is reported by its field', async (t) => {
    const machines = await startMachines(t, ADDRESSES, JOURNAL);
    const { sandbox, env, client } = await world(t, rabbitmqUrl, machines.env);
    await startWorker(t, env);
    const canary = join(tmpdir(), `canary-${randomUUID()}`);
    t.teardown(async () => rm(canary, { force: true }));
    const hostile = [
      `$(touch ${canary})`,
      `\`touch ${canary}\``,
      `; touch ${canary}`,
      `\ntouch ${canary}\n`,
      `x\0touch ${canary}`,
      `'; touch ${canary}; '`,
      `"; touch ${canary}; "`,
      `--directory=/etc`,
      '-rf',
      '../../etc/passwd',
      'x'.repeat(10_000),
      'wеb.service',
      'web．service',
      '127.0.0.1 -oProxyCommand=x',
      '-oProxyCommand=touch',
    ];
    for (const text of hostile) {
      const requests: [string, Record<string, unknown>, string][] = [
        ['unit_logs', { unit_name: text }, 'unit_name'],
        ['unit_logs', { unit_name: `${text}.service` }, 'unit_name'],
        ['unit_logs', { unit_name: 'web.service', since: text }, 'since'],
        ['unit_logs', { unit_name: 'web.service', until: text }, 'until'],
        ['unit_logs', { unit_name: 'web.service', machine_id: text }, 'machine_id'],
        ['restart_unit', { unit_name: text }, 'unit_name'],
      ];
      const { [text]: node } = await client.call('node_info', { parameters: { nodes: [text] } });
      t.deepEqual(node?.errors, ['invalid_parameters: not an IP address or a host name']);
      for (const [action, parameters, field] of requests) {
        // Only `-rf.service` and `--directory=...` are unit names, and no cluster has these units.
        const call = { cluster: sandbox.token, parameters };
        const error = failure(await t.throwsAsync(client.call(action, call)));
        if (error?.code === 'unit_not_found') continue;
        t.is(error?.code, 'invalid_parameters', `${action} ${JSON.stringify(parameters).slice(0, 80)}`);
        t.like(error?.details, { fields: [{ field: `action_parameters.${field}` }] });
      }
    }
    t.false(existsSync(canary));
  });

  test('node_info on a cluster accepts its machines, and no others', async (t) => {
    const machines = await startMachines(t, ADDRESSES);
    const { sandbox, env, client } = await world(t, rabbitmqUrl, machines.env);
    await startWorker(t, env);
    const info = (await client.call('node_info', { cluster: sandbox.token })) as object;
    t.deepEqual(Object.keys(info).toSorted(), ADDRESSES);
    const nodes = ['127.0.0.9', '127.0.0.1', null];
    const some = await client.call('node_info', { cluster: sandbox.token, parameters: { nodes } });
    t.deepEqual(Object.keys(some), ['127.0.0.9', '127.0.0.1', '(null)']);
    t.regex(String(some['127.0.0.9']?.errors), /^invalid_parameters: not a machine of this cluster/);
    t.is(typeof some['127.0.0.1']?.docker_disk_space_percent, 'number');
    t.regex(String(some['(null)']?.errors), /^host_unreachable: /);
    t.is(failure(await t.throwsAsync(client.call('node_info')))?.code, 'invalid_parameters');
  });

  test('nodes out of policy are reported as forbidden and are not connected to', async (t) => {
    const machines = await startMachines(t, ADDRESSES);
    const [, other] = machines.servers;
    const { env, client } = await world(t, rabbitmqUrl, { ...machines.env, ALLOWED_HOSTS: '127.0.0.1' });
    await startWorker(t, env);
    for (const node of ['127.0.0.2', '::ffff:127.0.0.2', '::127.0.0.2', '0:0:0:0:0:ffff:7f00:2']) {
      const info = await client.call('node_info', { parameters: { nodes: ['127.0.0.1', node] } });
      t.truthy(info['127.0.0.1']?.disk);
      t.regex(String(info[node]?.errors), /^forbidden: /, node);
    }
    // Connections there are counted: this was the only one.
    const socket = openTcp(Number(other?.port), '127.0.0.2');
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    await eventually('it is counted', () => Number(other?.connections()) > 0);
    t.is(other?.connections(), 1);
  });

  test('a token whose members are forbidden by policy is forbidden, and they are not connected to', async (t) => {
    const { sandbox, env, client } = await world(t, rabbitmqUrl, { ALLOWED_HOSTS: '127.0.0.1' });
    let connections = 0;
    const listener = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    t.teardown(() => listener.close());
    await once(listener.listen(sandbox.fleetPort, '127.0.0.2'), 'listening');
    await startWorker(t, env);
    for (const [token, member] of [
      ['elsewhere', 'http://127.0.0.2:2380'],
      ['mapped', 'http://[::ffff:127.0.0.2]:2380'],
    ] as const) {
      await sandbox.addCluster(token, { members: [`a=${member}`] });
      for (const action of ['list_machines', 'node_info']) {
        const error = failure(await t.throwsAsync(client.call(action, { cluster: token })));
        t.is(error?.code, 'forbidden', `${action} ${member}`);
      }
    }
    t.is(connections, 0);
    await once(openTcp(sandbox.fleetPort, '127.0.0.2').end(), 'close');
    t.is(connections, 1);
  });

  for (const signal of hasEtcd ? (['SIGKILL', 'SIGTERM'] as const) : []) {
    test(`${signal} while the unit is stopped leaves it launched, where the workers have a claim store`, async (t) => {
      // Half of it is for the change, after it was stopped.
      const { sandbox, env, client } = await world(t, rabbitmqUrl, {
        SHUTDOWN_GRACE_SECONDS: '10',
        CLAIMS_ETCD_URL: (await ownEtcd(t)).url,
      });
      const first = await startWorker(t, env);
      const call = client
        .call('restart_unit', {
          cluster: sandbox.token,
          parameters: { unit_name: 'web.service' },
          timeoutMs: HUNG_MS,
        })
        .catch((error: unknown) => failure(error));
      const state = () => {
        const unit = sandbox.cluster.unit('web.service');
        return typeof unit === 'object' ? unit.desiredState : undefined;
      };
      await eventually('it is asked to stop', () => state() === 'loaded');
      first.process.kill(signal);
      t.is(await first.ended, signal === 'SIGKILL' ? 'SIGKILL' : 0);
      if (signal === 'SIGKILL') {
        t.is(state(), 'loaded');
        await startWorker(t, env);
        t.regex((await call) as string, /was started/);
      } else {
        // Which error it is depends on how far the restart came.
        t.like(await call, { fault: 'service', retryable: false });
      }
      t.is(state(), 'launched');
    });
  }
}
