import { execFile } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { runCli, startCli } from '../../commands/cli-process.js';
import { HUNG_MS } from '../../support/eventually.js';
import { inRepository } from '../../support/repository.js';
import { folder } from '../../support/settings.js';
import { documentProblems, inDocument, validatorOf } from './document-problems.js';

const run = promisify(execFile);
const TOKEN = '0123456789abcdef';
const REQUEST_ID = 'made-by-a-generated-client';

/** A program that uses the client. What its compiler must refuse is marked, and must be refused. */
const PROGRAM = `
  import { defaults, getActions, type ListUnitsResult, listUnits, restartUnit } from './client.js';

  defaults.baseUrl = process.env.GATEWAY ?? '';
  const noToken = await listUnits({ etcd_token: 'sandbox' });
  if (noToken.status !== 401) throw new Error(String(noToken.status));
  const refusal: 'forbidden' = noToken.data.response_body.code;

  defaults.headers = { authorization: 'Bearer ${TOKEN}' };
  const units = await listUnits(
    { etcd_token: 'sandbox', action_parameters: { name: 'web@*', desired_state: 'launched' } },
    { timeoutMs: ${Math.min(HUNG_MS, 300_000)}, xRequestId: '${REQUEST_ID}' },
  );
  if (units.status !== 200) throw new Error(JSON.stringify(units));
  const status: 'completed' = units.data.status;
  const list: ListUnitsResult = units.data.response_body;
  const names: string[] = list.map(({ name }) => name);

  const nowhere = await restartUnit({
    etcd_token: 'no-such-cluster',
    action_parameters: { unit_name: 'web@1.service', wait_seconds: 10 },
  });
  if (nowhere.status !== 404) throw new Error(JSON.stringify(nowhere));
  const code: string = nowhere.data.response_body.code;

  const catalogue = await getActions();
  if (catalogue.status !== 200) throw new Error(JSON.stringify(catalogue));
  const actions: (string | undefined)[] = (catalogue.data.actions ?? []).map(({ name }) => name);

  // Never called: only its types count.
  export const refused = () => [
    // @ts-expect-error: it needs a cluster
    listUnits({}),
    // @ts-expect-error: it has no such parameter
    listUnits({ etcd_token: 'x', action_parameters: { nmae: 'web' } }),
    // @ts-expect-error: no unit has such a state
    listUnits({ etcd_token: 'x', action_parameters: { desired_state: 'gone' } }),
    // @ts-expect-error: it needs a unit
    restartUnit({ etcd_token: 'x' }),
  ];
  console.log(JSON.stringify({ refusal, status, names, code, actions }));
`;

const BEARER = { authorization: `Bearer ${TOKEN}` };

/** A sandbox whose gateway asks for a token, and the document that it serves. */
async function serveSandbox(t: ExecutionContext) {
  const service = await startCli(t, ['serve'], { env: { HTTP_PORT: '0', HTTP_TOKEN: TOKEN } });
  const [, printed, logged] = await service.printed(/^ {2}gateway +(http:\S+)$|"http":"([^"]+)"/m);
  await service.printed(/accepting requests/);
  const url = printed ?? logged ?? '';
  const response = await fetch(`${url}/openapi.json`, { headers: BEARER });
  t.is(response.status, 200);
  return { service, url, text: await response.text() };
}

