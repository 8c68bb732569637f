import { mkdir } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import type { SshConnection } from '../../src/ssh/ssh-connection.js';
import { SshSessions } from '../../src/ssh/ssh-sessions.js';
import { untilAborted } from '../../src/lib/until-aborted.js';
import { eventually } from '../support/eventually.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { ManualClock } from '../support/manual-clock.js';
import { type Sshd, testWithSshd } from '../support/sshd.js';
import { startTcpServer } from '../support/tcp-server.js';
import { logInTo } from './log-in-to.js';
import {
  notAborted,
  errorOf,
  ownSshd,
  ownSshds,
  pidIn,
  processEnd,
  shellFor,
  stayingCommand,
  testFolder,
} from './shell-for.js';

const MACHINES = ['127.0.0.1', '127.0.0.2', '127.0.0.3'] as const;

async function noSessions(...servers: readonly Sshd[]): Promise<void> {
  for (const server of servers) {
    await eventually('no session', async () => (await server.sessionPids()).length === 0);
  }
}

testWithSshd('200 commands on 3 hosts use 3 connections, and none is left half a minute later', async (t) => {
  const servers = await ownSshds(t, MACHINES);
  const clock = new ManualClock();
  const shell = await shellFor(t, servers, { clock });
  const outputs = await Promise.all(
    Array.from({ length: 200 }, (_, n) =>
      shell.run(MACHINES[n % MACHINES.length] ?? '', ['echo', String(n)], notAborted()),
    ),
  );
  t.deepEqual(
    outputs.map(({ stdout }) => stdout),
    Array.from({ length: 200 }, (_, n) => `${n}\n`),
  );
  t.deepEqual(
    servers.map((server) => server.connections()),
    [1, 1, 1],
  );
  clock.advance(30_000);
  await noSessions(...servers);
});

testWithSshd('one host has one connection, in every spelling of its address', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  for (const host of ['::ffff:127.0.0.1', '127.0.0.1', '::FFFF:7f00:1', '0:0:0:0:0:ffff:127.0.0.1'])
    t.is((await shell.run(host, ['echo', host], notAborted())).stdout, `${host}\n`);
  t.is(sshd.connections(), 1);
});

const hasIPv6 = Object.values(networkInterfaces()).some((each) =>
  each?.some(({ address }) => address === '::1'),
);
if (hasIPv6) {
  testWithSshd('a host is reached by its IPv6 address, in every spelling', async (t) => {
    const sshd = await ownSshd(t, { address: '::1' });
    const shell = await shellFor(t, [sshd]);
    for (const host of ['0:0:0:0:0:0:0:1', '::1'])
      t.is((await shell.run(host, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
    t.is(sshd.connections(), 1);
  });
}

testWithSshd('at most two commands of one program run on one host at the same time', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const folder = join(await testFolder(t), 'running');
  await mkdir(folder);
  const script = 'touch "$0/$$" && ls "$0" | wc -l && sleep 0.1 && rm "$0/$$"';
  const outputs = await Promise.all(
    Array.from({ length: 20 }, () => shell.run(sshd.address, ['sh', '-c', script, folder], notAborted())),
  );
  t.is(Math.max(...outputs.map(({ stdout }) => Number(stdout))), 2);
});

testWithSshd('changes that take long do not delay a read of the same program', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const folder = await testFolder(t);
  const stay = new AbortController();
  const changes = [0, 1].map((n) =>
    errorOf(
      shell.run(sshd.address, stayingCommand(join(folder, String(n))), {
        ...notAborted(),
        signal: stay.signal,
        effect: 'change',
      }),
    ),
  );
  await Promise.all([0, 1].map((n) => pidIn(join(folder, String(n)))));
  t.is((await shell.run(sshd.address, ['sh', '-c', 'echo hi'], notAborted())).stdout, 'hi\n');
  stay.abort();
  await Promise.all(changes);
});

testWithSshd('a change that waits for others does not begin when its time to start is over', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const folder = await testFolder(t);
  const [stay, start] = [new AbortController(), new AbortController()];
  const change = (file: string) =>
    errorOf(
      shell.run(sshd.address, stayingCommand(join(folder, file)), {
        ...notAborted(),
        signal: stay.signal,
        startSignal: start.signal,
        effect: 'change',
      }),
    );
  const begun = ['1', '2', '3', '4'].map(change);
  await Promise.all(['1', '2', '3', '4'].map((file) => pidIn(join(folder, file))));
  const late = change('late');
  start.abort(new ActionError('timeout', 'it ends'));
  t.is((await late).code, 'timeout');
  t.log('those that had begun go on');
  t.is((await shell.run(sshd.address, ['ls', folder], notAborted())).stdout, '1\n2\n3\n4\n');
  stay.abort();
  for (const each of begun) t.is((await each).code, 'outcome_unknown');
});

