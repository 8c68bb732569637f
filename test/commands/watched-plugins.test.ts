import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { folder } from '../support/settings.js';
import { writePlugin } from '../support/write-plugin.js';
import { type RunningCli, startCli } from './cli-process.js';

async function start(t: ExecutionContext, command: string, env: Record<string, string>): Promise<RunningCli> {
  return startCli(t, [command], { env: { HTTP_PORT: '0', LOG_FORMAT: 'json', ...env } });
}

interface Serving {
  cli: RunningCli;
  url: string;
  /** Calls the action. @returns the HTTP status; undefined when the service ends before it answers */
  call: (timeoutMs?: number) => Promise<number | undefined>;
}

/** Starts a sandbox with a read. Its source may use `writeSync`, `existsSync` and `sleep`. */
async function serveAction(
  t: ExecutionContext,
  name: string,
  {
    handle,
    check = '',
    dispose = '() => {}',
  }: { handle: string /** Of its parameters. */; check?: string; dispose?: string },
  seconds = '5',
): Promise<Serving> {
  const PLUGIN_PATHS = await writePlugin(
    t,
    name,
    `import { existsSync, writeSync } from 'node:fs';
     import { setTimeout as sleep } from 'node:timers/promises';
     import { defineAction } from 'fleet-manager/plugin';
     import { object, string } from 'yup';
     export default defineAction({
       name: '${name}', summary: 'Is flawed.', target: 'none', effect: 'read',
       parameters: object({ text: string().default('x')${check}.meta({ description: 'Anything.', format: 'y' }) }),
       result: string().defined().meta({ description: 'Nothing.' }),
       handle: ${handle},
       dispose: ${dispose},
     });`,
  );
  const cli = await start(t, 'serve', { PLUGIN_PATHS, WATCHDOG_SECONDS: seconds });
  const [, url = ''] = await cli.printed(/"http":"([^"]+)"/);
  await cli.printed(/accepting requests/);
  const call = async (timeoutMs = 60_000) => {
    const headers = { 'content-type': 'application/json', 'timeout-ms': String(timeoutMs) };
    const body = JSON.stringify({ action_parameters: { text: 'y' } });
    return fetch(`${url}/v1/actions/${name}`, { method: 'POST', headers, body }).then(
      ({ status }) => status,
      () => undefined,
    );
  };
  return { cli, url, call };
}

/** The last line with this message. */
function lineOf(stderr: string, message: string): Record<string, unknown> {
  const line = stderr.split('\n').findLast((each) => each.includes(`"${message}"`));
  return JSON.parse(line ?? '{}');
}

/** The field `loading` of a line, in JSON or as text. */
function loadingOf(path: string): RegExp {
  return new RegExp(`"loading":"${path}"| loading=${path}( |$)`, 'm');
}

const COMMANDS = ['serve', 'doctor', 'actions'] as const;

for (const command of COMMANDS)
  test(`${command} names a plugin that loops while it is loaded, and ends`, async (t) => {
    const source = `import { writeSync } from 'node:fs'; writeSync(1, 'looping'); for (;;);`;
    const PLUGIN_PATHS = await writePlugin(t, 'looping', source);
    const cli = await start(t, command, { PLUGIN_PATHS, WATCHDOG_SECONDS: '5' });
    await cli.printed(/looping/);
    // The others do not listen to it.
    if (command === 'serve') cli.kill('SIGTERM');
    const { signal, stderr } = await cli.ended;
    t.is(signal, 'SIGKILL');
    t.regex(stderr, /event loop blocked/);
    t.regex(stderr, loadingOf(`${PLUGIN_PATHS}/looping`));
  });

for (const command of COMMANDS)
  test(`${command} names a plugin that exits while it is loaded, and fails`, async (t) => {
    const PLUGIN_PATHS = await writePlugin(t, 'leaving', 'process.exit(0);');
    const { code, stderr } = await (await start(t, command, { PLUGIN_PATHS })).ended;
    t.is(code, 1);
    t.regex(stderr, /process ended unexpectedly/);
    t.regex(stderr, loadingOf(`${PLUGIN_PATHS}/leaving`));
  });

