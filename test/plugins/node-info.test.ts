import { spawnSync } from 'node:child_process';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import nodeInfo from '../../plugins/node-info/index.js';
import { readDisk, readDocker, readMachine, readOs } from '../../plugins/node-info/facts.js';
import { Cluster } from '../../src/api/cluster.js';
import { ActionError, Clock, FleetTransport, RemoteShell, type Warn } from '../../src/plugin.js';
import { strictSchema } from '../../src/core/parameters.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { resultCheck } from '../../src/core/result-check.js';

import type { SshShell } from '../../src/ssh/ssh-shell.js';
import { installHanging, notAborted, ownSshd, pidIn, shellFor, testFolder } from '../ssh/shell-for.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { testWithSshd } from '../support/sshd.js';
import { startTcpServer } from '../support/tcp-server.js';
import { actionRequest } from '../support/action-request.js';
import { programsShell } from './programs-shell.js';

type Info = Record<
  string,
  {
    docker_disk_space_percent: number | null;
    coreos_version: string | null;
    docker_version: string | null;
    disk: object | null;
    docker: object | null;
    os: object | null;
    podman: object | null;
    os_image: object | null;
    failed_units: object | null;
    clock: object | null;
    uptime_seconds: number | null;
    errors: string[];
  }
>;

const problemsOf = resultCheck(strictSchema(nodeInfo.result));

interface InfoOptions {
  signal?: AbortSignal;
  clock?: Clock;
  /** Default: the request has none. */
  deadline?: number;
  /** The machines of the request's cluster. Default: the request names no cluster. */
  machines?: { id: string | null; host: string | null }[];
  /** What is known to be missing in that cluster. */
  missing?: string;
  warnings?: string[];
}

async function infoOf(shell: RemoteShell, parameters: unknown, options: InfoOptions = {}): Promise<Info> {
  const { signal = new AbortController().signal, clock = new ManualClock() } = options;
  const { deadline, machines, missing, warnings = [] } = options;
  const parts = new Map<symbol, unknown>([
    [RemoteShell, shell],
    [Clock, clock],
    [
      FleetTransport,
      {
        addresses: async () => machines,
        incompleteness: async (_cluster: Cluster, { warn }: { warn?: Warn }) => {
          if (missing !== undefined) warn?.(missing);
          return missing;
        },
      },
    ],
  ]);
  const action = prepareAction(nodeInfo, (token) => parts.get(token));
  const cluster = machines && new Cluster('token');
  const request = actionRequest({
    parameters: action.check(parameters),
    cluster,
    signal,
    deadline: deadline ?? Number.POSITIVE_INFINITY,
    warn: (text: string) => warnings.push(text),
  });
  const result = await action.run(request);
  const problems = problemsOf(result);
  if (problems.length > 0) throw new Error(`the result is not what is declared: ${problems.join('; ')}`);
  return result as Info;
}

/** A shell whose machines respond immediately, and the hosts that it connected to. */
function respondingShell(): { shell: RemoteShell; hosts: Set<string> } {
  const hosts = new Set<string>();
  const run: RemoteShell['run'] = async (host) => {
    hosts.add(host);
    return { stdout: 'ID=coreos\n', stderr: '', truncated: false };
  };
  return { shell: programsShell(run), hosts };
}

/** The expected result for a node that could not be read, for this reason. */
function isUnread(t: ExecutionContext, info: unknown, reason: string): void {
  t.deepEqual(info, {
    docker_disk_space_percent: null,
    coreos_version: null,
    docker_version: null,
    disk: null,
    os: null,
    docker: null,
    load: null,
    memory: null,
    uptime_seconds: null,
    podman: null,
    os_image: null,
    failed_units: null,
    clock: null,
    errors: [reason],
  });
}

interface SlowWorld {
  shell: SshShell;
  clock: ManualClock;
  /** Nodes that respond. */
  well: string[];
  /** Nodes that accept the connection and never send anything. */
  silent: string[];
}

