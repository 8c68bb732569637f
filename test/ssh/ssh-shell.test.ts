import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import ssh2 from 'ssh2';
import { ActionError } from '../../src/api/action-error.js';
import { HostPolicy } from '../../src/network/connection-policy.js';
import { SshShell } from '../../src/ssh/ssh-shell.js';
import { readWrappedCommand } from '../../src/sandbox/wrapped-command.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { recordedUpstream } from '../support/recorded-upstream.js';
import { startFrozenServer } from '../support/frozen-server.js';
import { makeKey, type Sshd, startSshd, testWithSshd } from '../support/sshd.js';
import { startTcpServer } from '../support/tcp-server.js';
import {
  anyAddress,
  notAborted,
  errorOf,
  keepingLog,
  ownSshd,
  pidIn,
  processEnd,
  shellFor,
  stayingCommand,
  testFolder,
} from './shell-for.js';

let starting: Promise<Sshd> | undefined;

/** The server of all tests that do nothing to it. */
function sharedSshd(): Promise<Sshd> {
  starting ??= startSshd();
  return starting;
}

test.after.always(async () => (await starting)?.stop());

/** An SSH server that takes every login by default, and does with each command what the test says; it goes with the test. */
async function fakeHost(
  t: ExecutionContext,
  serve: (session: ssh2.Session, socket: Socket, connection: number) => void,
  onLogin: (context: ssh2.AuthContext) => void = (context) => context.accept(),
): Promise<{ port: number; connections: () => number }> {
  // Not ed25519: ssh2 cannot read back one in 256 of the ed25519 keys that it generates.
  const { private: hostKey } = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  let connections = 0;
  const port = await startTcpServer(t, (socket) => {
    connections += 1;
    const connection = connections;
    const server = new ssh2.Server({ hostKeys: [hostKey] }, (client) => {
      client.on('error', () => undefined);
      client.on('authentication', onLogin);
      client.on('session', (accept) => serve(accept(), socket, connection));
    });
    server.injectSocket(socket);
  });
  return { port, connections: () => connections };
}

/** Ends a command of `fakeHost` as the wrapped command does, with this output and exit status 0. */
function succeed(channel: ssh2.ServerChannel, command: string, stdout: string): void {
  const mark = readWrappedCommand(command)?.mark ?? '';
  channel.exit(0);
  channel.end(`${mark}1${stdout}${mark}10\n`);
}

/** A shell that trusts every host and has no key, for hosts where no login happens. */
function plainShell(
  t: ExecutionContext,
  options: Partial<ConstructorParameters<typeof SshShell>[0]>,
): SshShell {
  const shell = new SshShell({
    user: 'core',
    port: 22,
    knownHostsFile: '/nowhere',
    hostKeys: 'off',
    sudo: false,
    connectTimeoutMs: HUNG_MS,
    handshakeTimeoutMs: HUNG_MS,
    policy: anyAddress,
    log: keepingLog(),
    ...options,
  });
  t.teardown(() => shell.close());
  return shell;
}

testWithSshd('a command returns its output', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const output = await shell.run(sshd.address, ['sh', '-c', 'echo out; echo err >&2'], notAborted());
  t.deepEqual(output, { stdout: 'out\n', stderr: 'err\n', truncated: false });
});

testWithSshd('no shell reads the arguments', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const canary = join(await testFolder(t), 'canary');
  const words = [
    `$(touch ${canary})`,
    `\`touch ${canary}\``,
    `'; touch ${canary}; '`,
    `a\ntouch ${canary}\n`,
    `"; touch ${canary} #`,
    '--help',
    '-n',
    '',
    '*',
    '~',
    '$HOME',
    '\\',
    'é漢🙂',
  ];
  const { stdout } = await shell.run(sshd.address, ['printf', '%s\\0', ...words], notAborted());
  t.deepEqual(stdout.split('\0').slice(0, -1), words);
  await t.throwsAsync(stat(canary), { code: 'ENOENT' });
});

testWithSshd('an argument with a NUL is refused before anything is sent', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  t.is((await errorOf(shell.run(sshd.address, ['echo', 'a\0b'], notAborted()))).code, 'invalid_parameters');
  t.is(sshd.connections(), 0);
});