testWithSshd('a host that accepts fewer channels is retried until it accepts one', async (t) => {
  const sshd = await ownSshd(t, { config: ['MaxSessions 1'] });
  const shell = await shellFor(t, [sshd]);
  const outputs = await Promise.all(
    [1, 2, 3, 4, 5, 6].map((n) =>
      shell.run(sshd.address, ['sh', '-c', `sleep 0.1; echo ${n}`], notAborted()),
    ),
  );
  t.is(outputs.map(({ stdout }) => stdout.trim()).join(''), '123456');
  t.is(sshd.connections(), 1);
});

testWithSshd('a host that accepts no channel at all is unreachable after ten seconds', async (t) => {
  const sshd = await ownSshd(t, { config: ['MaxSessions 0'] });
  const clock = new LeapingClock();
  const began = clock.now();
  const shell = await shellFor(t, [sshd], { clock });
  const error = await errorOf(shell.run(sshd.address, ['true'], notAborted()));
  t.is(error.code, 'host_unreachable');
  t.like(error.details, { reason: 'channel_refused' });
  t.true(error.cause instanceof Error);
  t.is(clock.now() - began, 10_000);
});

testWithSshd('a command that is sent 30 s after the login, or later, gets a new login', async (t) => {
  const sshd = await ownSshd(t);
  const clock = new ManualClock();
  const shell = await shellFor(t, [sshd], { clock });
  await shell.run(sshd.address, ['true'], notAborted());
  clock.advance(29_999);
  await shell.run(sshd.address, ['true'], notAborted());
  t.is(sshd.connections(), 1);
  clock.advance(1);
  await shell.run(sshd.address, ['true'], notAborted());
  t.is(sshd.connections(), 2);
});

testWithSshd(
  'a command that runs longer than its login is used ends on it, and the others get a new one',
  async (t) => {
    const sshd = await ownSshd(t);
    const clock = new ManualClock();
    const shell = await shellFor(t, [sshd], { clock });
    const folder = await testFolder(t);
    const [began, end] = [join(folder, 'began'), join(folder, 'end')];
    const script = 'echo $$ > "$0.new"; mv "$0.new" "$0"; until [ -e "$1" ]; do sleep 0.05; done; echo whole';
    const long = shell.run(sshd.address, ['sh', '-c', script, began, end], {
      ...notAborted(),
      timeoutMs: 60_000,
    });
    await pidIn(began);
    clock.advance(30_000);
    await shell.run(sshd.address, ['touch', end], notAborted());
    t.is(sshd.connections(), 2);
    t.is((await long).stdout, 'whole\n');
    await eventually('the first connection is closed', async () => (await sshd.sessionPids()).length === 1);
    await shell.run(sshd.address, ['true'], notAborted());
    t.is(sshd.connections(), 2);
  },
);

testWithSshd('closing ends also the commands on connections that get no new ones', async (t) => {
  const sshd = await ownSshd(t);
  const clock = new ManualClock();
  const shell = await shellFor(t, [sshd], { clock });
  const pidFile = join(await testFolder(t), 'pid');
  const failed = errorOf(
    shell.run(sshd.address, stayingCommand(pidFile), { ...notAborted(), timeoutMs: 60_000 }),
  );
  const pid = await pidIn(pidFile);
  clock.advance(30_000);
  await shell.close();
  t.is((await failed).code, 'cancelled');
  await processEnd(pid);
  await noSessions(sshd);
});

testWithSshd('a connection that broke while idle is replaced', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  for (let n = 1; n <= 3; n += 1) {
    t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
    t.is(sshd.connections(), n);
    for (const pid of await sshd.sessionPids()) process.kill(pid, 'SIGKILL');
  }
});

testWithSshd('a connection that broke while idle is forgotten', async (t) => {
  const sshd = await ownSshd(t);
  const clock = new ManualClock();
  const shell = await shellFor(t, [sshd], { clock });
  await shell.run(sshd.address, ['true'], notAborted());
  // The end of its time in the pool.
  t.is(clock.pending, 1);
  for (const pid of await sshd.sessionPids()) process.kill(pid, 'SIGKILL');
  await eventually('nothing is left of it', () => clock.pending === 0);
});

testWithSshd(
  'a connection on which a command runs is not closed when another command on it ends',
  async (t) => {
    const sshd = await ownSshd(t);
    const shell = await shellFor(t, [sshd], { maxIdle: 0 });
    const pidFile = join(await testFolder(t), 'pid');
    const caller = new AbortController();
    const staying = errorOf(
      shell.run(sshd.address, stayingCommand(pidFile), { ...notAborted(), signal: caller.signal }),
    );
    await pidIn(pidFile);
    await shell.run(sshd.address, ['true'], notAborted());
    await shell.run(sshd.address, ['true'], notAborted());
    t.is(sshd.connections(), 1);
    caller.abort();
    t.is((await staying).code, 'cancelled');
    await noSessions(sshd);
  },
);

