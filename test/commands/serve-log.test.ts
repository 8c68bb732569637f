import { execFile } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { eventually } from '../support/eventually.js';
import { type CliOptions, type RunningCli, startCli, startProgram } from './cli-process.js';
import { inRepository } from '../support/repository.js';

const run = promisify(execFile);

/** Logs numbered lines of 1 KB. Before, a child process makes the pipe of the log block, as one that inherits it does. */
const CHATTY = `
  import { spawnSync } from 'node:child_process';
  import { number, object, string } from 'yup';
  import { defineAction } from 'fleet-manager/plugin';
  export default defineAction({
    name: 'a_chatty', summary: 'Logs a lot.', target: 'none', effect: 'read',
    parameters: object({ lines: number().required().meta({ description: 'How many.' }) }),
    result: string().required(),
    async handle({ parameters, log }) {
      spawnSync('true', { stdio: 'inherit' });
      for (let n = 0; n < parameters.lines; n++) {
        log.info('numbered', { n, text: 'x'.repeat(1_000) });
        if (n % 100 === 0) await new Promise(setImmediate);
      }
      return 'done';
    },
  });`;

interface Served {
  cli: RunningCli;
  url: string;
  folder: string;
}

async function emptyFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'serve-log-'));
  t.teardown(() => rm(folder, { recursive: true }));
  return folder;
}

/** Starts a sandbox whose standard error goes where the shell code says; resolves when it is ready. */
async function serve(
  t: ExecutionContext,
  folder: string,
  { shell, env = {} }: Pick<CliOptions, 'shell' | 'env'>,
): Promise<Served> {
  const plugins = join(folder, 'plugins');
  await mkdir(join(plugins, 'chatty'), { recursive: true });
  await writeFile(join(plugins, 'chatty/index.js'), CHATTY);
  const { stdout } = await run(inRepository('scripts/free-port'));
  const HTTP_PORT = stdout.trim();
  const cli = await startCli(t, ['serve'], {
    env: { HTTP_PORT, LOG_FORMAT: 'json', PLUGIN_PATHS: plugins, LOG: join(folder, 'log'), ...env },
    shell,
  });
  const url = `http://127.0.0.1:${HTTP_PORT}`;
  await eventually('it is ready', async () => (await fetch(`${url}/readyz`).catch(() => undefined))?.ok);
  return { cli, url, folder };
}

async function chat(t: ExecutionContext, { url }: Served, lines: number): Promise<void> {
  const { status } = await fetch(`${url}/v1/actions/a_chatty`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ action_parameters: { lines } }),
  });
  t.is(status, 200);
}

type Line = Record<string, unknown>;

/** How many lines each line about dropped ones tells. */
const droppedIn = (lines: readonly Line[]) =>
  lines.filter(({ message }) => message === 'log lines dropped').map((line) => Number(line.lines));
const numberedIn = (lines: readonly Line[]) => lines.filter(({ message }) => message === 'numbered');

test('while the disk of the log is full the service goes on, and says later how many lines were dropped', async (t) => {
  const folder = await emptyFolder(t);
  const log = join(folder, 'log');
  // The log has room for a few lines more.
  const limit = 2 * 1024 * 1024;
  await writeFile(log, `${' '.repeat(limit - 5_001)}\n`);
  const shell = `ulimit -f ${limit / 512}; exec "$@" 2>>"$LOG"`;
  const served = await serve(t, folder, { shell });
  await chat(t, served, 50);
  t.is((await fetch(`${served.url}/livez`)).status, 200);
  const before = (await readFile(log, 'utf8')).trimStart();
  t.notRegex(before, /\n$/, 'the last line is cut');
  t.notThrows(() => linesOf(before.slice(0, before.lastIndexOf('\n'))));

  await truncate(log);
  await chat(t, served, 10);
  const after = await eventually('it says so', async () => {
    const text = await readFile(log, 'utf8');
    return text.includes('log lines dropped') ? text : undefined;
  });
  // The cut line is ended first.
  t.is(after[0], '\n');
  const lines = linesOf(after.trimStart());
  t.is(numberedIn(lines).length, 10);
  const written = numberedIn(linesOf(before.slice(0, before.lastIndexOf('\n')))).length;
  const [dropped = 0, ...more] = droppedIn(lines);
  t.deepEqual(more, []);
  // And the line of the request.
  t.true(dropped >= 50 - written + 1 && dropped < 60, `${dropped} of ${50 - written}`);

  served.cli.kill('SIGTERM');
  t.is((await served.cli.ended).code, 0);
  t.regex(await readFile(log, 'utf8'), /"shut down".*\n$/);
});

