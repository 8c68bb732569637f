import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkMachines } from '../../src/commands/check-machines.js';
import { doctor } from '../../src/commands/doctor.js';
import { systemClock } from '../../src/lib/clock.js';
import type { RemoteShell } from '../../src/plugin.js';
import type { SandboxOptions, SandboxSsh } from '../../src/sandbox/sandbox.js';
import { installHanging, notAborted, ownSshd, pidIn, shellFor, testFolder } from '../ssh/shell-for.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { openSandbox, TWO_MACHINES } from '../support/open-sandbox.js';
import { testWithSshd } from '../support/sshd.js';
import { type Environment, examine, isFailure } from './examine.js';

interface World {
  ssh: SandboxSsh;
  env: Environment;
  /** What doctor reports about the machines, with these settings. */
  check: (more?: Environment, limitMs?: number) => ReturnType<typeof examine>;
}

/** A sandbox with two healthy machines by default, and the settings to reach it. */
async function world(t: ExecutionContext, options: SandboxOptions = {}): Promise<World> {
  const { sandbox } = await openSandbox(t, {
    ssh: true,
    clock: systemClock,
    machines: TWO_MACHINES,
    units: [],
    ...options,
  });
  const { ssh } = sandbox;
  if (ssh === undefined) throw new Error('the sandbox has no SSH');
  const env = {
    AMQP_URL: 'amqp://127.0.0.1:1',
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
    SSH_KEY_FILE: ssh.privateKeyFile,
    SSH_PORT: String(ssh.port),
    SSH_KNOWN_HOSTS: ssh.knownHostsFile,
  };
  const check = async (more: Environment = {}, limitMs = 60_000) =>
    examine({ ...env, ...more }, { cluster: 'sandbox', limitMs });
  return { ssh, env, check };
}

async function temporaryFile(t: ExecutionContext, text?: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'known-hosts-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  const file = join(folder, 'known_hosts');
  if (text !== undefined) await writeFile(file, text);
  return file;
}

test('doctor logs in to each machine of the cluster and runs what the actions need', async (t) => {
  const { ssh, check } = await world(t);
  t.deepEqual((await check()).of('machines'), {
    result: 'ok',
    said: 'the actions can work on 2 machines: 127.0.0.1, 127.0.0.2',
  });
  for (const host of ['127.0.0.1', '127.0.0.2']) {
    const programs = ssh.commands.filter((each) => each.host === host).map(({ argv }) => argv[0]);
    for (const program of ['cat', 'date', 'df', 'docker', 'journalctl'])
      t.true(programs.includes(program), program);
  }
});

test('what is missing on a machine without making an action fail is a warning', async (t) => {
  const { check } = await world(t, { machines: undefined, units: undefined });
  const { result, said } = (await check()).of('machines');
  t.is(result, 'warning');
  t.regex(said, /^1 of 3 machines has no problem: 127\.0\.0\.1\n/);
  t.regex(
    said,
    /^127\.0\.0\.2: docker does not work: Cannot connect to the Docker daemon.*\n-> .*systemctl status docker$/m,
  );
  t.regex(said, /^127\.0\.0\.3: the disk \/, which holds \/var\/lib\/docker, is 91% full\n-> /m);
});

