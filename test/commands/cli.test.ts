import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { UNSAFE } from '../support/unsafe-characters.js';
import { type Ended, runCli, startCli } from './cli-process.js';

/** A folder with these files, removed when the test ends. */
async function folder(t: ExecutionContext, files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'cli-test-'));
  t.teardown(() => rm(directory, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}

/** Asserts that a command was refused with an exit code and a reason, without a stack. */
function isRefused(
  t: ExecutionContext,
  { code, stdout, stderr }: Ended,
  expected: [code: number, reason: RegExp],
): void {
  t.is(code, expected[0], stderr);
  t.regex(stderr, expected[1]);
  t.notRegex(stderr, /^ +at /m);
  t.is(stdout, '');
}

test('--version prints the version of the package', async (t) => {
  const { code, stdout } = await runCli(t, ['--version']);
  t.is(code, 0);
  t.regex(stdout, /^\d+\.\d+\.\d+\S*\n$/);
});

test('--help lists the commands, and the options of each', async (t) => {
  const [whole, call] = await Promise.all([runCli(t, ['--help']), runCli(t, ['call', '--help'])]);
  t.is(whole.code, 0);
  for (const command of ['serve', 'call', 'actions', 'config', 'policy'])
    t.regex(whole.stdout, new RegExp(`^  ${command} `, 'm'));
  t.is(call.code, 0);
  for (const option of [
    '--cluster <token>',
    '--param <name=value>',
    '--params <json>',
    '--timeout <seconds>',
  ])
    t.true(call.stdout.includes(option));
  t.regex(call.stdout, /Exit code 0: done; 1: .*; 2: /);
  // Quoted for a shell.
  t.regex(call.stdout, /Examples:\n {2}fleet-manager call ACTION .* --param 'name=web@\*\.service'\n/);
  t.regex(whole.stdout, /Exit codes: 0: done; 1: .*; 2: /);
  t.notRegex(call.stdout, /default: (\[\]|false)/);
});

test('a closed output pipe is not a failure', async (t) => {
  const cli = await startCli(t, ['config', '--json']);
  cli.hangUp();
  t.like(await cli.ended, { code: 0, signal: null, stderr: '' });
});

test('output that cannot be written, or not all of it, is a failure', async (t) => {
  for (const [output, code, reason] of [
    ['/dev/full', 1, /^fleet-manager: ENOSPC: no space left on device, write\n$/],
    // 512 bytes are written.
    ['output', 1, /^fleet-manager: EFBIG: file too large, write\n$/],
    ['/dev/null', 0, /^$/],
  ] as const) {
    const ended = await runCli(t, ['actions', '--json'], {
      shell: `ulimit -f 1; exec "$@" >${output}`,
    });
    t.is(ended.code, code, output);
    t.regex(ended.stderr, reason);
  }
});

for (const [args, reason] of [
  [[], /^Usage: fleet-manager/],
  [['bogus'], /unknown command 'bogus'/],
  [['serve', '--port', '80'], /unknown option '--port'/],
  [['call'], /missing required argument 'action'/],
  [
    ['call', 'list_units', '--timeout', 'soon'],
    /'--timeout <seconds>' argument 'soon' is invalid\. it must be a number of seconds/,
  ],
  [['call', 'list_units', '--timeout', '301'], /argument '301' is invalid.* from 0\.001 to 300/],
  [['call', 'list_units', '--timeout', '1e-9'], /argument '1e-9' is invalid.* from 0\.001 to 300/],
  [['actions', 'bogus'], /unknown action 'bogus'; the actions are .*list_machines/],
] as const) {
  test(`invalid command line: fleet-manager ${args.join(' ')}`, async (t) => {
    isRefused(t, await runCli(t, args), [2, reason]);
  });
}

test('without a service, call prints the address that it tried and the settings to check', async (t) => {
  const refused = await runCli(t, ['call', 'list_units'], { env: { HTTP_PORT: '1' } });
  isRefused(t, refused, [
    1,
    /^service_unavailable: no gateway responds at http:\/\/127\.0\.0\.1:1: .*HTTP_HOST and HTTP_PORT.* AMQP_URL/,
  ]);
  const off = await runCli(t, ['call', 'list_units'], { env: { HTTP_PORT: 'off' } });
  isRefused(t, off, [2, /AMQP_URL is not set and the gateway is disabled/]);
});

test('invalid settings stop every command, and all are reported', async (t) => {
  const env = { PREFETCH: 'many', HTTP_PORT: 'eighty' };
  for (const args of [['serve'], ['call', 'list_units']]) {
    const refused = await runCli(t, args, { env });
    isRefused(t, refused, [2, /^fleet-manager: the configuration is invalid:\n {2}- /]);
    t.regex(refused.stderr, /^ {2}- PREFETCH must be a whole number; it is "many"$/m);
    t.regex(refused.stderr, /^ {2}- HTTP_PORT must be a port/m);
  }
});

test('no command shows the password of a URL in the place of another setting', async (t) => {
  const env = Object.fromEntries(
    [
      'ALLOWED_HOSTS',
      'HTTP_HOST',
      'PLUGIN_PATHS',
      'CLUSTERS_FILE',
      'POLICY_FILE',
      'AMQP_URL_FILE',
      'ACTIONS',
      'SSH_USER',
    ].map((name) => [name, 'http://user:Zqsecret@host']),
  );
  for (const [command, code] of [
    ['serve', 2],
    ['config', 2],
    ['doctor', 1],
    ['actions', 2],
  ] as const)
    for (const LOG_FORMAT of ['json', 'text']) {
      const ended = await runCli(t, [command], { env: { ...env, LOG_FORMAT } });
      t.is(ended.code, code, command);
      const shown = ended.stdout + ended.stderr;
      t.true(shown.includes('ALLOWED_HOSTS'));
      t.false(shown.includes('Zq'), shown);
    }
});

test('actions lists every action, one per line', async (t) => {
  const { code, stdout } = await runCli(t, ['actions']);
  t.is(code, 0);
  const lines = stdout.trimEnd().split('\n');
  t.true(lines.some((line) => /^list_units +read +Lists the units/.test(line)));
  t.deepEqual(lines, lines.toSorted());
  t.true(lines.every((line) => /^[a-z_]+ +(read|change) +[A-Z].*\.$/.test(line)));
});

const GREET = `
import { array, boolean, number, object, string, tuple } from 'yup';
import { defineAction, stringMap, unitName } from 'fleet-manager/plugin';
export default defineAction({
  name: 'greet', summary: 'Greets people.', target: 'optional', effect: 'change', timeoutMs: 1500,
  parameters: object({
    names: array(string().max(9).required()).max(5).required().meta({ description: 'Whom to greet.' }),
    times: number().integer().min(1).max(3).default(2).meta({ description: 'How often.' }),
    mood: string().oneOf(['merry', 'grave']).meta({ description: 'How.' }),
    at: tuple([number().lessThan(24), number()]).meta({ description: 'When.' }),
    words: stringMap().meta({ description: 'What to say.' }),
  }),
  result: array(object({
    name: unitName().required().meta({ description: 'Who was greeted.' }),
    said: object({
      word: string().nullable().defined().meta({ description: 'The word.' }),
      loud: boolean().meta({ description: 'How.' }),
    }).meta({ description: 'What was said.' }),
  })).required().meta({ description: 'One for each.' }),
  handle: async () => 'hello',
});`;

test('actions NAME prints all details of an action, also of one from PLUGIN_PATHS', async (t) => {
  const PLUGIN_PATHS = await folder(t, { 'greet/index.js': GREET });
  const [page, json] = await Promise.all([
    runCli(t, ['actions', 'greet'], { env: { PLUGIN_PATHS } }),
    runCli(t, ['actions', 'greet', '--json'], { env: { PLUGIN_PATHS } }),
  ]);
  t.is(
    page.stdout,
    `greet: Greets people.

  effect       change
  cluster      optional (etcd_token)
  redelivered  not run again (outcome_unknown)
  time limit   1.5 s

Parameters:
  names            array of string, at most 9 characters, at most 5 items, required
    Whom to greet.
  times            integer, 1 to 3, default 2
    How often.
  mood             string: merry, grave
    How.
  at               array of number, less than 24 and number
    When.
  words            map to string
    What to say.

Result: array of object
  One for each.
  name             string (unit-name), at most 256 characters
    Who was greeted.
  said             object
    What was said.
      word             string or null
        The word.
      loud             boolean, optional
        How.

Example:

  fleet-manager call greet --param names=text
`,
  );
  t.like(JSON.parse(json.stdout), {
    name: 'greet',
    effect: 'change',
    redelivery: 'refuse',
    timeout_ms: 1500,
    parameters: { required: ['names'], additionalProperties: false },
  });
});

test('actions --json prints the catalogue with JSON Schemas', async (t) => {
  const { code, stdout } = await runCli(t, ['actions', '--json']);
  t.is(code, 0);
  const actions = JSON.parse(stdout) as { name: string; parameters: object; result: object }[];
  t.true(actions.some(({ name }) => name === 'list_units'));
  t.true(actions.every(({ parameters, result }) => 'type' in parameters && typeof result === 'object'));
});

test('actions lists none where READ_ONLY and ACTIONS leave none', async (t) => {
  const env = {
    PLUGIN_PATHS: await folder(t, { 'greet/index.js': GREET }),
    READ_ONLY: 'true',
    ACTIONS: 'greet',
  };
  const { code, stdout, stderr } = await runCli(t, ['actions'], { env });
  t.is(code, 0, stderr);
  t.is(stdout.trim(), '');
});

test('no command prints a character that could control the terminal, whatever its arguments and settings contain', async (t) => {
  const hostile = UNSAFE.filter((each) => each !== '\0').join('x');
  const broken = await folder(t, { 'bad/index.js': `throw new Error(${JSON.stringify(hostile)});` });
  const runs = await Promise.all([
    runCli(t, [hostile]),
    runCli(t, ['call', 'list_units', '--timeout', hostile]),
    runCli(t, ['call', 'list_units', '--param', hostile], { env: { HTTP_PORT: '1' } }),
    runCli(t, ['actions', hostile]),
    runCli(t, ['actions'], { env: { PLUGIN_PATHS: broken } }),
    runCli(t, ['config'], { env: { SSH_USER: hostile, LOG_LEVEL: hostile } }),
    runCli(t, ['config', '--json'], { env: { SSH_USER: hostile, ETCD_DISCOVERY_URL: hostile } }),
    runCli(t, ['doctor'], { env: { SSH_USER: hostile, LOG_LEVEL: hostile } }),
    runCli(t, ['doctor'], { env: { PLUGIN_PATHS: broken } }),
    runCli(t, ['serve'], { env: { LOG_LEVEL: hostile } }),
    runCli(t, ['serve'], { env: { PLUGIN_PATHS: broken, LOG_FORMAT: 'json' } }),
  ]);
  for (const [at, { stdout, stderr }] of runs.entries()) {
    const output = `${stdout}${stderr}`;
    t.not(output, '', String(at));
    const found = UNSAFE.filter((each) => !'\n\t'.includes(each) && output.includes(each));
    t.deepEqual(
      found.map((each) => JSON.stringify(each)),
      [],
      `${at}: ${JSON.stringify(output)}`,
    );
  }
});

test('config shows every setting with its value and its source', async (t) => {
  const directory = await folder(t, { 'config/development.json': '{"PREFETCH": 40}' });
  const { code, stdout, stderr } = await runCli(t, ['config'], { directory, env: { CONCURRENCY: '10' } });
  t.is(code, 0, stderr);
  t.is(stderr, '');
  for (const line of [
    /^CONCURRENCY +10 +environment$/m,
    /^PREFETCH +40 +file$/m,
    /^QUEUE_NAME +fleet_manager +default$/m,
    /^AMQP_URL +- +unset$/m,
  ])
    t.regex(stdout, line);
});

test('config masks secrets, in text and in JSON, and prints the problems', async (t) => {
  const env = {
    AMQP_URL: 'amqp://user:Zq%2Fx@one:5672/v,amqps://other:Zq@two',
    HTTP_TOKEN: 'Zq:0123456789abcdef',
    HTTP_HOST: '0.0.0.0',
    PREFETCH: 'many',
  };
  const [shown, json] = await Promise.all([
    runCli(t, ['config'], { env }),
    runCli(t, ['config', '--json'], { env }),
  ]);
  for (const { code, stdout, stderr } of [shown, json]) {
    t.is(code, 2);
    t.false(`${stdout}${stderr}`.includes('Zq'));
    t.is(stderr, 'the configuration is invalid:\n  - PREFETCH must be a whole number; it is "many"\n\n');
  }
  t.regex(shown.stdout, /^AMQP_URL +amqp:\/\/\*\*\*@one:5672\/v,amqps:\/\/\*\*\*@two +environment$/m);
  t.regex(shown.stdout, /^HTTP_TOKEN +\*\*\* +environment$/m);
  const settings = JSON.parse(json.stdout) as { name: string; value?: string; from: string; about: string }[];
  t.like(
    settings.find(({ name }) => name === 'AMQP_URL'),
    {
      value: 'amqp://***@one:5672/v,amqps://***@two',
      from: 'environment',
    },
  );
  t.like(
    settings.find(({ name }) => name === 'PREFETCH'),
    { value: 'many' },
  );
});

const BROKEN: Record<
  string,
  [files: Record<string, string>, env: Record<string, string>, code: number, reason: RegExp]
> = {
  'has no default export': [
    { 'bad/index.js': 'export const a = 1;' },
    {},
    1,
    /^fleet-manager: plugin \S+\/bad: its entry file has no default export/,
  ],
  'fails to load': [
    { 'bad/index.js': "throw new Error('no licence');" },
    {},
    1,
    /^fleet-manager: plugin \S+\/bad: its import failed: no licence \(\S+\/bad\/index\.js:1\)\n$/,
  ],
  'injects an unknown dependency': [
    {
      'bad/index.js': GREET.replace('result:', "inject: { part: Symbol.for('fleet-manager:Part') }, result:"),
    },
    {},
    1,
    /bad: its field 'inject\.part': the service has no dependency Symbol\(fleet-manager:Part\)/,
  ],
  'does not declare an action that ACTIONS names': [
    { 'good/index.js': GREET },
    { ACTIONS: 'greet,great' },
    2,
    /^fleet-manager: ACTIONS names 'great', but the plugins declare only: check_cluster, describe_actions, (?:\w+, )*greet, (?:\w+, )*list_machines, /,
  ],
};

for (const [what, [files, env, code, reason]] of Object.entries(BROKEN)) {
  test(`serve does not start with a plugin that ${what}`, async (t) => {
    const PLUGIN_PATHS = await folder(t, files);
    isRefused(t, await runCli(t, ['serve'], { env: { HTTP_PORT: '0', PLUGIN_PATHS, ...env } }), [
      code,
      reason,
    ]);
  });
}

test('serve does not start in production without a broker', async (t) => {
  const refused = await runCli(t, ['serve'], { env: { NODE_ENV: 'production' } });
  isRefused(t, refused, [2, /AMQP_URL is not set: .*set AMQP_URL to your RabbitMQ, such as amqp:\/\//]);
});

test('serve does not start with files that cannot be used, and config names all of them too', async (t) => {
  const directory = await folder(t, {
    'clusters.json': '["a"]',
    'policy.yaml': 'rules: []\nrule: 5',
    'tokens.json': '[{"name": "ci"}]',
    key: 'no key',
  });
  const env = {
    AMQP_URL: 'amqp://127.0.0.1:1',
    CLUSTERS_FILE: join(directory, 'clusters.json'),
    POLICY_FILE: join(directory, 'policy.yaml'),
    HTTP_TOKENS_FILE: join(directory, 'tokens.json'),
    SSH_KEY_FILE: join(directory, 'key'),
    HTTP_PORT: '0',
  };
  const all = ['CLUSTERS_FILE', 'POLICY_FILE', 'HTTP_TOKENS_FILE', 'SSH_KEY_FILE'] as const;
  for (const command of ['serve', 'config']) {
    const { code, stderr } = await runCli(t, [command], { env });
    t.is(code, 2, stderr);
    for (const name of all)
      t.is(stderr.split(`- ${name} cannot be used: `).length, 2, `${command}: ${stderr}`);
  }
  const { CLUSTERS_FILE, AMQP_URL } = env;
  isRefused(t, await runCli(t, ['serve'], { env: { AMQP_URL, CLUSTERS_FILE, HTTP_PORT: '0' } }), [
    2,
    /- CLUSTERS_FILE cannot be used: /,
  ]);
});

test('--config names the file of settings of any command, before or after its name', async (t) => {
  const directory = await folder(t, {
    'config/development.json': '{"PREFETCH": 40, "CONCURRENCY": 3}',
    'other/settings.json': '{"PREFETCH": 41}',
  });
  for (const args of [
    ['--config', 'other/settings.json', 'config'],
    ['config', '--config', 'other/settings.json'],
    ['config', `--config=${directory}/other/settings.json`, '--json'],
  ]) {
    const { code, stdout, stderr } = await runCli(t, args, { directory });
    t.is(code, 0, stderr);
    t.regex(stdout, /PREFETCH\b[^\n]*(\n[^\n]*)?\b41\b/);
    t.regex(stdout, /CONCURRENCY\b[^\n]*(\n[^\n]*)?\b50\b/);
  }
});

test('a file of settings that is named and not there, or not JSON, stops every command', async (t) => {
  const directory = await folder(t, { 'settings.yaml': 'PREFETCH: 41' });
  for (const [args, reason] of [
    [['serve', '--config', 'nowhere.json'], /nowhere\.json cannot be read: ENOENT/],
    [['call', 'list_units', '--config=nowhere.json'], /nowhere\.json cannot be read: ENOENT/],
    [['--config', 'settings.yaml', 'actions'], /settings\.yaml cannot be read: it is not valid JSON/],
    [['config', '--config'], /option '--config <file>' argument missing/],
  ] as const)
    isRefused(t, await runCli(t, args, { directory }), [2, reason]);
});

test('errors export says why its file cannot be made, before it connects', async (t) => {
  const directory = await folder(t, { 'export.ndjson': '' });
  const env = { AMQP_URL: 'amqp://127.0.0.1:1' };
  for (const [output, reason] of [
    [
      'export.ndjson',
      /^fleet-manager: --output export\.ndjson: this file exists, and no file is overwritten/,
    ],
    [
      'nowhere/export',
      /^fleet-manager: --output nowhere\/export: its folder does not exist: make it first\n$/,
    ],
  ] as const)
    isRefused(t, await runCli(t, ['errors', 'export', '--output', output], { directory, env }), [2, reason]);
});

test('complete tells nothing when settings or plugins cannot be read', async (t) => {
  const env = { PREFETCH: 'many' };
  const [broken, unknown, commands] = await Promise.all([
    runCli(t, ['complete', '--', 'call', ''], { env }),
    runCli(t, ['complete', '--', 'bogus', '--x', ''], { env }),
    runCli(t, ['complete', '--', 'errors', 're'], { env }),
  ]);
  t.deepEqual([broken.stdout, broken.stderr, broken.code], ['', '', 0]);
  t.is(unknown.code, 0);
  t.regex(commands.stdout, /^replay\tpublish messages as requests again/);
});

test('complete knows clusters by their names, not by their tokens', async (t) => {
  const directory = await folder(t, {
    'clusters.json':
      '{"prod": {"etcd_token": "Zqtoken"}, "6c007a14875d53d9bf0ef5a6fc0257c8": ["10.0.0.1"], "test": ["10.0.0.2"]}',
  });
  const env = { AMQP_URL: 'amqp://127.0.0.1:1', CLUSTERS_FILE: join(directory, 'clusters.json') };
  const { stdout } = await runCli(t, ['complete', '--', 'doctor', '--cluster', ''], { env, directory });
  t.is(stdout, 'prod\ntest\n');
});
