import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { array, boolean, mixed, number, object, string } from 'yup';
import { runCli, startCli } from '../commands/cli-process.js';
import { ConfigurationError } from '../../src/settings/configuration-error.js';
import { describeActions } from '../../src/composition.js';
import type { Catalogue } from '../../src/core/catalogue.js';
import { declaredSettings } from '../../src/core/plugin-settings.js';
import { pluginSettingsFrom } from '../../src/settings/plugin-settings.js';
import { readConfiguration } from '../../src/settings/read-configuration.js';
import { planted } from '../support/planted-secrets.js';
import { type Env, folder } from '../support/settings.js';
import { writePlugin } from '../support/write-plugin.js';

const described = { description: 'Anything.' };

/** What the settings of `count_units` are with this environment, and this configuration file. */
async function settingsOf(
  t: ExecutionContext,
  fields: Parameters<typeof object>[0],
  env: Env = {},
  file?: object,
): Promise<{ values: unknown; problems: readonly string[] }> {
  const files: Record<string, string> = {};
  if (file !== undefined) files['config/development.json'] = JSON.stringify(file);
  const directory = await folder(t, files);
  const { pluginSettings } = readConfiguration({ env, directory });
  const declared = declaredSettings({ name: 'count_units', settings: object(fields) });
  const { values, problems } = pluginSettingsFrom(pluginSettings)({
    served: new Map([['count_units', declared]]),
    others: new Map(),
    isComplete: true,
  });
  return { values: values.get('count_units'), problems };
}

const FIELDS = {
  url: string().required().meta({ description: 'The address of the counter.' }),
  maxAge: number().integer().min(1).default(60).meta(described),
  dry_run: boolean().default(false).meta(described),
  hosts: array(string().required()).meta(described),
  sizes: array(number().required()).meta(described),
  labels: mixed().meta({ format: 'string-map', ...described }),
  limits: object({ cpu: number().required().meta(described) })
    .default(undefined)
    .meta(described),
  apiURL: string().meta(described),
};

test('texts of the environment are read by the types of the settings, and defaults are filled in', async (t) => {
  const { values, problems } = await settingsOf(t, FIELDS, {
    PLUGIN_COUNT_UNITS_URL: ' http://counter:80 \r',
    PLUGIN_COUNT_UNITS_DRY_RUN: 'true',
    PLUGIN_COUNT_UNITS_HOSTS: 'a, b,',
    PLUGIN_COUNT_UNITS_SIZES: '1,2.5,-3',
    PLUGIN_COUNT_UNITS_LABELS: '{"a": "b"}',
    PLUGIN_COUNT_UNITS_LIMITS: '{"cpu": 2}',
    PLUGIN_COUNT_UNITS_API_URL: '12',
  });
  t.deepEqual(problems, []);
  t.deepEqual(values, {
    url: 'http://counter:80',
    maxAge: 60,
    dry_run: true,
    hosts: ['a', 'b'],
    sizes: [1, 2.5, -3],
    labels: { a: 'b' },
    limits: { cpu: 2 },
    apiURL: '12',
  });
});

test('values of the configuration file have their JSON type, and the environment overrides them', async (t) => {
  const file = {
    PLUGIN_COUNT_UNITS_URL: 'http://file',
    PLUGIN_COUNT_UNITS_MAX_AGE: 5,
    PLUGIN_COUNT_UNITS_DRY_RUN: true,
    PLUGIN_COUNT_UNITS_HOSTS: ['a,b'],
    PLUGIN_COUNT_UNITS_LIMITS: { cpu: 1 },
  };
  const { values, problems } = await settingsOf(t, FIELDS, { PLUGIN_COUNT_UNITS_MAX_AGE: '7' }, file);
  t.deepEqual(problems, []);
  t.like(values, { url: 'http://file', maxAge: 7, dry_run: true, limits: { cpu: 1 } });
  const wrong = await settingsOf(t, FIELDS, {}, { ...file, PLUGIN_COUNT_UNITS_MAX_AGE: '5' });
  t.regex(wrong.problems.join(), /^PLUGIN_COUNT_UNITS_MAX_AGE must be a number.*; it is "5"$/);
});

test('a list in the environment can be one of JSON, and what only begins like one is a pattern', async (t) => {
  for (const [text, hosts] of [
    ['["a,b", "c"]', ['a,b', 'c']],
    ['[ab]*.service,c', ['[ab]*.service', 'c']],
    ['[1]', ['[1]']],
  ] as const) {
    const env = { PLUGIN_COUNT_UNITS_URL: 'x', PLUGIN_COUNT_UNITS_HOSTS: text };
    t.like((await settingsOf(t, FIELDS, env)).values, { hosts });
  }
  const file = { PLUGIN_COUNT_UNITS_URL: 'x', PLUGIN_COUNT_UNITS_HOSTS: 'a,b' };
  t.regex(
    (await settingsOf(t, FIELDS, {}, file)).problems.join(),
    /HOSTS must be a list: its items separated by commas/,
  );
});

