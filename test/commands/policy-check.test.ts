import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Cluster } from '../../src/api/cluster.js';
import { policyCheck, type PolicyCheckArguments } from '../../src/commands/policy-check.js';
import { UsageError } from '../../src/commands/usage-error.js';
import { ConfigurationError } from '../../src/settings/configuration-error.js';
import { runCli } from './cli-process.js';

const POLICY = `
rules:
  - name: deploy
    callers: [ci]
    actions: [restart_unit]
    clusters: [prod]
    units: ["web@*.service"]
  - callers: ["token:ci", manager, anonymous]
    effects: [read]
`;
const CLUSTERS = '{"prod": {"etcd_token": "Zqtoken"}, "test": ["127.0.0.1"]}';

/** The settings of a service with this policy, whose files go with the test. */
async function settings(t: ExecutionContext, policy = POLICY): Promise<Record<string, string>> {
  const folder = await mkdtemp(join(tmpdir(), 'policy-check-'));
  t.teardown(async () => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'policy.yaml'), policy);
  await writeFile(join(folder, 'clusters.json'), CLUSTERS);
  return { POLICY_FILE: join(folder, 'policy.yaml'), CLUSTERS_FILE: join(folder, 'clusters.json') };
}

const RESTART = { caller: 'ci', action: 'restart_unit', cluster: 'prod', unit: ['web@1.service'] };

async function checked(env: Record<string, string>, given: PolicyCheckArguments) {
  let text = '';
  const code = await policyCheck(given, { env, directory: '/nowhere' }, (more) => (text += more));
  return { code, text };
}

test('a request that is allowed is shown with its rule and its units, by the name of the cluster or its token', async (t) => {
  const env = await settings(t);
  const text = 'allowed  by deploy\nrules    deploy\nunits    web@*.service\n';
  for (const cluster of ['prod', 'Zqtoken'])
    t.deepEqual(await checked(env, { ...RESTART, cluster }), { code: 0, text });
  const { code, text: json } = await checked(env, { ...RESTART, json: true });
  t.is(code, 0);
  t.deepEqual(JSON.parse(json), {
    decision: 'allowed',
    rule: 'deploy',
    matched: ['deploy'],
    units: ['web@*.service'],
  });
  t.deepEqual(await checked(env, { caller: 'anonymous', action: 'list_units', cluster: 'test' }), {
    code: 0,
    text: 'allowed  by rule 2\nrules    rule 2\nunits    all\n',
  });
});

test('a request that is denied is shown with the rule that it needs, and with those that allow a part of it', async (t) => {
  const env = await settings(t);
  const denied = await checked(env, { ...RESTART, unit: ['web@1.service', 'db.service'] });
  t.is(denied.code, 1);
  t.is(
    denied.text,
    'denied   It needs a rule for the caller broker:ci, for the action restart_unit or the effect change, on the cluster prod, that covers the units db.service, web@1.service.\nrules    deploy\n',
  );
  const unknown = await checked(env, { ...RESTART, cluster: 'Zqother', json: true });
  t.is(unknown.code, 1);
  const { decision, needed, matched } = JSON.parse(unknown.text);
  t.is(decision, 'denied');
  t.true(needed.includes(new Cluster('Zqother').hash));
  t.false(unknown.text.includes('Zq'));
  t.deepEqual(matched, []);
});

test('a caller is verified by the broker, unless the command says by whom', async (t) => {
  const env = await settings(t);
  const codes = async (given: Partial<PolicyCheckArguments>) =>
    (await checked(env, { caller: 'ci', action: 'list_machines', cluster: 'test', ...given })).code;
  t.is(await codes({}), 1);
  t.is(await codes({ verifiedBy: 'token' }), 0);
  t.is(await codes({ caller: 'manager' }), 0);
  t.is(await codes({ caller: 'anyone', verifiedBy: 'manager' }), 0, 'the Manager tells no name');
  t.is(await codes({ caller: 'manager', verifiedBy: 'broker' }), 1);
  t.is(await codes({ caller: 'anonymous' }), 0);
  t.is(await codes({ caller: 'anonymous', verifiedBy: 'broker' }), 1);
});