testWithSshd('a command that fails reports its exit status and the end of its stderr', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const script = 'echo out; seq 100000 101000 >&2; echo the end >&2; exit 3';
  const error = await errorOf(shell.run(sshd.address, ['sh', '-c', script], notAborted()));
  t.is(error.code, 'command_failed');
  t.like(error.details, { host: sshd.address, exitStatus: 3, signal: null });
  const { stderr } = error.details as { stderr: string };
  t.is(stderr.length, 2_000);
  t.true(stderr.endsWith('101000\nthe end\n'));
});

testWithSshd('a missing program is a failed command', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const error = await errorOf(shell.run(sshd.address, ['no-such-program'], notAborted()));
  t.is(error.code, 'command_failed');
  t.like(error.details, { exitStatus: 127 });
});

testWithSshd('output beyond the limit is cut, marked as cut, and ends the command', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const pidFile = join(await testFolder(t), 'pid');
  for (const redirect of ['', '>&2']) {
    const script = `echo $$ > "$0"; exec yes é ${redirect}`;
    const options = { ...notAborted(), maxOutputBytes: 10_000 };
    const output = await shell.run(sshd.address, ['sh', '-c', script, pidFile], options);
    t.true(output.truncated);
    // Three bytes a line, so that the limit falls between the two of an é.
    t.is(redirect === '' ? output.stdout : output.stderr, 'é\n'.repeat(3_333));
    await processEnd(await pidIn(pidFile));
  }
});

testWithSshd('output of exactly the limit is whole', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const output = await shell.run(sshd.address, ['printf', '12345'], { ...notAborted(), maxOutputBytes: 5 });
  t.deepEqual(output, { stdout: '12345', stderr: '', truncated: false });
});

testWithSshd('large output arrives whole', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const options = { ...notAborted(), maxOutputBytes: 20_000_000 };
  const { stdout } = await shell.run(sshd.address, ['head', '-c', '10000000', '/dev/zero'], options);
  t.is(stdout.length, 10_000_000);
});

testWithSshd('cancelling ends the process on the host', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const pidFile = join(await testFolder(t), 'pid');
  const caller = new AbortController();
  const failed = errorOf(
    shell.run(sshd.address, stayingCommand(pidFile), { ...notAborted(), signal: caller.signal }),
  );
  const pid = await pidIn(pidFile);
  caller.abort();
  t.is((await failed).code, 'cancelled');
  await processEnd(pid);
  t.is((await shell.run(sshd.address, ['echo', 'next'], notAborted())).stdout, 'next\n');
  t.is(sshd.connections(), 1);
});

testWithSshd('the caller gets the reason of a cancelled signal', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const pidFile = join(await testFolder(t), 'pid');
  const caller = new AbortController();
  const failed = errorOf(
    shell.run(sshd.address, stayingCommand(pidFile), { ...notAborted(), signal: caller.signal }),
  );
  const pid = await pidIn(pidFile);
  const reason = new ActionError('timeout', 'the deadline of the request passed');
  caller.abort(reason);
  t.is(await failed, reason);
  await processEnd(pid);
});

testWithSshd('reaching the deadline ends the process on the host', async (t) => {
  const sshd = await sharedSshd();
  const shell = await shellFor(t, [sshd]);
  const pidFile = join(await testFolder(t), 'pid');
  const deadline = new AbortController();
  const options = { ...notAborted(), signal: deadline.signal };
  const failed = errorOf(shell.run(sshd.address, stayingCommand(pidFile), options));
  const pid = await pidIn(pidFile);
  // Like AbortSignal.timeout.
  deadline.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
  t.is((await failed).code, 'timeout');
  await processEnd(pid);
});

testWithSshd('a command that exceeds its time limit is ended on the host', async (t) => {
  const sshd = await sharedSshd();
  const clock = new ManualClock();
  const shell = await shellFor(t, [sshd], { clock });
  const pidFile = join(await testFolder(t), 'pid');
  const options = { ...notAborted(), timeoutMs: 20_000 };
  const failed = errorOf(shell.run(sshd.address, stayingCommand(pidFile), options));
  const pid = await pidIn(pidFile);
  clock.advance(20_000);
  const error = await failed;
  t.is(error.code, 'timeout');
  t.is(error.message, `sh on ${sshd.address} took longer than 20 s`);
  t.deepEqual(error.details, { host: sshd.address, timeoutMs: 20_000, begun: true });
  await processEnd(pid);
});