test('a wrong user is a failure of every machine, with one remedy', async (t) => {
  const { check } = await world(t);
  const run = await check({ SSH_USER: 'nobody' });
  isFailure(
    t,
    run,
    'machines',
    /^0 of 2 machines have no problem\n127\.0\.0\.1 refused the login of nobody\n127\.0\.0\.2 refused the login of nobody\n-> check SSH_USER \(nobody\) and the key: .*ssh -p \d+ nobody@HOST`$/,
  );
});

test('a wrong key is a failure', async (t) => {
  const [{ check }, other] = [await world(t), await world(t)];
  const run = await check({ SSH_KEY_FILE: other.ssh.privateKeyFile });
  t.is(run.of('SSH key').result, 'ok');
  isFailure(t, run, 'machines', /refused the login of core\n-> .*authorized_keys/);
});

test('a machine with another host key than the known one is a failure', async (t) => {
  const { ssh, check } = await world(t);
  const lines = (await readFile(ssh.knownHostsFile, 'utf8')).trim().split('\n');
  const [first = '', second = ''] = lines.map((line) => line.split(' ').slice(1).join(' '));
  const swapped = `[127.0.0.1]:${ssh.port} ${second}\n[127.0.0.2]:${ssh.port} ${second}\n`;
  t.not(first, second);
  const run = await check({ SSH_KNOWN_HOSTS: await temporaryFile(t, swapped) });
  t.is(run.of('known_hosts').result, 'ok');
  isFailure(
    t,
    run,
    'machines',
    /^1 of 2 machines has no problem: 127\.0\.0\.2\n/,
    /^refused to connect to 127\.0\.0\.1: its host key has changed \(ssh-ed25519 SHA256:\S+\)\n-> another machine may answer there; .*ssh-keygen -R '\[127\.0\.0\.1\]:\d+' -f \S+; ssh-keyscan -p \d+ 127\.0\.0\.1 >> /m,
  );
});

test('a machine on another port whose key is known without the port is a known one', async (t) => {
  const { ssh, check } = await world(t);
  const withoutPort = (await readFile(ssh.knownHostsFile, 'utf8')).replaceAll(/^\[(.*)\]:\d+ /gm, '$1 ');
  const run = await check({ SSH_KNOWN_HOSTS: await temporaryFile(t, withoutPort) });
  t.is(run.of('known_hosts').result, 'ok', run.text);
  t.regex(run.of('known_hosts').said, /the host keys of all the cluster's machines are known/);
  t.is(run.of('machines').result, 'ok', run.text);
});

test('a machine with an unknown host key is a failure, or with accept-new none; known_hosts is not changed', async (t) => {
  const { check } = await world(t);
  const SSH_KNOWN_HOSTS = await temporaryFile(t);
  isFailure(
    t,
    await check({ SSH_KNOWN_HOSTS }),
    'machines',
    /^refused to connect to 127\.0\.0\.1: its host key is unknown \(ssh-ed25519 SHA256:\S+\)$/m,
    /\n-> ssh-keyscan -p \d+ HOST >> \S+; and compare the fingerprint/,
  );
  const accepting = await check({ SSH_KNOWN_HOSTS, SSH_HOST_KEYS: 'accept-new' });
  t.is(accepting.of('machines').result, 'ok', accepting.text);
  t.false(existsSync(SSH_KNOWN_HOSTS));
});

test('a journal that may not be read is a failure, also when journalctl succeeds', async (t) => {
  const { ssh, check } = await world(t);
  const command = /^journalctl/;
  const journal = async (fault: { status: number; stdout?: string; stderr?: string }) => {
    const end = ssh.fail({ kind: 'exit', command, machine: '127.0.0.2', ...fault });
    const run = await check();
    await end();
    return run;
  };
  for (const fault of [
    { status: 1, stderr: 'No journal files were opened due to insufficient permissions.\n' },
    {
      status: 0,
      stdout: '-- No entries --\n',
      stderr:
        'Hint: You are currently not seeing messages from other users and the system.\n      Users in groups',
    },
  ])
    isFailure(
      t,
      await journal(fault),
      'machines',
      /^127\.0\.0\.2: core may not read the journal\n-> .*usermod -aG systemd-journal core; or set SSH_SUDO=true$/m,
    );
  isFailure(
    t,
    await journal({ status: 127, stderr: "timeout: failed to run command 'journalctl': No such file\n" }),
    'machines',
    /^127\.0\.0\.2: journalctl is not installed\n-> install systemd there$/m,
  );
  isFailure(
    t,
    await journal({ status: 127, stderr: '/usr/local/bin/journalctl: 3: nsenter: not found\n' }),
    'machines',
    /^127\.0\.0\.2: the journal cannot be read: .*nsenter: not found\n-> /m,
  );
  isFailure(
    t,
    await journal({ status: 1, stderr: 'Bad\nmessage\n' }),
    'machines',
    /cannot be read: message\n-> /,
  );
  const empty = (await journal({ status: 0, stdout: '-- No entries --\n' })).of('machines');
  t.is(empty.result, 'warning');
  t.regex(empty.said, /has no entry of journald.*\n-> check Storage= in journald\.conf/);
});

test('missing rights on Docker are a warning that names the group', async (t) => {
  const { ssh, check } = await world(t);
  const stderr = 'Got permission denied while trying to connect to the Docker daemon socket\n';
  ssh.fail({ kind: 'exit', command: 'docker', status: 1, stderr, times: 1 });
  const { result, said } = (await check()).of('machines');
  t.is(result, 'warning');
  t.regex(said, /core may not use docker: Got permission denied.*\n-> .*usermod -aG docker core/);
});

test('without the right to use sudo, the failure names sudoers and the setting', async (t) => {
  const { ssh, check } = await world(t);
  ssh.fail({ kind: 'not-run', status: 1, stderr: 'sudo: a password is required\n' });
  const run = await check({ SSH_SUDO: 'true' });
  isFailure(
    t,
    run,
    'machines',
    /a password is required\n.*\n-> .*in sudoers: core ALL=\(root\) NOPASSWD: \/bin\/sh\), .*SSH_SUDO=false$/,
  );
});

test('a machine that refuses connections, and a command that hangs, cost only their own part', async (t) => {
  const { ssh, check } = await world(t);
  const end = ssh.fail({ kind: 'refuse', machine: '127.0.0.1' });
  isFailure(
    t,
    await check(),
    'machines',
    /^1 of 2 machines has no problem: 127\.0\.0\.2\ncannot reach 127\.0\.0\.1 by SSH: the connection was refused\n-> .*SSH_PORT/,
  );
  await end();
  ssh.fail({ kind: 'hang', machine: '127.0.0.1', command: 'docker' });
  t.regex(
    (await check({}, 2_000)).of('machines').said,
    /^127\.0\.0\.1: `docker version` did not end within 2 s\n-> .*systemctl status docker; only the versions of Docker/m,
  );
});

testWithSshd('a login shell that hangs is the problem of the login, not of a command', async (t) => {
  const folder = await testFolder(t);
  const began = await installHanging(folder, 'hang');
  await writeFile(join(folder, '.bashrc'), `exec '${folder}/hang'\n`);
  const sshd = await ownSshd(t, { environment: { HOME: folder } });
  const manual = new ManualClock();
  const finding = checkMachines([sshd.address], {
    shell: await shellFor(t, [sshd], { clock: manual }),
    settings: { user: 'core', port: sshd.port, knownHostsFile: undefined, sudo: false },
    clock: systemClock,
    limitMs: 10_000,
  });
  await pidIn(began);
  manual.advance(10_000);
  t.deepEqual((await finding).lines.slice(1), [
    `the login shell of ${sshd.user} on 127.0.0.1 did not run cat within 10 s, or hid its output`,
    `-> find out where \`ssh -p ${sshd.port} core@127.0.0.1 true\` hangs`,
  ]);
});