for (const command of COMMANDS)
  test(`${command} names a plugin with an error in a later turn of its loading, and fails`, async (t) => {
    const source = `setTimeout(() => { throw new Error('late'); }, 1); await new Promise((done) => setTimeout(done, 50));`;
    const PLUGIN_PATHS = await writePlugin(t, 'failing', source);
    const { code, stderr } = await (await start(t, command, { PLUGIN_PATHS })).ended;
    t.is(code, 1);
    t.regex(stderr, /late/);
    t.true(stderr.includes(`${PLUGIN_PATHS}/failing`), stderr);
  });

for (const command of COMMANDS)
  test(`SIGTERM ends ${command} at once while a plugin does not finish loading`, async (t) => {
    const source = `console.error('loading begins'); await new Promise(() => {});`;
    const PLUGIN_PATHS = await writePlugin(t, 'hanging', source);
    const cli = await start(t, command, { PLUGIN_PATHS });
    await cli.printed(/loading begins/);
    cli.kill('SIGTERM');
    const { code, signal, stderr } = await cli.ended;
    t.deepEqual([code, signal], command === 'serve' ? [143, null] : [null, 'SIGTERM']);
    t.notRegex(stderr, /process ended unexpectedly|did not finish/);
  });

test('a service blocked by an action is killed, SIGTERM or not, and its last line names the action', async (t) => {
  const handle = `async () => { writeSync(1, 'spinning'); for (;;); }`;
  const { cli, url, call } = await serveAction(t, 'spin', { handle });
  const status = call();
  await cli.printed(/spinning/);
  cli.kill('SIGTERM');
  await t.throwsAsync(fetch(`${url}/livez`));
  const { signal, stderr } = await cli.ended;
  t.is(signal, 'SIGKILL');
  t.is(await status, undefined);
  const line = lineOf(stderr, 'event loop blocked');
  t.like(line, { level: 'error', seconds: 5, actions: { spin: 1 } });
});

test('an action whose request has timed out is named while its handler still runs', async (t) => {
  const gate = join(await folder(t), 'gate');
  const handle = `async () => { while (!existsSync('${gate}')) await sleep(5); for (;;); }`;
  const { cli, call } = await serveAction(t, 'linger', { handle });
  t.is(await call(200), 504);
  await writeFile(gate, '');
  const { signal, stderr } = await cli.ended;
  t.is(signal, 'SIGKILL');
  t.like(lineOf(stderr, 'event loop blocked'), { actions: { linger: 1 } });
});

test('a service blocked by the check of an action’s parameters is killed, and the action named', async (t) => {
  const check = `.test('y', 'no', (text) => { while (text === 'y'); return true; })`;
  const { cli, call } = await serveAction(t, 'check', { handle: `async () => 'x'`, check });
  await call();
  const { signal, stderr } = await cli.ended;
  t.is(signal, 'SIGKILL');
  t.like(lineOf(stderr, 'event loop blocked'), { actions: { check: 1 } });
});

test('a service blocked by the clean-up of an action is killed, and the action named', async (t) => {
  const { cli } = await serveAction(t, 'tidy', {
    handle: `async () => 'x'`,
    dispose: '() => { for (;;); }',
  });
  cli.kill('SIGTERM');
  const { signal, stderr } = await cli.ended;
  t.is(signal, 'SIGKILL');
  t.like(lineOf(stderr, 'event loop blocked'), { actions: { tidy: 1 } });
});

test('an action that ends the process is named, and a supervisor sees a failure', async (t) => {
  const { cli, call } = await serveAction(t, 'leave', { handle: 'async () => process.exit(0)' }, '30');
  await call();
  const { code, stderr } = await cli.ended;
  t.is(code, 1);
  t.like(lineOf(stderr, 'process ended unexpectedly'), { level: 'error', code: 0, actions: { leave: 1 } });
});

test('the end of a service is not reported as unexpected', async (t) => {
  const { cli } = await serveAction(t, 'idle', { handle: `async () => 'x'` }, '30');
  cli.kill('SIGTERM');
  const { code, stderr } = await cli.ended;
  t.is(code, 0);
  t.notRegex(stderr, /process ended unexpectedly/);
});
