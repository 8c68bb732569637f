import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { connect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError } from '../../src/client/client.js';
import { queuesOf } from '../../src/rpc/queues.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { noteSkipped } from '../support/note-skipped.js';
import { type Proxy, startProxy } from '../support/proxy.js';
import { inRepository } from '../support/repository.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from '../support/systemd-machines.js';

// The shipped unit on machines with systemd, installed as docs/operating.md says, with RabbitMQ. Each test has a machine of
// its own.
const WHAT = 'the shipped unit on systemd machines';
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped(`${WHAT} with RabbitMQ`, 'RABBITMQ_URL');

/** Where the machines have the service. Not /usr/local, which is empty there. */
const INSTALLED = '/opt/fleet-manager';

if (rabbitmqUrl !== undefined && (await machinesCanRun(WHAT))) {
  let booted: SystemdMachines | undefined;
  let unused: Iterator<SystemdMachine>;
  test.before(async () => {
    booted = await bootMachines(5, {
      [process.execPath]: `${INSTALLED}/node`,
      ...Object.fromEntries(
        ['build', 'node_modules', 'package.json'].map((name) => [inRepository(name), `${INSTALLED}/${name}`]),
      ),
    });
    unused = booted.machines.values();
  });
  test.after.always(async () => booted?.stop());

  interface Installed {
    machine: SystemdMachine;
    broker: Proxy;
    client: FleetManagerClient;
    /** The value of a property of the unit, as systemd has it. */
    property: (name: string) => Promise<string>;
    /** The lines of the service in the journal that have this text. */
    logged: (text: string) => Promise<string[]>;
  }

  /** Files by their paths, as commands of bash that write them. */
  const writing = (files: Readonly<Record<string, string>>) =>
    Object.entries(files).map(
      ([path, text]) => `mkdir -p "$(dirname ${path})"; cat >${path} <<'END OF FILE'\n${text}\nEND OF FILE`,
    );

  /**
   * Installs the service on a machine, with RabbitMQ over a link that can fail; it is not started.
   * @param plugin the body of a module of a plugin that is served too
   * @param dropIn more lines of the section [Service]
   */
  const install = async (
    t: ExecutionContext,
    {
      env = {},
      credentials = {},
      plugin,
      dropIn = '',
    }: {
      env?: Record<string, string>;
      credentials?: Record<string, string>;
      plugin?: string;
      dropIn?: string;
    } = {},
  ): Promise<Installed> => {
    const { value: machine } = unused.next();
    if (machine === undefined) throw new Error('boot more machines');
    const url = new URL(rabbitmqUrl);
    const broker = await startProxy(t, { port: Number(url.port) }, machine.gateway);
    url.hostname = machine.gateway;
    url.port = String(broker.port);
    const queue = `unit_${randomUUID()}`;
    const client = new FleetManagerClient({ urls: [rabbitmqUrl], queue });
    t.teardown(async () => {
      await machine.run('systemctl stop fleet-manager || true');
      await client.close();
      const connection = await connect(rabbitmqUrl);
      const channel = await connection.createChannel();
      for (const name of queuesOf(queue)) await channel.deleteQueue(name);
      await connection.close();
    });
    const settings = { QUEUE_NAME: queue, ALLOWED_HOSTS: '10.64.0.0/10', ...env };
    const secrets = { AMQP_URL: url.href, ...credentials };
    await machine.installCommand(
      'fleet-manager',
      `exec ${INSTALLED}/node ${INSTALLED}/build/src/cli.js "$@"`,
    );
    await machine.run(
      [
        'install -d -m 700 /etc/fleet-manager/credentials',
        ...writing({
          '/etc/systemd/system/fleet-manager.service': await readFile(
            inRepository('systemd/fleet-manager.service'),
            'utf8',
          ),
          '/etc/systemd/system/fleet-manager.service.d/test.conf': `[Service]\n${dropIn}`,
          '/etc/fleet-manager/env': [
            ...Object.entries(settings).map(([name, value]) => `${name}=${value}`),
            ...(plugin === undefined ? [] : ['PLUGIN_PATHS=/srv/plugins']),
          ].join('\n'),
          ...Object.fromEntries(
            Object.entries(secrets).map(([name, text]) => [`/etc/fleet-manager/credentials/${name}`, text]),
          ),
          ...(plugin !== undefined && { '/srv/plugins/probe/index.js': plugin }),
        }),
        'chmod 600 /etc/fleet-manager/env /etc/fleet-manager/credentials/*',
        'systemctl daemon-reload',
      ].join('\n'),
    );
    const property = async (name: string) =>
      (await machine.run(`systemctl show --property=${name} --value fleet-manager`)).trim();
    const logged = async (text: string): Promise<string[]> =>
      (await machine.run('journalctl --sync; journalctl --unit=fleet-manager --output=cat --no-pager'))
        .split('\n')
        .filter((line: string) => line.includes(text));
    return { machine, broker, client, property, logged };
  };

  const blocking = `import { defineAction } from 'fleet-manager/plugin';
import { object, string } from 'yup';
export default defineAction({
  name: 'block', summary: 'Blocks the process.', target: 'none', effect: 'read',
  parameters: object({}),
  result: string().defined().meta({ description: 'Nothing.' }),
  handle: () => { for (;;); },
});`;

  const isReady = async ({ property }: Installed) =>
    eventually('it is ready', async () => (await property('StatusText')) === 'ready');

  test('the start is complete when the plugins are loaded, and the service then runs as the unit says', async (t) => {
    const key = await readFile(String(booted?.env.SSH_KEY_FILE), 'utf8');
    const installed = await install(t, {
      env: { SSH_HOST_KEYS: 'accept-new' },
      credentials: { SSH_KEY_FILE: key },
      plugin: `import { existsSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
while (!existsSync('/srv/go')) await setTimeout(50);
${blocking}`,
    });
    const { machine, client, property, logged } = installed;
    await machine.run('systemctl start --no-block fleet-manager');
    await eventually('it starts', async () => (await property('SubState')) === 'start');
    await machine.run('touch /srv/go; systemctl start fleet-manager');
    t.is(await property('ActiveState'), 'active');
    t.is((await logged('"service started"')).length, 1);
    await isReady(installed);

    // The credential with the key, and the folder for the keys of hosts.
    const { address } = machine;
    const info = await client.call('node_info', { parameters: { nodes: [address] }, timeoutMs: HUNG_MS });
    t.is(info[address]?.coreos_version, await machine.run('cat /etc/os-release'));
    t.regex(await machine.run('cat /var/lib/fleet-manager/known_hosts'), new RegExp(`^${address} `));

    t.is(await machine.run('systemd-analyze verify --man=no fleet-manager.service 2>&1'), '');
    // As docs/operating.md has it for `doctor`.
    const seen = await machine.run(
      'systemd-run --quiet --pipe --wait --property=DynamicUser=yes --property=EnvironmentFile=/etc/fleet-manager/env ' +
        '--property=LoadCredential=fleet-manager:/etc/fleet-manager/credentials --property=StateDirectory=fleet-manager ' +
        '--setenv=NODE_ENV=production --setenv=SSH_KNOWN_HOSTS=/var/lib/fleet-manager/known_hosts fleet-manager config',
    );
    t.regex(seen, /^AMQP_URL +amqp:\/\/\S*@10\.\S+ +environment$/m);
    const pid = await property('MainPID');
    t.regex(await machine.run(`tr '\\0' '\\n' </proc/${pid}/environ`), /^NODE_ENV=production$/m);
    t.notRegex(await machine.run(`cat /proc/${pid}/environ`), /amqp:/);
    t.notRegex(await machine.run(`ps -o user= -p ${pid}`), /^root/);
    t.regex(await machine.run(`cat /proc/${pid}/status`), /^CapBnd:\t0+$/m);

    await machine.run('systemctl stop fleet-manager');
    t.is(await property('Result'), 'success');
    t.is(await property('ExecMainStatus'), '0');
    t.is(await property('NRestarts'), '0');
    t.is((await logged('"shut down"')).filter((line) => line.includes('"clean":true')).length, 1);
    t.deepEqual(await logged('SIGKILL'), []);
    t.deepEqual(await logged('systemd notification failed'), []);
  });

  test('without a broker the start is complete too, and the status has the reason until there is one', async (t) => {
    const installed = await install(t);
    const { machine, broker, property } = installed;
    broker.refuse();
    await machine.run('systemctl start fleet-manager');
    await eventually('the reason', async () =>
      /^not ready: .*no connection to a broker: .*; the HTTP gateway: no connection to a broker: /.test(
        await property('StatusText'),
      ),
    );
    t.is(await property('ActiveState'), 'active');
    broker.accept();
    await isReady(installed);
    broker.refuse();
    await eventually('the reason', async () => (await property('StatusText')).startsWith('not ready: '));
    t.is(await property('NRestarts'), '0');
  });

  test('settings that cannot be used end the start, and systemd does not try again', async (t) => {
    const { machine, property } = await install(t, { env: { PREFETCH: 'many' } });
    await t.throwsAsync(machine.run('systemctl start fleet-manager'));
    t.is(await property('ActiveState'), 'failed');
    t.is(await property('ExecMainStatus'), '2');
    t.is(await property('NRestarts'), '0');
  });

  const blocked = async ({ client }: Installed, timeoutMs: number) => {
    const error = await client.call('block', { timeoutMs, resend: true }).catch((reason: unknown) => reason);
    if (!(error instanceof FleetManagerError)) throw error;
    return error.code;
  };

  test('systemd starts a blocked service again, when that does not end itself', async (t) => {
    const installed = await install(t, {
      env: { WATCHDOG_SECONDS: '0' },
      plugin: blocking,
      dropIn: 'WatchdogSec=10',
    });
    const { machine, property, logged } = installed;
    await machine.run('systemctl start fleet-manager');
    await isReady(installed);
    const before = await property('MainPID');
    const heard = await property('WatchdogTimestampMonotonic');
    await eventually(
      'systemd hears of it again',
      async () => (await property('WatchdogTimestampMonotonic')) !== heard,
    );
    const call = blocked(installed, 1_000);
    await eventually('another process runs', async () => {
      const pid = await property('MainPID');
      return pid !== '0' && pid !== before;
    });
    t.is((await logged('Watchdog timeout (limit 10s)')).length, 1);
    t.is(await call, 'timeout');
    await isReady(installed);
    t.true(Number(await property('NRestarts')) >= 1);
  });

  test('a blocked service ends itself first, names the action, is started again, and answers the request', async (t) => {
    const installed = await install(t, { env: { WATCHDOG_SECONDS: '2' }, plugin: blocking });
    const { machine, property, logged } = installed;
    await machine.run('systemctl start fleet-manager');
    await isReady(installed);
    // Also in processes of its own the request does not end.
    t.is(await blocked(installed, HUNG_MS), 'worker_lost');
    const [line = ''] = await logged('"event loop blocked"');
    t.like(JSON.parse(line), { seconds: 2, actions: { block: 1 } });
    t.deepEqual(await logged('Watchdog timeout'), []);
    t.is(await property('NRestarts'), '1');
    await isReady(installed);
  });
}