testWithSshd('what a read wrote until its time limit is kept on request', async (t) => {
  const sshd = await sharedSshd();
  const clock = new ManualClock();
  const shell = await shellFor(t, [sshd], { clock });
  const pidFile = join(await testFolder(t), 'pid');
  const options = { ...notAborted(), timeoutMs: 20_000, partial: true };
  const script = 'echo some; echo other >&2; echo $$ > "$0.new" && mv "$0.new" "$0" && exec sleep 600';
  const running = shell.run(sshd.address, ['sh', '-c', script, pidFile], options);
  const pid = await pidIn(pidFile);
  // What the host told before is here after one more command.
  await shell.run(sshd.address, ['true'], notAborted());
  clock.advance(20_000);
  const { failure, ...output } = await running;
  t.deepEqual(output, { stdout: 'some\n', stderr: 'other\n', truncated: false });
  t.is(failure?.message, `sh on ${sshd.address} took longer than 20 s`);
  await processEnd(pid);
});

testWithSshd('a call that is already cancelled connects to nothing', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const options = { ...notAborted(), signal: AbortSignal.abort() };
  t.is((await errorOf(shell.run(sshd.address, ['true'], options))).code, 'cancelled');
  t.is(sshd.connections(), 0);
});

testWithSshd(
  'a connection that is lost during a command is a failure, and ends the process on the host',
  async (t) => {
    const sshd = await ownSshd(t);
    const shell = await shellFor(t, [sshd]);
    const pidFile = join(await testFolder(t), 'pid');
    const failed = errorOf(shell.run(sshd.address, stayingCommand(pidFile), notAborted()));
    const pid = await pidIn(pidFile);
    for (const session of await sshd.sessionPids()) process.kill(session, 'SIGKILL');
    const error = await failed;
    t.is(error.code, 'host_unreachable');
    t.like(error.details, { reason: 'connection_lost' });
    await processEnd(pid);
    t.is((await shell.run(sshd.address, ['echo', 'next'], notAborted())).stdout, 'next\n');
  },
);

