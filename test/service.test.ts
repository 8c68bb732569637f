import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient } from '../src/client/client.js';
import { type Sandbox, startSandbox } from '../src/sandbox/sandbox.js';
import { eventually, HUNG_MS } from './support/eventually.js';
import { noteSkipped } from './support/note-skipped.js';
import { ownBroker } from './support/own-broker.js';
import { startTcpServer } from './support/tcp-server.js';
import { startWorker } from './support/worker.js';
import { queuesOf } from '../src/rpc/queues.js';

// The service as it is run: separate processes, a real RabbitMQ, a real etcd for discovery, a simulated fleet.
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped('the service on RabbitMQ', 'RABBITMQ_URL');
const etcdUrl = process.env.ETCD_URL ?? noteSkipped('the service with etcd', 'ETCD_URL');
const CLI = new URL('../src/cli.js', import.meta.url).pathname;

interface World {
  sandbox: Sandbox;
  token: string;
  queue: string;
  env: Record<string, string>;
}

/** A cluster with a slow fleet API, registered in etcd under a token, and a separate queue. */
async function world(t: ExecutionContext, broker: string, etcd: string, answerMs = 0): Promise<World> {
  const sandbox = await startSandbox({ delays: { answer: answerMs } });
  t.teardown(async () => sandbox.stop());
  const token = randomUUID();
  const put = async (key: string, value: string) =>
    fetch(`${etcd}/v2/keys/discovery/${token}/${key}`, {
      method: 'PUT',
      body: new URLSearchParams({ value }),
    });
  await put('_config/size', '1');
  await put('member1', 'node1=http://127.0.0.1:2380');
  const queue = `service_${token}`;
  t.teardown(async () => deleteQueues(broker, queue).catch(() => {}));
  const env = {
    AMQP_URL: broker,
    QUEUE_NAME: queue,
    ETCD_DISCOVERY_URL: `${etcd}/v2/keys/discovery`,
    FLEET_API_PORT: String(sandbox.fleetPort),
    ALLOWED_HOSTS: '127.0.0.0/8',
  };
  return { sandbox, token, queue, env };
}

async function deleteQueues(broker: string, queue: string): Promise<void> {
  const connection = await connect(broker);
  const channel = await connection.createChannel();
  for (const name of queuesOf(queue)) await channel.deleteQueue(name);
  await connection.close();
}

function clientOf(t: ExecutionContext, broker: string, queue: string): FleetManagerClient {
  const client = new FleetManagerClient({ urls: [broker], queue });
  t.teardown(async () => client.close());
  return client;
}