testWithSshd(
  'commands that hang are named with what works without them, and all other results are kept',
  async (t) => {
    const folder = await testFolder(t);
    const began = [await installHanging(folder, 'docker'), await installHanging(folder, 'df')];
    const denied = 'echo No journal files were opened due to insufficient permissions. >&2; exit 1';
    await writeFile(join(folder, 'journalctl'), `#!/bin/sh\n${denied}\n`, { mode: 0o755 });
    const sshd = await ownSshd(t, { environment: { PATH: `${folder}:/usr/bin:/bin` } });
    const manual = new ManualClock();
    const shell = await shellFor(t, [sshd], { clock: manual });
    const sent: string[] = [];
    const ended: string[] = [];
    const counting: RemoteShell = {
      run: async (host, argv, options) => {
        sent.push(argv[0]);
        return shell.run(host, argv, options).finally(() => ended.push(argv[0]));
      },
    };
    const finding = checkMachines([sshd.address], {
      shell: counting,
      settings: { user: 'core', port: sshd.port, knownHostsFile: undefined, sudo: false },
      clock: systemClock,
      limitMs: 10_000,
    });
    await eventually('only the two still run', () => sent.length === 6 && ended.length === 4);
    t.deepEqual(ended.toSorted(), ['cat', 'cat', 'date', 'journalctl']);
    for (const file of began) await pidIn(file);
    // What the host told before is here after one more command.
    await shell.run(sshd.address, ['true'], notAborted());
    manual.advance(10_000);
    const { result, lines } = await finding;
    t.is(result, 'FAILED');
    const said = lines.join('\n');
    t.regex(said, /^127\.0\.0\.1: core may not read the journal\n-> /m);
    t.regex(
      said,
      /^127\.0\.0\.1: `df -P -m \/var\/lib\/docker` did not end within 10 s\n-> .*only the use of this disk is missing from the facts of the machine$/m,
    );
    t.regex(
      said,
      /^127\.0\.0\.1: `docker version` did not end within 10 s\n-> .*only the versions of Docker are missing from the facts of the machine$/m,
    );
    t.is(lines.length, 7);
  },
);

test('a machine out of policy is a failure that names ALLOWED_HOSTS', async (t) => {
  const { check } = await world(t);
  const run = await check({ ALLOWED_HOSTS: '127.0.0.1' });
  isFailure(t, run, 'machines', /127\.0\.0\.2.*\n-> add 127\.0\.0\.2 to ALLOWED_HOSTS$/);
});

