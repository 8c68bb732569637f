import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { queuesOf, suspectsQueueOf } from '../../src/rpc/queues.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { openSandbox } from '../support/open-sandbox.js';
import { inRepository } from '../support/repository.js';
import { systemClock } from '../../src/lib/clock.js';
import { startContainer } from './container.js';
import { composeModel, composeSecrets, containerTools } from './container-tools.js';
import { buildImage } from './image.js';

const HOME = '/opt/fleet-manager';
/** A user that no image has an entry for. */
const STRANGER = 54_321;

const tools = await containerTools('the service of compose.yaml');
const image = await buildImage();
test.after.always(async () => image?.remove());

async function freePort(): Promise<string> {
  return (await promisify(execFile)(inRepository('scripts/free-port'))).stdout.trim();
}

/** A file that everybody can read. */
async function secret(t: ExecutionContext, text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'secret-'));
  t.teardown(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'secret'), text, { mode: 0o444 });
  return join(folder, 'secret');
}

/** @returns the name of a queue that goes with the test */
async function ownQueues(t: ExecutionContext, rabbit: TestBroker): Promise<string> {
  const name = `test_${randomUUID()}`;
  t.teardown(async () => {
    const connection = await rabbit.open();
    const channel = await connection.createChannel();
    for (const queue of queuesOf(name)) await channel.deleteQueue(queue);
    await connection.close();
  });
  return name;
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

if (image !== undefined) {
  const { root, config } = image;
  const rabbit = rabbitmq();

  test('the image has the service and what it needs, of which its user can write nothing', async (t) => {
    t.deepEqual((await readdir(join(root, HOME))).toSorted(), [
      'LICENSE',
      'dist',
      'node_modules',
      'package.json',
    ]);
    const packages = await readdir(join(root, HOME, 'node_modules'));
    t.true(packages.includes('amqplib') && packages.includes('fastify'));
    t.false(packages.some((name) => ['typescript', 'rolldown', 'ava'].includes(name)));
    for (const entry of await readdir(join(root, HOME), { recursive: true, withFileTypes: true })) {
      if (entry.isSymbolicLink()) continue;
      const path = join(entry.parentPath, entry.name);
      const { uid, mode } = await stat(path);
      const needed = entry.isDirectory() ? 0o005 : 0o004;
      if (uid !== 0 || (mode & 0o022) !== 0 || (mode & needed) !== needed)
        t.fail(`${path}: ${mode.toString(8)}`);
    }
    t.regex(config.user, /^[1-9]\d*:[1-9]\d*$/);
  });

  test('the image has the code cache of its own Node.js', async (t) => {
    const files = await readdir(join(root, HOME, 'dist/src'));
    t.is(files.filter((name) => name.endsWith('.cache')).length, 1);
  });

  test('without a broker the image does not become a sandbox by itself', async (t) => {
    const container = await startContainer(t, image, { uid: STRANGER, env: {} });
    t.is(await container.ended, 2);
    t.regex(container.stderr(), /AMQP_URL is not set/);
  });

  test('as a sandbox the container answers calls, with /tmp in memory', async (t) => {
    const env = { NODE_ENV: 'development', HTTP_PORT: await freePort() };
    const container = await startContainer(t, image, { uid: STRANGER, env, tmpfs: ['/tmp'] });
    await container.printed(/accepting requests/);
    t.like(await container.exec(config.health), { code: 0, stdout: 'alive\n' });
    const called = await container.exec(['fleet-manager', 'call', 'node_info', '--cluster', 'sandbox']);
    t.is(called.code, 0, called.stderr);
    container.kill('SIGTERM');
    t.is(await container.ended, 0);
  });

  const { ETCD_URL } = process.env;
  if (rabbit !== undefined && tools !== undefined && ETCD_URL !== undefined)
    test('with the settings of compose.yaml the container answers calls over RabbitMQ and with its claim store', async (t) => {
      const model = fieldsOf(await composeModel(tools));
      const service = fieldsOf(fieldsOf(model.services)['fleet-manager']);
      const secrets = await composeSecrets(t);
      const QUEUE_NAME = await ownQueues(t, rabbit);
      // Only addresses are others: here all servers are on one host.
      await writeFile(join(secrets, 'amqp_url'), rabbit.url);
      const given = Object.entries(fieldsOf(service.environment)).map(([name, value]) => [
        name,
        String(value),
      ]);
      const container = await startContainer(t, image, {
        uid: STRANGER,
        env: {
          ...Object.fromEntries(given),
          CLAIMS_ETCD_URL: ETCD_URL,
          HTTP_HOST: '127.0.0.1',
          HTTP_PORT: await freePort(),
          QUEUE_NAME,
        },
        files: Object.fromEntries(['amqp_url', 'http_token'].map((name) => [join(secrets, name), name])),
        tmpfs: texts(service.tmpfs).map((each) => each.replace(/:.*/, '')),
      });
      await container.printed(/"accepting requests"/);
      const [, ...health] = texts(fieldsOf(service.healthcheck).test);
      await eventually('it is ready', async () => (await container.exec(health)).code === 0);
      const restart = ['restart_unit', '--cluster', 'sandbox', '--param', 'unit_name=web@1.service'];
      const called = await container.exec(['fleet-manager', 'call', ...restart]);
      t.is(called.code, 0, called.stderr);
      container.kill('SIGTERM');
      t.is(await container.ended, 0);
    });

  if (rabbit !== undefined) {
    for (const uid of [Number(config.user.split(':')[0]), STRANGER])
      test(`as the first process of a read-only container the user ${uid} serves RabbitMQ, leaves no zombie, and ends at SIGTERM`, async (t) => {
        const QUEUE_NAME = await ownQueues(t, rabbit);
        const connection = await rabbit.open();
        t.teardown(async () => connection.close());
        const channel = await connection.createChannel();
        const { sandbox } = await openSandbox(t, { clock: systemClock });
        const container = await startContainer(t, image, {
          uid,
          files: { [await secret(t, rabbit.url)]: 'amqp_url' },
          env: {
            AMQP_URL_FILE: '/run/secrets/amqp_url',
            QUEUE_NAME,
            HTTP_PORT: await freePort(),
            ETCD_DISCOVERY_URL: sandbox.discoveryUrl,
            FLEET_API_PORT: String(sandbox.fleetPort),
            ALLOWED_HOSTS: '127.0.0.0/8',
          },
        });
        await container.printed(/"accepting requests"/);
        t.like(await container.exec(config.health), { code: 0, stdout: 'alive\n' });
        await eventually(
          'it is ready',
          async () => (await container.exec([...config.health, '--ready'])).code === 0,
        );
        const called = await container.exec([
          'fleet-manager',
          'call',
          'list_machines',
          '--cluster',
          'sandbox',
        ]);
        t.is(called.code, 0, called.stderr);
        t.is(JSON.parse(called.stdout).length, 3);

        // What may have begun before runs in a handler process.
        const { queue } = await channel.assertQueue('', { exclusive: true });
        const request = {
          status: 'not_started',
          request_body: { action: 'list_units', etcd_token: 'sandbox' },
        };
        channel.sendToQueue(suspectsQueueOf(QUEUE_NAME), Buffer.from(JSON.stringify(request)), {
          replyTo: queue,
          messageId: randomUUID(),
        });
        const reply = await eventually(
          'its reply',
          async () => (await channel.get(queue, { noAck: true })) || undefined,
        );
        t.is(JSON.parse(reply.content.toString()).status, 'completed');
        const [handler] = await container.children();
        t.not(handler, undefined);
        process.kill(handler?.pid ?? 0, 'SIGKILL');
        await eventually('nothing is left of it', async () =>
          (await container.children()).every(({ pid }) => pid !== handler?.pid),
        );
        t.false((await container.children()).some(({ isZombie }) => isZombie));

        container.kill('SIGTERM');
        t.is(await container.ended, 0);
        t.notRegex(container.stderr(), /EROFS|read-only file system/i);
      });
  }
}