test('the settings are frozen at every level', async (t) => {
  const { values } = await settingsOf(t, FIELDS, {
    PLUGIN_COUNT_UNITS_URL: 'x',
    PLUGIN_COUNT_UNITS_LIMITS: '{"cpu": 2}',
    PLUGIN_COUNT_UNITS_HOSTS: 'a',
  });
  t.true(Object.isFrozen(values));
  t.true(Object.values(values as object).every((each) => Object.isFrozen(each)));
});

test('each wrong setting is told with its value, and each missing one with its purpose', async (t) => {
  const { problems } = await settingsOf(t, FIELDS, {
    PLUGIN_COUNT_UNITS_MAX_AGE: '4 0',
    PLUGIN_COUNT_UNITS_DRY_RUN: 'yes',
    PLUGIN_COUNT_UNITS_SIZES: '1,x',
    PLUGIN_COUNT_UNITS_LIMITS: '{"cpu": ',
    PLUGIN_COUNT_UNITS_API_URL: '"quoted"',
  });
  const of = (name: string) => problems.find((each) => each.startsWith(`PLUGIN_COUNT_UNITS_${name}`)) ?? '';
  t.is(problems.length, 6);
  t.is(
    of('URL'),
    'PLUGIN_COUNT_UNITS_URL is not set, and the action count_units needs it: The address of the counter.',
  );
  t.regex(of('MAX_AGE'), /must be a number; it is "4 0"$/);
  t.regex(of('DRY_RUN'), /must be true or false; it is "yes"$/);
  t.regex(of('SIZES'), /: \[1\] must be a number; it is "1,x"$/);
  t.regex(of('LIMITS'), /must be an object of JSON; it is "\{\\"cpu\\":"$/);
  t.regex(of('API_URL'), /must not have quotes around it/);
});

test('a secret comes from a variable, a file or a credential, and no problem shows it', async (t) => {
  const secret = planted('plugin');
  const fields = {
    apiKey: string()
      .required()
      .max(200)
      .meta({ ...described, secret: true }),
  };
  const directory = await folder(t, { key: `${secret}\n` });
  const path = join(directory, 'key');
  await writeFile(join(directory, 'fleet-manager_PLUGIN_COUNT_UNITS_API_KEY'), secret);
  const variable = { PLUGIN_COUNT_UNITS_API_KEY: secret };
  const file = { PLUGIN_COUNT_UNITS_API_KEY_FILE: path };
  for (const env of [variable, file, { CREDENTIALS_DIRECTORY: directory }])
    t.deepEqual(await settingsOf(t, fields, env), { values: { apiKey: secret }, problems: [] });
  t.deepEqual((await settingsOf(t, fields, { ...variable, ...file })).problems.slice(0, 1), [
    'PLUGIN_COUNT_UNITS_API_KEY and PLUGIN_COUNT_UNITS_API_KEY_FILE are both set: set one of them',
  ]);
  t.regex(
    (await settingsOf(t, fields, { PLUGIN_COUNT_UNITS_API_KEY_FILE: '/nowhere' })).problems.join(),
    /^PLUGIN_COUNT_UNITS_API_KEY_FILE names a file that cannot be read: ENOENT.*"\/nowhere"$/,
  );
  for (const apiKey of [
    string().max(3),
    string().test(
      'own',
      ({ value }) => `it is ${value}`,
      () => false,
    ),
    number(),
    array(number()),
  ]) {
    const { problems } = await settingsOf(
      t,
      { apiKey: apiKey.meta({ ...described, format: 'x', secret: true }) },
      variable,
    );
    t.deepEqual(problems, ['PLUGIN_COUNT_UNITS_API_KEY is not what its action accepts: Anything.']);
  }
});

