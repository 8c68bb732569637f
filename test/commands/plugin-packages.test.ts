import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { folder } from '../support/settings.js';
import { runCli, startCli } from './cli-process.js';

const ACTIONS = `
  import { object, string } from 'yup';
  import { defineAction } from 'fleet-manager/plugin';
  const greet = (name) => defineAction({
    name, summary: 'Greets.', target: 'none', effect: 'read',
    parameters: object({}), result: string().required(), handle: async () => 'Hello',
  });
  export default [greet('greet'), greet('greet_again')];`;

/** A working directory in which this package is installed. */
async function workingDirectory(t: ExecutionContext, source = ACTIONS): Promise<string> {
  const directory = await folder(t, { 'config/development.json': '{"PLUGINS": ["@acme/actions"]}' });
  const at = join(directory, 'node_modules/@acme/actions');
  await mkdir(at, { recursive: true });
  await writeFile(join(at, 'package.json'), '{"version": "1.2.0", "type": "module", "exports": "./main.js"}');
  await writeFile(join(at, 'main.js'), source);
  return directory;
}

test('the service serves the actions of a package that is installed in its working directory, and logs its version', async (t) => {
  const directory = await workingDirectory(t);
  const env = { HTTP_PORT: '0', LOG_FORMAT: 'json' };
  const service = await startCli(t, ['serve'], { directory, env });
  const [line] = await service.printed(/.*"service started".*/);
  t.like(JSON.parse(line), { packages: ['@acme/actions@1.2.0'] });
  const { http } = JSON.parse(line);
  const headers = { 'content-type': 'application/json' };
  await service.printed(/accepting requests/);
  const reply = await fetch(`${http}/v1/actions/greet_again`, { method: 'POST', headers, body: '{}' });
  t.is(reply.status, 200);
});

test('actions and doctor know the actions of packages, and doctor says why a package cannot be served', async (t) => {
  const directory = await workingDirectory(t);
  const listed = await runCli(t, ['actions', 'greet_again'], { directory });
  t.regex(listed.stdout, /^greet_again: Greets\./);
  const found = await runCli(t, ['doctor'], { directory });
  t.regex(found.stdout, /^ok +plugins .*greet_again[^]* 1 package: @acme\/actions@1\.2\.0$/m);
  const env = { PLUGINS: '@acme/actions,not-there' };
  const broken = await runCli(t, ['doctor'], { directory, env });
  t.is(broken.code, 1);
  t.regex(broken.stdout, /package not-there: is not installed: there is no node_modules\/not-there in /);
  t.true(broken.stdout.includes(directory));
});
