import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { inRepository } from '../support/repository.js';
import { runCli } from './cli-process.js';

async function emptyFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'new-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  return folder;
}

async function filesIn(folder: string): Promise<Map<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(
      files.map(async (file) => [file.slice(folder.length + 1), await readFile(file, 'utf8')] as const),
    ),
  );
}

const KINDS = [
  { options: [], template: 'javascript' },
  { options: ['--ts'], template: 'typescript' },
  { options: ['--package'], template: 'javascript-package' },
  { options: ['--ts', '--package'], template: 'typescript-package' },
];

for (const { options, template } of KINDS)
  test(`new action ${['NAME', ...options].join(' ')} makes its folder, with its name everywhere`, async (t) => {
    const directory = await emptyFolder(t);
    const made = await runCli(t, ['new', 'action', 'drain_machine', ...options], { directory });
    t.is(made.code, 0, made.stderr);
    t.deepEqual(await readdir(directory), ['drain-machine']);
    const expected = new Map(
      [...(await filesIn(inRepository(`templates/${template}`)))].map(
        ([path, text]) => [withName(path), withName(text)] as const,
      ),
    );
    t.deepEqual(await filesIn(join(directory, 'drain-machine')), expected);
    for (const path of expected.keys()) t.true(made.stdout.includes(path), path);
    t.regex(made.stdout, /^ {2}fleet-manager call drain_machine --cluster sandbox +# call it/m);
    t.regex(made.stdout, /^ {2}\(cd drain-machine && npm test\) +# test it$/m);
    t.regex(made.stdout, /needs this package beside it/);
  });

function withName(text: string): string {
  return text
    .replaceAll('count_units', 'drain_machine')
    .replaceAll('COUNT_UNITS', 'DRAIN_MACHINE')
    .replaceAll('count-units', 'drain-machine')
    .replaceAll('countUnits', 'drainMachine');
}

test('the templates have the same action and the same test', async (t) => {
  const [folder = new Map(), ...others] = await Promise.all(
    KINDS.map(async ({ template }) => filesIn(inRepository(`templates/${template}`))),
  );
  const places = [
    ['src/index.ts', 'src/index.test.ts'],
    ['actions/count-units.js', 'actions/count-units.test.js'],
    ['src/count-units.ts', 'src/count-units.test.ts'],
  ];
  for (const [index, [action = '', itsTest = '']] of places.entries()) {
    t.is(others[index]?.get(action), folder.get('index.js'));
    t.is(others[index]?.get(itsTest)?.replace('./count-units.js', './index.js'), folder.get('index.test.js'));
  }
});

test('the templates for TypeScript have the versions that this package is checked with', async (t) => {
  const { devDependencies: own } = JSON.parse(await readFile(inRepository('package.json'), 'utf8'));
  for (const template of ['typescript', 'typescript-package']) {
    const path = inRepository(`templates/${template}/package.json`);
    const { devDependencies } = JSON.parse(await readFile(path, 'utf8'));
    t.deepEqual(devDependencies, { '@types/node': own['@types/node'], typescript: own.typescript });
  }
});

test('a name that no action can have is refused, with one that it can', async (t) => {
  const directory = await emptyFolder(t);
  const refused = async (name: string) => runCli(t, ['new', 'action', name], { directory });
  for (const [name, message] of [
    ['CountUnits', /'CountUnits' cannot be the name of an action, which is snake_case.*: try 'count_units'/],
    ['count-units', /try 'count_units'/],
    ['2', /such as count_units/],
    ['../evil', /try 'evil'/],
    ['list_units', /the service has an action list_units already/],
  ] as const) {
    const { code, stderr } = await refused(name);
    t.is(code, 2);
    t.regex(stderr, message);
  }
  t.deepEqual(await readdir(directory), []);
});

test('nothing that exists is changed', async (t) => {
  const directory = await emptyFolder(t);
  await mkdir(join(directory, 'drain-machine'));
  await writeFile(join(directory, 'drain-machine/index.js'), 'mine');
  const { code, stderr } = await runCli(t, ['new', 'action', 'drain_machine'], { directory });
  t.is(code, 2);
  t.regex(stderr, /drain-machine exists already: choose another name, or another folder with --dir/);
  t.deepEqual(await filesIn(directory), new Map([['drain-machine/index.js', 'mine']]));
});

test('--dir names the folder, which is made, and the commands name it too', async (t) => {
  const directory = await emptyFolder(t);
  const args = ['new', 'action', 'drain_machine', '--dir', 'my actions/more'];
  const { stdout } = await runCli(t, args, { directory });
  t.true((await filesIn(join(directory, 'my actions/more/drain-machine'))).has('index.js'));
  t.regex(stdout, /^ {2}PLUGIN_PATHS='\/.*\/my actions\/more' fleet-manager serve +# /m);
});

test('a folder that cannot be made is an error, and what is in its place stays', async (t) => {
  const directory = await emptyFolder(t);
  await writeFile(join(directory, 'file'), '');
  await symlink('nowhere', join(directory, 'drain-machine'));
  for (const [dir, problem] of [
    ['/proc/x/y', /ENOENT/],
    ['file', /file is not a folder/],
    ['.', /drain-machine exists already/],
  ] as const) {
    const { code, stderr } = await runCli(t, ['new', 'action', 'drain_machine', '--dir', dir], { directory });
    t.not(code, 0);
    t.regex(stderr, problem);
  }
});