test('a machine whose clock is more than a second off is a warning', async (t) => {
  const { ssh, check } = await world(t);
  const clock = async (offsetMs: number, format: (seconds: number) => string) => {
    const stdout = format((Date.now() + offsetMs) / 1_000);
    const end = ssh.fail({ kind: 'exit', command: 'date', machine: '127.0.0.1', status: 0, stdout });
    const finding = (await check()).of('machines');
    await end();
    return finding;
  };
  const precise = (seconds: number) => `${seconds.toFixed(3)}000000\n`;
  const ahead = await clock(3_600_000, precise);
  t.is(ahead.result, 'warning');
  t.regex(ahead.said, /^127\.0\.0\.1: its clock is 3\d{3}\.\d s ahead of the clock of this host\n-> .*NTP/m);
  const behind = await clock(-3_600_000, (seconds) => `${Math.floor(seconds)}.%N\n`);
  t.regex(behind.said, /its clock is 3\d{3}\.\d s behind the clock of this host/);
  for (const other of ['today\n', '9'.repeat(60_000), '9'.repeat(13)])
    t.regex((await clock(0, () => other)).said, /the time of its clock is not known/);
});

test('however much a machine says, the lines about it are short and its problems are found', async (t) => {
  const { ssh, check } = await world(t);
  const host = '127.0.0.1';
  const much = `\u001b[2J${'x'.repeat(60_000)}`;
  ssh.fail({ kind: 'exit', command: 'docker', machine: host, status: 1, stderr: `${much}\n` });
  ssh.fail({ kind: 'exit', command: 'df', machine: host, status: 0, stdout: `Capacity\na 95% /${much}\n` });
  ssh.fail({ kind: 'exit', command: 'journalctl', machine: host, status: 0, stdout: `${much}\n`.repeat(2) });
  const { said, result } = (await check()).of('machines');
  t.is(result, 'FAILED');
  t.regex(said, /^127\.0\.0\.1: docker does not work: .*x{100}/m);
  t.regex(said, /^127\.0\.0\.1: the disk \/\S*x{100}/m);
  t.regex(said, /^127\.0\.0\.1: `journalctl .*` wrote more than 64 KiB\n-> run `journalctl/m);
  for (const line of said.split('\n')) t.true(line.length <= 2_010, line.slice(0, 80));
});

test('output of df that cannot be read is not taken for a disk with room', async (t) => {
  const { ssh, check } = await world(t);
  ssh.fail({ kind: 'exit', command: 'df', machine: '127.0.0.1', status: 0, stdout: 'no table\n' });
  const { result, said } = (await check()).of('machines');
  t.is(result, 'warning');
  t.regex(said, /^127\.0\.0\.1: the use of the disk of \/var\/lib\/docker is not known\n-> check that `df/m);
});

test('machines that fleet does not list, or without a valid address, are a warning; the others are checked', async (t) => {
  const [first, second] = TWO_MACHINES;
  if (first === undefined || second === undefined) throw new Error('no machines');
  const { check } = await world(t, {
    machines: [
      first,
      { ...second, primaryIP: null },
      { ...second, id: 'd'.repeat(32), primaryIP: '1;reboot' },
    ],
    fleetHosts: ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4'],
  });
  const run = await check();
  const { result, said } = run.of('fleet');
  t.is(result, 'warning');
  t.regex(said, /the cluster has 3 machines\nDiscovery names 4 hosts .*fleet lists 3 machines/);
  for (const id of [second.id, 'd'.repeat(32)])
    t.regex(said, new RegExp(`^fleet lists no valid address of the machine ${id}, `, 'm'));
  t.false(run.text.includes('reboot'), run.text);
  t.is(run.of('machines').said, 'the actions can work on 1 machine: 127.0.0.1');
});

test('with --json the findings are one array', async (t) => {
  const { env } = await world(t);
  let text = '';
  const options = { cluster: 'sandbox', json: true, print: (more: string) => (text += more) };
  t.is(await doctor(options, { env, directory: '/nowhere' }), 1);
  const findings: { check: string; result: string; lines: string[] }[] = JSON.parse(text);
  t.deepEqual(
    findings.find(({ check }) => check === 'machines'),
    {
      check: 'machines',
      result: 'ok',
      lines: ['the actions can work on 2 machines: 127.0.0.1, 127.0.0.2'],
    },
  );
  t.is(findings.find(({ check }) => check === 'broker')?.result, 'FAILED');
});