/** Nodes on one SSH server, and others that hang, read with the real limits of the service. */
async function slowWorld(t: ExecutionContext, counts: { well: number; silent: number }): Promise<SlowWorld> {
  const sshd = await ownSshd(t, { address: '127.0.0.1' });
  await startTcpServer(t, (socket) => socket.resume(), { address: '127.0.0.2', port: sshd.port });
  const nodes = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, n) => `${prefix}-${n + 1}.example.com`);
  const [well, silent] = [nodes('well', counts.well), nodes('silent', counts.silent)];
  const clock = new ManualClock();
  const shell = await shellFor(t, [sshd], {
    clock,
    knownHosts: `[*]:${sshd.port} ${sshd.hostKeys.ed25519}\n`,
    policy: { resolve: async (host) => [host.startsWith('well') ? '127.0.0.1' : '127.0.0.2'] },
    // So that the time limit of the node ends, not one of real time.
    handshakeTimeoutMs: 120_000,
  });
  return { shell, clock, well, silent };
}

testWithSshd('one node of 50 that hangs does not delay the other 49', async (t) => {
  const { shell, clock, well, silent } = await slowWorld(t, { well: 49, silent: 1 });
  const read = new Map<string, number>();
  const counting: RemoteShell = {
    run: async (host, ...rest) => {
      const answer = await shell.run(host, ...rest).catch((error: unknown) => error);
      read.set(host, (read.get(host) ?? 0) + 1);
      if (answer instanceof Error) throw answer;
      return answer as Awaited<ReturnType<RemoteShell['run']>>;
    },
  };
  const asked = infoOf(counting, { nodes: [...silent, ...well] }, { clock });
  const done = () => well.filter((node) => read.get(node) === 2).length;
  await eventually('all 49 are read while the one still hangs', () => done() === 49);
  t.is(read.get(silent[0] ?? ''), undefined);
  clock.advance(12_000);
  const info = await asked;
  t.deepEqual(Object.keys(info), [...silent, ...well]);
  t.like(info[silent[0] ?? ''], {
    docker_disk_space_percent: null,
    errors: [`timeout: ${silent[0]} was not read within 12 s`],
  });
  for (const node of well) t.regex(String(info[node]?.coreos_version), /^ID=/m, String(info[node]?.errors));
});

testWithSshd('nodes that hang do not use up the time of nodes that wait for their turn', async (t) => {
  const { shell, clock, well, silent } = await slowWorld(t, { well: 10, silent: 50 });
  let begun = 0;
  const counting: RemoteShell = {
    run: (...call) => {
      begun += 1;
      return shell.run(...call);
    },
  };
  const asked = infoOf(counting, { nodes: [...silent, ...well] }, { clock });
  await eventually('the first 50 are asked', () => begun >= 100);
  clock.advance(12_000);
  const info = await asked;
  for (const node of silent) t.regex(String(info[node]?.errors), /^timeout: /);
  for (const node of well) t.regex(String(info[node]?.coreos_version), /^ID=/m, String(info[node]?.errors));
});

for (const { silent, left } of [
  { silent: 120, left: 0 },
  { silent: 200, left: 50 },
]) {
  test(`with ${silent} nodes that hang, all have a result within 25 s, ${left} of them without their turn`, async (t) => {
    const clock = new ManualClock();
    let asked = 0;
    const well = respondingShell();
    const shell: RemoteShell = {
      run: (host, argv, options) => {
        asked++;
        if (host === 'well') return well.shell.run(host, argv, options);
        const { signal } = options;
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      },
    };
    const hanging = Array.from({ length: silent }, (_, n) => `10.0.0.${n}`);
    const answered = infoOf(shell, { nodes: [...hanging, 'well'] }, { clock });
    await eventually('the first 50 are asked', () => asked === 100);
    clock.advance(12_000);
    await eventually('the next 50 are queried', () => asked >= 200);
    clock.advance(12_000);
    await eventually(
      'the next are asked for what time is left',
      () => asked >= 200 + 2 * Math.min(50, silent - 100),
    );
    clock.advance(1_000);
    const info = await answered;
    t.deepEqual(Object.keys(info), [...hanging, 'well']);
    const reasons = hanging.map((node) => info[node]?.errors.join());
    const late = 'timeout: it was not read within 25 s, because of too many slow nodes; request fewer nodes';
    t.is(reasons.filter((reason) => reason === late).length, left);
    t.is(reasons[0], 'timeout: 10.0.0.0 was not read within 12 s');
    t.is(reasons[100], 'timeout: 10.0.0.100 was not read within 1 s');
    if (left === 0) t.is(info.well?.coreos_version, 'ID=coreos\n');
    else isUnread(t, info.well, late);
  });
}

