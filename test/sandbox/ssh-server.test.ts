import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { access, readFile, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import ssh2, { type AnyAuthMethod, type Client, type ClientChannel, type ParsedKey } from 'ssh2';
import type { SandboxOptions, SandboxSsh } from '../../src/sandbox/sandbox.js';
import { remoteCommand } from '../../src/ssh/remote-command.js';
import { SshShell, type SshShellOptions } from '../../src/ssh/ssh-shell.js';
import { anyAddress, notAborted, errorOf, keepingLog } from '../ssh/shell-for.js';
import { eventually } from '../support/eventually.js';
import { MACHINE_A, openSandbox, TWO_MACHINES } from '../support/open-sandbox.js';
import { REPOSITORY } from '../support/repository.js';

const MACHINES = ['127.0.0.1', '127.0.0.2', '127.0.0.3'] as const;
const [WEB, WORKER, DATA] = MACHINES;
/** Of the cluster of plain systemd hosts. */
const HOSTS = ['127.0.0.11', '127.0.0.12', '127.0.0.13'] as const;

type Argv = [string, ...string[]];

/** Printed before and after the output of a command. */
const MARK = '0123456789abcdef';

/** A sandbox with SSH, and a function that returns the output of a command on one of its machines. */
async function openSsh(t: ExecutionContext, options: SandboxOptions = {}) {
  const opened = await openSandbox(t, { ...options, ssh: true });
  const ssh = opened.sandbox.ssh;
  if (ssh === undefined) throw new Error('the sandbox has no SSH');
  const shell = await shellTo(t, ssh);
  const run = async (host: string, ...argv: Argv) => (await shell.run(host, argv, notAborted())).stdout;
  return { ...opened, ssh, shell, run };
}

async function shellTo(
  t: ExecutionContext,
  { port, user, privateKeyFile, knownHostsFile }: SandboxSsh,
  options: Partial<SshShellOptions> = {},
): Promise<SshShell> {
  const shell = new SshShell({
    user,
    port,
    privateKey: await readFile(privateKeyFile),
    knownHostsFile,
    hostKeys: 'strict',
    sudo: false,
    connectTimeoutMs: 5_000,
    handshakeTimeoutMs: 10_000,
    policy: anyAddress,
    log: keepingLog(),
    ...options,
  });
  t.teardown(() => shell.close());
  return shell;
}

/** An SSH client that uses no code of this project. */
async function bareClient(
  t: ExecutionContext,
  { port, user, privateKeyFile }: SandboxSsh,
  debug?: (line: string) => void,
): Promise<Client> {
  const client = new ssh2.Client();
  t.teardown(() => client.destroy());
  client.connect({ host: WEB, port, username: user, privateKey: await readFile(privateKeyFile), debug });
  await once(client, 'ready');
  // The client ignores that the sandbox cuts the connection.
  client.on('error', () => undefined);
  return client;
}

interface Exchange {
  channel: ClientChannel;
  /** What the channel reports until it is closed; ssh2 does not keep the order of outputs and status. */
  seen: Promise<string[]>;
}

function start(client: Client, command: string): Promise<Exchange> {
  return new Promise((resolve, reject) =>
    client.exec(command, (error, channel) => {
      // Immediately, because everything may be in the packet that is being read.
      if (error === undefined) resolve({ channel, seen: eventsOf(channel) });
      else reject(error);
    }),
  );
}

function eventsOf(channel: ClientChannel): Promise<string[]> {
  const seen: string[] = [];
  channel.on('data', (chunk: Buffer) => seen.push(`stdout ${chunk.toString()}`));
  channel.stderr.on('data', (chunk: Buffer) => seen.push(`stderr ${chunk.toString()}`));
  channel.on('exit', (status: number) => seen.push(`exit ${status}`));
  channel.on('end', () => seen.push('end'));
  return new Promise((resolve) => channel.on('close', () => resolve([...seen, 'close'])));
}

const isNotOutput = (event: string) => !event.startsWith('std');

function journal(unit: string, ...options: string[]): Argv {
  return ['journalctl', `--unit=${unit}`, '--no-pager', '--output=short', ...options];
}

test('there is no SSH unless it is requested', async (t) => {
  const { sandbox } = await openSandbox(t);
  t.is(sandbox.ssh, undefined);
});

test('each machine accepts the key of the sandbox and shows the host key in its known_hosts file', async (t) => {
  const { ssh, run } = await openSsh(t);
  const hosts = [...MACHINES, ...HOSTS];
  t.deepEqual(ssh.hosts, hosts);
  t.is(ssh.user, 'core');
  const lines = (await readFile(ssh.knownHostsFile, 'utf8')).trim().split('\n');
  t.deepEqual(
    lines.map((line) => line.split(' ').slice(0, 2)),
    hosts.map((host) => [`[${host}]:${ssh.port}`, 'ssh-ed25519']),
  );
  t.is(new Set(lines.map((line) => line.split(' ')[2])).size, 6, 'no two have one key');
  for (const host of MACHINES) t.regex(await run(host, 'cat', '/etc/os-release'), /^ID=coreos$/m);
  for (const host of HOSTS) t.regex(await run(host, 'cat', '/etc/os-release'), /^ID=debian$/m);
});

test('only their owner can read the files', async (t) => {
  const { ssh } = await openSsh(t);
  const mode = async (path: string) => (await stat(path)).mode & 0o777;
  t.is(await mode(ssh.privateKeyFile), 0o600);
  t.is(await mode(ssh.knownHostsFile), 0o600);
  t.is(await mode(dirname(ssh.privateKeyFile)), 0o700);
});

test('another key, another user and a login without a key are refused', async (t) => {
  const { ssh } = await openSsh(t);
  const otherKey = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 }).private;
  for (const options of [{ privateKey: otherKey }, { user: 'root' }, { privateKey: undefined }]) {
    const shell = await shellTo(t, ssh, options);
    const error = await errorOf(shell.run(WEB, ['docker', 'version'], notAborted()));
    t.is(error.code, 'login_refused');
  }
  t.deepEqual(ssh.commands, []);
});

