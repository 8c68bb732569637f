import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { describeActions } from '../src/composition.js';
import { readConfiguration } from '../src/settings/read-configuration.js';
import { runCli, startCli } from './commands/cli-process.js';
import { examine, isFailure } from './commands/examine.js';
import { inRepository } from './support/repository.js';
import { writePlugin } from './support/write-plugin.js';

const KERNEL = `
import { array, object, string } from 'yup';
import { defineAction, FleetTransport, mapOf, RemoteShell } from 'fleet-manager/plugin';
export default defineAction({
  name: 'kernel_of_machines', summary: 'Shows which kernel the machines run.', target: 'cluster', effect: 'read',
  parameters: object({ machines: array(string().required()).meta({ description: 'Their addresses.' }) }),
  result: mapOf(object({ kernel: string().required().meta({ description: 'What uname says.' }) })).required(),
  inject: { fleet: FleetTransport, shell: RemoteShell },
  async handle({ parameters: { machines = [] }, cluster, signal }, { fleet }) {
    const known = (await fleet.machines(cluster, { signal })).map(({ primaryIP }) => primaryIP);
    return Object.fromEntries(machines.filter((each) => known.includes(each)).map((each) => [each, { kernel: 'Linux' }]));
  },
});`;

/** A directory for PLUGIN_PATHS, with the folder of a new action. */
async function newAction(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'new-action-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  await mkdir(join(directory, 'kernel'));
  await writeFile(join(directory, 'kernel/index.js'), KERNEL);
  return directory;
}

test('a new action is in the catalogue', async (t) => {
  const env = { PLUGIN_PATHS: await newAction(t) };
  const { stdout, stderr } = await runCli(t, ['actions', 'kernel_of_machines', '--json'], { env });
  t.like(JSON.parse(stdout || '{}'), { name: 'kernel_of_machines', effect: 'read' }, stderr);
});

test('doctor names a new action that needs a login key, and reports that the key is missing', async (t) => {
  const nowhere = { AMQP_URL: 'amqp://127.0.0.1:1', ETCD_DISCOVERY_URL: 'http://127.0.0.1:1' };
  const env = { ...nowhere, PLUGIN_PATHS: await newAction(t) };
  const without = await examine({ ...env, ACTIONS: 'list_units' });
  t.is(without.of('SSH key').result, 'skipped');
  const run = await examine({ ...env, ACTIONS: 'list_units,kernel_of_machines' });
  isFailure(t, run, 'SSH key', /^neither .*: kernel_of_machines$/m);
});

test('a new action can be called, with its parameters read by their types', async (t) => {
  const env = { HTTP_PORT: '0', PLUGIN_PATHS: await newAction(t) };
  const cli = await startCli(t, ['serve'], { env });
  await cli.printed(/accepting requests/);
  const [, port = ''] = await cli.printed(/ http=http:\/\/\S+:(\d+)/);
  const called = ['call', 'kernel_of_machines', '--cluster', 'sandbox', '--param', 'machines=127.0.0.1,x'];
  const { stdout, stderr } = await runCli(t, called, { env: { HTTP_PORT: port } });
  t.deepEqual(JSON.parse(stdout || 'null'), { '127.0.0.1': { kernel: 'Linux' } }, stderr);
});

test('the types of a new action can be printed, for users of the client', async (t) => {
  const env = { PLUGIN_PATHS: await newAction(t) };
  const { stdout } = await runCli(t, ['actions', '--types'], { env });
  t.is(
    stdout.replace(/^.*\n\n/, ''),
    `export {};

declare module 'fleet-manager/client' {
  interface KnownActions {
    /** Shows which kernel the machines run. */
    kernel_of_machines: {
      parameters: {
        /** Their addresses. */
        machines?: string[];
      };
      result: Record<string, {
        /** What uname says. */
        kernel: string;
      }>;
    };
  }
}
`,
  );
  t.is((await runCli(t, ['actions', 'kernel_of_machines', '--types'], { env })).stdout, stdout);
});

test('no types are printed of the own actions of the service, which the client knows', async (t) => {
  const all = await runCli(t, ['actions', '--types']);
  t.is(all.code, 2);
  t.regex(all.stderr, /no actions but those of the service.*set PLUGIN_PATHS/);
  t.regex(
    (await runCli(t, ['actions', 'list_units', '--types'])).stderr,
    /list_units comes with the service/,
  );
  t.is((await runCli(t, ['actions', '--types', '--json'])).code, 2);
});

test('a new action can be printed as Markdown', async (t) => {
  const env = { PLUGIN_PATHS: await newAction(t) };
  const { stdout } = await runCli(t, ['actions', 'kernel_of_machines', '--docs'], { env });
  t.is(
    stdout,
    `## kernel_of_machines

Shows which kernel the machines run.

A read; needs a cluster; run again after the loss of a worker; takes at most 300 s.

| parameter | type | meaning |
| --- | --- | --- |
| \`machines\` | array of string | Their addresses. |

Result: map to object.

| field | type | meaning |
| --- | --- | --- |
| \`*.kernel\` | string | What uname says. |

\`\`\`sh
fleet-manager call kernel_of_machines --cluster TOKEN --param machines=text
\`\`\`
`,
  );
  const all = await runCli(t, ['actions', '--docs'], { env });
  t.true(all.stdout.startsWith('# Actions\n') && all.stdout.includes(stdout));
});

test('the settings of an action are in its Markdown, and the default of a secret is not', async (t) => {
  const source = `
    import { number, object, string } from 'yup';
    import { defineAction } from 'fleet-manager/plugin';
    export default defineAction({
      name: 'configured', summary: 'Has settings.', target: 'none', effect: 'read',
      parameters: object({}), result: string(), handle: async () => '',
      settings: object({
        max: number().integer().default(5).meta({ description: 'How many.' }),
        token: string().matches(/^[a-z]+$/).default('abc').meta({ description: 'A secret.', secret: true }),
      }),
    });`;
  const plugins = await writePlugin(t, 'configured', source);
  const { stdout } = await runCli(t, ['actions', 'configured', '--docs'], { env: { PLUGIN_PATHS: plugins } });
  t.true(stdout.includes('| `PLUGIN_CONFIGURED_MAX` | integer, default 5 | How many. |'), stdout);
  t.true(
    stdout.includes('| `PLUGIN_CONFIGURED_TOKEN` | string, matching ^[a-z]+$, secret | A secret. |'),
    stdout,
  );
});

test('no source file names an action', async (t) => {
  const catalogue = await describeActions(readConfiguration({ env: {}, directory: '/nonexistent' }));
  const names = catalogue.describe().map(({ name }) => name);
  t.true(names.length > 5);
  const files = (await readdir(inRepository('src'), { recursive: true })).filter((path) =>
    path.endsWith('.ts'),
  );
  const found: string[] = [];
  for (const file of files) {
    if (file === 'client/action-types.ts') continue;
    const lines = (await readFile(inRepository(`src/${file}`), 'utf8')).split('\n');
    for (const [index, line] of lines.entries()) {
      // A comment may give an example.
      const code = line.replace(/^\s*(\/\*|\*|\/\/).*$/, '');
      if (names.some((name) => new RegExp(`\\b${name}\\b`).test(code)))
        found.push(`${file}:${index + 1}: ${line}`);
    }
  }
  t.deepEqual(found, []);
});