test('a node is read once and reported under its first spelling, however often it is named', async (t) => {
  const { shell, hosts } = respondingShell();
  const nodes = [
    'Node1.example.com',
    '::ffff:10.0.0.1',
    'node1.EXAMPLE.com',
    '10.0.0.1',
    'FD00::1',
    'fd00:0::1',
  ];
  const first = ['Node1.example.com', '::ffff:10.0.0.1', 'FD00::1'];
  t.deepEqual(Object.keys(await infoOf(shell, { nodes })), first);
  t.deepEqual([...hosts], first);
});

test('a machine of the cluster is recognised in every spelling of its address, and any other gets its own failure', async (t) => {
  const { shell, hosts } = respondingShell();
  const machines = [
    { id: 'a'.repeat(32), host: '10.0.0.1' },
    { id: 'b'.repeat(32), host: 'FD00::1' },
  ];
  const nodes = ['::ffff:10.0.0.1', 'fd00:0:0::1'];
  const info = await infoOf(shell, { nodes: [...nodes, '10.0.0.2', null] }, { machines });
  t.deepEqual(Object.keys(info), [...nodes, '10.0.0.2', '(null)']);
  t.deepEqual([...hosts], nodes);
  for (const node of nodes) t.is(info[node]?.coreos_version, 'ID=coreos\n');
  isUnread(
    t,
    info['10.0.0.2'],
    'invalid_parameters: not a machine of this cluster; give an address that list_machines shows',
  );
});

test('while the cluster is known to be incomplete, a node that is not listed is not the mistake of the caller', async (t) => {
  const { shell } = respondingShell();
  const machines = [{ id: 'a'.repeat(32), host: '10.0.0.1' }];
  const missing = 'Discovery names 2 hosts of this cluster, but fleet lists 1 machine';
  const warnings: string[] = [];
  const nodes = ['10.0.0.1', '10.0.0.2'];
  const info = await infoOf(shell, { nodes }, { machines, missing, warnings });
  t.is(info['10.0.0.1']?.coreos_version, 'ID=coreos\n');
  isUnread(t, info['10.0.0.2'], `cluster_incomplete: ${missing}`);
  t.deepEqual(warnings, []);
  await infoOf(shell, {}, { machines, missing, warnings });
  t.deepEqual(
    warnings,
    [missing],
    'without nodes, those of machines that are not listed are not in the result',
  );
});

test('an entry that is not an address gets its own failure, and the others are read', async (t) => {
  const { shell, hosts } = respondingShell();
  const malformed: [entry: unknown, key: string][] = [
    ['', ''],
    ['x y', 'x y'],
    ['X Y', 'X Y'],
    ['0177.0.0.1', '0177.0.0.1'],
    ['$(reboot)', '$(reboot)'],
    ['x'.repeat(300), 'x'.repeat(300)],
    [5, '(5)'],
    [true, '(true)'],
    [2n ** 64n, '(18446744073709551616)'],
    [['10.0.0.9'], '(["10.0.0.9"])'],
    [{ a: 'x'.repeat(300) }, `({"a":"${'x'.repeat(300)}"})`],
  ];
  const nodes = [null, ...malformed.map(([entry]) => entry), '__proto__', '10.0.0.1', 'true', null, ''];
  const info = await infoOf(shell, { nodes });
  const keys = ['(null)', ...malformed.map(([, key]) => key), '__proto__', '10.0.0.1', 'true'];
  t.deepEqual(Object.keys(info), keys);
  t.deepEqual([...hosts], ['10.0.0.1', 'true']);
  for (const host of hosts) t.is(info[host]?.coreos_version, 'ID=coreos\n');
  isUnread(t, info['(null)'], 'host_unreachable: fleet lists no address of this machine');
  for (const key of [...malformed.map(([, each]) => each), '__proto__'])
    isUnread(
      t,
      Object.entries(info).find(([name]) => name === key)?.[1],
      'invalid_parameters: not an IP address or a host name',
    );
});

test('a machine that fleet lists no address of is reported under its id', async (t) => {
  const { shell, hosts } = respondingShell();
  const machines = [
    { id: 'a'.repeat(32), host: null },
    { id: 'b'.repeat(32), host: '10.0.0.2' },
  ];
  const info = await infoOf(shell, {}, { machines });
  t.deepEqual(Object.keys(info), ['a'.repeat(32), '10.0.0.2']);
  isUnread(t, info['a'.repeat(32)], 'host_unreachable: fleet lists no address of this machine');
  t.deepEqual([...hosts], ['10.0.0.2']);
});

