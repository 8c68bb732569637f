import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { connect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError, type KnownActions } from '../src/client/client.js';
import { type Sandbox, startSandbox } from '../src/sandbox/sandbox.js';
import { notAborted, shellFor } from './ssh/shell-for.js';
import { eventually, HUNG_MS } from './support/eventually.js';
import { ManualClock } from './support/manual-clock.js';
import { noteSkipped } from './support/note-skipped.js';
import { service } from './support/open-sandbox.js';
import { bootMachines, machinesCanRun, type SystemdMachine } from './support/systemd-machines.js';
import { startWorker } from './support/worker.js';
import { queuesOf } from '../src/rpc/queues.js';

// The actions on machines as callers use them: a message in RabbitMQ, and machines with systemd, journald and sshd. Each test
// has machines of its own, in a cluster of its own.
const WHAT = 'the actions on systemd machines';
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped(`${WHAT} over RabbitMQ`, 'RABBITMQ_URL');

/** Teardowns of the whole file, in reverse order. */
function atEnd(): Pick<ExecutionContext, 'teardown'> & { run: () => Promise<void> } {
  const teardowns: (() => unknown)[] = [];
  return {
    teardown: (teardown) => void teardowns.unshift(teardown),
    run: async () => {
      for (const teardown of teardowns) await teardown();
    },
  };
}

