import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { folder } from '../support/settings.js';
import { writePlugin } from '../support/write-plugin.js';
import { type RunningCli, runCli, startCli } from './cli-process.js';

const [CI, OPS] = ['the token of continuous integration', 'the token of the operators'];
/** Nothing listens there: the gateway is up without a broker. */
const NO_BROKER = 'amqp://127.0.0.1:1';

/** A file of tokens, and what writes it anew. */
async function tokensFile(t: ExecutionContext) {
  const file = join(await folder(t), 'tokens.json');
  const write = async (tokens: Record<string, string>) => {
    const entries = Object.entries(tokens).map(([name, token]) => ({
      name,
      sha256: createHash('sha256').update(token).digest('hex'),
    }));
    await writeFile(file, JSON.stringify(entries));
  };
  await write({ ci: CI });
  return { file, write };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

async function statusOf(url: string, token: string): Promise<number> {
  return (await fetch(`${url}/v1/actions`, { headers: bearer(token) })).status;
}

async function urlOf(cli: RunningCli): Promise<string> {
  const [, url = ''] = await cli.printed(/ http=(\S+)/);
  return url;
}

test('a file of tokens that cannot be used stops the start, and all its problems are told', async (t) => {
  const { file } = await tokensFile(t);
  await writeFile(file, `[{ "name": "ci" }, { "name": "ops", "token": "${OPS}" }]`);
  const { code, stderr } = await runCli(t, ['serve'], { env: { HTTP_PORT: '0', HTTP_TOKENS_FILE: file } });
  t.is(code, 2);
  t.regex(stderr, /HTTP_TOKENS_FILE cannot be used: 'ci': sha256 must .*; 'ops': it may have only/);
  t.false(stderr.includes(OPS));
});

test('the start is logged with what the service uses, and what it does not', async (t) => {
  const { file } = await tokensFile(t);
  const bare = await startCli(t, ['serve'], { env: { AMQP_URL: NO_BROKER, HTTP_PORT: '0' } });
  await bare.printed(/policy_rules=off named_clusters=off http_tokens=off audit=off claims=off/);
  const at = (name: string) => join(dirname(file), name);
  await writeFile(at('policy.yaml'), 'rules: [{ callers: [ci], effects: [read] }]');
  await writeFile(at('clusters.json'), '{"prod": ["10.0.0.1"], "test": {"etcd_token": "Zqtoken"}}');
  const env = {
    AMQP_URL: NO_BROKER,
    HTTP_PORT: '0',
    HTTP_TOKENS_FILE: file,
    HTTP_TOKEN: 'the token of everybody',
    POLICY_FILE: at('policy.yaml'),
    CLUSTERS_FILE: at('clusters.json'),
    AUDIT: at('audit.jsonl'),
    CLAIMS_ETCD_URL: 'http://127.0.0.1:1',
  };
  const all = await startCli(t, ['serve'], { env });
  const [line] = await all.printed(/service started.*/);
  t.true(line.includes(`policy_rules=1 named_clusters=2 http_tokens=2 audit=${env.AUDIT} claims=on`), line);
  t.false(line.includes('Zq'));
});

test('at SIGHUP the service reads its tokens again and goes on; a file that cannot be used changes nothing', async (t) => {
  const { file, write } = await tokensFile(t);
  const env = { AMQP_URL: NO_BROKER, HTTP_PORT: '0', HTTP_TOKENS_FILE: file };
  const cli = await startCli(t, ['serve'], { env });
  const url = await urlOf(cli);
  t.deepEqual([await statusOf(url, CI), await statusOf(url, OPS)], [200, 401]);
  await write({ ops: OPS });
  cli.kill('SIGHUP');
  await cli.printed(/HTTP tokens reloaded/);
  t.deepEqual([await statusOf(url, CI), await statusOf(url, OPS)], [401, 200]);
  await writeFile(file, 'no tokens');
  cli.kill('SIGHUP');
  await cli.printed(/HTTP tokens refused/);
  t.deepEqual([await statusOf(url, CI), await statusOf(url, OPS)], [401, 200]);
  cli.kill('SIGTERM');
  t.is((await cli.ended).code, 0);
});

test('a service without files to read again goes on after SIGHUP', async (t) => {
  const cli = await startCli(t, ['serve'], {
    env: { AMQP_URL: NO_BROKER, HTTP_PORT: '0', LOG_LEVEL: 'info' },
  });
  const url = await urlOf(cli);
  cli.kill('SIGHUP');
  t.is((await fetch(`${url}/livez`)).status, 200);
  cli.kill('SIGTERM');
  t.is((await cli.ended).code, 0);
});

test('a sandbox knows the callers of its gateway by their tokens', async (t) => {
  const { file } = await tokensFile(t);
  const PLUGIN_PATHS = await writePlugin(
    t,
    'who',
    `import { defineAction } from 'fleet-manager/plugin';
     import { mixed, object } from 'yup';
     export default defineAction({
       name: 'who', summary: 'Says who asks.', target: 'none', effect: 'read',
       parameters: object({}), result: mixed().required().meta({ format: 'anything' }),
       handle: async ({ caller }) => caller,
     });`,
  );
  const env = { HTTP_PORT: '0', HTTP_TOKENS_FILE: file, PLUGIN_PATHS };
  const cli = await startCli(t, ['serve'], { env });
  const url = await urlOf(cli);
  await cli.printed(/accepting requests/);
  t.regex(cli.stdout(), /^ {2}curl .*authorization: Bearer \$HTTP_TOKEN/m);
  const response = await fetch(`${url}/v1/actions/who`, {
    method: 'POST',
    headers: { ...bearer(CI), 'content-type': 'application/json' },
    body: '{}',
  });
  t.like(await response.json(), { response_body: { name: 'ci', verifiedBy: 'token' } });
  const [, port = ''] = /:(\d+)$/.exec(url) ?? [];
  const called = await runCli(t, ['call', 'who'], { env: { HTTP_PORT: port, HTTP_TOKEN: CI, PLUGIN_PATHS } });
  t.deepEqual(JSON.parse(called.stdout), { name: 'ci', verifiedBy: 'token' });
});
