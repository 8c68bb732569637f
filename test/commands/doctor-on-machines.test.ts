import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { type Sandbox, startSandbox } from '../../src/sandbox/sandbox.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from '../support/systemd-machines.js';
import { type Environment, examine, isFailure } from './examine.js';

// `doctor --cluster` on machines with systemd, journald and sshd. Each test has machines and a cluster of its own.
if (await machinesCanRun('doctor on systemd machines')) {
  let booted: SystemdMachines | undefined;
  let sandbox: Sandbox | undefined;
  let unused: Iterator<SystemdMachine>;
  test.before(async () => {
    booted = await bootMachines(10);
    unused = booted.machines.values();
    sandbox = await startSandbox({ machines: [], units: [] });
  });
  test.after.always(async () => {
    await sandbox?.stop();
    await booted?.stop();
  });

  /** A machine on which all works. */
  const takeMachine = async (): Promise<SystemdMachine> => {
    const { value } = unused.next();
    if (value === undefined) throw new Error('boot more machines');
    await value.installCommand('docker', 'true');
    return value;
  };

  /** A cluster of these machines. @returns runs doctor on it, with these settings too */
  const clusterOf = async (...machines: readonly SystemdMachine[]) => {
    if (sandbox === undefined || booted === undefined) throw new Error('the machines were not booted');
    const cluster = randomUUID();
    await sandbox.addCluster(cluster, { machines: machines.map(({ machine }) => machine), units: [] });
    const env = {
      ...booted.env,
      AMQP_URL: 'amqp://127.0.0.1:1',
      ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
      FLEET_API_PORT: String(sandbox.fleetPort),
      ALLOWED_HOSTS: '127.0.0.0/8,10.64.0.0/10',
    };
    return async (more: Environment = {}, limitMs = 60_000) =>
      examine({ ...env, ...more }, { cluster, limitMs });
  };

  test('healthy machines have no problem, as the user and by sudo', async (t) => {
    const machines = [await takeMachine(), await takeMachine()];
    const check = await clusterOf(...machines);
    for (const SSH_SUDO of ['false', 'true']) {
      const { result, said } = (await check({ SSH_SUDO })).of('machines');
      t.is(result, 'ok', said);
      t.regex(said, /^the actions can work on 2 machines: [\d.]+, [\d.]+$/);
      for (const { address } of machines) t.regex(said, new RegExp(` ${address}(,|$)`));
    }
  });

  test('each wrong setting of the login is a failure that names it', async (t) => {
    const machine = await takeMachine();
    const { address } = machine;
    const check = await clusterOf(machine);
    const folder = await mkdtemp(join(tmpdir(), 'doctor-'));
    t.teardown(async () => rm(folder, { recursive: true }));
    const file = join(folder, 'known_hosts');

    isFailure(
      t,
      await check({ SSH_USER: 'nobody' }),
      'machines',
      /refused the login of nobody\n-> check SSH_USER/,
    );
    isFailure(t, await check({ SSH_PORT: '23' }), 'machines', /refused\n-> .*SSH_PORT \(23\)/);
    await writeFile(file, '');
    isFailure(
      t,
      await check({ SSH_KNOWN_HOSTS: file }),
      'machines',
      new RegExp(
        `key is unknown \\(ssh-ed25519 SHA256:\\S+\\)\\n-> ssh-keyscan -p 22 ${address} >> ${file}; `,
      ),
    );
    const known = await readFile(String(booted?.env.SSH_KNOWN_HOSTS), 'utf8');
    const [other = ''] = known.split('\n').filter((line) => !line.startsWith(`${address} `));
    await writeFile(file, `${address} ${other.split(' ').slice(1).join(' ')}\n`);
    isFailure(
      t,
      await check({ SSH_KNOWN_HOSTS: file }),
      'machines',
      new RegExp(`key has changed \\(.*\\)\\n-> .*ssh-keygen -R ${address} -f ${file}; `),
    );
    await machine.run('rm /home/core/.ssh/authorized_keys');
    isFailure(t, await check(), 'machines', /refused the login of core\n-> .*authorized_keys/);
  });

  test('each missing right or program on a machine is reported with what to do', async (t) => {
    const machine = await takeMachine();
    const { address } = machine;
    const check = await clusterOf(machine);
    const warns = async (reason: RegExp) => {
      const run = await check();
      t.is(run.of('machines').result, 'warning', run.text);
      t.regex(run.of('machines').said, reason);
    };

    // systemd answers for its own clock, which the machines share with this host.
    await machine.installCommand('date', 'echo $(($(/bin/date +%s) - 7200)).000000000');
    await warns(
      new RegExp(`^${address}: its clock is 7\\d{3}\\.\\d s behind the clock of this host\\n-> `, 'm'),
    );
    await machine.run('rm /usr/local/bin/date');

    await machine.run(
      'mount -t tmpfs -o size=100k none /var/lib/docker; head -c 96k /dev/zero >/var/lib/docker/image',
    );
    await warns(/the disk \/var\/lib\/docker, which holds \/var\/lib\/docker, is 9\d% full\n-> /);
    await machine.run('umount /var/lib/docker; rmdir /var/lib/docker');
    await warns(/the disk of \/var\/lib\/docker is not known: .*No such file or directory\n-> /);
    await machine.run('mkdir /var/lib/docker');

    await machine.installCommand('docker', 'echo "permission denied while trying to connect" >&2; exit 1');
    await warns(/core may not use docker: permission denied.*\n-> add core to the group docker: /);
    await machine.run('rm /usr/local/bin/docker');
    await warns(new RegExp(`^${address}: docker is not installed\\n-> `, 'm'));

    await machine.run('gpasswd --delete core systemd-journal');
    const unreadable =
      /core may not read the journal\n-> .*usermod -aG systemd-journal core; or set SSH_SUDO=true/;
    isFailure(t, await check(), 'machines', unreadable);
    // With a journal of its own the user sees that one, and journalctl succeeds.
    await machine.run('setpriv --reuid core --regid core --clear-groups logger hello; journalctl --sync');
    isFailure(t, await check(), 'machines', unreadable);
    await machine.run('usermod -aG systemd-journal core');
    t.is((await check()).of('machines').result, 'warning');

    await machine.run('mv /usr/bin/journalctl /usr/bin/journalctl2');
    isFailure(
      t,
      await check(),
      'machines',
      new RegExp(`^${address}: journalctl is not installed\\n-> `, 'm'),
    );

    // Without one of these no program runs, and no other one is named.
    for (const tool of ['timeout', 'env']) {
      await machine.run(`mv /usr/bin/${tool} /usr/bin/other`);
      isFailure(
        t,
        await check(),
        'machines',
        new RegExp(
          `^0 of 1 machine have no problem\\nthe login shell of core on .*: ${tool} is not installed\\n-> install it there.*$`,
        ),
      );
      await machine.run(`mv /usr/bin/other /usr/bin/${tool}`);
    }

    // The right to run the programs alone is not enough.
    await machine.run('echo "core ALL=(root) NOPASSWD: /bin/cat, /bin/journalctl" >/etc/sudoers.d/core');
    isFailure(
      t,
      await check({ SSH_SUDO: 'true' }),
      'machines',
      /a password is required\n-> .*\(in sudoers: core ALL=\(root\) NOPASSWD: \/bin\/sh\)/,
    );
    await machine.run(
      'echo "core ALL=(root) NOPASSWD: /bin/sh" >/etc/sudoers.d/core; mv /usr/bin/journalctl2 /usr/bin/journalctl',
    );
    t.is((await check({ SSH_SUDO: 'true' })).of('machines').result, 'warning');
    await machine.run('echo "exec >/dev/null 2>&1" >/home/core/.bashrc');
    isFailure(
      t,
      await check(),
      'machines',
      /did not run cat, or hid its output; it ended with exit status 0\n-> `ssh -p 22 core@\S+ echo ok` has to print ok; /,
    );
    await machine.run('rm /home/core/.bashrc');
    await machine.run('usermod --shell /usr/sbin/nologin core');
    isFailure(
      t,
      await check(),
      'machines',
      /the login shell of core on \S+ did not run cat.*\n-> `ssh -p 22 /,
    );
  });

  test('a login that the machine refuses after it has accepted the key is no problem of the network', async (t) => {
    const machine = await takeMachine();
    const check = await clusterOf(machine);
    const isRefused = async (reason: RegExp) => isFailure(t, await check(), 'machines', reason);
    await machine.run('usermod --expiredate 1 core');
    await isRefused(
      /\n\S+ refused the login of core: Your account has expired; .*\n-> check the account of core there /,
    );
    await machine.run("usermod --expiredate '' core; echo closed for maintenance >/etc/nologin");
    await isRefused(
      /\n\S+ refused the login of core: closed for maintenance\n-> check the account of core there .*\/etc\/nologin/,
    );
    await machine.run('echo "System is booting up. See pam_nologin(8)." >/etc/nologin');
    await isRefused(
      /\ncannot reach \S+ by SSH: it is starting up or shutting down\n-> wait until \S+ is up; /,
    );
    await machine.run('rm /etc/nologin');
    t.is((await check()).of('machines').result, 'ok');
  });

  test('machines that are frozen, cut off or turned off cost only their own part', async (t) => {
    const [frozen, cutOff, off, well] = [
      await takeMachine(),
      await takeMachine(),
      await takeMachine(),
      await takeMachine(),
    ];
    const check = await clusterOf(frozen, cutOff, off, well);
    await frozen.control('freeze');
    await cutOff.control('cut');
    await off.control('poweroff');
    const run = await check();
    isFailure(
      t,
      run,
      'machines',
      new RegExp(`^1 of 4 machines has no problem: ${well.address}\n`),
      new RegExp(`^cannot reach ${frozen.address} by SSH: its SSH server did not respond in time$`, 'm'),
      new RegExp(
        `^cannot reach ${cutOff.address} by SSH: (it did not respond in time|there is no route to it)$`,
        'm',
      ),
      new RegExp(`^cannot reach ${off.address} by SSH: `, 'm'),
      /\n-> check that the machine is up/,
    );
  });
}
