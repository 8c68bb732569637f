import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { notifyProgram } from '../../src/systemd/notify-program.js';
import { startCli } from '../commands/cli-process.js';
import { eventually } from '../support/eventually.js';
import { folder } from '../support/settings.js';

/** A folder with a `systemd-notify` that runs this shell code. */
async function programs(t: ExecutionContext, code: string): Promise<string> {
  const directory = await folder(t);
  await writeFile(join(directory, 'systemd-notify'), `#!/bin/sh\n${code}\n`);
  await chmod(join(directory, 'systemd-notify'), 0o755);
  return directory;
}

const pathWith = (directory: string) => `${directory}:${process.env.PATH}`;

test('the program gets the assignments as they are, and nothing of the environment but the socket and the path', async (t) => {
  const directory = await programs(t, 'printf "<%s>" "$@" >"$0.args"; env >"$0.env"');
  process.env.AMQP_URL = 'amqp://of-this-process';
  t.teardown(() => delete process.env.AMQP_URL);
  await notifyProgram('@socket', pathWith(directory))(['READY=1', "STATUS=a $b 'c'"]);
  t.is(await readFile(join(directory, 'systemd-notify.args'), 'utf8'), "<READY=1><STATUS=a $b 'c'>");
  const env = await readFile(join(directory, 'systemd-notify.env'), 'utf8');
  t.regex(env, /^NOTIFY_SOCKET=@socket$/m);
  t.notRegex(env, /AMQP_URL/);
});

test('a program that fails, or is missing, is reported with the reason', async (t) => {
  const directory = await programs(t, 'echo "No such socket" >&2; exit 1');
  await t.throwsAsync(notifyProgram('@socket', pathWith(directory))(['READY=1']), {
    message: 'No such socket',
  });
  await t.throwsAsync(notifyProgram('@socket', '/nonexistent')(['READY=1']), {
    message: /systemd-notify ENOENT/,
  });
});

test('a service that systemd starts says when it is up and when it stops, and its event loop turns meanwhile', async (t) => {
  // A line for each message, written at once.
  const directory = await programs(t, 'echo "$*" >>"$0.log"');
  const log = join(directory, 'systemd-notify.log');
  const messages = async () => (await readFile(log, 'utf8').catch(() => '')).split('\n').slice(0, -1);
  const service = await startCli(t, ['serve'], {
    env: {
      PATH: pathWith(directory),
      NOTIFY_SOCKET: '@socket',
      WATCHDOG_USEC: '400000',
      HTTP_PORT: '0',
      LOG_FORMAT: 'json',
    },
  });
  await eventually('it is watched', async () => (await messages()).includes('WATCHDOG=1'));
  await eventually('it is ready', async () => (await messages()).some((each) => /STATUS=ready/.test(each)));
  service.kill('SIGTERM');
  t.is((await service.ended).code, 0);
  await eventually('its stop is told', async () =>
    /STOPPING=1 STATUS=shutting down/.test(String(await messages())),
  );
  const [first = '', ...rest] = await messages();
  t.regex(first, /^READY=1 STATUS=(not )?ready/);
  t.is(rest.filter((each) => each.startsWith('READY=1')).length, 0);
  t.is(rest.at(-1), 'STOPPING=1 STATUS=shutting down');
});

test('a service that systemd does not start runs no program', async (t) => {
  const directory = await programs(t, 'touch "$0.ran"');
  const service = await startCli(t, ['serve'], {
    env: { PATH: pathWith(directory), HTTP_PORT: '0', LOG_FORMAT: 'json' },
  });
  await service.printed(/accepting requests/);
  service.kill('SIGTERM');
  t.is((await service.ended).code, 0);
  await t.throwsAsync(readFile(join(directory, 'systemd-notify.ran')), { code: 'ENOENT' });
});

test('a service that cannot notify systemd logs that once, and runs', async (t) => {
  const directory = await programs(t, 'exit 1');
  const service = await startCli(t, ['serve'], {
    env: {
      PATH: pathWith(directory),
      NOTIFY_SOCKET: '@socket',
      WATCHDOG_USEC: '200000',
      HTTP_PORT: '0',
      LOG_FORMAT: 'json',
    },
  });
  await service.printed(/systemd notification failed/);
  await service.printed(/accepting requests/);
  service.kill('SIGTERM');
  const { code, stderr } = await service.ended;
  t.is(code, 0);
  t.is(stderr.match(/systemd notification failed/g)?.length, 1);
});
