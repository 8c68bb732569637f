import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { eventually } from '../support/eventually.js';
import { openTerminal, type Terminal, testWithPrograms } from '../support/terminal.js';
import { startCli } from './cli-process.js';

const CLI = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

/** Units in states that do not change. */
const STATES = `
import { array, number, object, string } from 'yup';
import { defineAction } from 'fleet-manager/plugin';
const about = { description: 'A field.' };
export default defineAction({
  name: 'states', summary: 'Lists units.', target: 'none', effect: 'read',
  parameters: object({}),
  result: array(object({
    name: string().required().meta({ ...about, column: 'UNIT' }),
    hash: string().required().meta(about),
    state: string().required().meta({ ...about, column: 'STATE' }),
    restarts: number().required().meta({ ...about, column: 'RESTARTS' }),
    text: string().nullable().defined().meta({ ...about, column: 'TEXT' }),
  })).required(),
  handle: async () => [
    { name: 'web@1.service', hash: 'a', state: 'active', restarts: 0, text: 'café 日本語のテキスト' },
    { name: 'web@2.service', hash: 'b', state: 'activating', restarts: 12, text: 'e\\u0301 \\u001b[31mred\\u0007' },
    { name: 'db.service', hash: 'c', state: 'failed', restarts: 3, text: 'The disk is full: '.repeat(9) },
    { name: 'cron.service', hash: 'd', state: 'inactive', restarts: 0, text: null },
  ],
});
`;
/** A change that ends when the file in its parameter is there. */
const HOLD = `
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { object, string } from 'yup';
import { ActionError, defineAction, unitName } from 'fleet-manager/plugin';
const about = { description: 'A field.' };
export default defineAction({
  name: 'hold', summary: 'Changes something.', target: 'none', effect: 'change',
  parameters: object({ unit: unitName().required().meta(about), until: string().required().meta(about) }),
  result: object({ name: string().required().meta(about), load: object({ one: string().required().meta(about) }).meta(about) }),
  async handle({ parameters: { unit, until }, warn }) {
    while (!existsSync(until)) await sleep(10);
    writeFileSync(until + '.done', '');
    if (until.endsWith('fail')) throw new ActionError('unit_failed', 'The unit has failed.', { details: { unit, state: 'failed' } });
    warn('it took long');
    return { name: unit, load: { one: '0.5' } };
  },
});
`;

interface Service {
  env: Record<string, string>;
  folder: string;
}

const teardowns: (() => unknown)[] = [];
const all: Pick<ExecutionContext, 'teardown'> = { teardown: (work) => void teardowns.unshift(work) };
test.after.always(async () => {
  for (const work of teardowns) await work();
});

let started: Promise<Service> | undefined;
/** A sandbox with these actions, for all tests of this file, and a folder in which `fleet-manager` is a command. */
async function service(): Promise<Service> {
  return (started ??= startService());
}

