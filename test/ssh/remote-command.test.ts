import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { ActionError } from '../../src/api/action-error.js';
import { remoteCommand } from '../../src/ssh/remote-command.js';
import { pidIn, processEnd, stayingCommand, testFolder } from './shell-for.js';

type Argv = [string, ...string[]];

/** Runs the command as sshd does: in the user's shell, as one line of text; stdin stays open. */
function start(shell: string, argv: Argv, limitSeconds = 60): ChildProcess {
  // The inner shell is also the one under test.
  const command = remoteCommand(argv, { limitSeconds, sudo: false }).replace("'sh'", `'${shell}'`);
  return spawn(shell, ['-c', command], { stdio: ['pipe', 'pipe', 'pipe'] });
}

async function ended(child: ChildProcess) {
  const text = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk));
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk));
  const status = await new Promise((resolve) => child.once('close', resolve));
  return { ...text, status };
}

for (const shell of ['dash', 'bash'].filter((name) => spawnSync(name, ['-c', 'true']).status === 0)) {
  test(`${shell}: output and exit status are the command's own`, async (t) => {
    const child = start(shell, ['sh', '-c', 'echo "$1"; echo err >&2; exit 7', 'sh', "it's $HOME"]);
    t.deepEqual(await ended(child), { stdout: "it's $HOME\n", stderr: 'err\n', status: 7 });
  });

  test(`${shell}: a command that a signal ended has status 128 + N, and nothing is printed about it`, async (t) => {
    // Repeatedly: the test is whether it has ended before the shell reaches its next line.
    for (let n = 0; n < 40; n += 1) {
      const end = await ended(start(shell, ['sh', '-c', 'kill -9 $$']));
      t.deepEqual(end, { stdout: '', stderr: '', status: 137 });
    }
  });

  test(`${shell}: a missing program has status 127, and stderr says so`, async (t) => {
    const { status, stderr } = await ended(start(shell, ['no-such-program']));
    t.is(status, 127);
    t.regex(stderr, /no-such-program/);
  });

  test(`${shell}: the command reads an empty stdin`, async (t) => {
    t.deepEqual(await ended(start(shell, ['cat'])), { stdout: '', stderr: '', status: 0 });
  });

  test(`${shell}: closing stdin ends the command`, async (t) => {
    const pidFile = join(await testFolder(t), 'pid');
    const child = start(shell, stayingCommand(pidFile));
    const pid = await pidIn(pidFile);
    child.stdin?.end();
    t.is((await ended(child)).status, 143);
    await processEnd(pid);
  });

  test(`${shell}: closing stdin immediately ends the command too`, async (t) => {
    const child = start(shell, ['sleep', '600']);
    child.stdin?.end();
    t.is((await ended(child)).status, 143);
  });

  test(`${shell}: a command that ignores TERM is killed`, async (t) => {
    const pidFile = join(await testFolder(t), 'pid');
    const script = 'trap "" TERM; echo $$ > "$0"; while :; do sleep 0.1; done';
    const child = start(shell, ['sh', '-c', script, pidFile]);
    const pid = await pidIn(pidFile);
    child.stdin?.end();
    t.is((await ended(child)).status, 137);
    await processEnd(pid);
  });

  test(`${shell}: background processes of the command end with it`, async (t) => {
    const pidFile = join(await testFolder(t), 'pid');
    const script = '(trap "" TERM; exec sleep 600) & echo $! > "$0"; echo done';
    const child = start(shell, ['sh', '-c', script, pidFile]);
    t.deepEqual(await ended(child), { stdout: 'done\n', stderr: '', status: 0 });
    await processEnd(await pidIn(pidFile));
  });

  test(`${shell}: the host ends the command when its limit is over`, async (t) => {
    t.is((await ended(start(shell, ['sleep', '600'], 1))).status, 124);
  });
}

test('arguments that are too long for one command line are refused', (t) => {
  const options = { limitSeconds: 1, sudo: false };
  const error = t.throws(() => remoteCommand(['echo', 'x'.repeat(130_000)], options), {
    instanceOf: ActionError,
  });
  t.is(error?.code, 'invalid_parameters');
});