test('a device that takes no byte of the log costs only the log', async (t) => {
  const served = await serve(t, await emptyFolder(t), { shell: 'exec "$@" 2>/dev/full' });
  await chat(t, served, 50);
  served.cli.kill('SIGTERM');
  t.is((await served.cli.ended).code, 0);
});

/** A pipe for the log that nothing reads until `read` is called. */
async function unreadLog(t: ExecutionContext): Promise<{ folder: string; read: () => Line[] }> {
  const folder = await emptyFolder(t);
  await run('mkfifo', [join(folder, 'log')]);
  // Read and write: opening it to read only would wait for the writer.
  const descriptor = openSync(join(folder, 'log'), constants.O_RDWR | constants.O_NONBLOCK);
  let pipe: Socket | undefined;
  t.teardown(() => (pipe === undefined ? closeSync(descriptor) : pipe.destroy()));
  const read = () => {
    const lines: Line[] = [];
    // Only now: it reads the first bytes although nobody listens.
    pipe = new Socket({ fd: descriptor, readable: true, writable: false });
    createInterface(pipe).on('line', (line) => lines.push(JSON.parse(line)));
    return lines;
  };
  return { folder, read };
}

const TO_PIPE = 'exec "$@" 2>"$LOG"';

test('lines for which there is no room, because nothing reads the log, are dropped and counted', async (t) => {
  const { folder, read } = await unreadLog(t);
  const served = await serve(t, folder, { shell: TO_PIPE });
  await chat(t, served, 10_000);
  const lines = read();
  await eventually('it says what is missing', () => droppedIn(lines).length > 0);
  const [dropped = 0] = droppedIn(lines);
  t.true(dropped > 5_000, `only ${dropped} of 10,000 lines of 1 KB were dropped`);
  await chat(t, served, 10);
  await eventually('all is read', () => numberedIn(lines).at(-1)?.n === 9);
  // The line of the request was dropped too.
  t.is(numberedIn(lines).length, 10_010 - dropped + 1);
  t.is(droppedIn(lines).length, 1);
});

test('SIGTERM ends a service whose log nothing reads', async (t) => {
  const { folder } = await unreadLog(t);
  const served = await serve(t, folder, { shell: TO_PIPE });
  await chat(t, served, 1_000);
  served.cli.kill('SIGTERM');
  t.is((await served.cli.ended).code, 0);
});

/** Logs a line when the pipe of the log is full, and ends when what it has written has been read. */
const LAST_LINE = `
  import { writeSync } from 'node:fs';
  const { ProcessOutput } = await import(process.argv[1]);
  const output = new ProcessOutput();
  output.logOutput.write('{"message":"first"}\\n');
  await new Promise(setImmediate);
  for (const bytes of [1_000, 1]) {
    const blank = ' '.repeat(bytes);
    try {
      for (;;) writeSync(2, blank);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
  output.logOutput.write('{"message":"last"}\\n');
  output.release();
  process.stderr.write('', () => process.exit());
  setTimeout(() => process.stdout.write('waits'));
`;

test('a process that waits until its output is read, before it ends, waits for the last line of its log too', async (t) => {
  const { folder, read } = await unreadLog(t);
  const module = new URL('../../src/telemetry/process-output.js', import.meta.url).href;
  const node = [process.execPath, '--input-type=module', '--eval', LAST_LINE, module];
  const ending = startProgram(t, ['sh', '-c', TO_PIPE, 'sh', ...node], {
    env: { LOG: join(folder, 'log') },
    directory: folder,
  });
  await ending.printed(/waits/);
  const lines = read();
  t.is((await ending.ended).code, 0);
  await eventually('the last line is read', () => lines.length > 1);
  t.deepEqual(
    lines.map(({ message }) => message),
    ['first', 'last'],
  );
});

function linesOf(text: string): Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line): Line => JSON.parse(line));
}
