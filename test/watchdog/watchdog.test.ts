import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Ended, startProgram } from '../commands/cli-process.js';
import { noteImpossible } from '../support/note-skipped.js';
import { folder } from '../support/settings.js';

const WATCHDOG = import.meta.resolve('../../src/watchdog/watchdog.js');

/** The command of a process that runs this code with a `watchdog`. */
async function command(
  t: ExecutionContext,
  code: string,
  { seconds = 1, format = 'json' }: { seconds?: number; format?: 'json' | 'text' } = {},
): Promise<[string, ...string[]]> {
  const file = join(await folder(t), 'main.mjs');
  await writeFile(
    file,
    `import { startWatchdog } from ${JSON.stringify(WATCHDOG)};
const watchdog = startWatchdog({ seconds: ${seconds}, format: '${format}' });
${code}`,
  );
  return [process.execPath, file];
}

async function run(t: ExecutionContext, ...source: [string, object?]): Promise<Ended> {
  return startProgram(t, await command(t, ...source), { env: {}, directory: await folder(t) }).ended;
}

test('a process that blocks is killed, and its last line names what ran and where', async (t) => {
  const code = `const spin = watchdog.action('spin');
const idle = watchdog.action('idle');
idle.began();
idle.ended();
spin.began();
setTimeout(function turn() {
  spin.began();
  for (;;);
}, 100);`;
  // On a very busy machine the place is not found in time.
  let found: Record<string, unknown>;
  do {
    const { signal, stderr } = await run(t, code);
    t.is(signal, 'SIGKILL');
    found = JSON.parse(stderr);
  } while (found.where === undefined);
  const { time, where, ...line } = found;
  t.deepEqual(line, { level: 'error', message: 'event loop blocked', seconds: 1, actions: { spin: 2 } });
  t.false(Number.isNaN(Date.parse(String(time))));
  t.regex(JSON.stringify(where), /^\["turn \(\/.*\/main\.mjs:10\)/);
});

test('the load of a package may take longer than the limit, what blocks after it may not', async (t) => {
  const whenUsed = import.meta.resolve('../../src/lib/when-used.js');
  const code = `import Module from 'node:module';
import { whenUsed } from '${whenUsed}';
const load = Module._extensions['.js'];
Module._extensions['.js'] = (...file) => {
  Module._extensions['.js'] = load;
  for (const end = Date.now() + 3_000; Date.now() < end; );
  load(...file);
};
whenUsed('ssh2')();
process.stdout.write('loaded');
for (;;);`;
  const { signal, stdout, stderr } = await run(t, code);
  t.is(stdout, 'loaded');
  t.is(signal, 'SIGKILL');
  t.is(JSON.parse(stderr).message, 'event loop blocked');
});

test('the line is text where the log is', async (t) => {
  const code = `watchdog.loading('/plugins/slow').began(); for (;;);`;
  const { signal, stderr } = await run(t, code, { format: 'text' });
  t.is(signal, 'SIGKILL');
  t.regex(stderr, /^\d\d:\d\d:\d\d\.\d{3} error event loop blocked seconds=1 loading=\/plugins\/slow where=/);
});

test('a process that blocks in a system call is killed', async (t) => {
  const code = `import { execFileSync } from 'node:child_process';
watchdog.action('wait').began();
execFileSync('sleep', ['600'], { timeout: 60_000 });`;
  const { signal, stderr } = await run(t, code);
  t.is(signal, 'SIGKILL');
  t.like(JSON.parse(stderr), { message: 'event loop blocked', actions: { wait: 1 } });
});

for (const [which, prepare] of [
  ['is full', ''],
  // A child process that inherits the pipe makes it block.
  ['is full and blocks', `execFileSync('true', [], { stdio: 'inherit' });`],
  ['is closed', 'closeSync(2);'],
] as const)
  test(`a standard error that ${which} does not prevent the kill`, async (t) => {
    const [program, ...args] = await command(
      t,
      `import { execFileSync } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
void process.stderr;
${prepare}
for (;;) try { writeSync(2, 'x'.repeat(1_000)); } catch {}`,
    );
    // Nothing reads it.
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    t.teardown(() => child.kill('SIGKILL'));
    const [, signal] = await once(child, 'exit');
    t.is(signal, 'SIGKILL');
  });

test('a blocked process that has the PID 1, as in a container, ends too', async (t) => {
  const apart = ['unshare', '--pid', '--fork', '--kill-child'] as const;
  try {
    execFileSync(apart[0], [...apart.slice(1), 'true'], { stdio: 'ignore' });
  } catch {
    t.pass();
    return noteImpossible('a blocked process that has the PID 1', 'this user may not create a PID namespace');
  }
  const program = await command(t, 'if (process.pid === 1) for (;;);');
  const { code, signal, stderr } = await startProgram(t, [...apart, ...program], {
    env: {},
    directory: await folder(t),
  }).ended;
  t.regex(stderr, /"event loop blocked"/);
  t.true(signal === 'SIGTRAP' || code === 133, `${code} ${signal}`);
});

test('a process that does not block is not killed, and the watchdog does not keep it alive', async (t) => {
  const code = `setTimeout(() => watchdog.exitExpected(), 12_000);`;
  const { signal, stderr, code: exitCode } = await run(t, code, { seconds: 10 });
  t.deepEqual([exitCode, signal, stderr], [0, null, '']);
});

test('a process that has stopped its watchdog may block', async (t) => {
  const code = `watchdog.stop();
const end = Date.now() + 4_000;
while (Date.now() < end);`;
  const { signal, stderr, code: exitCode } = await run(t, code);
  t.deepEqual([exitCode, signal, stderr], [0, null, '']);
});

test('0 seconds: a process may block, and its exit is still reported', async (t) => {
  const code = `const end = Date.now() + 2_000;
while (Date.now() < end);
process.exit(3);`;
  const { code: exitCode, stderr } = await run(t, code, { seconds: 0 });
  t.is(exitCode, 3);
  t.like(JSON.parse(stderr), { message: 'process ended unexpectedly', code: 3 });
});

test('an exit that is not expected is reported with what ran and where, and fails', async (t) => {
  const code = `watchdog.action('leave').began();
watchdog.loading('/plugins/leaves').began();
function leave() {
  process.exit(0);
}
leave();`;
  const { code: exitCode, stderr } = await run(t, code, { seconds: 60 });
  t.is(exitCode, 1);
  const { where, ...line } = JSON.parse(stderr);
  t.like(line, {
    level: 'error',
    message: 'process ended unexpectedly',
    code: 0,
    actions: { leave: 1 },
    loading: '/plugins/leaves',
  });
  t.regex(where[0], /^leave \(\/.*\/main\.mjs:6\)$/);
});

test('an exit that is expected is not reported', async (t) => {
  const { code, stderr } = await run(t, 'watchdog.exitExpected(); process.exit(4);', { seconds: 60 });
  t.deepEqual([code, stderr], [4, '']);
});