test('output that was cut is reported as unreadable, and not read', async (t) => {
  const disk = 'Filesystem 1048576-blocks Used Available Capacity Mounted on\n/dev/sda9 100 60 40 60% /\n';
  const shell = programsShell(async (_host, [program]) =>
    program === 'df'
      ? { stdout: disk, stderr: '', truncated: true }
      : { stdout: 'ID=coreos\n', stderr: '', truncated: false },
  );
  const { '10.0.0.1': info } = await infoOf(shell, { nodes: ['10.0.0.1'] });
  t.like(info, { docker_disk_space_percent: null, coreos_version: 'ID=coreos\n' });
  t.is(info?.errors[0], 'disk: the output of df cannot be read: it has more than 64 KiB');
});

const DF = 'Filesystem 1048576-blocks Used Available Capacity Mounted on\n/dev/sda9 100 60 40 60% /\n';
const PROC = '0.12 0.34 1.56 1/234 5678\nMemTotal: 1024 kB\nMemAvailable: 512 kB\n12345.67 23456.78\n';

/** The output of each command of a healthy node, by its command line. */
const HEALTHY: Readonly<Record<string, string>> = {
  'df -P -m /var/lib/docker': DF,
  'cat /etc/os-release': 'ID=coreos\n',
  'docker version': 'Client:\n Version: 1.10.3\n\nServer:\n Version: 1.10.4\n',
  'cat /proc/loadavg /proc/meminfo /proc/uptime': PROC,
  'systemctl list-units --state=failed --full --plain --no-legend --no-pager': '',
};

interface Failing {
  stdout?: string;
  stderr?: string;
  /** 1 by default. */
  exitStatus?: number;
}

/** A healthy node with these programs too. Others are not installed. */
function nodeWith(programs: Readonly<Record<string, string | Failing>>): RemoteShell {
  const known: Readonly<Record<string, string | Failing>> = { ...HEALTHY, ...programs };
  return programsShell(async (host, argv, { anyExitStatus }) => {
    const line = argv.join(' ');
    const answer = known[line] ?? { exitStatus: 127 };
    if (typeof answer === 'string') return { stdout: answer, stderr: '', truncated: false };
    const { stdout = '', stderr = '', exitStatus = 1 } = answer;
    const reason = stderr === '' ? '' : `: ${stderr.trimEnd()}`;
    const failure = new ActionError(
      'command_failed',
      `${argv[0]} on ${host} failed with exit status ${exitStatus}${reason}`,
      { details: { exitStatus } },
    );
    if (anyExitStatus !== true && line === 'cat /usr/lib/os-release') throw failure;
    return { stdout, stderr, truncated: false, failure };
  });
}

test('what a command prints before it fails is kept, with the reason of the failure', async (t) => {
  const stdout = 'Client:\n Version: 1.10.3\n';
  const stderr = 'Cannot connect to the Docker daemon';
  const shell = nodeWith({ 'docker version': { stdout, stderr } });
  const { '10.0.0.1': info } = await infoOf(shell, { nodes: ['10.0.0.1'] });
  t.like(info, {
    docker: { client_version: '1.10.3', server_version: null },
    docker_version: stdout,
    docker_disk_space_percent: 60,
    uptime_seconds: 12_345,
    errors: [`docker: docker on 10.0.0.1 failed with exit status 1: ${stderr}`],
  });
});

test('a command that prints nothing that can be read is reported with the reason of its failure', async (t) => {
  const shell = nodeWith({ 'docker version': { stdout: 'panic\n' } });
  const { '10.0.0.1': info } = await infoOf(shell, { nodes: ['10.0.0.1'] });
  const errors = ['docker: docker on 10.0.0.1 failed with exit status 1'];
  t.like(info, { docker: null, docker_version: null, errors });
});