test('an exit status is not a success when the connection is lost before all output arrived', async (t) => {
  const { port } = await fakeHost(t, (session, socket) => {
    session.on('exec', (accept, _reject, { command }) => {
      const channel = accept();
      channel.write(`${readWrappedCommand(command)?.mark}1half of it`);
      channel.exit(0);
      socket.end();
    });
  });
  const shell = plainShell(t, { port });
  const error = await errorOf(shell.run('127.0.0.1', ['true'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.like(error.details, { reason: 'connection_lost' });
});

test('garbage on an open connection breaks only that connection', async (t) => {
  const { port } = await fakeHost(t, (session, socket, connection) => {
    session.on('exec', (accept, _reject, { command }) => {
      const channel = accept();
      if (connection === 1) {
        socket.write(Buffer.alloc(1_000, 0xff));
        return;
      }
      succeed(channel, command, 'good');
    });
  });
  const shell = plainShell(t, { port });
  t.is((await errorOf(shell.run('127.0.0.1', ['true'], notAborted()))).code, 'host_unreachable');
  t.is((await shell.run('127.0.0.1', ['true'], notAborted())).stdout, 'good');
});

test('a command that the host refuses to run has failed, and has not begun', async (t) => {
  const { port } = await fakeHost(t, (session) => session.on('exec', (_accept, reject) => reject()));
  for (const effect of ['read', 'change'] as const) {
    const shell = plainShell(t, { port });
    const error = await errorOf(shell.run('127.0.0.1', ['true'], { ...notAborted(), effect }));
    t.is(error.code, 'command_failed');
    t.is(error.message, '127.0.0.1 refused to run a command');
    t.deepEqual(error.details, {
      host: '127.0.0.1',
      begun: false,
      exitStatus: null,
      signal: null,
      stderr: '',
    });
  }
});

test('a command that ends without its last mark has failed; as a change it may run on', async (t) => {
  const { port } = await fakeHost(t, (session) =>
    session.on('exec', (accept, _reject, { command }) => {
      const channel = accept();
      channel.exit(0);
      channel.end(`${readWrappedCommand(command)?.mark}1some`);
    }),
  );
  const failed = (effect: 'read' | 'change') =>
    errorOf(plainShell(t, { port }).run('127.0.0.1', ['true'], { ...notAborted(), effect }));
  const error = await failed('read');
  t.is(error.code, 'command_failed');
  t.like(error.details, { begun: true, exitStatus: null });
  t.is((await failed('change')).code, 'outcome_unknown');
});

test('a command that ends without an exit status has failed', async (t) => {
  const { port } = await fakeHost(t, (session) => session.on('exec', (accept) => accept().end('some')));
  const error = await errorOf(plainShell(t, { port }).run('127.0.0.1', ['true'], notAborted()));
  t.is(error.code, 'command_failed');
  t.like(error.details, { exitStatus: null, signal: null });
});

test('a command that the host reports as ended by a signal has failed by it', async (t) => {
  const { port } = await fakeHost(t, (session) =>
    session.on('exec', (accept) => {
      const channel = accept();
      channel.exit('KILL');
      channel.end();
    }),
  );
  const error = await errorOf(plainShell(t, { port }).run('127.0.0.1', ['true'], notAborted()));
  t.is(error.code, 'command_failed');
  t.like(error.details, { exitStatus: null, signal: 'SIGKILL' });
});

test('a host that does not respond to the start of a command is unreachable', async (t) => {
  const clock = new ManualClock();
  const { port } = await fakeHost(t, (session) => session.on('exec', () => clock.advance(600_000)));
  const shell = plainShell(t, { port, clock, handshakeTimeoutMs: 600_000 });
  const error = await errorOf(shell.run('127.0.0.1', ['true'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.like(error.details, { reason: 'connection_lost' });
  const change = await errorOf(shell.run('127.0.0.1', ['true'], { ...notAborted(), effect: 'change' }));
  t.is(change.code, 'outcome_unknown');
});

test('cancelling does not wait for a host that does not respond', async (t) => {
  const caller = new AbortController();
  const { port } = await fakeHost(t, (session) => session.on('exec', () => caller.abort()));
  const shell = plainShell(t, { port, handshakeTimeoutMs: 600_000 });
  const options = { ...notAborted(), signal: caller.signal };
  t.is((await errorOf(shell.run('127.0.0.1', ['true'], options))).code, 'cancelled');
});

test('a change that is cancelled while the host starts it has an unknown outcome', async (t) => {
  const caller = new AbortController();
  const { port } = await fakeHost(t, (session) => session.on('exec', () => caller.abort()));
  const options = { ...notAborted(), signal: caller.signal, effect: 'change' as const };
  t.is((await errorOf(plainShell(t, { port }).run('127.0.0.1', ['true'], options))).code, 'outcome_unknown');
});

test('a command that starts after its caller has left is ended, and only then the next one gets its channel', async (t) => {
  const begins: (() => ssh2.ServerChannel)[] = [];
  const { port } = await fakeHost(t, (session) =>
    session.on('exec', (accept, _reject, { command }) => {
      if (begins.length < 2) begins.push(accept);
      else succeed(accept(), command, 'next');
    }),
  );
  const clock = new ManualClock();
  const shell = plainShell(t, { port, clock });
  const caller = new AbortController();
  const left = [1, 2].map(() =>
    errorOf(shell.run('127.0.0.1', ['true'], { ...notAborted(), signal: caller.signal })),
  );
  await eventually('the host has both commands', () => begins.length === 2);
  caller.abort();
  await Promise.all(left);
  let nextIsOver = false;
  const next = shell.run('127.0.0.1', ['true'], notAborted()).finally(() => (nextIsOver = true));
  const ends = begins.map(async (accept) => {
    const channel = accept();
    channel.write('late output');
    channel.stderr.write('late output');
    channel.resume();
    await once(channel, 'end');
    t.false(nextIsOver);
    channel.exit(143);
    channel.end();
  });
  await Promise.all(ends);
  t.is((await next).stdout, 'next');
  t.is(clock.pending, 1);
});

test('the host itself ends a command five seconds after its time limit', async (t) => {
  const limits: unknown[] = [];
  const { port } = await fakeHost(t, (session) =>
    session.on('exec', (accept, _reject, { command }) => {
      limits.push(readWrappedCommand(command)?.limitSeconds);
      succeed(accept(), command, '');
    }),
  );
  const shell = plainShell(t, { port });
  for (const timeoutMs of [20_000, 20_001])
    await shell.run('127.0.0.1', ['true'], { ...notAborted(), timeoutMs });
  t.deepEqual(limits, [25, 26]);
});

test('a host that closes each connection instead of opening a channel is tried three times', async (t) => {
  const { private: hostKey } = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  let connections = 0;
  const port = await startTcpServer(t, (socket) => {
    connections += 1;
    const server = new ssh2.Server({ hostKeys: [hostKey] }, (client) => {
      client.on('error', () => undefined);
      client.on('authentication', (context) => context.accept());
      client.on('session', () => socket.destroy());
    });
    server.injectSocket(socket);
  });
  const error = await errorOf(plainShell(t, { port }).run('127.0.0.1', ['true'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.deepEqual(error.details, { host: '127.0.0.1', reason: 'connection_lost' });
  t.true(error.cause instanceof Error);
  t.is(connections, 3);
});

test('commands that have ended leave nothing on the signal of their caller, and many may share it', async (t) => {
  const { port } = await fakeHost(t, (session) =>
    session.on('exec', (accept, _reject, { command }) => succeed(accept(), command, '')),
  );
  const warnings: Error[] = [];
  const warn = (warning: Error) => warnings.push(warning);
  process.on('warning', warn);
  t.teardown(() => process.off('warning', warn));
  const shell = plainShell(t, { port });
  const options = notAborted();
  await Promise.all(Array.from({ length: 20 }, () => shell.run('127.0.0.1', ['true'], options)));
  t.deepEqual(getEventListeners(options.signal, 'abort'), []);
  t.false(warnings.some(({ name }) => name === 'MaxListenersExceededWarning'));
});

test('the log tells when a connection is opened and closed, and of which address', async (t) => {
  const { port } = await fakeHost(t, (session) =>
    session.on('exec', (accept, _reject, { command }) => succeed(accept(), command, '')),
  );
  const log = keepingLog();
  const shell = plainShell(t, { port, log, policy: { resolve: async () => ['127.0.0.1'] } });
  await shell.run('node1', ['true'], notAborted());
  await shell.close();
  const fields = { host: 'node1', address: '127.0.0.1', port };
  t.deepEqual(
    log.lines.filter(({ level }) => level === 'debug'),
    [
      { level: 'debug', message: 'SSH connection opened', fields },
      { level: 'debug', message: 'SSH connection closed', fields },
    ],
  );
});

test('closing waits until the connections are closed, and refuses commands from its beginning on', async (t) => {
  const sockets: Socket[] = [];
  const { port } = await fakeHost(t, (session, socket) => {
    sockets.push(socket);
    session.on('exec', (accept, _reject, { command }) => succeed(accept(), command, ''));
  });
  const clock = new ManualClock();
  const shell = plainShell(t, { port, clock });
  await shell.run('127.0.0.1', ['true'], notAborted());
  // It does not see the end.
  sockets[0]?.pause();
  let isClosed = false;
  const closing = shell.close().then(() => (isClosed = true));
  const error = await errorOf(shell.run('127.0.0.1', ['true'], notAborted()));
  t.is(error.code, 'cancelled');
  t.is(error.message, 'the service is stopping');
  await eventually('it waits for the host', () => clock.pending > 0);
  for (let n = 0; n < 5; n += 1) await new Promise(setImmediate);
  t.false(isClosed);
  clock.advance(2_000);
  await closing;
  t.true(isClosed);
});

test('a command that cannot be ended costs its channel, not the connection', async (t) => {
  const clock = new ManualClock();
  const caller = new AbortController();
  let ends = 0;
  let closes = 0;
  const { port, connections } = await fakeHost(t, (session) =>
    session.on('exec', (accept, _reject, { command }) => {
      const channel = accept();
      channel.resume();
      channel.on('end', () => (ends += 1));
      if (readWrappedCommand(command)?.argv[0] === 'stay') {
        channel.on('close', () => (closes += 1));
        caller.abort();
        return;
      }
      succeed(channel, command, 'next');
    }),
  );
  const shell = plainShell(t, { port, clock });
  const options = { ...notAborted(), signal: caller.signal };
  t.is((await errorOf(shell.run('127.0.0.1', ['stay'], options))).code, 'cancelled');
  await eventually('the input of the command ends', () => ends > 0);
  // Two seconds from TERM to KILL, and two more for the host.
  clock.advance(3_999);
  t.is((await shell.run('127.0.0.1', ['next'], notAborted())).stdout, 'next');
  t.is(closes, 0);
  clock.advance(1);
  await eventually('the channel is closed', () => closes > 0);
  t.is((await shell.run('127.0.0.1', ['next'], notAborted())).stdout, 'next');
  t.is(connections(), 1);
});

testWithSshd('a host is not asked to prove that it owns its other host keys', async (t) => {
  const sshd = await ownSshd(t, { hostKeyTypes: ['ed25519', 'ecdsa'], config: ['LogLevel DEBUG1'] });
  const shell = await shellFor(t, [sshd]);
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  t.regex(sshd.log(), /debug1: session_new/);
  t.notRegex(sshd.log(), /hostkeys-prove/);
});

testWithSshd('a key that the host does not accept is a refused login', async (t) => {
  const file = join(await testFolder(t), 'other');
  await makeKey(file);
  // With one allowed try the server disconnects immediately, with another message.
  // Sent before the login, so it is no reason.
  const banner = join(await testFolder(t), 'banner');
  await writeFile(banner, 'Authorized use only\n');
  const cases = [
    { tries: 6, said: {}, why: '' },
    {
      tries: 1,
      said: { text: 'Too many authentication failures' },
      why: ': Too many authentication failures',
    },
  ];
  for (const { tries, said, why } of cases) {
    const sshd = await ownSshd(t, { config: [`MaxAuthTries ${tries}`, `Banner ${banner}`] });
    const shell = await shellFor(t, [sshd], { privateKey: await readFile(file) });
    const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
    t.is(error.code, 'login_refused');
    t.deepEqual(error.details, {
      host: sshd.address,
      user: sshd.user,
      reason: 'no_accepted_key',
      ...said,
    });
    t.is(error.message, `${sshd.address} refused the login of ${sshd.user}${why}`);
    await eventually('no session', async () => (await sshd.sessionPids()).length === 0);
  }
});

test('a login without a key is tried only when there is none', async (t) => {
  const { private: privateKey } = ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 });
  for (const [options, method] of [
    [{ privateKey }, 'publickey'],
    [{}, 'none'],
  ] as const) {
    const tried = new Set<string>();
    const refuse = (context: ssh2.AuthContext) => {
      tried.add(context.method);
      context.reject();
    };
    const { port } = await fakeHost(t, () => {}, refuse);
    const error = await errorOf(plainShell(t, { port, ...options }).run('127.0.0.1', ['true'], notAborted()));
    t.is(error.code, 'login_refused');
    t.deepEqual([...tried], [method]);
  }
});

testWithSshd('a key with a passphrase logs in', async (t) => {
  const sshd = await ownSshd(t);
  const file = join(await testFolder(t), 'login');
  await makeKey(file, 'ed25519', 'open sesame');
  await writeFile(sshd.authorizedKeyFile, await readFile(`${file}.pub`));
  const privateKey = await readFile(file, 'utf8');
  const shell = await shellFor(t, [sshd], { privateKey, passphrase: 'open sesame' });
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  for (const passphrase of [undefined, 'wrong secret']) {
    const error = await t.throwsAsync(shellFor(t, [sshd], { privateKey, passphrase }));
    t.regex(error.message, /the SSH private key cannot be used/);
    t.false(error.message.includes('secret'));
  }
});

testWithSshd('an ssh-agent logs in', async (t) => {
  const sshd = await sharedSshd();
  const agentSocket = join(await testFolder(t), 'agent');
  const agent = spawn('/usr/bin/ssh-agent', ['-D', '-a', agentSocket], { stdio: 'ignore' });
  t.teardown(() => agent.kill());
  await eventually('the agent listens', async () => stat(agentSocket).catch(() => undefined));
  const add = spawn('/usr/bin/ssh-add', ['-q', sshd.privateKeyFile], {
    env: { ...process.env, SSH_AUTH_SOCK: agentSocket },
    stdio: 'ignore',
  });
  t.deepEqual(await once(add, 'exit'), [0, null]);
  const shell = await shellFor(t, [sshd], { privateKey: undefined, agentSocket });
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
});

testWithSshd(
  'an ssh-agent that is not there is a refused login; with a key it does not matter',
  async (t) => {
    const sshd = await sharedSshd();
    const agentSocket = join(await testFolder(t), 'agent');
    const without = await shellFor(t, [sshd], { privateKey: undefined, agentSocket });
    t.is((await errorOf(without.run(sshd.address, ['true'], notAborted()))).code, 'login_refused');
    const withKey = await shellFor(t, [sshd], { agentSocket });
    t.is((await withKey.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  },
);

testWithSshd('with sudo the command is run by sudo -n, and cancelling ends it', async (t) => {
  const folder = await testFolder(t);
  const asked = join(folder, 'asked');
  const sudo = `#!/bin/sh\necho "$1 $2" >> '${asked}'\nshift 2\nexec "$@"\n`;
  await writeFile(join(folder, 'sudo'), sudo);
  await chmod(join(folder, 'sudo'), 0o755);
  const sshd = await ownSshd(t, { environment: { PATH: `${folder}:/usr/bin:/bin` } });
  const shell = await shellFor(t, [sshd], { sudo: true });
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  t.is((await shell.run(sshd.address, ['echo', 'hi'], { ...notAborted(), sudo: false })).stdout, 'hi\n');
  t.is(await readFile(asked, 'utf8'), '-n --\n');

  const pidFile = join(folder, 'pid');
  const caller = new AbortController();
  const options = { ...notAborted(), signal: caller.signal };
  const failed = errorOf(shell.run(sshd.address, stayingCommand(pidFile), options));
  const pid = await pidIn(pidFile);
  caller.abort();
  t.is((await failed).code, 'cancelled');
  await processEnd(pid);
});

testWithSshd('the next address is tried when one does not respond', async (t) => {
  const sshd = await ownSshd(t, { address: '127.0.0.2' });
  const policy = { resolve: async () => ['127.0.0.9', sshd.address] };
  const knownHosts = `[node1]:${sshd.port} ${sshd.hostKeys.ed25519}\n`;
  const shell = await shellFor(t, [sshd], { policy, knownHosts });
  t.is((await shell.run('node1', ['echo', 'hi'], notAborted())).stdout, 'hi\n');
});

test('when policy forbids the address of a name, no connection is made', async (t) => {
  let connections = 0;
  const port = await startTcpServer(t, (socket) => {
    connections += 1;
    socket.destroy();
  });
  const codeUnder = async (allowed: string[] | undefined) => {
    const policy = new HostPolicy(allowed, async () => [{ address: '127.0.0.1' }]);
    return (await errorOf(plainShell(t, { port, policy }).run('node1.example.com', ['true'], notAborted())))
      .code;
  };
  for (const allowed of [undefined, [], ['*.example.com'], ['0.0.0.0/0', '::/0'], ['127.0.0.2']])
    t.is(await codeUnder(allowed), 'forbidden', String(allowed));
  t.is(connections, 0);
  t.is(await codeUnder(['127.0.0.0/8']), 'host_unreachable');
  t.is(connections, 1);
});

test('a name that policy gives in place of an address is not looked up', async (t) => {
  let connections = 0;
  const port = await startTcpServer(t, () => (connections += 1));
  const shell = plainShell(t, { port, policy: { resolve: async () => ['localhost'] } });
  await t.throwsAsync(shell.run('node1', ['true'], notAborted()));
  t.is(connections, 0);
});

test('a string that is neither an address nor a host name is unreachable, and not looked up', async (t) => {
  const policy = { resolve: async () => t.fail('looked up') };
  for (const host of ['', 'a b', '-oProxyCommand=x', '10.0.0.1:22', '0177.0.0.1', 'fe80::1%eth0', '[::1]']) {
    const error = await errorOf(plainShell(t, { policy }).run(host, ['true'], notAborted()));
    t.is(error.code, 'host_unreachable');
    t.deepEqual(error.details, { host, reason: 'no_host' });
  }
});

test('a host whose name cannot be resolved is unreachable', async (t) => {
  const policy = {
    resolve: async () => {
      throw Object.assign(new Error('getaddrinfo ENOTFOUND node1'), { code: 'ENOTFOUND' });
    },
  };
  const error = await errorOf(plainShell(t, { policy }).run('node1', ['true'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.deepEqual(error.details, { host: 'node1', reason: 'dns' });
  t.like(error.cause, { code: 'ENOTFOUND' });
});

test('the wait for a name server that does not respond has a limit', async (t) => {
  const policy = { resolve: () => new Promise<string[]>(() => undefined) };
  const shell = plainShell(t, { policy, connectTimeoutMs: 100 });
  t.like((await errorOf(shell.run('node1', ['true'], notAborted()))).details, { reason: 'dns' });
});

test('nobody waits for a name server when the caller has left', async (t) => {
  const signals: AbortSignal[] = [];
  const resolve = (_host: string, { signal }: { signal: AbortSignal }) => {
    signals.push(signal);
    return new Promise<string[]>(() => undefined);
  };
  const shell = plainShell(t, { policy: { resolve } });
  const caller = new AbortController();
  const options = { ...notAborted(), signal: caller.signal };
  const left = errorOf(shell.run('node1', ['true'], options));
  await eventually('the name is looked up', () => signals.length > 0);
  caller.abort();
  t.is((await left).code, 'cancelled');
  t.true(signals[0]?.aborted);
});

test('a port where nothing listens is unreachable', async (t) => {
  const port = await startTcpServer(t, () => undefined);
  // The listener is on 127.0.0.1 only.
  const error = await errorOf(plainShell(t, { port }).run('127.0.0.9', ['true'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.deepEqual(error.details, { host: '127.0.0.9', reason: 'refused' });
  t.like(error.cause, { code: 'ECONNREFUSED' });
});

test('a host that does not accept the connection is unreachable', async (t) => {
  const port = await startFrozenServer(t, 1);
  for (let i = 0; i < 4; i += 1) {
    const filler = connect(port, '127.0.0.1').on('error', () => undefined);
    t.teardown(() => filler.destroy());
  }
  const shell = plainShell(t, { port, connectTimeoutMs: 500 });
  const error = await errorOf(shell.run('127.0.0.1', ['true'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.like(error.details, { reason: 'connect_timeout' });
});

test('a host that accepts the connection and sends nothing is unreachable', async (t) => {
  let closed = false;
  let connected = false;
  const port = await startTcpServer(t, (socket) => {
    connected = true;
    socket.resume().on('close', () => (closed = true));
  });
  const clock = new ManualClock();
  const shell = plainShell(t, { port, clock, handshakeTimeoutMs: 200 });
  const failed = errorOf(shell.run('127.0.0.1', ['true'], notAborted()));
  await eventually('it is connected', () => connected);
  await eventually('it is timed out', () => {
    clock.advance(200);
    return closed;
  });
  const error = await failed;
  t.is(error.code, 'host_unreachable');
  t.like(error.details, { reason: 'handshake_timeout' });
  await eventually('the connection is closed', () => closed);
});

test('a host that does not speak SSH is unreachable', async (t) => {
  const talks = [
    'HTTP/1.1 400 Bad Request\r\n\r\n',
    '',
    'SSH-2.0-x\r\n',
    `SSH-2.0-x\r\n${'\xff'.repeat(100)}`,
  ];
  for (const talk of talks) {
    const port = await startTcpServer(t, (socket) => socket.end(talk, 'latin1'));
    const error = await errorOf(plainShell(t, { port }).run('127.0.0.1', ['true'], notAborted()));
    t.is(error.code, 'host_unreachable');
    t.like(error.details, { reason: 'handshake_failed' });
  }
});

for (const [when, event] of [
  ['the connection is being made', 'connection'],
  ['the host does not answer the greeting of the client', 'data'],
] as const)
  test(`cancelling while ${when} closes the connection`, async (t) => {
    const caller = new AbortController();
    let closed = false;
    const port = await startTcpServer(t, (socket) => {
      socket.resume().on('close', () => (closed = true));
      if (event === 'connection') caller.abort();
      else socket.once(event, () => caller.abort());
    });
    const options = { ...notAborted(), signal: caller.signal };
    const error = await errorOf(plainShell(t, { port }).run('127.0.0.1', ['true'], options));
    t.is(error.code, 'cancelled');
    await eventually('the connection is closed', () => closed);
  });

testWithSshd(
  'who watches is told of logins and commands by their programs, and how they ended',
  async (t) => {
    const { watch, calls } = recordedUpstream();
    const sshd = await ownSshd(t);
    const shell = await shellFor(t, [sshd], { watch });
    await shell.run(sshd.address, ['echo', 'secret'], notAborted());
    await t.throwsAsync(shell.run(sshd.address, ['false'], notAborted()));
    const caller = new AbortController();
    const hangs = shell.run(sshd.address, ['sleep', '600'], { ...notAborted(), signal: caller.signal });
    await eventually('it has begun', () => calls.length === 4);
    caller.abort(new ActionError('cancelled', 'the caller is gone'));
    await t.throwsAsync(hangs);
    t.deepEqual(
      calls.map(
        ({ kind, operation, host, outcome }) => `${kind} ${operation} ${host === sshd.address} ${outcome}`,
      ),
      [
        'ssh run echo true ok',
        'ssh log in true ok',
        'ssh run false true failed',
        'ssh run sleep true stopped',
      ],
    );
  },
);