test('a setting in which anything is secret is a secret, and a check of all settings shows none', async (t) => {
  const secret = planted('nested plugin setting');
  const password = string()
    .required()
    .meta({ ...described, secret: true });
  const user = string().required().meta(described);
  for (const creds of [object({ user, password }), array(object({ password })), array(password)]) {
    const declared = declaredSettings({
      name: 'count_units',
      settings: object({ creds: creds.meta(described) }),
    });
    t.true(declared.all[0]?.secret);
  }
  const wrong = { PLUGIN_COUNT_UNITS_CREDS: JSON.stringify({ user: 1, password: secret }) };
  const { problems } = await settingsOf(t, { creds: object({ user, password }).meta(described) }, wrong);
  t.is(problems.length, 1);
  t.false(problems.join().includes(secret), 'the secret is shown');

  const together = object({ password }).test({
    name: 'together',
    message: 'bad: ${value}',
    test: () => false,
  });
  const { valuesOf } = declaredSettings({
    name: 'count_units',
    settings: together.meta({ format: 'x' }),
  });
  t.deepEqual(valuesOf(new Map([['password', secret]])), { problems: ['they do not go together'] });
});

test('what no action declares is a problem in the file and among credentials, with what was meant', async (t) => {
  const directory = await folder(t);
  await writeFile(join(directory, 'fleet-manager_PLUGIN_COUNT_UNITS_UR'), 'x');
  const env = { PLUGIN_COUNT_UNITS_URL: 'x', CREDENTIALS_DIRECTORY: directory };
  const file = { PLUGIN_COUNT_UNITS_MAX_AG: 1, PLUGIN_ELSE: 2 };
  const { problems } = await settingsOf(t, FIELDS, env, file);
  t.is(problems.length, 3);
  t.regex(
    problems[0] ?? '',
    /development\.json: there is no setting PLUGIN_COUNT_UNITS_MAX_AG: did you mean PLUGIN_COUNT_UNITS_MAX_AGE\?$/,
  );
  t.regex(problems[1] ?? '', /development\.json: there is no setting PLUGIN_ELSE$/);
  t.is(
    problems[2],
    'there is no setting for the credential fleet-manager_PLUGIN_COUNT_UNITS_UR: did you mean PLUGIN_COUNT_UNITS_URL?',
  );
});

/** The source of an action with these settings, which returns them. */
function source(name: string, settings: string, effect = 'read'): string {
  return `import { defineAction } from 'fleet-manager/plugin';
    import { mixed, number, object, string } from 'yup';
    export default defineAction({
      name: '${name}', summary: 'Shows its settings.', target: 'none', effect: '${effect}',
      settings: object(${settings}),
      parameters: object({}),
      result: mixed().meta({ format: 'anything' }),
      handle: async ({ settings }) => ({ names: Object.keys(settings), limit: settings.limit }),
    });`;
}

const LIMIT = "{ limit: number().required().meta({ description: 'How many.' }) }";
const KEYED =
  "{ limit: number().default(3).meta({ description: 'How many.' }), key: string().meta({ description: 'The key.', secret: true }) }";

async function served(env: Env): Promise<Catalogue> {
  const configuration = readConfiguration({ env, directory: '/nonexistent' });
  return describeActions({ ...configuration, settings: pluginSettingsFrom(configuration.pluginSettings) });
}

test('actions that are not served need no settings', async (t) => {
  const PLUGIN_PATHS = await writePlugin(t, 'show', source('show', LIMIT, 'change'));
  const error = await t.throwsAsync(served({ PLUGIN_PATHS }), { instanceOf: ConfigurationError });
  t.deepEqual(error?.problems, ['PLUGIN_SHOW_LIMIT is not set, and the action show needs it: How many.']);
  await t.notThrowsAsync(served({ PLUGIN_PATHS, READ_ONLY: 'true' }));
  await t.notThrowsAsync(served({ PLUGIN_PATHS, ACTIONS: 'list_units' }));
  t.deepEqual((await served({ PLUGIN_PATHS, PLUGIN_SHOW_LIMIT: '2' })).find('show')?.settings, { limit: 2 });
});

test('stops the start: two actions whose settings have one name, and a setting with the name of the file of a secret', async (t) => {
  const PLUGIN_PATHS = await writePlugin(
    t,
    'a',
    source('count', "{ units_max: number().meta({ description: 'x' }) }"),
  );
  await mkdir(join(PLUGIN_PATHS, 'b'));
  await writeFile(
    join(PLUGIN_PATHS, 'b/index.js'),
    source('count_units', "{ max: number().meta({ description: 'x' }) }"),
  );
  await mkdir(join(PLUGIN_PATHS, 'c'));
  const ofFile =
    "{ key: string().meta({ description: 'x', secret: true }), key_file: string().meta({ description: 'x' }) }";
  await writeFile(join(PLUGIN_PATHS, 'c/index.js'), source('keyed', ofFile));
  const error = await t.throwsAsync(served({ PLUGIN_PATHS }));
  t.is(
    error?.message,
    `plugin ${PLUGIN_PATHS}/b: the setting 'max' of count_units is PLUGIN_COUNT_UNITS_MAX, and so is a setting of count: rename one of them\n` +
      `plugin ${PLUGIN_PATHS}/c: the setting 'key_file' of keyed is PLUGIN_KEYED_KEY_FILE, and so is another of its settings: rename one of them`,
  );
});

