import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { startSandbox } from '../src/sandbox/sandbox.js';
import { patternOf, shownCommands } from './documents/console.js';
import { type Block, blocksOf } from './documents/page-blocks.js';
import { runBlock, runOnTerminal, startBlock } from './documents/run-block.js';
import { rabbitmq } from './support/brokers.js';
import { eventually } from './support/eventually.js';
import { ownBroker } from './support/own-broker.js';
import { inRepository, REPOSITORY } from './support/repository.js';

// docs/tutorial.md, from its first command to its last, in one folder.

const PAGE = 'docs/tutorial.md';
const run = promisify(execFile);

test('output shown on a page is a pattern: what differs each time does not count, and the rest does', (t) => {
  const shown = patternOf('{"at": "04:42:10", "id": "4f8b02ce61d94a7f93e5b0d7a8c1264e", ...}\nok  2 hosts');
  t.regex('{"at": "23:00:59", "id": "00000000000000000000000000000000", "x": [1]}\nok 12 hosts\n', shown);
  t.notRegex('{"at": "23:00:59", "id": "00000000000000000000000000000000"}\nok 12 hosts\n', shown);
  t.deepEqual(shownCommands('$ a \\\n  b\nc\n$ d'), [
    { command: 'a \\\n  b', output: 'c\n' },
    { command: 'd', output: '' },
  ]);
});

const broker = rabbitmq();
if (broker !== undefined)
  test('the commands of the tutorial print on a terminal what it shows, one after another', async (t) => {
    const world = await openWorld(t);
    let service: ReturnType<typeof startBlock> | undefined;
    const start = async (text: string) => {
      await service?.stop();
      service = startBlock(t, text, world);
      await eventually('it serves', () => service?.output().includes('accepting requests'));
    };
    const blocks = (await blocksOf(PAGE)).filter(({ language }) => ['sh', 'console'].includes(language));
    t.true(blocks.length > 12);
    for (const block of blocks) {
      const text = world.replaced(block.text);
      if (block.language === 'console') await shows(t, text, block, world);
      // `npm ci` would take the packages away under the other tests.
      else if (text.includes('npm start')) await start(text.replace('npm ci\n', ''));
      else await runBlock(t, text, world);
      // What the reader does on the machines: they accept the key.
      if (text.includes('ssh-keygen')) await copyFile(world.acceptedKey, join(world.directory, 'fleet_key'));
    }
    await service?.stop();
  });

async function shows(
  t: ExecutionContext,
  text: string,
  { line }: Block,
  world: Awaited<ReturnType<typeof openWorld>>,
): Promise<void> {
  for (const { command, output } of shownCommands(text))
    t.regex(await runOnTerminal(t, command, world), patternOf(output), `${PAGE}:${line}: ${command}`);
}

/** A folder like a clone, the cluster of the reader, and a RabbitMQ with its command. */
async function openWorld(t: ExecutionContext) {
  const sandbox = await startSandbox({ ssh: true });
  t.teardown(() => sandbox.stop());
  const { ssh } = sandbox;
  if (ssh === undefined) throw new Error('the sandbox has no SSH');
  const own = await ownBroker(t);
  const directory = await mkdtemp(join(tmpdir(), 'tutorial-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  for (const name of await readdir(REPOSITORY))
    if (!name.startsWith('.')) await symlink(inRepository(name), join(directory, name));
  await mkdir(join(directory, '.bin'));
  const ctl = join(directory, '.bin/rabbitmqctl');
  await writeFile(ctl, `#!/bin/sh\nexec '${inRepository('scripts/rabbitmqctl')}' '${own.directory}' "$@"\n`);
  await chmod(ctl, 0o755);
  const port = (await run(inRepository('scripts/free-port'))).stdout.trim();
  const replacements = [
    ['http://127.0.0.1:8080', `http://127.0.0.1:${port}`],
    ['rabbitmq:5672', `127.0.0.1:${own.port}`],
    ['10.0.0.1:49153', `127.0.0.1:${sandbox.fleetPort}`],
    ['10.0.0.0/8', '127.0.0.0/8'],
    ['ssh-keyscan', `ssh-keyscan -p ${ssh.port}`],
    ['10.0.0.', '127.0.0.'],
  ] as const;
  return {
    directory,
    acceptedKey: ssh.privateKeyFile,
    env: {
      PATH: `${join(directory, '.bin')}:${process.env.PATH}`,
      HOME: directory,
      HTTP_PORT: port,
      SSH_PORT: `${ssh.port}`,
      SSH_USER: ssh.user,
    },
    replaced: (text: string) =>
      replacements.reduce((changed, [from, to]) => changed.replaceAll(from, to), text),
  };
}