test('without a policy everything is allowed, and the command says why', async (t) => {
  t.deepEqual(await checked({}, { ...RESTART, cluster: 'any' }), {
    code: 0,
    text: 'allowed  POLICY_FILE is not set: every caller may do everything\n',
  });
});

for (const [what, given, problem] of [
  [
    'an unknown action',
    { action: 'restart_unt' },
    /unknown action 'restart_unt'; did you mean restart_unit\?/,
  ],
  ['no cluster where one is needed', { cluster: undefined }, /runs against a cluster: give --cluster/],
  ['a cluster that can be none', { cluster: 'a b' }, /--cluster must be/],
  ['a unit that is none', { unit: ['web'] }, /--unit web is not the name of a unit/],
  ['a unit of an action that knows none', { action: 'list_machines' }, /list_machines knows no units/],
] as const) {
  test(`policy check refuses ${what}`, async (t) => {
    const env = await settings(t);
    await t.throwsAsync(
      checked(env, { ...RESTART, ...given, unit: [...(('unit' in given && given.unit) || RESTART.unit)] }),
      {
        instanceOf: UsageError,
        message: problem,
      },
    );
  });
}

test('policy check refuses a policy that cannot be used', async (t) => {
  const env = await settings(t, 'rules:\n- callers: [ci]');
  await t.throwsAsync(checked(env, RESTART), {
    instanceOf: ConfigurationError,
    message: /POLICY_FILE cannot be used: line 2, column 3: rules\[0\] needs actions or effects/,
  });
});

test('the command line of policy check', async (t) => {
  const env = await settings(t);
  const run = async (...args: string[]) => runCli(t, ['policy', 'check', ...args], { env });
  const restart = ['--caller', 'ci', '--action', 'restart_unit', '--cluster', 'prod'];
  const allowed = await run(...restart, '--unit', 'web@1.service', '--unit', 'web@2.service');
  t.like(allowed, { code: 0, stderr: '' });
  t.regex(allowed.stdout, /^allowed {2}by deploy\n/);
  t.is((await run(...restart, '--unit', 'web@1.service', '--unit', 'x.service')).code, 1);
  t.is(
    (await run('--caller', 'ci', '--action', 'list_machines', '--cluster', 'test', '--verified-by', 'token'))
      .code,
    0,
  );
  for (const [args, problem] of [
    [[], /required option '--caller <name>'/],
    [[...restart, '--verified-by', 'me'], /Allowed choices are broker, token, manager, service/],
    [['--caller', 'ci', '--action', 'bogus'], /unknown action 'bogus'/],
  ] as const) {
    const { code, stdout, stderr } = await run(...args);
    t.is(code, 2);
    t.is(stdout, '');
    t.regex(stderr, problem);
  }
});

test('a denial tells what else to ask: for units that a rule is for, and for a caller that a token has verified', async (t) => {
  const env = await settings(t);
  const { unit: _, ...whole } = RESTART;
  const withoutUnit = await checked(env, whole);
  t.is(withoutUnit.code, 1);
  t.true(
    withoutUnit.text.endsWith(
      '-> for some units it is allowed, by deploy: name those of the request with --unit NAME\n',
    ),
    withoutUnit.text,
  );
  const byBroker = await checked(env, { caller: 'ci', action: 'list_units', cluster: 'test' });
  t.is(byBroker.code, 1);
  t.true(
    byBroker.text.endsWith(
      '-> the broker has verified this caller; one that a token has verified is allowed: --verified-by token\n',
    ),
    byBroker.text,
  );
  const other = await checked(env, { ...RESTART, unit: ['db.service'] });
  t.false(other.text.includes('->'));
});

test('FLEET_MANAGER_CLUSTER names the cluster of an action that takes one', async (t) => {
  const { env, ...args } = {
    env: { ...(await settings(t)), FLEET_MANAGER_CLUSTER: 'test' },
    command: ['policy', 'check', '--caller', 'ci', '--verified-by', 'token', '--action'],
  };
  const { code, stdout } = await runCli(t, [...args.command, 'list_units'], { env });
  t.is(code, 0, stdout);
});