if (rabbitmqUrl !== undefined && (await machinesCanRun(WHAT))) {
  let sandbox: Sandbox;
  let env: Record<string, string>;
  let client: FleetManagerClient;
  let unused: Iterator<SystemdMachine>;
  const whole = atEnd();
  test.before(async () => {
    const booted = await bootMachines(21);
    whole.teardown(booted.stop);
    ({ env } = booted);
    unused = booted.machines.values();
    sandbox = await startSandbox({ machines: [], units: [] });
    whole.teardown(async () => sandbox.stop());
    client = await startService(whole);
  });
  test.after.always(whole.run);

  const takeMachine = (): SystemdMachine => {
    const { value } = unused.next();
    if (value === undefined) throw new Error('boot more machines');
    return value;
  };

  /** A cluster of these machines, each with a unit of its own (`unit1.service`, ...); `everywhere.service` is global. */
  const clusterOf = async (...members: readonly SystemdMachine[]): Promise<string> => {
    const token = randomUUID();
    await sandbox.addCluster(token, {
      machines: members.map(({ machine }) => machine),
      units: [
        ...members.map(({ machine }, index) => ({
          name: `unit${index + 1}.service`,
          options: service('/bin/x', { MachineID: machine.id }),
        })),
        { name: 'everywhere.service', options: service('/bin/x', { Global: 'true' }) },
      ],
    });
    return token;
  };

  /** Starts the service with these settings too. @returns its client */
  const startService = async (
    t: Pick<ExecutionContext, 'teardown'>,
    more: Record<string, string> = {},
  ): Promise<FleetManagerClient> => {
    const queue = `systemd_machines_${randomUUID()}`;
    const own = new FleetManagerClient({ urls: [rabbitmqUrl], queue });
    t.teardown(async () => {
      await own.close();
      const connection = await connect(rabbitmqUrl);
      const channel = await connection.createChannel();
      for (const name of queuesOf(queue)) await channel.deleteQueue(name);
      await connection.close();
    });
    await startWorker(t, {
      ...env,
      AMQP_URL: rabbitmqUrl,
      QUEUE_NAME: queue,
      ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
      FLEET_API_PORT: String(sandbox.fleetPort),
      ALLOWED_HOSTS: '127.0.0.0/8,10.64.0.0/10',
      ...more,
    });
    return own;
  };

  const logsOf = async (
    cluster: string,
    unit: string,
    parameters: Partial<KnownActions['unit_logs']['parameters']> = {},
  ) =>
    client.call('unit_logs', {
      cluster,
      parameters: { lines: 100, ...parameters, unit_name: unit },
      timeoutMs: HUNG_MS,
    });
  const infoOf = async (...nodes: readonly SystemdMachine[]) => {
    const parameters = { nodes: nodes.map(({ address }) => address) };
    const info = await client.call('node_info', { parameters, timeoutMs: HUNG_MS });
    return nodes.map(({ address }) => info[address]);
  };
  const failureOf = async (t: ExecutionContext, call: Promise<unknown>) => {
    const error = await t.throwsAsync(call);
    if (!(error instanceof FleetManagerError)) throw error ?? new Error('no error');
    return error;
  };
  /** All that a caller gets of an error. */
  const textOf = (error: unknown) => {
    if (!(error instanceof FleetManagerError)) throw error;
    return `${error.code}: ${error.message} ${JSON.stringify(error.details)}`;
  };
  /** What the unit wrote, without what journalctl and systemd add. */
  const saidIn = (logs: string) => [...logs.matchAll(/ unit\[\d+\]: (.*)$/gm)].map(([, text]) => text);

  const DOCKER = "printf 'Client:\\n Version:      1.10.3\\n\\nServer:\\n Version:      1.10.4\\n'";

  test('unit_logs has what the unit and systemd wrote, in the format of journalctl', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.logAs('unit1.service', 'one\n  two\nthrée\n');
    const logs = await logsOf(cluster, 'unit1.service');
    t.deepEqual(saidIn(logs), ['one', '  two', 'thrée']);
    t.regex(logs, /^\w{3} \d\d \d\d:\d\d:\d\d m\d+ systemd\[1\]: Started unit1\.service/m);
    const printed = await machine.run('journalctl --unit=unit1.service --no-pager --output=short --quiet');
    t.is(logs.trimEnd(), printed.trimEnd());
    t.deepEqual(saidIn(await logsOf(cluster, 'everywhere.service')), []);
  });

  test('a login that PAM refuses is login_refused with its text, and host_unreachable while the machine starts up', async (t) => {
    const machine = takeMachine();
    const { address } = machine;
    const cluster = await clusterOf(machine);
    const refused = async () => failureOf(t, logsOf(cluster, 'unit1.service'));
    const forCore = async (text: string) => machine.run(`echo '${text}' >/etc/nologin`);

    await forCore('closed for maintenance\nuntil noon');
    const closed = await refused();
    t.like(closed, { code: 'login_refused', retryable: false });
    t.is(closed.message, `${address} refused the login of core: closed for maintenance until noon`);
    const said = { text: 'closed for maintenance\nuntil noon' };
    t.deepEqual(closed.details, { host: address, user: 'core', reason: 'closed', ...said });

    for (const text of [
      'System is booting up.',
      'System is going down. Unprivileged users are not permitted to log in anymore.',
    ]) {
      await forCore(text);
      const unready = await refused();
      t.like(unready, { code: 'host_unreachable', retryable: true });
      t.like(unready.details, { host: address, reason: 'not_ready' });
    }
    await machine.run(
      'rm /etc/nologin; sed -i "1i account required pam_succeed_if.so quiet user != core" /etc/pam.d/sshd',
    );
    const without = await refused();
    t.is(without.code, 'login_refused');
    t.is(without.message, `${address} refused the login of core: it closed the connection`);
    t.deepEqual(without.details, { host: address, user: 'core', reason: 'closed' });
  });

  test('lines with bytes that are not UTF-8, or with control characters, are shown', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.logAs(
      'unit1.service',
      Buffer.from('caf\xe9\n\x1b[31mred\x1b[0m alert\x07\nplain\n', 'latin1'),
    );
    const logs = await logsOf(cluster, 'unit1.service');
    const said = saidIn(logs);
    t.is(said.length, 3, logs);
    t.is(said[0], 'caf\u{fffd}');
    t.regex(String(said[1]), /red.* alert/);
    t.is(said[2], 'plain');
    // oxlint-disable-next-line no-control-regex
    t.notRegex(logs, /blob data|[\x00-\x09\x0b-\x1f]/);
  });

  test('node_info has the facts of a machine, and says that Docker is down where it is', async (t) => {
    const [docked, bare, down] = [takeMachine(), takeMachine(), takeMachine()];
    await docked.installCommand('docker', DOCKER);
    await down.installCommand(
      'docker',
      "printf 'Client:\\n Version:      1.10.3\\n'; echo 'Cannot connect to the Docker daemon.' >&2; exit 1",
    );
    const [withDocker, without, withoutDaemon] = await infoOf(docked, bare, down);
    t.like(withDocker, { errors: [], docker: { client_version: '1.10.3', server_version: '1.10.4' } });
    t.like(without, { docker: null, docker_version: null, errors: [] });
    t.like(withoutDaemon, { docker: { client_version: '1.10.3', server_version: null } });
    t.regex(String(withoutDaemon?.errors), /^docker: .*Cannot connect to the Docker daemon/);
    for (const info of [withDocker, without, withoutDaemon]) {
      t.is(info?.coreos_version, await docked.run('cat /etc/os-release'));
      t.is(typeof info?.disk?.used_percent, 'number');
      t.is(info?.load?.length, 3);
      t.true(Number(info?.uptime_seconds) > 0);
    }
  });

  test('what a login shell prints is in no result', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.installCommand('docker', DOCKER);
    await machine.logAs('unit1.service', 'one\n');
    await machine.run("printf 'echo GREETING\necho GREETING >&2\n' >/home/core/.bashrc");
    const logs = await logsOf(cluster, 'unit1.service');
    t.deepEqual(saidIn(logs), ['one']);
    t.false(logs.includes('GREETING'));
    const [info] = await infoOf(machine);
    t.deepEqual(info?.errors, []);
    t.false(JSON.stringify(info).includes('GREETING'));
    t.is(info?.coreos_version, await machine.run('cat /etc/os-release'));
  });

  test('times are in UTC, whatever the time zone and the environment of the login are', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.logAs('unit1.service', 'one\n');
    const printed = await machine.run('journalctl --unit=unit1.service --output=short --quiet');
    const settings = ['TZ=Asia/Tokyo', 'LC_ALL=C.UTF-8', 'SYSTEMD_COLORS=1', 'SYSTEMD_LOG_LEVEL=debug'];
    await machine.run(
      'ln -sf /usr/share/zoneinfo/America/New_York /etc/localtime\n' +
        'echo PermitUserEnvironment yes >>/etc/ssh/sshd_config; systemctl reload ssh.service\n' +
        settings
          .map(
            (each) =>
              `echo ${each} >>/etc/environment; echo ${each} >>/home/core/.ssh/environment\n` +
              `echo export ${each} >>/home/core/.bashrc; echo export ${each} >>/home/core/.profile\n`,
          )
          .join(''),
    );
    const hoursFromNow = (hours: number) =>
      new Date(Date.now() + hours * 3_600_000).toISOString().slice(0, 19).replace('T', ' ');
    const bounds = { since: hoursFromNow(-1), until: hoursFromNow(1) };
    t.is(await logsOf(cluster, 'unit1.service', bounds), printed);
  });

  test('a journal that the user must not read is reported as such, not as an empty log', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.logAs('unit1.service', 'one\n');
    await machine.run('gpasswd --delete core systemd-journal');
    // Not an error when journalctl succeeds: its hint is then in the text.
    const answer = async () => logsOf(cluster, 'unit1.service').catch(textOf);
    t.regex(await answer(), /insufficient permissions|systemd-journal/);
    // With a journal of its own the user sees that one, and journalctl succeeds.
    await machine.run(
      'setpriv --reuid core --regid core --clear-groups logger hello; journalctl --sync; journalctl --flush',
    );
    t.regex(await answer(), /insufficient permissions|systemd-journal/);
  });

  test('of a journal that the user may read only in part, the lines come with a warning that says so', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.run('gpasswd --delete core systemd-journal');
    const script =
      'systemd-run --quiet --wait --unit=unit1.service --property=User=core --property=SyslogIdentifier=unit echo own\n' +
      'journalctl --sync; journalctl --flush; journalctl --unit=unit1.service --no-pager --quiet';
    t.regex(await machine.run(script), / systemd\[1\]: Started unit1\.service/, 'root sees more');
    const { response_body: body, details } = await client.request('unit_logs', {
      cluster,
      parameters: { unit_name: 'unit1.service' },
      timeoutMs: HUNG_MS,
    });
    const reason = `lines may be missing: the login user may not read some of the journal of ${machine.address}: `;
    const logs = String(body);
    t.deepEqual(saidIn(logs), ['own']);
    t.true(logs.startsWith(`[${reason}`), logs);
    t.notRegex(logs, / systemd\[1\]: /);
    t.regex(JSON.stringify(details), new RegExp(reason, 'i'));
  });

  test('after half a minute a command has the groups that the user was given meanwhile', async (t) => {
    const machine = takeMachine();
    const clock = new ManualClock();
    const shell = await shellFor(t, [], {
      user: env.SSH_USER,
      port: Number(env.SSH_PORT),
      privateKey: await readFile(String(env.SSH_KEY_FILE)),
      knownHosts: await readFile(String(env.SSH_KNOWN_HOSTS), 'utf8'),
      clock,
    });
    const groups = async () => (await shell.run(machine.address, ['id', '-nG'], notAborted())).stdout;
    await machine.run('gpasswd --delete core systemd-journal');
    t.notRegex(await groups(), /systemd-journal/);
    await machine.run('usermod -aG systemd-journal core');
    clock.advance(15_000);
    await groups();
    clock.advance(15_000);
    t.regex(await groups(), /systemd-journal/);
  });

  test('without the right to use sudo, the error has the words of sudo', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    const bySudo = await startService(t, { SSH_SUDO: 'true' });
    const logs = async () =>
      bySudo.call('unit_logs', { cluster, parameters: { unit_name: 'unit1.service' } });
    await machine.logAs('unit1.service', 'one\n');
    t.deepEqual(saidIn(await logs()), ['one']);
    await machine.run('rm /etc/sudoers.d/core');
    t.regex(textOf(await failureOf(t, logs())), /a password is required/);
    await machine.run('chmod 0 /usr/bin/sudo; rm /usr/bin/sudo');
    t.regex(textOf(await failureOf(t, logs())), /sudo: (command )?not found/);
  });

  test('a frozen machine and one that is cut off cost only their own part', async (t) => {
    const [frozen, cutOff, well] = [takeMachine(), takeMachine(), takeMachine()];
    const cluster = await clusterOf(frozen, cutOff, well);
    for (const machine of [frozen, cutOff, well]) await machine.logAs('everywhere.service', 'hello\n');
    // So that they have pooled connections.
    t.is(saidIn(await logsOf(cluster, 'everywhere.service')).length, 3);
    await Promise.all([frozen.control('freeze'), cutOff.control('cut')]);
    const [logs, [infoOfFrozen, infoOfCutOff, infoOfWell]] = await Promise.all([
      logsOf(cluster, 'everywhere.service'),
      infoOf(frozen, cutOff, well),
    ]);
    for (const { machine } of [frozen, cutOff])
      t.regex(logs, new RegExp(`^==> ${machine.id} <==\\n\\[not read: (timeout|host_unreachable): `, 'm'));
    t.deepEqual(saidIn(logs), ['hello']);
    for (const info of [infoOfFrozen, infoOfCutOff])
      t.regex(String(info?.errors), /^(timeout|host_unreachable): /);
    t.is(typeof infoOfWell?.uptime_seconds, 'number');
    await Promise.all([frozen.control('thaw'), cutOff.control('join')]);
    const again = await eventually('all are read again', async () => {
      const found = saidIn(await logsOf(cluster, 'everywhere.service'));
      return found.length === 3 && found;
    });
    t.deepEqual(again, ['hello', 'hello', 'hello']);
  });

  test('a machine that loses power while it is read is an error, and is read again after it was turned on', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.logAs('unit1.service', 'one\n');
    // systemd runs the command too, when the machine boots.
    await machine.installCommand(
      'journalctl',
      'case $* in *unit1.service*) touch /tmp/begun; sleep 1000 ;; esac; exec /usr/bin/journalctl "$@"',
    );
    const call = failureOf(t, logsOf(cluster, 'unit1.service'));
    await eventually('the command runs', async () => (await machine.run('ls /tmp')).includes('begun'));
    await machine.control('kill');
    t.is((await call).code, 'host_unreachable');
    await machine.control('boot');
    await machine.run('rm /usr/local/bin/journalctl');
    t.deepEqual(saidIn(await logsOf(cluster, 'unit1.service')), ['one']);
  });

  test('after a reboot unit_logs has the lines of both boots, and nothing about the reboot', async (t) => {
    const machine = takeMachine();
    const cluster = await clusterOf(machine);
    await machine.logAs('unit1.service', 'before\n');
    t.deepEqual(saidIn(await logsOf(cluster, 'unit1.service')), ['before']);
    await machine.reboot();
    await machine.logAs('unit1.service', 'after\n');
    const logs = await logsOf(cluster, 'unit1.service');
    t.deepEqual(saidIn(logs), ['before', 'after']);
    t.notRegex(logs, /^-- /m);
  });

  test('unit_logs says for each machine why it could not be read, when none could', async (t) => {
    const [first, second, off] = [takeMachine(), takeMachine(), takeMachine()];
    const cluster = await clusterOf(first, second, off);
    for (const machine of [first, second]) await machine.run('rm /usr/bin/journalctl');
    await off.control('poweroff');
    const missing = /journalctl.*(not found|No such file)/;
    t.regex(textOf(await failureOf(t, logsOf(cluster, 'unit1.service'))), missing);
    const { code, message, details } = await failureOf(t, logsOf(cluster, 'everywhere.service'));
    // That of the first machine by its id, which is random.
    t.true(['command_failed', 'host_unreachable'].includes(code), code);
    const failures = new Map<string, unknown>(
      (details as { machines: { machine: string }[] }).machines.map((each) => [each.machine, each]),
    );
    t.is(failures.size, 3);
    for (const { machine } of [first, second]) {
      t.like(failures.get(machine.id), { code: 'command_failed' });
      t.regex(JSON.stringify(failures.get(machine.id)), missing);
    }
    t.like(failures.get(off.machine.id), { code: 'host_unreachable' });
    for (const { machine } of [first, second, off]) t.true(message.includes(machine.id), message);
  });
}