test('knowing the public key is not enough', async (t) => {
  const { ssh } = await openSsh(t);
  const key = ssh2.utils.parseKey(await readFile(ssh.privateKeyFile));
  if (key instanceof Error) throw key;
  // Signs with another key.
  const other = ssh2.utils.parseKey(ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 }).private);
  if (other instanceof Error) throw other;
  const forged: ParsedKey = Object.assign(Object.create(key), { sign: (data: Buffer) => other.sign(data) });
  const login: AnyAuthMethod[] = [{ type: 'publickey', username: ssh.user, key: forged }];
  const client = new ssh2.Client();
  t.teardown(() => client.destroy());
  client.connect({ host: WEB, port: ssh.port, username: ssh.user, authHandler: login });
  const outcome = await new Promise((resolve) => {
    client.on('ready', () => resolve('let in')).on('error', resolve);
  });
  t.like(outcome, { level: 'client-authentication' });
});

test('df differs by machine, and one disk is nearly full', async (t) => {
  const { run } = await openSsh(t);
  const texts = await Promise.all(MACHINES.map((host) => run(host, 'df', '-P', '-m', '/var/lib/docker')));
  const percents = texts.map((text) => {
    const [heading = '', line = '', ...rest] = text.split('\n');
    t.regex(heading, /^Filesystem +1048576-blocks +Used +Available +Capacity +Mounted on$/);
    t.deepEqual(rest, ['']);
    const [, size, used, available, percent] = /^\S+ +(\d+) +(\d+) +(\d+) +(\d+)% \/$/.exec(line) ?? [];
    t.true(Number(used) + Number(available) <= Number(size));
    t.is(Math.ceil((100 * Number(used)) / (Number(used) + Number(available))), Number(percent));
    return Number(percent);
  });
  t.is(new Set(percents).size, 3);
  t.is(percents[2], 91);
});