test('each reply is as the document describes it, whatever its status and its form', async (t) => {
  const { url, text } = await serveSandbox(t);
  const document = JSON.parse(text);
  t.deepEqual(await documentProblems(document), []);
  const { stdout } = await runCli(t, ['openapi'], { env: { HTTP_TOKEN: TOKEN } });
  t.deepEqual(document, JSON.parse(stdout));
  const ajv = validatorOf(document);
  /** Sends a request, and checks its response against what the document has for it. */
  const check = async (
    path: string,
    { accept = 'application/json', body }: { accept?: string; body?: unknown } = {},
  ) => {
    const method = body === undefined ? 'get' : 'post';
    const response = await fetch(url + path, {
      method,
      headers: { ...BEARER, accept, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const described = document.paths[path][method].responses[response.status];
    const { content, headers } = String(described.$ref).startsWith('#/components/responses/')
      ? document.components.responses[described.$ref.split('/').at(-1)]
      : described;
    const [type = ''] = (response.headers.get('content-type') ?? '').split(';');
    t.true(type in content, `${path} ${response.status} ${type}`);
    const reply: unknown = await response.json();
    t.true(ajv.validate(inDocument(content[type].schema), reply), `${path}: ${ajv.errorsText()}`);
    const required = Object.keys(headers).filter(
      (name) => (headers[name].$ref ? document.components.headers[name] : headers[name]).required === true,
    );
    t.true(required.includes('x-request-id'), path);
    for (const name of required) t.true(response.headers.has(name), `${path}: ${name}`);
    return response.status;
  };
  const etcd_token = 'sandbox';
  for (const [action, action_parameters] of [
    ['list_machines', {}],
    ['list_units', {}],
    ['list_unit_states', {}],
    ['check_cluster', {}],
    ['node_info', {}],
    ['unit_logs', { unit_name: 'web@1.service' }],
    ['restart_unit', { unit_name: 'web@1.service' }],
  ] as const)
    t.is(await check(`/v1/actions/${action}`, { body: { etcd_token, action_parameters } }), 200, action);
  for (const accept of ['application/json', 'application/problem+json'])
    for (const [body, status] of [
      [{ etcd_token, action_parameters: { unit_name: 'no-such.service' } }, 404],
      [{ etcd_token: 'no-such-cluster', action_parameters: { unit_name: 'web@1.service' } }, 404],
      [{ etcd_token, action_parameters: {} }, 400],
      [{ etcd_token, more: 1 }, 400],
      [{ etcd_token, action_parameters: { unit_name: 'x'.repeat(2 ** 20) } }, 413],
    ] as const)
      t.is(await check('/v1/actions/unit_logs', { accept, body }), status);
  for (const path of ['/v1/actions', '/openapi.json', '/livez', '/readyz']) t.is(await check(path), 200);
});

test('a client that is generated from the document calls the service, with the types that the actions declare', async (t) => {
  const { service, url, text } = await serveSandbox(t);
  const directory = await folder(t, {
    'openapi.json': text,
    'package.json': '{ "type": "module" }',
    'program.ts': PROGRAM,
  });
  await symlink(inRepository('node_modules'), join(directory, 'node_modules'));
  const options = { extends: inRepository('tsconfig.json'), files: ['program.ts'], include: [] };
  const compilerOptions = { noEmit: false, outDir: 'built', noUnusedLocals: false, lib: ['ES2023', 'DOM'] };
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ ...options, compilerOptions }));
  const program = async (file: string, ...args: string[]) =>
    run(process.execPath, [inRepository(file), ...args], { cwd: directory });
  await program('node_modules/oazapfts/dist/cli.js', 'openapi.json', 'client.ts', '--useUnknown');
  const compiled = await program(
    'node_modules/typescript/bin/tsc',
    '-p',
    directory,
    '--pretty',
    'false',
  ).catch(({ stdout }: { stdout: string }) => ({ stdout }));
  t.is(compiled.stdout, '');
  const { stdout } = await run(process.execPath, [join(directory, 'built/program.js')], {
    cwd: directory,
    env: { GATEWAY: url },
  });
  const answered = JSON.parse(stdout);
  t.like(answered, { refusal: 'forbidden', status: 'completed', code: 'cluster_not_found' });
  t.true(
    answered.names.length > 0 && answered.names.every((name: string) => name.startsWith('web@')),
    stdout,
  );
  t.true(answered.actions.includes('restart_unit'));
  await service.printed(new RegExp(REQUEST_ID));
});