test('what a machine does not have is null, and no error', async (t) => {
  const bare = nodeWith({
    'docker version': { stderr: "timeout: failed to run command 'docker': No such file", exitStatus: 127 },
    'df -P -m /var/lib/docker': { stderr: 'df: /var/lib/docker: No such file or directory\n' },
    'rpm-ostree status --json': {
      stderr: 'error: This system was not booted via libostree; cannot operate',
    },
    'systemctl list-units --state=failed --full --plain --no-legend --no-pager': {
      stderr: "System has not been booted with systemd as init system (PID 1). Can't operate.",
    },
  });
  const { '10.0.0.1': info } = await infoOf(bare, { nodes: ['10.0.0.1'] });
  t.like(info, {
    docker_disk_space_percent: null,
    disk: null,
    docker_version: null,
    docker: null,
    podman: null,
    os_image: null,
    failed_units: null,
    uptime_seconds: 12_345,
    errors: [],
  });
});

test('what a machine has and what does not work is null too, with the reason', async (t) => {
  const broken = nodeWith({
    'docker version': { stderr: 'docker: exec: runc: not found', exitStatus: 127 },
    'df -P -m /var/lib/docker': { stderr: 'df: /var/lib/docker: No such file or directory\n' },
    'podman version': { stderr: 'Error: runtime "crun" not found', exitStatus: 125 },
    'update_engine_client -status': { stderr: 'no connection to the bus' },
    'systemctl list-units --state=failed --full --plain --no-legend --no-pager': 'bus\n',
  });
  const { '10.0.0.1': info } = await infoOf(broken, { nodes: ['10.0.0.1'] });
  t.like(info, {
    disk: null,
    docker: null,
    podman: { version: null, answers: false },
    os_image: null,
    failed_units: null,
    errors: [
      'disk: df on 10.0.0.1 failed with exit status 1: df: /var/lib/docker: No such file or directory',
      'docker: docker on 10.0.0.1 failed with exit status 127: docker: exec: runc: not found',
      'podman: podman on 10.0.0.1 failed with exit status 125: Error: runtime "crun" not found',
      'os_image: update_engine_client on 10.0.0.1 failed with exit status 1: no connection to the bus',
      'failed_units: the output of systemctl list-units cannot be read',
    ],
  });
});

test('a machine with Podman and an operating system that is updated as a whole', async (t) => {
  const deployments = [
    { version: '40.2', staged: true },
    { version: '39.1', booted: true },
  ];
  const node = nodeWith({
    'podman version': 'Client:       Podman Engine\nVersion:      5.2.1\n',
    'rpm-ostree status --json': JSON.stringify({ deployments }),
    'systemctl list-units --state=failed --full --plain --no-legend --no-pager':
      'a.service loaded failed failed A\n',
  });
  const clock = new ManualClock();
  const { '10.0.0.1': info } = await infoOf(node, { nodes: ['10.0.0.1'] }, { clock });
  t.like(info, {
    podman: { version: '5.2.1', answers: true },
    os_image: { updated_by: 'rpm-ostree', booted_version: '39.1', staged: true, staged_version: '40.2' },
    failed_units: { count: 1, names: ['a.service'] },
    clock: { offset_ms: -clock.wallTime(), uncertainty_ms: 1 },
    errors: [],
  });
});

test('when all but docker could not be run, this is one error beside what docker said', async (t) => {
  const node = nodeWith({});
  const shell: RemoteShell = {
    run: async (host, argv, options) => {
      if (argv[0] === 'docker') return node.run(host, argv, options);
      throw new ActionError('command_failed', `the login shell of core on ${host} did not run sh`);
    },
  };
  const { '10.0.0.1': info } = await infoOf(shell, { nodes: ['10.0.0.1'] });
  t.like(info, {
    os: null,
    docker: { client_version: '1.10.3' },
    errors: ['all but docker: the login shell of core on 10.0.0.1 did not run sh'],
  });
});

testWithSshd('a command that hangs is named, and costs only its own value', async (t) => {
  const folder = await testFolder(t);
  const began = await installHanging(folder, 'docker');
  const sshd = await ownSshd(t, { environment: { PATH: `${folder}:/usr/bin:/bin` } });
  const clock = new ManualClock();
  const shell = await shellFor(t, [sshd], { clock });
  let read = 0;
  const counting: RemoteShell = { run: (...call) => shell.run(...call).finally(() => (read += 1)) };
  const answer = infoOf(counting, { nodes: [sshd.address] }, { clock });
  await pidIn(began);
  await eventually('the others are read', () => read === 1);
  // What the host told before is here after one more command.
  await shell.run(sshd.address, ['true'], notAborted());
  clock.advance(10_000);
  const info = (await answer)[sshd.address];
  t.is(info?.docker, null);
  t.true(
    info?.errors.includes(`docker: docker on ${sshd.address} took longer than 10 s`),
    String(info?.errors),
  );
  t.regex(String(info?.coreos_version), /^ID=/m);
  t.is(typeof info?.uptime_seconds, 'number');
});