test('docker version has a client and a server; where the daemon is down it fails as Docker does', async (t) => {
  const { ssh, run, shell } = await openSsh(t);
  const version = await run(WEB, 'docker', 'version');
  t.regex(version, /^Client:\n Version: {6}1\.10\.3\n[^]+\n\nServer:\n Version: {6}1\.10\.3\n/);

  const error = await errorOf(shell.run(WORKER, ['docker', 'version'], notAborted()));
  const stderr = 'Cannot connect to the Docker daemon. Is the docker daemon running on this host?\n';
  t.is(error.code, 'command_failed');
  t.like(error.details, { exitStatus: 1, stderr });
  ssh.fail({ kind: 'exit', status: 0, stdout: 'up again', machine: WORKER, command: 'docker version' });
  t.is(await run(WORKER, 'docker', 'version'), 'up again');
});

test('files are printed one after the other: the load, the memory and the uptime, which increases', async (t) => {
  const { run, clock } = await openSsh(t);
  const read = () => run(DATA, 'cat', '/proc/loadavg', '/proc/meminfo', '/proc/uptime');
  const uptime = (text: string) => Number(/^(\d+\.\d\d) \d+\.\d\d\n$/m.exec(text)?.[1]);
  const before = await read();
  t.regex(before, /^\d\.\d\d \d\.\d\d \d\.\d\d \d+\/\d+ \d+\nMemTotal: +\d+ kB\n/);
  clock.advance(90_000);
  t.is(Math.round(uptime(await read()) - uptime(before)), 90);
});