testWithSshd(
  'a connection that is lost while it is used is replaced immediately, and not tried again',
  async (t) => {
    const sshd = await ownSshd(t);
    const handshakeTimeoutMs = 7_777;
    let dying = false;
    /** What a channel may take to open is over at once: the connection is cut, which shows only a little later. */
    class CuttingClock extends ManualClock {
      override after(ms: number, ring: () => void): () => void {
        if (dying && ms === handshakeTimeoutMs) {
          dying = false;
          ring();
        }
        return super.after(ms, ring);
      }
    }
    const shell = await shellFor(t, [sshd], { clock: new CuttingClock(), handshakeTimeoutMs });
    await shell.run(sshd.address, ['true'], notAborted());
    dying = true;
    t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
    t.false(dying);
    t.is(sshd.connections(), 2);
  },
);

testWithSshd('a slow host does not delay the others', async (t) => {
  const [sshd] = await ownSshds(t, ['127.0.0.1']);
  if (sshd === undefined) throw new Error('no server');
  const silent = { address: '127.0.0.2', port: sshd.port };
  await startTcpServer(t, (socket) => socket.resume(), silent);
  const shell = await shellFor(t, [sshd], { handshakeTimeoutMs: 60_000 });
  const caller = new AbortController();
  let slowIsOver = false;
  const slow = errorOf(
    shell
      .run('127.0.0.2', ['true'], { ...notAborted(), signal: caller.signal })
      .finally(() => (slowIsOver = true)),
  );
  await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(() => shell.run(sshd.address, ['true'], notAborted())));
  t.false(slowIsOver);
  caller.abort();
  t.is((await slow).code, 'cancelled');
});

testWithSshd('long commands on one host do not delay another host', async (t) => {
  const servers = await ownSshds(t, ['127.0.0.1', '127.0.0.2']);
  const shell = await shellFor(t, servers);
  const folder = await testFolder(t);
  const caller = new AbortController();
  const options = { ...notAborted(), signal: caller.signal };
  const staying = Array.from({ length: 8 }, (_, n) =>
    errorOf(shell.run('127.0.0.1', stayingCommand(join(folder, String(n))), options)),
  );
  await pidIn(join(folder, '0'));
  t.is((await shell.run('127.0.0.2', ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  caller.abort();
  t.deepEqual(
    (await Promise.all(staying)).map(({ code }) => code),
    Array.from({ length: 8 }, () => 'cancelled'),
  );
});

testWithSshd('hosts that hang, however many, do not delay a healthy one', async (t) => {
  const sshd = await ownSshd(t);
  const waiting = 600;
  let hanging = 0;
  // As many hosts as a rack has, whose addresses are never found.
  const policy = {
    resolve: (host: string) => {
      if (host === sshd.address) return Promise.resolve([host]);
      hanging += 1;
      return new Promise<string[]>(() => undefined);
    },
  };
  const shell = await shellFor(t, [sshd], { policy });
  const caller = new AbortController();
  const options = { ...notAborted(), signal: caller.signal };
  const all = Array.from({ length: waiting }, (_, n) => errorOf(shell.run(`host${n}`, ['true'], options)));
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  t.is(hanging, waiting);
  caller.abort();
  t.true((await Promise.all(all)).every(({ code }) => code === 'cancelled'));
});

testWithSshd('only so many unused connections are kept, those that were used last', async (t) => {
  const servers = await ownSshds(t, [...MACHINES, '127.0.0.4']);
  const shell = await shellFor(t, servers, { maxIdle: 2 });
  const [first, second, third] = MACHINES;
  const isClosed = (index: number) =>
    eventually('its connection is closed', async () => (await servers[index]?.sessionPids())?.length === 0);
  for (const host of [first, second, first, third]) await shell.run(host, ['true'], notAborted());
  await isClosed(1);
  await shell.run('127.0.0.4', ['true'], notAborted());
  await isClosed(0);
  for (const host of ['127.0.0.4', third]) await shell.run(host, ['true'], notAborted());
  t.deepEqual(
    servers.map((server) => server.connections()),
    [1, 1, 1, 1],
  );
});

testWithSshd('a program that hangs leaves channels of its host to the other programs', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const caller = new AbortController();
  const hanging = Array.from({ length: 20 }, () =>
    errorOf(shell.run(sshd.address, ['sleep', '600'], { ...notAborted(), signal: caller.signal })),
  );
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  caller.abort();
  t.true((await Promise.all(hanging)).every(({ code }) => code === 'cancelled'));
});

testWithSshd('a command that waited for others until its time limit does not blame the host', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const folder = await testFolder(t);
  const staying = ['0', '1'].map((name) =>
    errorOf(shell.run(sshd.address, stayingCommand(join(folder, name)), notAborted())),
  );
  await Promise.all(['0', '1'].map((name) => pidIn(join(folder, name))));
  const limit = new AbortController();
  const waiting = errorOf(
    shell.run(sshd.address, ['sh', '-c', ':'], { ...notAborted(), signal: limit.signal }),
  );
  limit.abort(new ActionError('timeout', 'the host did not respond'));
  const { code, message, details } = await waiting;
  t.is(code, 'timeout');
  t.deepEqual(details, { host: sshd.address });
  t.is(
    message,
    `sh was not run on ${sshd.address} in time: earlier commands of other requests have not ended there; try again later`,
  );
  await shell.close();
  await Promise.all(staying);
});

testWithSshd('a caller that waits for a channel can leave without affecting the others', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const folder = await testFolder(t);
  const stay = new AbortController();
  const leave = new AbortController();
  const staying = [0, 1].map((n) =>
    errorOf(
      shell.run(sshd.address, stayingCommand(join(folder, String(n))), {
        ...notAborted(),
        signal: stay.signal,
      }),
    ),
  );
  await Promise.all([0, 1].map((n) => pidIn(join(folder, String(n)))));
  const leaving = errorOf(
    shell.run(sshd.address, ['sh', '-c', ':'], { ...notAborted(), signal: leave.signal }),
  );
  const waiting = shell.run(sshd.address, ['sh', '-c', 'echo hi'], notAborted());
  leave.abort();
  t.is((await leaving).code, 'cancelled');
  stay.abort();
  await Promise.all(staying);
  t.is((await waiting).stdout, 'hi\n');
});

