import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { SshShell } from '../../src/ssh/ssh-shell.js';
import { eventually } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { type Proxy, startProxy } from '../support/proxy.js';
import { type Sshd, testWithSshd } from '../support/sshd.js';
import { errorOf, notAborted, ownSshd, pidIn, shellFor, stayingCommand, testFolder } from './shell-for.js';

interface Host {
  sshd: Sshd;
  link: Proxy;
  shell: SshShell;
  clock: ManualClock;
}

/** A host behind a link that can fail. */
async function hostBehindLink(t: ExecutionContext, options: { keepaliveMs?: number } = {}): Promise<Host> {
  const sshd = await ownSshd(t);
  const link = await startProxy(t, sshd);
  const clock = new ManualClock();
  const knownHosts = `[${sshd.address}]:${link.port} ${sshd.hostKeys.ed25519}\n`;
  const shell = await shellFor(t, [sshd], { port: link.port, knownHosts, clock, ...options });
  return { sshd, link, shell, clock };
}

testWithSshd('an unused connection that broke without a sign is replaced after two seconds', async (t) => {
  const { sshd, link, shell, clock } = await hostBehindLink(t);
  await shell.run(sshd.address, ['true'], notAborted());
  clock.advance(5_000);
  link.swallow();
  const next = Promise.all([1, 2].map((n) => shell.run(sshd.address, ['echo', String(n)], notAborted())));
  // For each command the limit for opening a channel, for the first one the limit for an answer, and the connection's age.
  await eventually('the commands are sent', () => clock.pending === 4);
  clock.advance(2_000);
  t.deepEqual(
    (await next).map(({ stdout }) => stdout),
    ['1\n', '2\n'],
  );
  t.is(sshd.connections(), 2);
});

testWithSshd('an unused connection that works is used again, also when the command is silent', async (t) => {
  const { sshd, shell, clock } = await hostBehindLink(t);
  await shell.run(sshd.address, ['true'], notAborted());
  clock.advance(5_000);
  const pidFile = join(await testFolder(t), 'pid');
  const caller = new AbortController();
  const staying = errorOf(
    shell.run(sshd.address, stayingCommand(pidFile), { ...notAborted(), signal: caller.signal }),
  );
  await pidIn(pidFile);
  clock.advance(10_000);
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  t.is(sshd.connections(), 1);
  caller.abort();
  t.is((await staying).code, 'cancelled');
});

testWithSshd(
  'a host that falls silent during a command is lost, long before the limit of the command',
  async (t) => {
    const { sshd, link, shell, clock } = await hostBehindLink(t, { keepaliveMs: 100 });
    const pidFile = join(await testFolder(t), 'pid');
    const failed = errorOf(shell.run(sshd.address, stayingCommand(pidFile), notAborted()));
    await pidIn(pidFile);
    link.swallow();
    const error = await failed;
    t.is(error.code, 'host_unreachable');
    t.like(error.details, { reason: 'connection_lost' });
    t.is(clock.now(), new ManualClock().now());
  },
);

const change = () => ({ ...notAborted(), effect: 'change' as const });

testWithSshd('a change whose connection is lost has an unknown outcome', async (t) => {
  const { sshd, link, shell } = await hostBehindLink(t);
  const pidFile = join(await testFolder(t), 'pid');
  const failed = errorOf(shell.run(sshd.address, stayingCommand(pidFile), change()));
  await pidIn(pidFile);
  link.refuse();
  const error = await failed;
  t.is(error.code, 'outcome_unknown');
  t.deepEqual(error.details, { host: sshd.address });
  t.regex(
    error.message,
    /^it is unknown whether sh has run on 127\.0\.0\.1: the connection to 127\.0\.0\.1 was lost/,
  );
});

testWithSshd('a change that is stopped has an unknown outcome', async (t) => {
  const { sshd, shell, clock } = await hostBehindLink(t);
  const folder = await testFolder(t);
  const timedOut = errorOf(
    shell.run(sshd.address, stayingCommand(join(folder, 'one')), { ...change(), timeoutMs: 20_000 }),
  );
  await pidIn(join(folder, 'one'));
  const caller = new AbortController();
  const aborted = errorOf(
    shell.run(sshd.address, stayingCommand(join(folder, 'two')), { ...change(), signal: caller.signal }),
  );
  await pidIn(join(folder, 'two'));
  clock.advance(20_000);
  caller.abort();
  const tooMuch = errorOf(shell.run(sshd.address, ['yes'], { ...change(), maxOutputBytes: 1_000 }));
  for (const [failed, reason] of [
    // The host may not have told yet that it began.
    [timedOut, / 20 s$/],
    [aborted, /the work was cancelled$/],
    [tooMuch, /it wrote more than 1000 bytes$/],
  ] as const) {
    const error = await failed;
    t.is(error.code, 'outcome_unknown');
    t.regex(error.message, reason);
  }
});

testWithSshd('a change that ran to its end has a known outcome', async (t) => {
  const { sshd, shell } = await hostBehindLink(t);
  t.is((await shell.run(sshd.address, ['echo', 'done'], change())).stdout, 'done\n');
  const error = await errorOf(shell.run(sshd.address, ['sh', '-c', 'exit 3'], change()));
  t.is(error.code, 'command_failed');
  t.like(error.details, { begun: true, exitStatus: 3 });
});

testWithSshd('a change that has certainly not begun says so by the cause', async (t) => {
  const { sshd, link, shell } = await hostBehindLink(t);
  const canary = join(await testFolder(t), 'canary');
  const failed = (options: object = {}) =>
    errorOf(shell.run(sshd.address, ['touch', canary], { ...change(), ...options }));
  t.is((await failed({ signal: AbortSignal.abort() })).code, 'cancelled');
  link.refuse();
  t.is((await failed()).code, 'host_unreachable');
  link.accept();
  const refused = await shellFor(t, [sshd], { knownHosts: '' });
  t.is((await errorOf(refused.run(sshd.address, ['touch', canary], change()))).code, 'host_key_refused');
  await t.throwsAsync(stat(canary), { code: 'ENOENT' });
});