if (rabbitmqUrl !== undefined && etcdUrl !== undefined) {
  test('the three actions reply through the call command, with 261 units over three pages', async (t) => {
    const { sandbox, token, env } = await world(t, rabbitmqUrl, etcdUrl);
    sandbox.cluster.addUnits(261 - sandbox.cluster.units().length);
    await startWorker(t, env);
    const call = async (...args: string[]): Promise<unknown> => {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [CLI, 'call', ...args, '--cluster', token],
        { env: { PATH: process.env.PATH, ...env }, maxBuffer: 16 * 1024 * 1024 },
      );
      return JSON.parse(stdout);
    };
    const [machines, units, states] = await Promise.all([
      call('list_machines', '--params', '{"metadata":{"region":"eu-west"}}'),
      call('list_units'),
      call('list_unit_states', '--param', `machine_id=${sandbox.cluster.machines[0]?.id}`),
    ]);
    t.deepEqual(
      machines,
      sandbox.cluster.machines.filter(({ metadata }) => metadata.region === 'eu-west'),
    );
    t.is(new Set((units as { name: string }[]).map(({ name }) => name)).size, 261);
    const pages = sandbox.cluster.requests.filter(({ path }) => path.includes('/units'));
    t.true(pages.length >= 3);
    t.true(
      (states as { machineID: string }[]).every(
        ({ machineID }) => machineID === sandbox.cluster.machines[0]?.id,
      ),
    );
  });

  test('a worker that is killed under load loses nothing: another replies to every request', async (t) => {
    const { token, queue, env } = await world(t, rabbitmqUrl, etcdUrl, 100);
    const [first] = await Promise.all([startWorker(t, env), startWorker(t, env)]);
    const client = clientOf(t, rabbitmqUrl, queue);
    const calls = Array.from({ length: 100 }, () =>
      client.call('list_machines', { cluster: token, timeoutMs: HUNG_MS }),
    );
    await calls[0];
    first.process.kill('SIGKILL');
    t.is(await first.ended, 'SIGKILL');
    for (const machines of await Promise.all(calls)) t.true(Array.isArray(machines));
  });

  test('a worker that is stopped under load replies to running requests, requeues waiting ones, and exits with 0', async (t) => {
    const { token, queue, env } = await world(t, rabbitmqUrl, etcdUrl, 300);
    const first = await startWorker(t, { ...env, CONCURRENCY: '2' });
    const client = clientOf(t, rabbitmqUrl, queue);
    const calls = Array.from({ length: 20 }, () =>
      client.call('list_machines', { cluster: token, timeoutMs: HUNG_MS }),
    );
    await calls[0];
    first.process.kill('SIGTERM');
    t.is(await first.ended, 0);
    t.like(first.lines.at(-1), { message: 'shut down', clean: true });
    await startWorker(t, env);
    for (const machines of await Promise.all(calls)) t.true(Array.isArray(machines));
  });

  test('workers that are stopped under load leave no request without a reply, and reply to none twice', async (t) => {
    const { token, queue, env } = await world(t, rabbitmqUrl, etcdUrl, 50);
    const settings = { ...env, PREFETCH: '450' };
    const first = await startWorker(t, { ...settings, CONCURRENCY: '2' });
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
    const answers: [id: unknown, status: unknown][] = [];
    await channel.consume(
      replyTo,
      (message) =>
        answers.push([
          message?.properties.correlationId,
          JSON.parse(String(message?.content)).response_body.code ?? 'completed',
        ]),
      { noAck: true },
    );
    const ids = Array.from({ length: 300 }, (_, n) => String(n));
    for (const correlationId of ids) {
      // Its own parameters, so that it does not share a run.
      const parameters = { metadata: { request: correlationId } };
      const body = { action: 'list_machines', etcd_token: token, action_parameters: parameters };
      const content = Buffer.from(JSON.stringify({ request_body: body }));
      channel.sendToQueue(queue, content, { replyTo, correlationId });
    }
    await eventually('some are answered', () => answers.length >= 20);
    first.process.kill('SIGTERM');
    t.is(await first.ended, 0);
    t.true(answers.length < ids.length, 'it was asked to stop before all had ended');
    const left = await channel.checkQueue(queue);
    t.is(left.consumerCount, 0);
    t.true(left.messageCount > 0, 'some were not begun');
    t.like(first.lines.at(-1), { message: 'shut down', clean: true }, 'requeued ones are not lost');
    await startWorker(t, settings);
    await eventually('all are answered', () => answers.length >= ids.length);
    await eventually('the queue is empty', async () => (await channel.checkQueue(queue)).messageCount === 0);
    const byId = ([a]: [unknown, unknown], [b]: [unknown, unknown]) => Number(a) - Number(b);
    t.deepEqual(
      answers.toSorted(byId),
      ids.map((id) => [id, 'completed']),
    );
  });

  test('requests without a cluster whose machines accept connections and stay silent keep no cluster waiting', async (t) => {
    const { token, queue, env } = await world(t, rabbitmqUrl, etcdUrl);
    const sshPort = await startTcpServer(t, () => {}, { address: '0.0.0.0' });
    await startWorker(t, { ...env, SSH_PORT: String(sshPort), SSH_HOST_KEYS: 'off' });
    const client = clientOf(t, rabbitmqUrl, queue);
    // It runs 20 of these at once, for 12 s each.
    const calls = Array.from({ length: 400 }, (_, n) =>
      client.request('node_info', { parameters: { nodes: [`127.0.1.${n % 250}`] }, timeoutMs: HUNG_MS }),
    );
    void Promise.allSettled(calls);
    for (let n = 0; n < 5; n++)
      t.true(Array.isArray(await client.call('list_machines', { cluster: token, timeoutMs: 30_000 })));
  });

  test('a second signal ends a worker immediately', async (t) => {
    const { sandbox, token, queue, env } = await world(t, rabbitmqUrl, etcdUrl);
    sandbox.cluster.fail({ kind: 'hang' });
    const worker = await startWorker(t, env);
    const client = clientOf(t, rabbitmqUrl, queue);
    const call = client.call('list_machines', { cluster: token });
    await eventually('it runs', () => sandbox.cluster.requests.length > 0);
    worker.process.kill('SIGTERM');
    await eventually('it drains', () => worker.lines.some(({ message }) => message === 'shutting down'));
    worker.process.kill('SIGTERM');
    t.is(await worker.ended, 143);
    await Promise.all([t.throwsAsync(call), client.close()]);
  });

  test('an existing queue with other arguments is used unchanged', async (t) => {
    const { token, queue, env } = await world(t, rabbitmqUrl, etcdUrl);
    const connection = await connect(rabbitmqUrl);
    const channel = await connection.createChannel();
    await channel.assertQueue(queue, { durable: true, maxLength: 1_000 });
    await connection.close();
    await startWorker(t, env);
    t.true(Array.isArray(await clientOf(t, rabbitmqUrl, queue).call('list_machines', { cluster: token })));
  });

  test('after a restart of RabbitMQ, every request gets its reply', async (t) => {
    const rabbitmq = await ownBroker(t);
    const broker = rabbitmq.url;
    const { token, queue, env } = await world(t, broker, etcdUrl, 300);
    const worker = await startWorker(t, { ...env, CONCURRENCY: '2' });
    const client = clientOf(t, broker, queue);
    const calls = Array.from({ length: 10 }, () =>
      client.call('list_machines', { cluster: token, timeoutMs: HUNG_MS }),
    );
    await calls[0];
    await rabbitmq.stop();
    await rabbitmq.start();
    for (const machines of await Promise.all(calls)) t.true(Array.isArray(machines));
    const messages = worker.lines.map(({ message }) => message);
    t.is(messages.filter((message) => message === 'broker connection lost').length, 1);
    t.is(messages.filter((message) => message === 'broker connection restored').length, 1);
  });
}