test('the journal of a unit differs on each machine, is the same each time, and ends with the last lines', async (t) => {
  const { run } = await openSsh(t);
  const five = await run(WEB, ...journal('node-exporter.service', '--lines=5'));
  t.regex(five, /^([A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d core-4f8b02ce docker\[\d+\]: .+\n){5}$/);
  t.is(await run(WEB, ...journal('node-exporter.service', '--lines=5')), five);
  const two = await run(WEB, ...journal('node-exporter.service', '--lines=2'));
  t.is(two.split('\n').length, 3);
  t.true(five.endsWith(two));
  const elsewhere = await run(WORKER, ...journal('node-exporter.service', '--lines=5'));
  t.not(elsewhere.replaceAll('core-91d7c64a', 'core-4f8b02ce'), five);
});

test('the journal grows with time, and begins with the start of the unit', async (t) => {
  const { shell, clock } = await openSsh(t);
  const options = { ...notAborted(), maxOutputBytes: 10_000_000 };
  const read = async () => (await shell.run(DATA, journal('redis.service'), options)).stdout;
  const before = await read();
  t.regex(
    before,
    /^.+ systemd\[1\]: Starting Session cache\.\.\.\n.+ systemd\[1\]: Started Session cache\.\n/,
  );
  clock.advance(60_000);
  const after = await read();
  t.true(after.startsWith(before));
  t.is(after.split('\n').length, before.split('\n').length + 2);
});

test('a unit that is not on the machine has no entries there', async (t) => {
  const { run } = await openSsh(t);
  for (const unit of ['postgres.service', 'recommender.service', 'no-such.service', '$(reboot).service']) {
    t.is(await run(WEB, ...journal(unit, '--lines=10')), '-- No entries --\n');
  }
  t.not(await run(DATA, ...journal('postgres.service', '--lines=10')), '-- No entries --\n');
});

test('a unit that failed says why, one that flaps does so repeatedly, and a stopped one says so last', async (t) => {
  const { run, sandbox } = await openSsh(t);
  const hostOf = (name: string) => {
    const row = sandbox.cluster.states().find((state) => state.name === name);
    return sandbox.cluster.machines.find(({ id }) => id === row?.machineID)?.primaryIP ?? '';
  };
  const failed = await run(hostOf('mailer.service'), ...journal('mailer.service', '--lines=2'));
  t.regex(failed, /entered failed state\.\n.+Failed with result 'exit-code'\.\n$/);
  const flapping = await run(
    hostOf('search-indexer.service'),
    ...journal('search-indexer.service', '--lines=50'),
  );
  t.true((flapping.match(/scheduling restart/g) ?? []).length > 2);
  const stopped = await run(hostOf('sitemap.service'), ...journal('sitemap.service', '--lines=1'));
  t.regex(stopped, /systemd\[1\]: Stopped Writes the sitemap\.\n$/);
  t.regex(await run(hostOf('-.mount'), ...journal('-.mount')), /Mounted -\.mount\.\n$/);
});

test('time limits work as in journalctl: lines count from since, or backwards when reversed', async (t) => {
  const { run } = await openSsh(t);
  const lines = async (...options: string[]) =>
    (await run(DATA, ...journal('postgres.service', ...options))).trimEnd().split('\n');
  const all = await lines('--since=-2h', '--until=-1h');
  t.true(all.length > 100);
  t.deepEqual(await lines('--since=-2h', '--until=-1h', '--lines=3'), all.slice(0, 3));
  const reversed = await lines('--since=2 hours ago', '--until=1h ago', '--lines=3', '--reverse');
  t.deepEqual(reversed, all.slice(-3).toReversed());
  t.deepEqual(await lines('--until=-1h', '--lines=3'), ['-- No entries --'], 'the last three are later');
  t.deepEqual(await lines('--since=now'), ['-- No entries --']);
});

test('options that journalctl cannot read are refused with its reason', async (t) => {
  const { shell } = await openSsh(t);
  const refusals: [string[], string][] = [
    [['--since=2h'], 'Failed to parse timestamp: 2h\n'],
    [['--until=2024-13-01'], 'Failed to parse timestamp: 2024-13-01\n'],
    [['--lines=x'], "Failed to parse lines 'x'\n"],
    [['--since=now', '--until=yesterday'], '--since= must be before --until=.\n'],
  ];
  for (const [options, stderr] of refusals) {
    const error = await errorOf(shell.run(DATA, journal('postgres.service', ...options), notAborted()));
    t.like(error.details, { exitStatus: 1, stderr });
  }
});

test('commands are logged with their machine, as a vector, and whether they ran as root', async (t) => {
  const { ssh, run, shell } = await openSsh(t);
  await run(WEB, ...journal("it's.service"));
  await shell.run(DATA, ['docker', 'version'], { ...notAborted(), sudo: true });
  t.deepEqual(ssh.commands, [
    { host: WEB, argv: journal("it's.service"), sudo: false },
    { host: DATA, argv: ['docker', 'version'], sudo: true },
  ]);
});

test('an unknown command ends with status 127', async (t) => {
  const { shell } = await openSsh(t);
  const unknown: Argv[] = [
    ['uname', '-a'],
    ['cat'],
    ['cat', '/etc/passwd'],
    ['cat', '/etc/os-release', 'constructor'],
    ['df', '-h', '/'],
    ['docker', 'version', '--format=x'],
    ['journalctl', '--no-pager'],
    journal('a.service', '--follow'),
    journal('a.service', '--lines=1', '--lines=2'),
  ];
  for (const argv of unknown) {
    const error = await errorOf(shell.run(WEB, argv, notAborted()));
    const words = argv.map((each) => `"${each}"`).join(', ');
    const stderr =
      `sandbox: a simulated machine does not know this command: ${argv.join(' ')}\n` +
      `It knows those of the service's own actions. In a test, say what this one prints: sandbox.ssh.on([${words}], { stdout: '...' })\n`;
    t.like(error.details, { exitStatus: 127, stderr });
  }
});

test('a command has the output and the exit status that the test gives it, under the real wrapper', async (t) => {
  const { ssh, shell, run } = await openSsh(t);
  ssh.on(['uname', '-r'], { stdout: '4.6.3-coreos\n' });
  ssh.on(['systemctl', 'is-active', /^web@\d+\.service$/], {
    stdout: 'failed\n',
    stderr: 'why\n',
    status: 3,
  });
  t.is(await run(WEB, 'uname', '-r'), '4.6.3-coreos\n');
  const failed = await errorOf(shell.run(WEB, ['systemctl', 'is-active', 'web@1.service'], notAborted()));
  t.is(failed.code, 'command_failed');
  t.like(failed.details, { exitStatus: 3, stderr: 'why\n', begun: true });
  const options = { ...notAborted(), anyExitStatus: true, sudo: true };
  t.is((await shell.run(WEB, ['systemctl', 'is-active', 'web@2.service'], options)).stdout, 'failed\n');
  t.deepEqual(ssh.commands.at(-1), {
    host: WEB,
    argv: ['systemctl', 'is-active', 'web@2.service'],
    sudo: true,
  });
});

test('words are compared one by one: by text, by pattern, by a function, or all of them by one', async (t) => {
  const { ssh, shell, run } = await openSsh(t);
  ssh.on(['id', (user) => user.length === 4], { stdout: 'four' });
  ssh.on((argv) => argv[0] === 'ls' && argv.includes('-l'), { stdout: 'long' });
  t.is(await run(WEB, 'id', 'core'), 'four');
  t.is(await run(WEB, 'ls', '/tmp', '-l'), 'long');
  for (const argv of [['id', 'root2'], ['id'], ['id', 'core', 'root'], ['ls', '/tmp']] satisfies Argv[])
    t.like(await errorOf(shell.run(WEB, argv, notAborted())), { details: { exitStatus: 127 } });
});

test('a later answer comes first, also before what the sandbox knows, until it is removed', async (t) => {
  const { ssh, run } = await openSsh(t);
  const known = await run(WEB, 'cat', '/etc/os-release');
  ssh.on(['cat', '/etc/os-release'], { stdout: 'first' });
  const remove = ssh.on(['cat', '/etc/os-release'], { stdout: 'second' }, { machine: DATA });
  t.is(await run(DATA, 'cat', '/etc/os-release'), 'second');
  t.is(await run(WEB, 'cat', '/etc/os-release'), 'first');
  remove();
  t.is(await run(DATA, 'cat', '/etc/os-release'), 'first');
  t.regex(known, /^ID=coreos$/m);
});

test('answers come in turn, the last one stays, and a function answers by machine and words', async (t) => {
  const { ssh, sandbox, run } = await openSsh(t);
  ssh.on(
    ['echo', () => true],
    [
      { stdout: 'once' },
      ({ machine, host, argv, sudo }) => ({ stdout: `${machine} ${host} ${argv.join('+')} ${sudo}` }),
    ],
  );
  const { id } = sandbox.cluster.machines.find(({ primaryIP }) => primaryIP === WORKER) ?? { id: '' };
  t.is(await run(WORKER, 'echo', 'a'), 'once');
  for (const word of ['b', 'c']) t.is(await run(WORKER, 'echo', word), `${id} ${WORKER} echo+${word} false`);
  t.is(await (ssh.on(['only'], { stdout: 'one' }, { machine: id }), run(WORKER, 'only')), 'one');
});

test('a command that takes a while ends then, or at its limit, and one that hangs prints first', async (t) => {
  const { ssh, clock, run } = await openSsh(t);
  ssh.on(['sleep', /^/], { stdout: 'done', delayMs: 5_000 });
  ssh.on(['tail', '-f'], { stdout: 'so far', hang: true });
  const slow = run(WEB, 'sleep', '5');
  await eventually('it runs', () => clock.pending === 2);
  clock.advance(5_000);
  t.is(await slow, 'done');
  const client = await bareClient(t, ssh);
  const exchange = async (...argv: Argv) =>
    (await start(client, remoteCommand(argv, { mark: MARK, limitSeconds: 3, sudo: false }))).seen;
  const limited = exchange('sleep', '5');
  const hanging = exchange('tail', '-f');
  await eventually('they run', () => clock.pending === 3);
  clock.advance(3_000);
  t.deepEqual((await limited).filter(isNotOutput), ['exit 124', 'end', 'close']);
  t.false((await limited).join().includes('done'));
  const seen = await hanging;
  t.true(seen.includes('exit 124'));
  t.regex(seen.filter((each) => !isNotOutput(each)).join('\n'), /so far/);
  t.is(clock.pending, 0);
});

test('an answer that is none is refused, and one that fails says so', async (t) => {
  const { ssh, shell } = await openSsh(t);
  const wrong: [unknown, RegExp][] = [
    ['text', /an answer is an object with stdout, stderr, status, delayMs, hang/],
    [{ status: 256 }, /status is a whole number from 0 to 255/],
    [{ stdout: null }, /stdout and stderr are texts/],
    [Promise.resolve({}), /not a promise/],
    [{ exitStatus: 3 }, /no field 'exitStatus'/],
    [[], /at least one answer/],
  ];
  for (const [answer, message] of wrong)
    t.throws(() => Reflect.apply(ssh.on, ssh, [['a'], answer]), { message });
  t.throws(() => ssh.on([], {}), { message: /name the program/ });
  t.throws(() => ssh.on(['a'], {}, { machine: '10.0.0.1' }), { message: /10\.0\.0\.1.*127\.0\.0\.1/ });
  ssh.on(['broken'], () => {
    throw new Error('of the test');
  });
  t.like(await errorOf(shell.run(WEB, ['broken'], notAborted())), {
    details: { stderr: 'sandbox: the answer to broken failed: Error: of the test\n' },
  });
});

test('a string that the remote shell does not send is neither run nor taken for a known command', async (t) => {
  const { ssh } = await openSsh(t);
  const client = await bareClient(t, ssh);
  const wrapped = remoteCommand(['docker', 'version'], { mark: MARK, limitSeconds: 9, sudo: false });
  for (const command of [
    'docker version',
    '',
    `${wrapped} `,
    `${wrapped}; true`,
    wrapped.replace('TERM', 'HUP'),
    wrapped.replace(' %b ', ' %s '),
  ]) {
    const seen = await (await start(client, command)).seen;
    t.regex(seen.join('\n'), /^stderr sandbox: a simulated machine does not know this command/m);
    t.true(seen.includes('exit 127'));
    t.false(seen.some((each) => each.startsWith('stdout')));
  }
  t.deepEqual(ssh.commands, []);
});

test('there is no shell, no file transfer and no port forwarding', async (t) => {
  const { ssh, sandbox } = await openSsh(t);
  const client = await bareClient(t, ssh);
  const failure = (call: (done: (error: Error | undefined) => void) => void) =>
    new Promise((resolve) => call(resolve));
  t.true((await failure((done) => client.shell(done))) instanceof Error);
  t.true((await failure((done) => client.sftp(done))) instanceof Error);
  t.true((await failure((done) => client.forwardOut(WEB, 1, WEB, sandbox.fleetPort, done))) instanceof Error);
});

test('a command reports its output, its status, the end of the output and the end, in this order', async (t) => {
  const { ssh } = await openSsh(t);
  ssh.fail({ kind: 'exit', status: 3, stdout: 'out', stderr: 'err' });
  const inbound: string[] = [];
  const client = await bareClient(t, ssh, (line) => inbound.push(line));
  const command = remoteCommand(['docker', 'version'], { mark: MARK, limitSeconds: 9, sudo: true });
  const seen = await (await start(client, command)).seen;
  t.deepEqual(seen.toSorted(), [
    'close',
    'end',
    'exit 3',
    `stderr ${MARK}2err`,
    `stdout ${MARK}1out${MARK}13\n`,
  ]);
  const messages = inbound.flatMap((line) => /^Inbound: CHANNEL_(\w+) \(r:/.exec(line)?.[1] ?? []);
  const sent = messages.slice(messages.indexOf('EXTENDED_DATA'));
  t.deepEqual(sent, ['EXTENDED_DATA', 'DATA', 'REQUEST', 'EOF', 'CLOSE']);
});

test('an output larger than the window of the channel arrives whole', async (t) => {
  const { ssh, shell } = await openSsh(t);
  const stdout = 'x'.repeat(5_000_000);
  ssh.fail({ kind: 'exit', status: 0, stdout, stderr: 'e'.repeat(3_000_000) });
  const output = await shell.run(WEB, ['docker', 'version'], { ...notAborted(), maxOutputBytes: 10_000_000 });
  t.is(output.stdout.length, 5_000_000);
  t.is(output.stderr.length, 3_000_000);
});

test('hang: the command ends when its stdin is closed', async (t) => {
  const { ssh, clock } = await openSsh(t);
  ssh.fail({ kind: 'hang' });
  const client = await bareClient(t, ssh);
  const command = remoteCommand(['docker', 'version'], { mark: MARK, limitSeconds: 9, sudo: false });
  const { channel, seen } = await start(client, command);
  channel.end();
  t.deepEqual((await seen).filter(isNotOutput), ['exit 143', 'end', 'close']);
  t.is(clock.pending, 0);
});

test('hang: the host ends the command when its limit is over', async (t) => {
  const { ssh, clock } = await openSsh(t);
  ssh.fail({ kind: 'hang' });
  const client = await bareClient(t, ssh);
  const command = remoteCommand(['docker', 'version'], { mark: MARK, limitSeconds: 9, sudo: false });
  const { seen } = await start(client, command);
  await eventually('it hangs', () => clock.pending === 1);
  clock.advance(9_000);
  t.deepEqual((await seen).filter(isNotOutput), ['exit 124', 'end', 'close']);
});

test('hang: a cancelled command leaves the others, and a lost connection leaves nothing', async (t) => {
  const { ssh, shell, run, clock } = await openSsh(t);
  ssh.fail({ kind: 'hang', times: 2 });
  const stop = new AbortController();
  const cancelled = errorOf(shell.run(WEB, ['docker', 'version'], { ...notAborted(), signal: stop.signal }));
  await eventually('the command is there', () => ssh.commands.length === 1);
  stop.abort();
  t.is((await cancelled).code, 'cancelled');

  const client = await bareClient(t, ssh);
  await start(client, remoteCommand(['docker', 'version'], { mark: MARK, limitSeconds: 9, sudo: false }));
  client.destroy();
  await eventually('it has ended', () => clock.pending === 0);
  t.regex(await run(WEB, 'docker', 'version'), /^Client:/);
});

test('not-run: the login shell ends with this output, without running the command', async (t) => {
  const { ssh, shell } = await openSsh(t);
  ssh.fail({ kind: 'not-run', status: 1, stdout: 'This account is closed.\n' });
  const error = await errorOf(shell.run(WEB, ['docker', 'version'], notAborted()));
  t.is(error.code, 'command_failed');
  t.like(error.details, { begun: false, exitStatus: 1, stderr: 'This account is closed.\n' });
});

test('drop: the connection is cut under the command, and the next command gets a new one', async (t) => {
  const { ssh, shell, run } = await openSsh(t);
  ssh.fail({ kind: 'drop', times: 1 });
  const error = await errorOf(shell.run(WEB, ['docker', 'version'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.like(error.details, { reason: 'connection_lost' });
  t.regex(await run(WEB, 'docker', 'version'), /^Client:/);
});

test('refuse: one machine, or all, cannot be reached until the fault ends', async (t) => {
  const { ssh, shell, run } = await openSsh(t);
  const refused = async (host: string) =>
    t.like((await errorOf(shell.run(host, ['docker', 'version'], notAborted()))).details, {
      reason: 'refused',
    });
  await run(WEB, 'docker', 'version');
  const endOne = ssh.fail({ kind: 'refuse', machine: WEB });
  await refused(WEB);
  await run(DATA, 'docker', 'version');
  const endAll = ssh.fail({ kind: 'refuse' });
  await refused(DATA);
  await endAll();
  await refused(WEB);
  await endOne();
  for (const host of [WEB, DATA]) t.regex(await run(host, 'docker', 'version'), /^Client:/);
});

test('a fault affects only its machine and its command, until its number of times is reached or it is ended', async (t) => {
  const { ssh, shell } = await openSsh(t);
  const status = (host: string, ...argv: Argv) =>
    shell.run(host, argv, notAborted()).then(
      () => 0,
      (error: { details?: { exitStatus?: number } }) => error.details?.exitStatus,
    );
  ssh.fail({ kind: 'exit', status: 9, machine: DATA, command: 'cat /proc', times: 1 });
  const end = ssh.fail({ kind: 'exit', status: 8, command: /release$/ });
  t.is(await status(WEB, 'cat', '/proc/uptime'), 0);
  t.is(await status(DATA, 'docker', 'version'), 0);
  t.is(await status(DATA, 'cat', '/proc/uptime'), 9);
  t.is(await status(DATA, 'cat', '/proc/uptime'), 0);
  t.is(await status(WEB, 'cat', '/etc/os-release'), 8);
  await end();
  t.is(await status(WEB, 'cat', '/etc/os-release'), 0);
});

test('machines without a loopback address are ignored; of two with one address the first is used', async (t) => {
  const machines = [
    ...TWO_MACHINES,
    { id: 'c'.repeat(32), primaryIP: '127.0.0.1', metadata: {} },
    { id: 'd'.repeat(32), primaryIP: '192.0.2.1', metadata: {} },
    { id: 'e'.repeat(32), primaryIP: null, metadata: {} },
  ];
  const units = [{ name: 'a.service', options: [{ section: 'X-Fleet', name: 'Global', value: 'true' }] }];
  const { ssh, run } = await openSsh(t, { machines, units });
  t.deepEqual(ssh.hosts, ['127.0.0.1', '127.0.0.2', ...HOSTS]);
  const line = await run('127.0.0.1', ...journal('a.service', '--lines=1'));
  t.true(line.includes(` core-${MACHINE_A.slice(0, 8)} `));
});

test('a sandbox whose machines have no address to listen on starts anyway', async (t) => {
  const { ssh } = await openSsh(t, { machines: [{ id: MACHINE_A, primaryIP: '192.0.2.1', metadata: {} }] });
  t.deepEqual(ssh.hosts, [...HOSTS]);
});

test('stopping cuts connections, refuses new ones and removes the files', async (t) => {
  const { sandbox, ssh, shell, clock } = await openSsh(t);
  ssh.fail({ kind: 'hang' });
  const cut = errorOf(shell.run(WEB, ['docker', 'version'], notAborted()));
  await eventually('the command is there', () => ssh.commands.length === 1);
  await sandbox.stop();
  t.like((await cut).details, { reason: 'connection_lost' });
  await eventually('it has ended', () => clock.pending === 0);
  for (const host of MACHINES) {
    const [error]: unknown[] = await once(connect(ssh.port, host), 'error');
    t.like(error, { code: 'ECONNREFUSED' });
  }
  await t.throwsAsync(access(dirname(ssh.privateKeyFile)), { code: 'ENOENT' });
  await sandbox.stop();
});

test('nothing keeps the process alive once the sandbox has stopped', async (t) => {
  const script = `
    import { readFileSync } from 'node:fs';
    import ssh2 from 'ssh2';
    import { startSandbox } from '${import.meta.resolve('../../src/sandbox/sandbox.js')}';
    import { remoteCommand } from '${import.meta.resolve('../../src/ssh/remote-command.js')}';
    const sandbox = await startSandbox({ ssh: true });
    const { port, user: username, privateKeyFile, commands, fail } = sandbox.ssh;
    sandbox.ssh.fail({ kind: 'hang' });
    const client = new ssh2.Client();
    client.connect({ host: '127.0.0.1', port, username, privateKey: readFileSync(privateKeyFile) });
    await new Promise((ready) => client.once('ready', ready));
    client.exec(remoteCommand(['docker', 'version'], { mark: 'x', limitSeconds: 600, sudo: false }), () => undefined);
    client.on('close', () => console.log('cut'));
    while (commands.length < 1) await new Promise((done) => setImmediate(done));
    await sandbox.stop();
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: REPOSITORY,
    timeout: 8 * 60_000,
  });
  t.is(stdout.trim(), 'cut');
});
