import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import test from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { ALL_SETTINGS, SETTINGS } from '../../src/settings/settings.js';
import { composeModel, composeSecrets, containerTools } from './container-tools.js';

/** Of the shutdown, after the time that requests have. */
const END_SECONDS = 5;

const tools = await containerTools('compose.yaml');
if (tools !== undefined) {
  const model = fieldsOf(await composeModel(tools));
  const services = fieldsOf(model.services);
  const service = fieldsOf(services['fleet-manager']);

  test('Docker Compose accepts compose.yaml, and each service begins after those that it needs are healthy', (t) => {
    t.deepEqual(Object.keys(services).toSorted(), ['etcd', 'fleet-manager', 'rabbitmq']);
    for (const needed of ['etcd', 'rabbitmq']) {
      t.truthy(fieldsOf(services[needed]).healthcheck);
      t.like(fieldsOf(service.depends_on)[needed], { condition: 'service_healthy' });
    }
  });

  test('in compose.yaml the service can write nothing but memory, has no rights, and is stopped after its requests', (t) => {
    t.like(service, {
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
      healthcheck: { test: ['CMD', 'fleet-manager', 'health', '--ready'] },
    });
    t.true(
      Number.parseInt(String(service.stop_grace_period), 10) >=
        Number(SETTINGS.shutdownGraceMs.default) + END_SECONDS,
    );
    t.is(service.volumes, undefined);
  });

  test('compose.yaml sets only settings that exist, and no secret', (t) => {
    const known = ALL_SETTINGS.flatMap(({ name, secret }) => (secret ? [`${name}_FILE`] : [name]));
    for (const name of Object.keys(fieldsOf(service.environment))) t.true(known.includes(name), name);
  });

  test('scripts/compose-secrets makes the secrets that compose.yaml names, for containers and nobody else', async (t) => {
    const folder = await composeSecrets(t);
    t.is((await stat(folder)).mode & 0o777, 0o700);
    const files = Object.values(fieldsOf(model.secrets)).map((each) => basename(String(fieldsOf(each).file)));
    t.deepEqual(files.toSorted(), ['amqp_url', 'http_token', 'rabbitmq_conf']);
    for (const file of files) t.is((await stat(join(folder, file))).mode & 0o777, 0o644);
    const [, password = ''] =
      /:(\w{64})@rabbitmq:5672$/.exec(await readFile(join(folder, 'amqp_url'), 'utf8')) ?? [];
    t.true(
      (await readFile(join(folder, 'rabbitmq_conf'), 'utf8')).endsWith(`\ndefault_pass = ${password}\n`),
    );
    t.notDeepEqual(
      await readFile(join(await composeSecrets(t), 'http_token')),
      await readFile(join(folder, 'http_token')),
    );
  });
}
