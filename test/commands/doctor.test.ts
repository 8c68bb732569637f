import { execFile } from 'node:child_process';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect as connectTcp, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { promisify } from 'node:util';
import type { Channel } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import ssh2, { type ParsedKey } from 'ssh2';
import { checkKnownHosts, checkLogin } from '../../src/commands/check-ssh.js';
import { formatFinding } from '../../src/commands/finding.js';
import { systemClock } from '../../src/lib/clock.js';
import type { Sandbox } from '../../src/sandbox/sandbox.js';
import { parsePrivateKey } from '../../src/ssh/private-key.js';
import { rabbitmq } from '../support/brokers.js';
import { openSandbox } from '../support/open-sandbox.js';
import { StandInManager } from '../support/stand-in-manager.js';
import { runCli } from './cli-process.js';
import { type Environment, examine, examined, isFailure } from './examine.js';

async function folder(t: ExecutionContext): Promise<(name: string) => string> {
  const path = await mkdtemp(join(tmpdir(), 'doctor-'));
  t.teardown(async () => rm(path, { recursive: true }));
  return (name) => join(path, name);
}

/** A sandbox, and the settings to reach its clusters. */
async function clusters(t: ExecutionContext): Promise<{ sandbox: Sandbox; env: Environment }> {
  const { sandbox } = await openSandbox(t, { ssh: true, clock: systemClock });
  const { ssh } = sandbox;
  if (ssh === undefined) throw new Error('the sandbox has no SSH');
  const env = {
    ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
    SSH_KEY_FILE: ssh.privateKeyFile,
    SSH_PORT: String(ssh.port),
    SSH_KNOWN_HOSTS: ssh.knownHostsFile,
  };
  return { sandbox, env };
}

/** Starts a server on a path, or on a free port when there is no path. */
async function listening(t: ExecutionContext, server: Server, path?: string): Promise<AddressInfo> {
  server.listen(path === undefined ? { host: '127.0.0.1', port: 0 } : { path });
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server.address() as AddressInfo;
}

/** A server that accepts connections and never responds. */
async function silent(t: ExecutionContext, path?: string): Promise<{ port: number; left: Promise<unknown> }> {
  const server = createServer((socket) => socket.resume());
  const left = once(server, 'connection').then(async ([socket]: Socket[]) => socket && once(socket, 'close'));
  const { port } = await listening(t, server, path);
  return { port, left };
}

/** A broker address on which nothing listens. */
const NOWHERE = 'amqp://someone:Zq%40secret@127.0.0.1:1';