testWithSshd('closing ends running commands, here and on the host, and leaves no connection', async (t) => {
  const sshd = await ownSshd(t);
  const shell = await shellFor(t, [sshd]);
  const pidFile = join(await testFolder(t), 'pid');
  const failed = errorOf(shell.run(sshd.address, stayingCommand(pidFile), notAborted()));
  const pid = await pidIn(pidFile);
  await shell.close();
  t.is((await failed).code, 'cancelled');
  await processEnd(pid);
  await noSessions(sshd);
  t.is((await errorOf(shell.run(sshd.address, ['true'], notAborted()))).code, 'cancelled');
});

test('of one host eight channels are used at a time, and who stops waiting for one leaves the others theirs', async (t) => {
  const connection = await logInTo(t, { onLogin: (context) => context.accept() });
  const connect = async () => connection;
  const sessions = new SshSessions({ connect, maxAgeMs: 1_000, maxIdle: 1, clock: new ManualClock() });
  const { signal } = new AbortController();
  const leases = await Promise.all(
    Array.from({ length: 8 }, (_, n) => sessions.lease('node1', `program${n % 4}`, signal)),
  );
  const leaving = new AbortController();
  const left = [1, 2].map(() => errorOf(sessions.lease('node1', 'other', leaving.signal)));
  leaving.abort(new ActionError('cancelled', 'the caller has left'));
  await Promise.all(left);
  let isLeased = false;
  const waiting = sessions.lease('node1', 'other', signal).finally(() => (isLeased = true));
  for (let n = 0; n < 5; n += 1) await new Promise(setImmediate);
  t.false(isLeased);
  leases[0]?.release();
  t.is((await waiting).connection, connection);
});

test('a connection that opens just when its last caller has left is closed', async (t) => {
  const connection = await logInTo(t, { onLogin: (context) => context.accept() });
  let open = (_connection: SshConnection) => {};
  const opening = new Promise<SshConnection>((resolve) => (open = resolve));
  const clock = new ManualClock();
  const sessions = new SshSessions({ connect: () => opening, maxAgeMs: 1_000, maxIdle: 1, clock });
  const caller = new AbortController();
  const left = errorOf(sessions.lease('node1', 'true', caller.signal));
  caller.abort(new ActionError('cancelled', 'the caller has left'));
  await left;
  open(connection);
  await connection.closed;
  t.false(connection.open);
});

test('closing cancels who waits for a connection', async (t) => {
  const never = new Promise<SshConnection>(() => {});
  const connect = async (_host: string, signal: AbortSignal) => untilAborted(never, signal);
  const sessions = new SshSessions({ connect, maxAgeMs: 1_000, maxIdle: 1, clock: new ManualClock() });
  const waiting = errorOf(sessions.lease('node1', 'true', new AbortController().signal));
  await sessions.close();
  t.is((await waiting).code, 'cancelled');
  const late = errorOf(sessions.lease('node1', 'true', new AbortController().signal));
  t.is((await late).code, 'cancelled');
});