async function startService(): Promise<Service> {
  const folder = await mkdtemp(join(tmpdir(), 'terminal-test-'));
  all.teardown(async () => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries({ states: STATES, hold: HOLD })) {
    await mkdir(join(folder, 'plugins', name), { recursive: true });
    await writeFile(join(folder, 'plugins', name, 'index.js'), text);
  }
  await writeFile(join(folder, 'fleet-manager'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`);
  await chmod(join(folder, 'fleet-manager'), 0o755);
  const PLUGIN_PATHS = join(folder, 'plugins');
  const cli = await startCli(all, ['serve'], { env: { HTTP_PORT: '0', PLUGIN_PATHS } });
  await cli.printed(/accepting requests/);
  const [, port = ''] = await cli.printed(/ http=http:\/\/\S+:(\d+)/);
  return { folder, env: { HTTP_PORT: port, PLUGIN_PATHS, PATH: `${folder}:${process.env.PATH}` } };
}

interface Screen {
  columns?: number;
  env?: Record<string, string>;
}

async function opened(
  t: ExecutionContext,
  command: string,
  { columns = 80, env = {} }: Screen = {},
): Promise<Terminal> {
  const { env: own } = await service();
  return openTerminal(t, command, { columns, env: { ...own, ...env } });
}

/** What a terminal shows after a command has ended. */
async function shown(t: ExecutionContext, command: string, screen?: Screen): Promise<string> {
  return (await opened(t, command, screen)).shows(/^\[\d+\]$/m);
}

function inTerminal(title: string, work: (t: ExecutionContext) => Promise<void>): void {
  testWithPrograms(['tmux', 'bash'], title, work);
}

inTerminal('a list is a table that fits into the terminal, with what has failed first', async (t) => {
  const [narrow, wide] = await Promise.all([
    shown(t, 'fleet-manager call states'),
    shown(t, 'fleet-manager call states', { columns: 200 }),
  ]);
  t.is(
    narrow,
    `UNIT           STATE       RESTARTS  TEXT
db.service     failed             3  The disk is full: The disk is full: The di…
web@1.service  active             0  café 日本語のテキスト
web@2.service  activating        12  e\u0301 \\u001b[31mred\\u0007
cron.service   inactive           0  -
[0]`,
  );
  t.is(
    wide,
    `UNIT           STATE       RESTARTS  TEXT
db.service     failed             3  The disk is full: The disk is full: The disk is full: The disk is full: The disk is full: The disk is full: The disk is full: The disk is full: The disk is full:
web@1.service  active             0  café 日本語のテキスト
web@2.service  activating        12  e\u0301 \\u001b[31mred\\u0007
cron.service   inactive           0  -
[0]`,
  );
});

inTerminal('machines and units have the columns of fleetctl', async (t) => {
  const [machines, units] = await Promise.all([
    shown(t, 'fleet-manager call list_machines'),
    shown(t, "fleet-manager call list_units --param 'name=web@*'", { columns: 200 }),
  ]);
  t.is(
    machines,
    `MACHINE                           IP         METADATA
4f8b02ce61d94a7f93e5b0d7a8c1264e  127.0.0.1  region=eu-west,role=web
91d7c64ab8f34e05a2c96e1f70b35d18  127.0.0.2  region=eu-west,role=worker
c0a1f3d95b7e4d268f40a9716be2d583  127.0.0.3  disk=ssd,region=eu-central,role=da…
[0]`,
  );
  t.is(
    units,
    `UNIT           DSTATE    STATE     TARGET
web@.service   inactive  inactive  -
web@1.service  launched  launched  4f8b02ce61d94a7f93e5b0d7a8c1264e
web@2.service  launched  launched  91d7c64ab8f34e05a2c96e1f70b35d18
web@3.service  launched  launched  c0a1f3d95b7e4d268f40a9716be2d583
web@4.service  launched  launched  4f8b02ce61d94a7f93e5b0d7a8c1264e
web@5.service  launched  launched  91d7c64ab8f34e05a2c96e1f70b35d18
web@6.service  launched  launched  c0a1f3d95b7e4d268f40a9716be2d583
[0]`,
  );
});

inTerminal('states have colours, unless NO_COLOR or a dumb terminal forbids them', async (t) => {
  const coloursOf = async (env: Record<string, string>, prefix = '') => {
    const terminal = await opened(t, `${prefix}fleet-manager call states --columns STATE --no-headers`, {
      env,
    });
    await terminal.shows(/^\[0\]$/m);
    return (await terminal.colours()).split('\n').slice(0, 4);
  };
  const [coloured, noColor, dumb] = await Promise.all([
    coloursOf({}),
    coloursOf({ NO_COLOR: '1' }),
    coloursOf({}, 'TERM=dumb '),
  ]);
  // tmux writes a sequence where the colour changes.
  t.deepEqual(coloured, [
    '\u001b[31mfailed',
    '\u001b[32mactive',
    '\u001b[33mactivating',
    '\u001b[39minactive',
  ]);
  for (const plain of [noColor, dumb]) t.deepEqual(plain, ['failed', 'active', 'activating', 'inactive']);
});

inTerminal('into a pipe it prints JSON, and a closed pipe is no failure', async (t) => {
  const text = await shown(t, 'fleet-manager call states | head -3; echo ${PIPESTATUS[*]}');
  t.is(text, '[\n  {\n    "name": "web@1.service",\n0 0\n[0]');
});

inTerminal('an error is one sentence, with what else is known', async (t) => {
  const until = join((await service()).folder, 'fail');
  await writeFile(until, '');
  const [failed, invalid] = await Promise.all([
    shown(t, `fleet-manager call hold --param unit=a.service --param until=${until}`),
    shown(t, 'fleet-manager call list_units --param name=/', { columns: 200 }),
  ]);
  t.is(failed, 'unit_failed: The unit has failed.\n  UNIT   a.service\n  STATE  failed\n[1]');
  t.regex(invalid, /^invalid_parameters: name is not a unit name .*\n\[2\]$/);
});

inTerminal('a long wait tells what it waits for, and its line is gone afterwards', async (t) => {
  const until = join((await service()).folder, 'later');
  const terminal = await opened(t, `fleet-manager call hold --param unit=b.service --param until=${until}`);
  const text = await terminal.shows(/waiting for/);
  t.regex(text, /^[|/\\-] hold b\.service: waiting for the reply of a worker, \d+ s of at most 30 s$/);
  await writeFile(until, '');
  t.is(await terminal.shows(/^\[0\]$/m), 'warning: it took long\nNAME      b.service\nLOAD.ONE  0.5\n[0]');
});

inTerminal('Ctrl-C ends a wait, and says that a change that was sent goes on', async (t) => {
  const until = join((await service()).folder, 'interrupted');
  const terminal = await opened(t, `fleet-manager call hold --param unit=c.service --param until=${until}`);
  await terminal.shows(/waiting for the reply/);
  await terminal.type('C-c');
  t.is(
    await terminal.shows(/^\[\d+\]$/m),
    `interrupted: hold c.service was sent, and goes on: its outcome is unknown
-> find out what it has done before you send it again
[130]`,
  );
  await writeFile(until, '');
  await eventually('the change has gone on', () => existsSync(`${until}.done`));
});

inTerminal('Ctrl-C while no service is reached says that nothing was changed', async (t) => {
  const nowhere = { AMQP_URL: 'amqp://127.0.0.1:1' };
  const terminal = await opened(t, 'fleet-manager call list_machines --cluster c', {
    env: nowhere,
    columns: 200,
  });
  await terminal.shows(/^\S list_machines: .*no connection to a broker: .*, \d+ s of at most 30 s/);
  await terminal.type('C-c');
  t.is(await terminal.shows(/^\[\d+\]$/m), 'interrupted: nothing was changed\n[130]');
});

inTerminal('the settings of an action, of a check and of an empty list are shown for people', async (t) => {
  const [actions, doctor, empty] = await Promise.all([
    shown(t, 'fleet-manager actions | head -1; fleet-manager actions --columns action', { columns: 80 }),
    shown(t, 'fleet-manager doctor'),
    shown(t, "fleet-manager call list_units --param 'name=nothing*'"),
  ]);
  t.regex(
    actions,
    /^check_cluster +read +Checks a cluster [^]*\nACTION\ncheck_cluster\ndescribe_actions\n(?:\w+\n)*hold\n/,
  );
  t.regex(doctor, /^ok +configuration +no broker is configured/);
  t.is(empty, 'the result is an empty list\n[0]');
});

for (const [shell, start] of [
  ['bash', ['bash', '--norc', '-i']],
  ['zsh', ['zsh', '-f', '-i']],
] as const)
  testWithPrograms(['tmux', shell], `${shell} completes actions, parameters and their values`, async (t) => {
    const { env } = await service();
    const terminal = await openTerminal(t, '', { columns: 100, env: { ...env, PS1: '> ' }, program: start });
    await terminal.shows(/>/);
    if (shell === 'zsh') await terminal.type('PS1="> "; autoload -U compinit; compinit -u', 'Enter');
    await terminal.type(`source <(fleet-manager completion ${shell}); echo sourced`, 'Enter');
    await terminal.shows(/^sourced$/m);
    await terminal.type('fleet-manager ca', 'Tab', 'list_uni', 'Tab');
    await terminal.shows(/^> fleet-manager call list_unit/m);
    await terminal.type('s --param cur', 'Tab');
    await terminal.shows(/^> fleet-manager call list_units --param current_state=$/m);
    await terminal.type('ina', 'Tab');
    await terminal.shows(/--param current_state=inactive$/m);
    await terminal.type(' --clu', 'Tab', 'sa', 'Tab', '-o y', 'Tab');
    await terminal.shows(/--param current_state=inactive +--cluster sandbox -o yaml$/m);
    t.pass();
  });

testWithPrograms(
  ['fish'],
  'fish completes actions, parameters and their values, with what they are about',
  async (t) => {
    const { env, folder } = await service();
    const completed = async (line: string) => {
      const script = `fleet-manager completion fish | source; complete -C '${line}'`;
      const { stdout } = await promisify(execFile)('fish', ['--no-config', '-c', script], {
        env: { ...env, HOME: folder },
      });
      return stdout.trimEnd().split('\n');
    };
    const [actions, parameters, values, clusters, files] = await Promise.all([
      completed('fleet-manager call list_uni'),
      completed('fleet-manager call list_units --param cur'),
      completed('fleet-manager call list_units --param current_state='),
      completed('fleet-manager call list_units --cluster '),
      completed(`fleet-manager --config ${folder}/plug`),
    ]);
    t.deepEqual(actions.toSorted(), [
      'list_unit_files\tLists the unit files of the machines of a cluster, also of units that do not run.',
      'list_unit_states\tLists the systemd states of the units on each machine of a cluster.',
      'list_units\tLists the units of a cluster with their options and states.',
    ]);
    t.regex(parameters.join('\n'), /^current_state=\tOnly units /);
    t.deepEqual(
      values.map((each) => each.split('=').at(-1)),
      ['inactive', 'launched', 'loaded'],
    );
    t.deepEqual(clusters, ['sandbox']);
    t.true(files.join().includes(`${folder}/plugins/`));
  },
);