for (const [what, settings, reason] of [
  [
    'without a description',
    '{ a: string() }',
    /its field 'settings': the field 'a' has no meta\(\{ description \}\)/,
  ],
  [
    'with another name',
    "{ A: string().meta({ description: 'x' }) }",
    /its field 'settings': the field 'A' must be camelCase or snake_case/,
  ],
  [
    'that does not accept its default',
    "{ a: string().max(1).default('aa').meta({ description: 'x' }) }",
    /does not accept its own default/,
  ],
] as const)
  test(`stops the start: a setting ${what}`, async (t) => {
    const PLUGIN_PATHS = await writePlugin(t, 'show', source('show', settings));
    await t.throwsAsync(served({ PLUGIN_PATHS }), { message: reason });
  });

test('all problems are reported at once by serve, config and doctor, and config lists the settings without secrets', async (t) => {
  const key = planted('plugin');
  const directory = await folder(t, { 'config/development.json': '{"PLUGIN_SHOW_KEYS": 1}' });
  const PLUGIN_PATHS = await writePlugin(t, 'show', source('show', KEYED));
  const good = { PLUGIN_PATHS, PLUGIN_SHOW_LIMIT: 'many', PLUGIN_SHOW_KEY: key };
  const expected = [
    /PLUGIN_SHOW_LIMIT must be a number; it is "many"/,
    /there is no setting PLUGIN_SHOW_KEYS: did you mean PLUGIN_SHOW_KEY\?/,
  ];
  for (const [env, more] of [
    [good, []],
    [{ ...good, PREFETCH: '1' }, [/PREFETCH must be at least 4/]],
  ] as const)
    for (const command of ['serve', 'config', 'doctor']) {
      const { code, stdout, stderr } = await runCli(t, [command], {
        env: { ...env, LOG_FORMAT: 'text' },
        directory,
      });
      t.is(code, command === 'doctor' ? 1 : 2);
      for (const each of [...more, ...expected]) t.regex(`${stdout}${stderr}`, each, command);
    }
  const listed = await runCli(t, ['config', '--json'], {
    env: { ...good, PLUGIN_SHOW_LIMIT: '' },
    directory,
  });
  const shown: { name: string }[] = JSON.parse(listed.stdout);
  t.deepEqual(
    shown.filter(({ name }) => name.startsWith('PLUGIN_SHOW')),
    [
      { name: 'PLUGIN_SHOW_LIMIT', value: '3', from: 'default', default: '3', about: 'How many.' },
      { name: 'PLUGIN_SHOW_KEY', value: '***', from: 'environment', about: 'The key.' },
    ] as never[],
  );
});

test('a handler gets its settings; a variable that no action declares is logged, and a warning of doctor', async (t) => {
  const key = planted('plugin');
  const PLUGIN_PATHS = await writePlugin(t, 'show', source('show', KEYED));
  const env = { PLUGIN_PATHS, PLUGIN_SHOW_KEY: key, PLUGIN_SHOW_LIMITS: '4', PLUGIN_OTHER: '1' };
  const service = await startCli(t, ['serve'], { env: { ...env, HTTP_PORT: '0', LOG_FORMAT: 'json' } });
  const [line] = await service.printed(/.*"service started".*/);
  const [unknown] = await service.printed(/.*"unknown plugin setting".*/);
  t.like(JSON.parse(unknown), {
    level: 'warn',
    variable: 'PLUGIN_SHOW_LIMITS',
    did_you_mean: 'PLUGIN_SHOW_LIMIT',
  });
  t.false(service.stderr().includes('PLUGIN_OTHER'));
  await service.printed(/accepting requests/);
  const headers = { 'content-type': 'application/json' };
  const reply = await fetch(`${JSON.parse(line).http}/v1/actions/show`, {
    method: 'POST',
    headers,
    body: '{}',
  });
  t.like(await reply.json(), { response_body: { names: ['key', 'limit'], limit: 3 } });
  const catalogue = await (await fetch(`${JSON.parse(line).http}/v1/actions`)).text();
  t.false(catalogue.includes('PLUGIN_SHOW'));
  const checked = await runCli(t, ['doctor'], { env });
  t.regex(
    checked.stdout,
    /^warning +plugins [^]* the environment has PLUGIN_SHOW_LIMITS, which no action declares: did you mean PLUGIN_SHOW_LIMIT\?$/m,
  );
});