test('in a sandbox only the configuration and the plugins are checked, and a named cluster is a failure', async (t) => {
  const bare = await examine({});
  t.is(bare.code, 0);
  t.deepEqual(bare.names, ['configuration', 'plugins', 'the rest']);
  t.regex(bare.of('the rest').said, /^nothing to check: .*AMQP_URL/);
  const named = await examine({}, { cluster: 'web' });
  isFailure(t, named, 'cluster', /sandbox/, /^-> set AMQP_URL \(or MANAGER_URL/m);
});

test('doctor warns of a simulated cluster, and looks for no real one', async (t) => {
  const env = { AMQP_URL: NOWHERE, SANDBOX_CLUSTER: 'true' };
  const run = await examine(env);
  t.is(run.of('cluster').result, 'warning');
  t.regex(run.of('cluster').said, /^the service has only a simulated cluster[\s\S]*-> unset SANDBOX_CLUSTER/);
  t.false(run.names.includes('discovery'));
  isFailure(
    t,
    await examine(env, { cluster: 'web' }),
    'cluster',
    /there is none/,
    /^-> unset SANDBOX_CLUSTER/m,
  );
});

test('all invalid settings are reported, and the rest is skipped', async (t) => {
  const run = await examine({ PREFETCH: 'many', MANAGER_URL: 'http://manager' });
  isFailure(t, run, 'configuration', /^PREFETCH must be/m, /^an OpenAperture .*: set OAUTH_LOGIN_URL/m);
  t.is(run.of('the rest').result, 'skipped');
});

test('every failure is reported with its remedy, in order, without secrets', async (t) => {
  const at = await folder(t);
  const locked = ssh2.utils.generateKeyPairSync('ecdsa', {
    bits: 256,
    passphrase: 'Zq',
    cipher: 'aes256-cbc',
    rounds: 1,
  });
  await writeFile(at('key'), locked.private);
  const env = {
    AMQP_URL: `${NOWHERE},${NOWHERE}/other`,
    ETCD_DISCOVERY_URL: 'http://127.0.0.1:1',
    SSH_KEY_FILE: at('key'),
    SSH_KNOWN_HOSTS: at('.'),
  };
  const ended = await runCli(t, ['doctor', '--cluster', 'ZqToken'], { env });
  const run = examined(ended);
  t.deepEqual(run.names, [
    'configuration',
    'plugins',
    'policy',
    'broker',
    'callers',
    'discovery',
    'fleet',
    'SSH key',
    'known_hosts',
    'machines',
    'clock',
  ]);
  t.is(run.of('callers').said, 'not checked: no broker can be used');
  t.is(run.of('configuration').result, 'ok');
  isFailure(
    t,
    run,
    'broker',
    /^amqp:\/\/127\.0\.0\.1:1: connect ECONNREFUSED.*\n-> check .*AMQP_URL$/m,
    /^amqp:\/\/127\.0\.0\.1:1\/other: connect ECONNREFUSED/m,
  );
  isFailure(t, run, 'discovery', /127\.0\.0\.1:1 cannot be reached.*\n-> check ETCD_DISCOVERY_URL/);
  t.is(run.of('fleet').result, 'skipped');
  isFailure(t, run, 'SSH key', /^SSH_KEY_FILE cannot be used: .*\n-> set SSH_PASSPHRASE/);
  isFailure(t, run, 'known_hosts', /cannot be used: EISDIR.*\n-> set SSH_KNOWN_HOSTS/);
  t.is(run.of('machines').said, 'not checked: there is no usable SSH key');
  t.is(run.of('clock').said, 'not checked: no server tells its time');
  t.is(ended.stderr, '');
  t.false(ended.stdout.includes('Zq'));
});

test('a policy is checked: that there is one, that it can be used, and what in it can match nothing', async (t) => {
  const TOKEN = '6c007a14875d53d9bf0ef5a6fc0257c8';
  const at = await folder(t);
  const { env } = await clusters(t);
  await writeFile(at('clusters.json'), '{"prod": {"etcd_token": "Zqtoken"}, "test-1": ["127.0.0.1"]}');
  const settings = { ...env, AMQP_URL: 'amqp://127.0.0.1:1', CLUSTERS_FILE: at('clusters.json') };
  const withPolicy = async (text: string) => {
    await writeFile(at('policy.yaml'), text);
    return (await examine({ ...settings, POLICY_FILE: at('policy.yaml') })).of('policy');
  };
  const none = (await examine(settings)).of('policy');
  t.is(none.result, 'warning');
  t.regex(none.said, /^every caller may do everything.*\n-> set POLICY_FILE/);
  const rule = (rest: string) => `- callers: [ci]\n  ${rest}\n`;
  t.deepEqual(await withPolicy(`rules:\n${rule('actions: ["list_*"]\n  clusters: ["test-*", prod]')}`), {
    result: 'ok',
    said: '1 rule',
  });
  const { result, said } = await withPolicy(
    `rules:\n${rule('actions: [list_unit, "*"]')}${rule(`effects: [read]\n  clusters: [prod, Zqtoken, prdo, ${TOKEN}]`)}${rule('actions: [check_cluster]\n  units: [a.service]')}`,
  );
  t.is(result, 'warning');
  t.deepEqual(said.split('\n').slice(0, 6), [
    '3 rules; some can match nothing here:',
    'rule 1: no action is called list_unit',
    'rule 2: clusters[1] is the etcd token of prod: write the name',
    'rule 2: CLUSTERS_FILE has no cluster prdo',
    'rule 2: CLUSTERS_FILE has no cluster for its clusters[3]',
    'rule 3: it has units, and its actions know none',
  ]);
  t.false(said.includes('Zq') || said.includes(TOKEN));
  const broken = await withPolicy('rules:\n- callers: [ci]');
  t.is(broken.result, 'FAILED');
  t.regex(
    broken.said,
    /^POLICY_FILE cannot be used: line 2, column 3: rules\[0\] needs actions or effects\n->/,
  );
});

test('a cluster that has a name is checked by its name', async (t) => {
  const at = await folder(t);
  const { env } = await clusters(t);
  await writeFile(at('clusters.json'), '{"prod": {"etcd_token": "sandbox"}}');
  const run = await examine(
    { ...env, AMQP_URL: 'amqp://127.0.0.1:1', CLUSTERS_FILE: at('clusters.json') },
    { cluster: 'prod' },
  );
  t.is(run.of('discovery').result, 'ok', run.text);
  t.is(run.of('fleet').said, 'the fleet API responds: the cluster has 3 machines');
});

test('the clusters of CLUSTERS_FILE are named, and a discovery service that none of them needs is only a warning', async (t) => {
  const at = await folder(t);
  const settings = {
    AMQP_URL: NOWHERE,
    CLUSTERS_FILE: at('clusters.json'),
    ETCD_DISCOVERY_URL: 'http://127.0.0.1:1',
  };
  const withFile = async (text: string) => {
    await writeFile(settings.CLUSTERS_FILE, text);
    return examine(settings);
  };
  const named = await withFile(
    '{"prod": {"etcd_token": "Zqtoken", "endpoints": ["10.0.0.1"]}, "test": ["10.2.0.1"]}',
  );
  t.deepEqual(named.of('clusters'), {
    result: 'ok',
    said: 'CLUSTERS_FILE has 2 clusters: prod, test\nto check one, add --cluster NAME',
  });
  t.is(named.of('discovery').result, 'warning');
  t.regex(named.of('discovery').said, /^the clusters of CLUSTERS_FILE need no discovery.*\n.*127\.0\.0\.1:1/);
  const toFind = await withFile('{"prod": {"etcd_token": "Zqtoken"}, "test": ["10.2.0.1"]}');
  t.regex(toFind.of('clusters').said, /^1 of them without endpoints: discovery finds these$/m);
  isFailure(t, toFind, 'discovery', /127\.0\.0\.1:1/);
  t.false(`${named.text}${toFind.text}`.includes('Zq'));
  const { names } = await examine({ AMQP_URL: NOWHERE });
  t.false(names.includes('clusters'));
});

test('a claim store is checked when one is set, and what is wrong with it is said without the password', async (t) => {
  const { env } = await clusters(t);
  const settings = {
    ...env,
    AMQP_URL: 'amqp://127.0.0.1:1',
    CLAIMS_ETCD_URL: 'http://127.0.0.1:1',
    CLAIMS_ETCD_USER: 'worker',
    CLAIMS_ETCD_PASSWORD: 'Zqsecret',
  };
  const run = await examine(settings);
  isFailure(t, run, 'claims', /127\.0\.0\.1:1: .*ECONNREFUSED|bad port/, /-> check CLAIMS_ETCD_URL/);
  t.false(run.text.includes('Zq'));
  const { names } = await examine({ ...env, AMQP_URL: 'amqp://127.0.0.1:1' });
  t.false(names.includes('claims'));
});

test('an invalid clusters file skips only the checks that need it', async (t) => {
  const at = await folder(t);
  await writeFile(at('clusters.json'), '[]');
  const { env } = await clusters(t);
  const run = await examine(
    { ...env, AMQP_URL: NOWHERE, CLUSTERS_FILE: at('clusters.json') },
    { cluster: 'a' },
  );
  isFailure(t, run, 'configuration', /^CLUSTERS_FILE cannot be used: it must be an object/);
  t.is(run.of('broker').result, 'FAILED');
  t.is(run.of('discovery').result, 'skipped');
  t.is(run.of('SSH key').result, 'ok');
  t.is(run.of('known_hosts').result, 'ok');
});

test('an entry of the clusters file that cannot be used is named, and that cluster is not looked for elsewhere', async (t) => {
  const at = await folder(t);
  await writeFile(at('clusters.yaml'), 'a: 5\nlab: { kind: systemd, machines: [{ host: 10.0.0.1 }] }\n');
  const { env } = await clusters(t);
  const settings = { ...env, AMQP_URL: NOWHERE, CLUSTERS_FILE: at('clusters.yaml') };
  const run = await examine(settings, { cluster: 'a' });
  isFailure(t, run, 'clusters', /^CLUSTERS_FILE has 1 cluster: lab\nline 1, column 1: 5 is not an endpoint/);
  t.is(run.of('configuration').result, 'ok');
  for (const check of ['discovery', 'fleet', 'machines'])
    t.regex(run.of(check).said, /^not checked: /, check);
});

test('the machines of a cluster of plain systemd hosts are checked, and neither discovery nor fleet', async (t) => {
  const at = await folder(t);
  await writeFile(at('clusters.yaml'), 'lab: { kind: systemd, machines: [{ host: 127.0.0.9, port: 1 }] }\n');
  const { env } = await clusters(t);
  const settings = { ...env, AMQP_URL: NOWHERE, CLUSTERS_FILE: at('clusters.yaml'), SSH_HOST_KEYS: 'off' };
  const run = await examine(settings, { cluster: 'lab' });
  t.is(run.of('clusters').said, 'CLUSTERS_FILE has 1 cluster: lab');
  for (const check of ['discovery', 'fleet'])
    t.is(run.of(check).said, 'not checked: the cluster is one of plain systemd hosts');
  // The port of the machine, not SSH_PORT.
  isFailure(
    t,
    run,
    'machines',
    /127\.0\.0\.9.*(?:ECONNREFUSED|refused)/,
    /SSH server listens on its port in CLUSTERS_FILE \(1\)/,
  );
  const forbidden = await examine({ ...settings, ALLOWED_HOSTS: '10.0.0.0/8' }, { cluster: 'lab' });
  isFailure(t, forbidden, 'machines', /not allowed/, /-> add 127\.0\.0\.9 to ALLOWED_HOSTS/);
});

test('a file of tokens that cannot be used is a failure, and the tokens of another one are counted', async (t) => {
  const at = await folder(t);
  const env = { AMQP_URL: NOWHERE, HTTP_TOKENS_FILE: at('tokens.json') };
  const run = async () => examined(await runCli(t, ['doctor'], { env }));
  await writeFile(env.HTTP_TOKENS_FILE, '[{ "name": "ci", "token": "Zqsecret" }]');
  const broken = await run();
  isFailure(t, broken, 'configuration', /^HTTP_TOKENS_FILE cannot be used: 'ci': it may have only name/);
  t.false(broken.names.includes('HTTP tokens'));
  t.false(broken.text.includes('Zq'));
  await writeFile(env.HTTP_TOKENS_FILE, '[]');
  const said = 'HTTP_TOKENS_FILE has 0 tokens';
  t.deepEqual((await run()).of('HTTP tokens'), { result: 'ok', said });
});

test('an unknown cluster, an empty cluster and a missing fleet API are reported differently', async (t) => {
  const { sandbox, env } = await clusters(t);
  const all = { ...env, AMQP_URL: NOWHERE };
  isFailure(
    t,
    await examine(all, { cluster: 'nosuch' }),
    'discovery',
    /has no cluster with this etcd_token.*\n-> check the token, .*ETCD_DISCOVERY_URL .*CLUSTERS_FILE/,
  );
  await sandbox.addCluster('empty', { members: [], hosts: [] });
  isFailure(t, await examine(all, { cluster: 'empty' }), 'discovery', /no machine has registered.*\n-> /);
  const elsewhere = await examine({ ...all, FLEET_API_PORT: '2' }, { cluster: 'sandbox' });
  isFailure(t, elsewhere, 'fleet', /No fleet API .*ECONNREFUSED.*\n-> check FLEET_API_PORT \(2\)/);
  t.is(elsewhere.of('discovery').result, 'ok');
  const forbidden = await examine({ ...all, ALLOWED_HOSTS: '10.0.0.0/8' }, { cluster: 'sandbox' });
  isFailure(t, forbidden, 'fleet', /not allowed.*\n-> .*ALLOWED_HOSTS/);
});

test('members of discovery that have no valid host are named, and the rest of the cluster is checked', async (t) => {
  const { sandbox, env } = await clusters(t);
  const all = { ...env, AMQP_URL: NOWHERE };
  sandbox.cluster.members = [...sandbox.cluster.members, 'odd=http://a..b:2380'];
  const run = await examine(all, { cluster: 'sandbox' });
  t.is(run.of('discovery').result, 'warning', run.text);
  t.regex(
    run.of('discovery').said,
    /^the cluster has 1 host: .*\ndiscovery has 1 member without a valid host, not used: 'http:\/\/a\.\.b:2380'\n-> /,
  );
  t.is(run.of('fleet').result, 'ok');
  t.is(run.of('clock').result, 'ok');
  sandbox.cluster.members = ['odd=http://a..b:2380'];
  isFailure(
    t,
    await examine(all, { cluster: 'sandbox' }),
    'discovery',
    /'http:\/\/a\.\.b:2380'\n-> .*members/,
  );
});

test('plugins that cannot be served are reported with the error of serve, in a sandbox too', async (t) => {
  const at = await folder(t);
  await mkdir(at('plugins/bad'), { recursive: true });
  await writeFile(at('plugins/bad/index.js'), 'export default 1;');
  const broken = { PLUGIN_PATHS: at('plugins') };
  for (const env of [broken, { ...broken, AMQP_URL: NOWHERE }])
    isFailure(
      t,
      await examine(env),
      'plugins',
      /^plugin \S+\/plugins\/bad: its default export was not made by/,
    );
  isFailure(t, await examine({ ACTIONS: 'list_unit' }), 'plugins', /names 'list_unit'.*\n-> check ACTIONS/);
  const served = await examine({ ACTIONS: 'list_units' });
  t.is(served.code, 0, served.text);
  t.is(served.of('plugins').said, '1 action: list_units');
});

test('a missing SSH key is not a failure when no action logs in to machines', async (t) => {
  const { env } = await clusters(t);
  const { SSH_KEY_FILE: _, ...others } = env;
  const keyless = { ...others, AMQP_URL: NOWHERE };
  const run = await examine({ ...keyless, ACTIONS: 'list_units,restart_unit' });
  t.is(run.of('SSH key').result, 'skipped');
  t.is(run.of('known_hosts').result, 'missing');
  for (const [ACTIONS, named] of [
    ['list_units,unit_logs', 'unit_logs'],
    ['node_info', 'node_info'],
    ['unit_logs,node_info', 'node_info, unit_logs'],
  ] as const)
    isFailure(
      t,
      await examine({ ...keyless, ACTIONS }),
      'SSH key',
      new RegExp(`^neither SSH_KEY_FILE .*: ${named}\n-> set SSH_KEY_FILE`),
    );
  const unknown = await examine({ ...keyless, ACTIONS: 'list_unit' });
  t.is(unknown.of('SSH key').result, 'skipped');
  t.regex(unknown.of('SSH key').said, /not known whether an action needs one: the plugins cannot be served/);
  // A key that is set is checked, even when no action needs it.
  const key = { SSH_KEY_FILE: '/dev/null', ACTIONS: 'list_units' };
  isFailure(t, await examine({ ...keyless, ...key }), 'SSH key', /^SSH_KEY_FILE cannot be used/);
});

test('without a cluster it is enough that the discovery service responds', async (t) => {
  const { sandbox, env } = await clusters(t);
  const run = await examine({ ...env, AMQP_URL: NOWHERE });
  t.is(run.of('discovery').result, 'ok');
  t.regex(run.of('discovery').said, /^127\.0\.0\.1:\d+ responds; .*--cluster/);
  sandbox.discovery.fail({ kind: '500' });
  isFailure(t, await examine({ ...env, AMQP_URL: NOWHERE }), 'discovery', /500\n-> check ETCD_DISCOVERY_URL/);
});

test('a server that never responds fails its check at the time limit, and its connection is closed', async (t) => {
  const at = await folder(t);
  const { sandbox, env } = await clusters(t);
  sandbox.discovery.fail({ kind: 'hang' });
  const broker = await silent(t);
  const agent = await silent(t, at('agent'));
  const run = await examine(
    {
      ...env,
      AMQP_URL: `amqp://127.0.0.1:${broker.port}`,
      SSH_AUTH_SOCK: at('agent'),
    },
    { limitMs: 300, cluster: 'sandbox' },
  );
  for (const name of ['broker', 'discovery', 'SSH key'])
    isFailure(t, run, name, /no response within 0\.3 s\n-> /);
  sandbox.discovery.fail({ kind: '500' });
  await t.notThrowsAsync(broker.left);
  await t.notThrowsAsync(agent.left);
});

test('a Manager that never responds fails its check at the time limit', async (t) => {
  const { env, manager } = await installation(t);
  t.teardown(manager.hold(/exchanges/));
  const run = await examine(env, { limitMs: 300 });
  isFailure(t, run, 'Manager', /no response within 0\.3 s\n-> .*OAUTH_LOGIN_URL.*MANAGER_URL/);
  t.is(run.of('broker').said, 'not checked: the Manager gives no brokers');
});

/** An ssh-agent with these keys. */
async function startAgent(t: ExecutionContext, path: string, keys: ParsedKey[]): Promise<void> {
  const server = createServer((socket) => {
    const protocol = new ssh2.AgentProtocol(false);
    protocol.on('identities', (request) => protocol.getIdentitiesReply(request, keys));
    socket.pipe(protocol).pipe(socket);
  });
  await listening(t, server, path);
}

test('the keys of an ssh-agent are counted', async (t) => {
  const at = await folder(t);
  const { env } = await clusters(t);
  const { SSH_KEY_FILE = '', ...others } = env;
  const keyless = { ...others, AMQP_URL: NOWHERE };
  const key = ssh2.utils.parseKey(await readFile(SSH_KEY_FILE));
  if (key instanceof Error) throw key;
  await startAgent(t, at('full'), [key, key]);
  await startAgent(t, at('empty'), []);
  const full = await examine({ ...keyless, SSH_AUTH_SOCK: at('full') });
  t.is(full.of('SSH key').result, 'ok');
  t.is(full.of('SSH key').said, 'the ssh-agent has 2 keys');
  isFailure(
    t,
    await examine({ ...keyless, SSH_AUTH_SOCK: at('empty') }),
    'SSH key',
    /has no keys\n-> .*ssh-add/,
  );
  const gone = { SSH_AUTH_SOCK: at('gone') };
  isFailure(
    t,
    await examine({ ...keyless, ...gone }),
    'SSH key',
    /gone: connect ENOENT.*\n-> .*SSH_KEY_FILE/,
  );
  isFailure(t, await examine(keyless), 'SSH key', /^neither .*\n-> set SSH_KEY_FILE/);
  // With a private key, a missing agent is reported, but is not a failure.
  const both = await examine({ ...keyless, ...gone, SSH_KEY_FILE });
  t.is(both.of('SSH key').result, 'ok');
  t.regex(both.of('SSH key').said, /^the private key can be used\n.*no ssh-agent responds/);
});

const HOST_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILEjoYiN5pcUFJbpK8lYPYF8lGtpXPQl1bgAOcmbxIJq';

test('a private key that cannot be used comes with the advice that fits', async (t) => {
  const advice = async (privateKey: string, passphrase?: string) => {
    const useKey = async () => {
      try {
        parsePrivateKey(privateKey, passphrase);
      } catch (cause) {
        throw new Error('SSH_KEY_FILE cannot be used', { cause });
      }
    };
    const options = { actions: ['unit_logs'], useKey };
    const login = { privateKey: Buffer.from(privateKey), agentSocket: undefined };
    return (await checkLogin(login, options, new AbortController().signal)).lines.join('\n');
  };
  const pair = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const encryption = { cipher: 'aes-256-cbc', passphrase: ' secret ' };
  const privateKey = pair.privateKey.export({ type: 'pkcs8', format: 'pem', ...encryption }).toString();
  const publicKey = `ssh-rsa ${parsePrivateKey(privateKey, ' secret ').getPublicSSH().toString('base64')}`;
  t.is(await advice(privateKey, ' secret '), 'the private key can be used');
  t.regex(await advice(privateKey), /-> set SSH_PASSPHRASE to the passphrase of the key$/);
  t.regex(await advice(privateKey, 'secret'), /-> check SSH_PASSPHRASE; spaces at its ends belong to it$/);
  t.regex(await advice(publicKey), /-> set SSH_KEY_FILE to the private key/);
  t.regex(await advice('nonsense'), /-> set SSH_KEY_FILE to a private key in OpenSSH's format/);
});

test('with strict, known_hosts must contain every machine of the cluster', async (t) => {
  const at = await folder(t);
  await writeFile(at('empty'), '# no keys yet\n');
  await writeFile(at('one'), `10.0.0.1 ${HOST_KEY}\nnonsense\n@revoked 10.0.0.2 ${HOST_KEY}\n`);
  const check = async (name: string, machines?: string[]) =>
    checkKnownHosts({ hostKeys: 'strict', knownHostsFile: at(name), port: 22 }, machines);
  const said = async (...args: Parameters<typeof check>) => (await check(...args)).lines.join('\n');
  for (const name of ['empty', 'missing']) {
    t.is((await check(name)).result, 'FAILED');
    t.regex(await said(name), /no machine is trusted\n-> ssh-keyscan -p 22 HOST/);
  }
  t.is((await check('one')).result, 'ok');
  t.regex(await said('one'), /one has 1 host key\ninvalid lines: 2$/);
  await writeFile(at('authority'), `@cert-authority *.lan ${HOST_KEY}\n`);
  t.is((await check('authority')).result, 'FAILED');
  t.regex(
    await said('authority'),
    /authority has only @cert-authority lines: host certificates are not supported, .*\n.*\n-> ssh-keyscan/,
  );
  await writeFile(at('both'), `@cert-authority *.lan ${HOST_KEY}\n10.0.0.1 ${HOST_KEY}\n`);
  t.is((await check('both')).result, 'ok');
  t.regex(
    await said('both'),
    /has 1 host key\n1 @cert-authority line not used: host certificates are not supported/,
  );
  t.is((await check('one', ['10.0.0.1'])).result, 'ok');
  t.is((await check('one', ['10.0.0.1', '10.0.0.2', '10.0.0.3'])).result, 'FAILED');
  t.regex(
    await said('one', ['10.0.0.1', '10.0.0.2', '10.0.0.3']),
    /2 of the cluster's 3 machines: 10\.0\.0\.2, 10\.0\.0\.3\n.*\n-> ssh-keyscan -p 22 10\.0\.0\.2 10\.0\.0\.3 >> /,
  );
});

test('with accept-new, known_hosts must be writable or creatable; off is a failure', async (t) => {
  const at = await folder(t);
  await writeFile(at('file'), '');
  const check = async (hostKeys: 'accept-new' | 'off', path: string) =>
    checkKnownHosts({ hostKeys, knownHostsFile: path, port: 22 }, ['10.0.0.1']);
  for (const path of [at('file'), at('new/folder/known_hosts')]) {
    const { result, lines } = await check('accept-new', path);
    t.is(result, 'ok');
    t.regex(lines.join('\n'), /no host key is known for 1 of .*\n.*saved at the first connection to it$/);
  }
  t.deepEqual(await readdir(at('.')), ['file']);
  for (const [path, why] of [
    [at('file/known_hosts'), 'ENOTDIR'],
    [at('.'), 'EISDIR'],
    ['/proc/none/known_hosts', 'no file can be created in /proc'],
  ] as const) {
    const { result, lines } = await check('accept-new', path);
    t.is(result, 'FAILED');
    t.true(lines.join('\n').includes(`cannot be used: ${why}`), lines.join('\n'));
    t.regex(lines.join('\n'), /\n-> set SSH_KNOWN_HOSTS .* and write/);
  }
  t.is((await check('off', at('file'))).result, 'FAILED');
});

test('every line of a finding is indented beside the name of its check, without control characters', (t) => {
  t.is(
    formatFinding('broker', { result: 'FAILED', lines: ['one\r\n  two\n', '-> three\x1b[31m'] }),
    'FAILED  broker        one\n                        two\n                      -> three\\u001b[31m\n',
  );
});

const EXCHANGE_ID = 7;
const BROKER_ID = 3;
const FAILOVER_BROKER_ID = 4;

/** A Manager with an exchange and a broker at these ports; by default at a port on which nothing listens. */
async function installation(
  t: ExecutionContext,
  ports: { own?: number[]; failover?: number[] } = {},
): Promise<{ manager: StandInManager; env: Environment }> {
  const manager = await StandInManager.start(t);
  const at = (list: number[]) => ({ connections: list.map((port) => ({ host: '127.0.0.1', port })) });
  manager.addExchange(EXCHANGE_ID, { rootExchangeName: 'root', routingKey: 'root.part' });
  manager.addBroker(BROKER_ID, {
    ...at(ports.own ?? [1]),
    failoverBrokerId: ports.failover === undefined ? null : FAILOVER_BROKER_ID,
  });
  if (ports.failover !== undefined) manager.addBroker(FAILOVER_BROKER_ID, at(ports.failover));
  const env = {
    MANAGER_URL: manager.url,
    OAUTH_LOGIN_URL: manager.oauthUrl,
    OAUTH_CLIENT_ID: manager.clientId,
    OAUTH_CLIENT_SECRET: manager.clientSecret,
    EXCHANGE_ID: String(EXCHANGE_ID),
    BROKER_ID: String(BROKER_ID),
    ETCD_DISCOVERY_URL: 'http://127.0.0.1:1',
  };
  return { manager, env };
}

test('a Manager that is down is reported once; its brokers are skipped, the other checks run', async (t) => {
  const { manager, env } = await installation(t);
  await manager.down();
  const run = await examine(env);
  isFailure(t, run, 'Manager', /^The OAuth server at \S+ cannot be reached .*OAUTH_LOGIN_URL right\?$/);
  t.deepEqual(run.of('broker'), {
    result: 'skipped',
    said: 'not checked: the Manager gives no brokers',
  });
  t.deepEqual(run.names.slice(5), ['discovery', 'SSH key', 'known_hosts', 'clock']);
});

test('a refused login, an unknown exchange or an unknown broker names the setting to check', async (t) => {
  const { manager, env } = await installation(t);
  const secret = 'Zq-wrong';
  const refused = await examine({ ...env, OAUTH_CLIENT_SECRET: secret });
  isFailure(t, refused, 'Manager', /check OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET/);
  t.false(refused.text.includes(secret));
  const unknown = await examine({ ...env, EXCHANGE_ID: '8', BROKER_ID: '9' });
  isFailure(t, unknown, 'Manager', /no exchange 8: check EXCHANGE_ID$/m, /no broker 9: check BROKER_ID$/m);
  // The brokers are checked even when the exchange is unknown.
  isFailure(
    t,
    await examine({ ...env, EXCHANGE_ID: '8' }),
    'broker',
    /ECONNREFUSED.*\n-> .* broker 3 in the Manager/,
  );
  manager.addBroker(BROKER_ID, { connections: [] });
  isFailure(t, await examine(env), 'Manager', /Broker 3 has no connections: add one .*BROKER_ID/);
});

test('an invalid MANAGER_URL is reported without a stack or a secret', async (t) => {
  const { env } = await installation(t);
  const ended = await runCli(t, ['doctor'], {
    env: { ...env, MANAGER_URL: 'http://someone:Zq@127.0.0.1:1' },
  });
  const run = examined(ended);
  isFailure(t, run, 'configuration', /^MANAGER_URL must not contain a user name or password/);
  t.is(run.of('the rest').result, 'skipped');
  t.is(ended.stderr, '');
  t.false(ended.stdout.includes('Zq'));
});

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  const port = Number(new URL(rabbit.url).port);

  /** A channel of a separate connection. Its exclusive queues are deleted when the test ends. */
  const openChannel = async (t: ExecutionContext): Promise<Channel> => {
    const connection = await rabbit.open();
    t.teardown(async () => connection.close());
    return connection.createChannel();
  };

  /** Declares a queue and an exchange, and deletes them when the test ends. */
  const openQueue = async (t: ExecutionContext): Promise<{ queue: string; exchange: string }> => {
    const channel = await openChannel(t);
    const names = { queue: `queue_${randomUUID()}`, exchange: `exchange_${randomUUID()}` };
    await channel.assertQueue(names.queue, { autoDelete: true });
    await channel.assertExchange(names.exchange, 'topic', { durable: false });
    t.teardown(async () => {
      await channel.deleteQueue(names.queue);
      await channel.deleteExchange(names.exchange);
    });
    return names;
  };

  test('over RabbitMQ doctor succeeds when every check succeeds, and lists each', async (t) => {
    const { env } = await clusters(t);
    const { queue } = await openQueue(t);
    const ended = await runCli(t, ['doctor', '--cluster', 'sandbox'], {
      env: { ...env, AMQP_URL: rabbit.url, QUEUE_NAME: queue },
    });
    const run = examined(ended);
    t.is(run.code, 0, run.text);
    t.is(ended.stderr, '');
    t.deepEqual(run.names, [
      'configuration',
      'plugins',
      'policy',
      'broker',
      'callers',
      'discovery',
      'fleet',
      'SSH key',
      'known_hosts',
      'machines',
      'clock',
    ]);
    // There is no policy. One of the example's machines has no Docker daemon, another a disk that is nearly full. The user is guest.
    const warnings = new Set(['policy', 'machines', 'callers']);
    for (const name of run.names) t.is(run.of(name).result, warnings.has(name) ? 'warning' : 'ok');
    t.is(
      run.of('broker').said,
      `amqp://127.0.0.1:${port}: the queue ${queue} has 0 messages and 0 consumers`,
    );
    t.regex(run.of('discovery').said, /^the cluster has 1 host: 127\.0\.0\.1:/);
    t.is(run.of('fleet').said, 'the fleet API responds: the cluster has 3 machines');
    t.is(run.of('SSH key').said, 'the private key can be used');
    t.regex(run.of('known_hosts').said, /machines are known: 127\.0\.0\.1, 127\.0\.0\.2, 127\.0\.0\.3$/);
  });

  test('over RabbitMQ, in an installation, the exchange and the queue are checked, and the unchecked binding is reported', async (t) => {
    const { env: ofClusters } = await clusters(t);
    const { queue, exchange } = await openQueue(t);
    const { manager, env } = await installation(t, { own: [port] });
    manager.addExchange(EXCHANGE_ID, { rootExchangeName: exchange, routingKey: 'root.part' });
    const ended = await runCli(t, ['doctor'], { env: { ...env, ...ofClusters, QUEUE_NAME: queue } });
    const run = examined(ended);
    t.is(run.code, 0, run.text);
    t.deepEqual(run.names, [
      'configuration',
      'plugins',
      'policy',
      'Manager',
      'broker',
      'callers',
      'discovery',
      'SSH key',
      'known_hosts',
      'clock',
    ]);
    t.regex(
      run.of('Manager').said,
      /accepts our token; exchange 7 is exchange_\S+ with the routing key root\.part\n/,
    );
    const { said } = run.of('broker');
    t.regex(said, /: the exchange exchange_\S+ exists\nthe queue \S+ has 0 messages/);
    t.regex(said, new RegExp(`^not checked, .* root\\.part\\.${queue} `, 'm'));
    t.regex(said, /^-> .*rabbitmqctl list_bindings/m);
    t.false(ended.stdout.includes(manager.clientSecret));
  });

  test('over RabbitMQ the exchange must exist, on a failover broker its failover exchange; a missing queue is not a failure', async (t) => {
    const { exchange } = await openQueue(t);
    const { manager, env } = await installation(t, { own: [port], failover: [port] });
    manager.addExchange(EXCHANGE_ID, { rootExchangeName: exchange, routingKey: 'a', failoverExchangeId: 8 });
    manager.addExchange(8, { rootExchangeName: 'nosuch', routingKey: 'b' });
    const QUEUE_NAME = `queue_${randomUUID()}`;
    const run = await examine({ ...env, QUEUE_NAME });
    isFailure(t, run, 'broker', /: the exchange nosuch does not exist\n-> .*EXCHANGE_ID/);
    t.regex(
      run.of('broker').said,
      new RegExp(`: the exchange ${exchange} exists\n.*create it and bind .* a\\.${QUEUE_NAME}`),
    );
    // The check has declared no queue.
    const channel = await openChannel(t);
    channel.on('error', () => {});
    await t.throwsAsync(channel.checkQueue(QUEUE_NAME), { code: 404 });
  });

  test('over RabbitMQ an exclusive queue is a failure, and a missing queue is not', async (t) => {
    const channel = await openChannel(t);
    const { queue } = await channel.assertQueue(`queue_${randomUUID()}`, { exclusive: true });
    const missing = await examine({ AMQP_URL: rabbit.url, QUEUE_NAME: `queue_${randomUUID()}` });
    t.is(missing.of('broker').result, 'ok');
    t.regex(missing.of('broker').said, /the queue \S+ does not exist yet; the service will create it$/);
    isFailure(
      t,
      await examine({ AMQP_URL: rabbit.url, QUEUE_NAME: queue }),
      'broker',
      /RESOURCE_LOCKED.*\n-> .*QUEUE_NAME/,
    );
  });

  test('over RabbitMQ a refused login is reported with the setting to check', async (t) => {
    const one = (change: (url: URL) => void) => {
      const url = new URL(rabbit.url);
      change(url);
      return url.href;
    };
    const run = async (url: string) => examine({ AMQP_URL: url });
    const password = await run(one((url) => (url.password = 'Zq')));
    isFailure(t, password, 'broker', /ACCESS_REFUSED.*\n-> check the user and the password in AMQP_URL/);
    t.false(password.text.includes('Zq'));
    isFailure(
      t,
      await run(one((url) => (url.pathname = '/no'))),
      'broker',
      /vhost .*\n-> check the virtual host in AMQP_URL/,
    );
    isFailure(t, await run(one((url) => (url.protocol = 'amqps'))), 'broker', /-> .*port.*amqps/);
  });

  test('over RabbitMQ amqps works with the CA file of a private authority, and not without it', async (t) => {
    const at = await folder(t);
    const certificate = [
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=us',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
    ];
    await promisify(execFile)('openssl', [
      'req',
      '-x509',
      ...certificate,
      '-keyout',
      at('key'),
      '-out',
      at('pem'),
    ]);
    const [key, cert] = await Promise.all([readFile(at('key')), readFile(at('pem'))]);
    const front = createTlsServer({ key, cert }, (socket) => {
      const back = connectTcp(port, '127.0.0.1');
      socket.pipe(back).pipe(socket);
      for (const each of [socket, back]) each.on('error', () => each.destroy());
    });
    const { port: tlsPort } = await listening(t, front);
    const AMQP_URL = `amqps://127.0.0.1:${tlsPort}`;
    t.is((await examine({ AMQP_URL, AMQP_CA_FILE: at('pem') })).of('broker').result, 'ok');
    isFailure(t, await examine({ AMQP_URL }), 'broker', /self.signed certificate.*\n-> .*AMQP_CA_FILE/);
  });

  /** RabbitMQ behind a proxy that sees the sent bytes and can reset the connection. */
  const startWatchedBroker = async (
    t: ExecutionContext,
    onData: (data: Buffer, reset: () => void) => void,
  ): Promise<string> => {
    const front = createServer((socket) => {
      const back = connectTcp(port, '127.0.0.1', () => back.pipe(socket));
      for (const each of [socket, back]) each.on('error', () => each.destroy());
      socket.on('data', (data: Buffer) => {
        onData(data, () => void socket.resetAndDestroy());
        if (socket.destroyed) back.destroy();
        else back.write(data);
      });
    });
    return `127.0.0.1:${(await listening(t, front)).port}`;
  };

  test('over RabbitMQ a connection that is reset during the check is a failure', async (t) => {
    const host = await startWatchedBroker(t, (data, reset) => data.includes('the_queue') && reset());
    const run = await examine({ AMQP_URL: `amqp://${host}`, QUEUE_NAME: 'the_queue' });
    isFailure(t, run, 'broker', /ECONNRESET\n-> check that a broker runs at that address/);
    t.is(run.names.at(-1), 'clock');
  });

  test('over RabbitMQ a user and a password with non-ASCII characters are sent unchanged', async (t) => {
    let sent = '';
    const host = await startWatchedBroker(t, (data) => (sent += data.toString('utf8')));
    await examine({ AMQP_URL: `amqp://j%C3%BCrgen:p%40ssw%C3%B6rt%E2%82%AC@${host}` });
    t.true(sent.includes('\0jürgen\0p@sswört€'));
  });
}

test('the round trip calls the first served action that only reads and requires no parameters, preferably a list', async (t) => {
  const { manager, env } = await installation(t);
  const options = { roundTrip: true, replyMs: 1_000 };
  for (const [ACTIONS, action] of [
    ['unit_logs,list_units,restart_unit', 'list_units'],
    ['list_units,list_machines', 'list_machines'],
    ['check_cluster,list_units', 'list_units'],
    ['check_cluster', 'check_cluster'],
  ] as const) {
    const run = await examine({ ...env, ACTIONS }, options);
    isFailure(t, run, 'round trip', /ECONNREFUSED/, /^the record is deleted$/m);
    t.regex(manager.callsTo(/rpc_requests$/, 'POST').at(-1)?.text ?? '', new RegExp(`"${action}"`));
  }
  for (const [ACTIONS, reason] of [
    [
      'unit_logs,restart_unit',
      /no served action only reads a cluster and requires no parameters; see ACTIONS/,
    ],
    ['list_unit', /the plugins cannot be served/],
  ] as const) {
    const { result, said } = (await examine({ ...env, ACTIONS }, options)).of('round trip');
    t.is(result, 'skipped');
    t.regex(said, reason);
  }
  t.is(manager.callsTo(/rpc_requests$/, 'POST').length, 4);
});