testWithSshd(
  'a command that hangs costs only its own value, however many callers ask the same node',
  async (t) => {
    const folder = await testFolder(t);
    const began = await installHanging(folder, 'docker');
    const sshd = await ownSshd(t, { environment: { PATH: `${folder}:/usr/bin:/bin` } });
    const clock = new ManualClock();
    const shell = await shellFor(t, [sshd], { clock });
    let read = 0;
    const counting: RemoteShell = { run: (...call) => shell.run(...call).finally(() => (read += 1)) };
    const callers = 18;
    const answers = Array.from({ length: callers }, () =>
      infoOf(counting, { nodes: [sshd.address] }, { clock }),
    );
    await pidIn(began);
    await eventually('the others are read', () => read === callers);
    // What the host told before is here after one more command.
    await shell.run(sshd.address, ['true'], notAborted());
    clock.advance(10_000);
    await eventually('the first two have timed out', () => read === callers + 2);
    clock.advance(2_000);
    for (const answer of answers) {
      const info = (await answer)[sshd.address];
      t.regex(String(info?.coreos_version), /^ID=/m);
      t.is(typeof info?.uptime_seconds, 'number');
      t.true(info?.errors.some((error) => error.startsWith('docker: ')));
      t.false(
        info?.errors.some((error) => error.includes('did not respond')),
        String(info?.errors),
      );
    }
  },
);

test('a command that hangs until the time limit of the node is named too', async (t) => {
  const clock = new ManualClock();
  let read = 0;
  const node = nodeWith({});
  const shell: RemoteShell = {
    run: async (host, argv, options) => {
      const { signal } = options;
      if (argv[0] === 'docker')
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      return node.run(host, argv, options).finally(() => (read += 1));
    },
  };
  const answer = infoOf(shell, { nodes: ['10.0.0.1'] }, { clock });
  await eventually('the others are read', () => read === 1);
  clock.advance(12_000);
  t.like((await answer)['10.0.0.1'], {
    docker: null,
    docker_disk_space_percent: 60,
    uptime_seconds: 12_345,
    errors: ['docker: 10.0.0.1 was not read within 12 s'],
  });
});

test('os-release is read from /usr/lib where there is none in /etc', async (t) => {
  const missing = { stderr: 'cat: /etc/os-release: No such file or directory' };
  const elsewhere = nodeWith({ 'cat /etc/os-release': missing, 'cat /usr/lib/os-release': 'ID=elsewhere\n' });
  t.like((await infoOf(elsewhere, { nodes: ['10.0.0.1'] }))['10.0.0.1'], {
    os: { id: 'elsewhere' },
    coreos_version: 'ID=elsewhere\n',
    errors: [],
  });
  const nowhere = nodeWith({ 'cat /etc/os-release': missing, 'cat /usr/lib/os-release': { stderr: 'too' } });
  t.like((await infoOf(nowhere, { nodes: ['10.0.0.1'] }))['10.0.0.1'], {
    os: null,
    errors: [`os: cat on 10.0.0.1 failed with exit status 1: ${missing.stderr}`],
  });
});

test('a node that does not respond has every key, and the reason once', async (t) => {
  const shell: RemoteShell = {
    run: async (host) => {
      throw new ActionError('login_refused', `${host} did not let core in`);
    },
  };
  const { '10.0.0.1': info } = await infoOf(shell, { nodes: ['10.0.0.1'] });
  isUnread(t, info, 'login_refused: 10.0.0.1 did not let core in');
});

