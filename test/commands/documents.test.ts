import { readFile } from 'node:fs/promises';
import test from 'ava';
import { inRepository } from '../support/repository.js';
import { writeChange } from '../support/write-plugin.js';
import { runCli } from './cli-process.js';

const TOKEN = '0123456789abcdef';

test('asyncapi prints the document that comes with the package, for an unchanged configuration', async (t) => {
  const { code, stdout } = await runCli(t, ['asyncapi']);
  t.is(code, 0);
  t.is(stdout, await readFile(inRepository('schemas/asyncapi.json'), 'utf8'));
});

test('asyncapi and openapi describe the actions and the settings of this machine, and show no secret', async (t) => {
  const PLUGIN_PATHS = await writeChange(t, 'greet', { handle: "async () => 'Hello'" });
  const env = {
    PLUGIN_PATHS,
    ACTIONS: 'greet,list_units',
    QUEUE_NAME: 'another',
    HTTP_TOKEN: TOKEN,
    METRICS_PORT: 'gateway',
    METRICS_TOKEN: `of metrics ${TOKEN}`,
  };
  const [queue, http] = await Promise.all([
    runCli(t, ['asyncapi'], { env }),
    runCli(t, ['openapi'], { env }),
  ]);
  const { channels, operations } = JSON.parse(queue.stdout);
  t.is(channels.requests.address, 'another');
  t.true('greet' in operations);
  t.false('restart_unit' in operations);
  const { paths, security, components } = JSON.parse(http.stdout);
  t.true('/v1/actions/greet' in paths);
  t.false('/v1/actions/restart_unit' in paths);
  t.deepEqual(security, [{ bearer: [] }]);
  t.deepEqual(Object.keys(components.securitySchemes), ['bearer', 'metrics']);
  t.false(`${queue.stdout}${http.stdout}`.includes(TOKEN));
});

test('openapi describes a gateway without tokens, and metrics on another port, as such', async (t) => {
  const { stdout } = await runCli(t, ['openapi'], { env: { METRICS_PORT: '9464', METRICS_TOKEN: TOKEN } });
  const { paths, security, components } = JSON.parse(stdout);
  t.is(security, undefined);
  t.is(components.securitySchemes, undefined);
  t.false('/metrics' in paths);
});
