import { existsSync } from 'node:fs';
import { chmod, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { SshShell } from '../../src/ssh/ssh-shell.js';
import { ManualClock } from '../support/manual-clock.js';
import { eventually } from '../support/eventually.js';
import { type Sshd, type SshdOptions, testWithSshd } from '../support/sshd.js';
import { errorOf, notAborted, ownSshd, shellFor, testFolder } from './shell-for.js';

// The login shell of these tests is that of the user who runs them; bash reads ~/.bashrc when sshd starts it.

interface Host {
  sshd: Sshd;
  shell: SshShell;
  folder: string;
}

/** A host whose ~/.bashrc has this text. */
async function hostWith(
  t: ExecutionContext,
  bashrc: string,
  { clock, ...options }: SshdOptions & { clock?: ManualClock } = {},
): Promise<Host> {
  const folder = await testFolder(t);
  await writeFile(join(folder, '.bashrc'), bashrc);
  const environment = { HOME: folder, PATH: `${folder}:/usr/bin:/bin`, ...options.environment };
  const sshd = await ownSshd(t, { ...options, environment });
  return { sshd, shell: await shellFor(t, [sshd], { clock }), folder };
}

const GREETING = 'echo "Welcome, $(whoami)"; printf "no newline" >&2; printf "\\377\\0\\033[31m"';

testWithSshd('what the login shell prints before a command is no output of it', async (t) => {
  const { sshd, shell } = await hostWith(t, GREETING);
  const script = 'echo out; echo err >&2';
  t.deepEqual(await shell.run(sshd.address, ['sh', '-c', script], notAborted()), {
    stdout: 'out\n',
    stderr: 'err\n',
    truncated: false,
  });
  t.deepEqual(await shell.run(sshd.address, ['true'], notAborted()), {
    stdout: '',
    stderr: '',
    truncated: false,
  });
  const error = await errorOf(shell.run(sshd.address, ['sh', '-c', 'echo bad >&2; exit 4'], notAborted()));
  t.like(error.details, { begun: true, exitStatus: 4, stderr: 'bad\n' });
});

testWithSshd('a login shell that sends stderr to stdout loses no output', async (t) => {
  const { sshd, shell } = await hostWith(t, 'exec 2>&1');
  const script = 'echo out; echo err >&2';
  t.deepEqual(await shell.run(sshd.address, ['sh', '-c', script], notAborted()), {
    stdout: 'out\nerr\n',
    stderr: '',
    truncated: false,
  });
  const error = await errorOf(shell.run(sshd.address, ['sh', '-c', 'exit 4'], notAborted()));
  t.like(error.details, { begun: true, exitStatus: 4 });
});

testWithSshd('a shell that prints the script instead of running it has not begun the command', async (t) => {
  const { sshd, shell, folder } = await hostWith(t, '');
  await writeFile(join(folder, 'sh'), '#!/bin/bash\necho "$*: cannot fork" >&2\nexit 2\n', { mode: 0o755 });
  const error = await errorOf(shell.run(sshd.address, ['echo', 'hi'], notAborted()));
  t.is(error.code, 'command_failed');
  t.regex(error.message, / did not run echo, or hid its output; it ended with exit status 2: /);
  t.like(error.details, { begun: false, exitStatus: 2 });
});

testWithSshd('a greeting does not count as output, where output has a limit', async (t) => {
  const { sshd, shell } = await hostWith(t, 'head -c 100000 /dev/zero');
  const options = { ...notAborted(), maxOutputBytes: 5 };
  t.like(await shell.run(sshd.address, ['printf', '12345'], options), { stdout: '12345', truncated: false });
  t.like(await shell.run(sshd.address, ['printf', '123456'], options), { stdout: '12345', truncated: true });
});

testWithSshd('a login shell that ends before the command is a failure that says so', async (t) => {
  const { sshd, shell } = await hostWith(t, 'echo "Account closed" >&2; exit 0');
  const error = await errorOf(shell.run(sshd.address, ['echo', 'hi'], notAborted()));
  t.is(error.code, 'command_failed');
  t.is(
    error.message,
    `the login shell of ${sshd.user} on ${sshd.address} did not run echo, or hid its output; it ended with exit status 0: Account closed`,
  );
  t.like(error.details, { begun: false, exitStatus: 0, stderr: 'Account closed\n' });
});

testWithSshd('whether a change was made is unknown when nothing shows that it was run', async (t) => {
  const endings: [string, boolean][] = [
    ['exec >/dev/null 2>&1', true],
    ['exec >/dev/null 2>&1; trap "exit 3" EXIT', true],
    ['echo "Account closed" >&2; exit 1', false],
  ];
  for (const [bashrc, runs] of endings) {
    const { sshd, shell, folder } = await hostWith(t, bashrc);
    const file = join(folder, 'made');
    const change = { ...notAborted(), effect: 'change' as const };
    const error = await errorOf(shell.run(sshd.address, ['touch', file], change));
    t.is(error.code, 'outcome_unknown', bashrc);
    t.regex(error.message, /it is unknown whether touch has run .* or hid its output; it ended with exit/);
    t.is(existsSync(file), runs, bashrc);
  }
});

testWithSshd(
  'a host without env or timeout has not begun the command, and says which one is missing',
  async (t) => {
    for (const missing of ['env', 'timeout']) {
      const { sshd, shell, folder } = await hostWith(t, 'PATH="$HOME"');
      for (const tool of ['sh', 'env', 'timeout'])
        if (tool !== missing) await symlink(`/usr/bin/${tool}`, join(folder, tool));
      const error = await errorOf(shell.run(sshd.address, ['/bin/echo', 'hi'], notAborted()));
      t.is(error.code, 'command_failed');
      t.true(error.message.endsWith(`: ${missing} is not installed`), error.message);
      t.like(error.details, { begun: false });
    }
  },
);

testWithSshd('a login shell that prints without end does not cost the time of the command', async (t) => {
  const { sshd, shell } = await hostWith(t, 'yes welcome');
  const error = await errorOf(shell.run(sshd.address, ['echo', 'hi'], notAborted()));
  t.is(error.code, 'command_failed');
  t.regex(error.message, /did not run echo, or hid its output: welcome$/);
  t.like(error.details, { begun: false, exitStatus: null });
  // It may end to print, and begin the command.
  const change = { ...notAborted(), effect: 'change' as const };
  t.is((await errorOf(shell.run(sshd.address, ['echo', 'hi'], change))).code, 'outcome_unknown');
});

testWithSshd('a login shell that waits for input is named by the timeout', async (t) => {
  const clock = new ManualClock();
  const { sshd, shell } = await hostWith(t, 'read -r answer', { clock });
  const failed = errorOf(shell.run(sshd.address, ['echo', 'hi'], { ...notAborted(), timeoutMs: 5_000 }));
  await eventually('a shell runs', async () => (await sshd.sessionPids()).length > 0);
  // The time limit begins when the command was sent.
  await eventually('it is timed out', () => {
    clock.advance(1_000);
    return Promise.race([
      failed.then(() => true),
      new Promise<false>((resolve) => setTimeout(resolve, 5, false)),
    ]);
  });
  const error = await failed;
  t.is(error.code, 'timeout');
  t.is(
    error.message,
    `the login shell of ${sshd.user} on ${sshd.address} did not run echo within 5 s, or hid its output`,
  );
});

testWithSshd("a forced command's own output and exit status are not those of the command", async (t) => {
  const forced = 'sh -c "$SSH_ORIGINAL_COMMAND"; echo logged; echo logged >&2; exit 0';
  const { sshd, shell } = await hostWith(t, '', { config: [`ForceCommand ${forced}`] });
  t.is((await shell.run(sshd.address, ['echo', 'hi'], notAborted())).stdout, 'hi\n');
  const error = await errorOf(shell.run(sshd.address, ['sh', '-c', 'exit 9'], notAborted()));
  t.like(error.details, { exitStatus: 9 });
});

testWithSshd('a forced command that ignores the command is a failure', async (t) => {
  const { sshd, shell } = await hostWith(t, '', { config: ['ForceCommand echo backup only'] });
  const error = await errorOf(shell.run(sshd.address, ['echo', 'hi'], notAborted()));
  t.is(error.code, 'command_failed');
  t.regex(error.message, /did not run echo, .*; it ended with exit status 0: backup only$/);
});

testWithSshd('sudo that asks for a password is a failure with its reason', async (t) => {
  const { sshd, shell, folder } = await hostWith(t, '');
  await writeFile(join(folder, 'sudo'), '#!/bin/sh\necho "sudo: a password is required" >&2\nexit 1\n');
  await chmod(join(folder, 'sudo'), 0o755);
  const error = await errorOf(shell.run(sshd.address, ['echo', 'hi'], { ...notAborted(), sudo: true }));
  t.is(error.code, 'command_failed');
  t.regex(error.message, /sudo: a password is required$/);
  t.like(error.details, { begun: false, exitStatus: 1 });
});

testWithSshd(
  'a program that fails is reported with the end of its stderr, harmless on a terminal',
  async (t) => {
    const { sshd, shell } = await hostWith(t, GREETING);
    const script =
      'printf "first\\nlast \\033]0;x\\007\\033[2J\\302\\233 \\342\\200\\256end\\r\\n" >&2; exit 3';
    const error = await errorOf(shell.run(sshd.address, ['sh', '-c', script], notAborted()));
    t.is(
      error.message,
      `sh on ${sshd.address} failed with exit status 3: last \u{fffd}]0;x\u{fffd}\u{fffd}[2J\u{fffd} \u{fffd}end`,
    );
    t.notRegex(JSON.stringify(error.details), /\\u001b|\\u0007|[\u0080-\u009f\u202e]/);
    const long = await errorOf(
      shell.run(sshd.address, ['sh', '-c', 'head -c 9000 /dev/zero | tr "\\0" x >&2; exit 1'], notAborted()),
    );
    t.true(long.message.length < 500);
  },
);

testWithSshd('the output of a program that fails can be used', async (t) => {
  const { sshd, shell } = await hostWith(t, GREETING);
  const options = { ...notAborted(), anyExitStatus: true };
  const output = await shell.run(sshd.address, ['sh', '-c', 'echo some; echo why >&2; exit 1'], options);
  t.like(output, { stdout: 'some\n', stderr: 'why\n', truncated: false });
  t.is(output.failure?.message, `sh on ${sshd.address} failed with exit status 1: why`);
  t.like(output.failure?.details, { exitStatus: 1 });
  t.is((await shell.run(sshd.address, ['true'], options)).failure, undefined);
});

testWithSshd('whatever the login sets, a command has the same environment', async (t) => {
  const set = {
    TZ: 'Asia/Tokyo',
    LANG: 'de_DE.UTF-8',
    LC_TIME: 'de_DE.UTF-8',
    SYSTEMD_COLORS: '1',
    SYSTEMD_LOG_LEVEL: 'debug',
    PAGER: 'cat',
    BLOCK_SIZE: '1',
    POSIXLY_CORRECT: '1',
    DOCKER_HOST: 'tcp://10.9.9.9:2375',
  };
  const environment = { USER: 'me', LOGNAME: 'me', ...set };
  const bashrc = Object.entries(set).map(([name, value]) => `export ${name}=${value}\n`);
  const { sshd, shell, folder } = await hostWith(t, bashrc.join(''), { environment });
  const { stdout } = await shell.run(sshd.address, ['env'], notAborted());
  t.deepEqual(stdout.trim().split('\n').toSorted(), [
    `HOME=${folder}`,
    'LC_ALL=C',
    'LOGNAME=me',
    `PATH=${folder}:/usr/bin:/bin`,
    'TZ=UTC',
    'USER=me',
  ]);
});