test('more nodes than can be read at the same time are read in turn, all of them', async (t) => {
  let running = 0;
  let most = 0;
  const responding = respondingShell();
  const shell: RemoteShell = {
    run: async (...call) => {
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
      return responding.shell.run(...call);
    },
  };
  const nodes = Array.from({ length: 2_000 }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
  const info = await infoOf(shell, { nodes });
  t.deepEqual(Object.keys(info), nodes);
  t.true(Object.values(info).every((node) => node.coreos_version === 'ID=coreos\n'));
  t.is(most, 50 * 2);
});

test('the size limit per node depends on the number of nodes only', async (t) => {
  for (const [count, bytes] of [
    [1, 65_536],
    [48, 65_536],
    [96, 32_768],
    [9_000, 8_192],
  ] as const) {
    const limits = new Set<number | undefined>();
    const shell = programsShell(async (_host, [program], { maxOutputBytes }) => {
      if (program === 'docker') limits.add(maxOutputBytes);
      return { stdout: 'ID=coreos\n'.padEnd(bytes + 1, '\n'), stderr: '', truncated: program === 'docker' };
    });
    const nodes = Array.from({ length: count }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
    const info = Object.values(await infoOf(shell, { nodes }));
    t.deepEqual([info.length, ...limits], [count, bytes]);
    for (const program of ['cat', 'docker'])
      t.regex(
        String(info[0]?.errors),
        new RegExp(`${program} cannot be read: it has more than ${bytes / 1024} KiB`),
      );
  }
});

test('a defect in the shell is not taken for a node that is down', async (t) => {
  const shell: RemoteShell = { run: () => Promise.reject(new TypeError('defect')) };
  await t.throwsAsync(infoOf(shell, { nodes: ['10.0.0.1'] }), { instanceOf: TypeError });
});

test('a cancelled request stops', async (t) => {
  const abort = new AbortController();
  const shell: RemoteShell = {
    run: (_host, _argv, { signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  };
  const info = infoOf(shell, { nodes: ['10.0.0.1'] }, { signal: abort.signal });
  setImmediate(() => abort.abort(new ActionError('cancelled', 'gone')));
  await t.throwsAsync(info, { instanceOf: ActionError, message: 'gone' });
});

test('an invalid list of nodes is refused', async (t) => {
  const shell: RemoteShell = { run: () => Promise.reject(new TypeError('not to be called')) };
  for (const nodes of [[], 'x', { 0: '10.0.0.1' }, null]) {
    await t.throwsAsync(
      async () => infoOf(shell, { nodes }),
      { instanceOf: ActionError, code: 'invalid_parameters' } as never,
      JSON.stringify(nodes),
    );
  }
});

test('df, os-release, docker version and /proc are read in their real formats', (t) => {
  const df =
    'Filesystem     1048576-blocks  Used Available Capacity Mounted on\n/dev/sda9              12345  6789      4321      62% /\n';
  t.deepEqual(readDisk(df), {
    facts: { size_mb: 12_345, used_mb: 6_789, available_mb: 4_321, used_percent: 62 },
  });
  const os =
    'NAME=CoreOS\nID=coreos\nVERSION=1068.8.0\nVERSION_ID=1068.8.0\nPRETTY_NAME="CoreOS 1068.8.0 (MoreOS)"\n';
  t.deepEqual(readOs(os).facts, { id: 'coreos', version: '1068.8.0', name: 'CoreOS 1068.8.0 (MoreOS)' });
  t.deepEqual(readDocker('Client version: 1.6.2\nServer version: 1.6.1\n').facts, {
    client_version: '1.6.2',
    server_version: '1.6.1',
  });
  t.deepEqual(readDocker('Client:\n Version:      1.10.3\n\nServer:\n Version:      1.10.4\n').facts, {
    client_version: '1.10.3',
    server_version: '1.10.4',
  });
  const proc =
    '0.12 0.34 1.56 1/234 5678\nMemTotal:        1024 kB\nMemFree: 5 kB\nMemAvailable:    512 kB\n12345.67 23456.78\n';
  t.deepEqual(readMachine(proc), {
    facts: {
      load: [0.12, 0.34, 1.56],
      memory: { total_kb: 1024, available_kb: 512 },
      uptime_seconds: 12_345,
    },
  });
});

test('one value that is missing in an output costs only that value', (t) => {
  const df = (row: string) => `Filesystem 1048576-blocks Used Available Capacity Mounted on\n${row}\n`;
  t.deepEqual(readDisk(df('overlay 0 0 0 - /var/lib/docker')), {
    facts: { size_mb: 0, used_mb: 0, available_mb: 0, used_percent: null },
    problem: "df shows '-' for some values",
  });
  t.like(readDisk(df('//nas/a b 100 60 - 60% /mnt')).facts, {
    size_mb: 100,
    available_mb: null,
    used_percent: 60,
  });
  t.deepEqual(readDocker('Client:\n Version:      1.10.3\n'), {
    facts: { client_version: '1.10.3', server_version: null },
    problem: 'docker version shows no server_version',
  });
  t.deepEqual(readMachine('0.12 0.34 1.56 1/234 5678\nMemTotal: 1024 kB\n'), {
    facts: { load: [0.12, 0.34, 1.56], memory: { total_kb: 1024, available_kb: null }, uptime_seconds: null },
    problem: '/proc shows no uptime_seconds',
  });
  t.like(readMachine('MemTotal: 1024 kB\n12.5 30.0\n').facts, { load: null, uptime_seconds: 12 });
});

/** Each is read with the same result by a shell. */
const OS_RELEASES = [
  'ID="acme "\n',
  "ID=acme\nVERSION_ID='7' # seven\n",
  'PRETTY_NAME="A \\"B\\" \\\\ C"\n',
  'ID=first\nID=last\n',
  'VERSION=1\n',
  '# ID=x\n\n  ID=y # z\n',
  'ID=a#b\n',
  'ID="a"b\'c\'\\d\n',
  'ID=a VERSION_ID=2\n',
  'ID=a;VERSION_ID=2\n',
  'ID=a true\nVERSION_ID=2\n',
  'PRETTY_NAME="two\nlines"\nID=a\n',
  'ID="a\\\nb"\nVERSION_ID=a\\\nb\n',
  'ID="\\n\\q\\$\\`"\n',
  'ID=\\"x\\"\n',
  "ID='a'\\''b'\n",
  'ID=\nVERSION_ID=3',
];

test('os-release is read as a shell reads it', (t) => {
  for (const text of OS_RELEASES) {
    const script = 'eval "$1"; printf "%s\\0" "$ID" "$VERSION_ID" "$VERSION" "$PRETTY_NAME"';
    const { stdout } = spawnSync('sh', ['-c', script, 'sh', text], {
      encoding: 'utf8',
      env: { PATH: '/bin' },
    });
    const [id, versionId, version, name] = stdout.split('\0').map((value) => value || null);
    t.deepEqual(readOs(text).facts, { id: id ?? 'linux', version: versionId ?? version ?? null, name }, text);
  }
});

test('os-release is never executed, and may have a byte order mark and the line breaks of Windows', (t) => {
  const facts = readOs('\u{feff}ID=acme\r\nVERSION_ID="$(id)`id`$HOME"\r\nPRETTY_NAME="no end\r\n').facts;
  t.deepEqual(facts, { id: 'acme', version: '$(id)`id`$HOME', name: null });
  t.is(readOs('').facts.id, 'linux');
  t.throws(() => readOs('<html>not found</html>\n'), { instanceOf: ActionError });
});

test('whatever a machine prints, it is read or reported as unreadable', (t) => {
  for (const read of [readDisk, readOs, readDocker, readMachine]) {
    t.notThrows(() =>
      fc.assert(
        fc.property(fc.string(), (text) => {
          try {
            read(text);
          } catch (error) {
            if (!(error instanceof ActionError)) throw error;
          }
        }),
      ),
    );
  }
});

/** A shell whose machines never respond. */
function silentShell(): RemoteShell {
  return {
    run: async (_host, _argv, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
      }),
  };
}

for (const [leftMs, answeredMs] of [
  [60_000, 25_000],
  [26_000, 25_000],
  [10_000, 9_000],
  [1_000, 500],
] as const) {
  test(`with ${leftMs} ms until the deadline, the result is complete after ${answeredMs} ms`, async (t) => {
    const clock = new ManualClock();
    const deadline = clock.now() + leftMs;
    const nodes = Array.from({ length: 200 }, (_, n) => `node-${n + 1}.example.com`);
    let answered = false;
    const call = infoOf(silentShell(), { nodes }, { clock, deadline }).finally(() => (answered = true));
    // In steps, because nodes that are read later set their limits later.
    for (let passed = 0; passed < answeredMs; passed += 100) {
      await new Promise(setImmediate);
      t.false(answered, `after ${passed} ms`);
      clock.advance(100);
    }
    const info = await call;
    t.deepEqual(Object.keys(info), nodes);
    for (const [node, { errors }] of Object.entries(info)) t.regex(String(errors), /^timeout: /, node);
    t.is(clock.pending, 0);
  });
}
