import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient, FleetManagerError } from '../src/client/client.js';
import { Cluster } from '../src/api/cluster.js';
import { ErlangCodec } from '../src/rpc/codec/erlang.js';
import { runCli } from './commands/cli-process.js';
import { eventually, HUNG_MS } from './support/eventually.js';
import { FastClock } from './support/fast-clock.js';
import { noteSkipped } from './support/note-skipped.js';
import { logLines } from './support/log-lines.js';
import { ErlangPeer } from './rpc/codec/erlang-peer.js';
import { BROKER_ID, EXCHANGE_ID, openInstallation, startFast } from './openaperture/open-installation.js';
import { type OwnBroker, ownBroker } from './support/own-broker.js';
import { startWorker } from './support/worker.js';

// The service as a module of an OpenAperture installation: the Manager is a fake, everything else is real.
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped('the service in an installation', 'RABBITMQ_URL');

if (rabbitmqUrl !== undefined) {
  test('requests that come through the Manager get their replies there, in both encodings', async (t) => {
    const { manager, sandbox, env, client, queue } = await openInstallation(t, [rabbitmqUrl]);
    await startWorker(t, env);
    const machines = await client.call('list_machines', { cluster: sandbox.token });
    t.deepEqual(machines, sandbox.cluster.machines as never);
    const error = await t.throwsAsync(client.call('list_machines', { cluster: 'nobody' }), {
      instanceOf: FleetManagerError,
    });
    t.is(error.code, 'cluster_not_found');
    const inJson = new FleetManagerClient({
      queue,
      manager: {
        managerUrl: manager.url,
        oauth: { url: manager.oauthUrl, clientId: manager.clientId, clientSecret: manager.clientSecret },
        exchangeId: EXCHANGE_ID,
        brokerId: BROKER_ID,
        encoding: 'json',
      },
    });
    t.teardown(async () => inJson.close());
    const units = await inJson.call('list_units', {
      cluster: sandbox.token,
      parameters: { name: 'web@1.service' },
    });
    t.deepEqual(
      units.map(({ name }) => name),
      ['web@1.service'],
    );
    await eventually('the records are deleted', () => manager.records.size === 0);
  });

  test('on a broker where its queue was not created beforehand, callers through the Manager reach the service', async (t) => {
    const { sandbox, env, client } = await openInstallation(t, [rabbitmqUrl], { without: 'queue' });
    await startWorker(t, env);
    const machines = await client.call('list_machines', { cluster: sandbox.token });
    t.deepEqual(machines, sandbox.cluster.machines as never);
  });

  test('on a broker without its exchange, the service reports so once', async (t) => {
    const { env, client, exchange } = await openInstallation(t, [rabbitmqUrl], { without: 'exchange' });
    const worker = await startWorker(t, env);
    const error = await t.throwsAsync(client.call('list_machines'), { instanceOf: FleetManagerError });
    t.is(error?.code, 'service_unavailable');
    t.true(error?.message.includes(`NOT_FOUND - no exchange '${exchange}'`), error?.message);
    const reported = worker.lines.filter(({ reason }) => /no exchange/.test(String(reason)));
    t.is(reported.length, 1);
    t.regex(String(reported[0]?.message), /^queue declared but not bound/);
  });

  test('a reply waits for a Manager that is down, its request unacknowledged, and no more requests are taken', async (t) => {
    const { manager, sandbox, env, client, queue } = await openInstallation(t, [rabbitmqUrl], {
      answerMs: 300,
    });
    const worker = await startWorker(t, env);
    const call = client.call('list_machines', { cluster: sandbox.token, timeoutMs: HUNG_MS });
    await eventually('it runs', () => sandbox.cluster.requests.length > 0);
    await manager.down();
    await eventually('the answer waits', () =>
      worker.lines.some(({ message }) => String(message).startsWith('record replies waiting')),
    );
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    await eventually(
      'nothing is consumed',
      async () => (await channel.checkQueue(queue)).consumerCount === 0,
    );
    await manager.up();
    t.deepEqual(await call, sandbox.cluster.machines as never);
    await eventually(
      'it is consumed again',
      async () => (await channel.checkQueue(queue)).consumerCount === 1,
    );
    t.is(
      worker.lines.filter(({ message }) => String(message).startsWith('record replies waiting')).length,
      1,
    );
  });

  test('a reply whose saving is cut each time stops no other request, and is saved when that ends', async (t) => {
    const { manager, sandbox, env, client } = await openInstallation(t, [rabbitmqUrl]);
    const worker = await startWorker(t, env);
    const logged = (begin: string) => worker.lines.filter(({ message }) => String(message).startsWith(begin));
    const call = async () => client.call('list_machines', { cluster: sandbox.token, timeoutMs: HUNG_MS });
    const end = manager.fail({ path: /rpc_requests\/1$/, method: 'PUT' });
    const cut = call();
    await eventually('it is known to fail alone', () => logged('reply failed while the Manager').length > 0);
    t.deepEqual(await call(), sandbox.cluster.machines as never);
    t.deepEqual(logged('record replies waiting'), []);
    end();
    t.deepEqual(await cut, sandbox.cluster.machines as never);
  });

  test('a request with a record and a reply_to gets both replies; one whose record is deleted gets none', async (t) => {
    const { manager, sandbox, env, queue } = await openInstallation(t, [rabbitmqUrl]);
    const worker = await startWorker(t, env);
    const record = manager.addRecord(41);
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
    const answered = new Promise<Buffer>((resolve) => {
      void channel.consume(replyTo, (message) => message !== null && resolve(message.content), {
        noAck: true,
      });
    });
    const send = (id: number, options = {}) => {
      const request = {
        id,
        status: 'not_started',
        request_body: { action: 'list_machines', etcd_token: sandbox.token },
      };
      channel.sendToQueue(queue, Buffer.from(JSON.stringify(request)), options);
    };
    send(41, { replyTo, correlationId: 'c' });
    t.is(JSON.parse(String(await answered)).status, 'completed');
    await eventually('the record has its reply', () => record.status === 'completed');
    send(42);
    await eventually('it is logged', () =>
      worker.lines.some(({ reason }) => reason === 'the record of its request no longer exists'),
    );
    await eventually('it is acknowledged', async () => (await channel.checkQueue(queue)).messageCount === 0);
  });

  test("a change with the id of another caller's open record is not run, and that record is not written", async (t) => {
    const { manager, sandbox, env, queue } = await openInstallation(t, [rabbitmqUrl]);
    const worker = await startWorker(t, env);
    const ofAnother = { action: 'list_machines', etcd_token: sandbox.token, action_parameters: null };
    manager.addRecord(77, { requestBody: ofAnother });
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const request = {
      id: 77,
      status: 'not_started',
      request_body: {
        action: 'restart_unit',
        etcd_token: sandbox.token,
        action_parameters: { unit_name: 'web@1.service' },
      },
    };
    channel.sendToQueue(queue, Buffer.from(JSON.stringify(request)));
    const dead = await eventually('it is dead-lettered', async () => {
      const message = await channel.get(`${queue}_error`, { noAck: true });
      return message === false ? undefined : message;
    });
    t.regex(
      String(dead.properties.headers?.['x-reason']),
      /^its id is that of another request: the record 77/,
    );
    await eventually('it is logged', () =>
      worker.lines.some(({ message }) => message === 'message dead-lettered'),
    );
    t.deepEqual(
      sandbox.cluster.requests.filter(({ method }) => method !== 'GET'),
      [],
    );
    t.like(manager.records.get('77'), { status: 'not_started', requestBody: ofAnother, responseBody: null });
  });

  test('the Overseer learns of the module and of the requests that run', async (t) => {
    const { manager, sandbox, env, client, queue } = await openInstallation(t, [rabbitmqUrl]);
    t.teardown(sandbox.cluster.fail({ kind: 'hang' }));
    const { service } = await startFast(t, { ...env, SHUTDOWN_GRACE_SECONDS: '0' });
    await eventually('it registers', () => manager.modules.length === 1);
    t.like(manager.modules[0], {
      exchange: String(EXCHANGE_ID),
      hostname: 'test-instance',
      type: 'fleet_manager',
      status: 'active',
    });
    // It runs for more than one heartbeat.
    const call = client.call('list_machines', { cluster: sandbox.token, timeoutMs: 300_000 }).catch(() => {});
    await eventually('it runs', () => sandbox.cluster.requests.length > 0);
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const workloadOf = (body: Buffer) =>
      (new ErlangCodec().decode(body) as { workload: { description: string }[] }).workload;
    // How many beats come before the request runs, and while it does, depends on the machine.
    const heartbeat = async (busy: boolean) =>
      eventually('a heartbeat', async () => {
        const message = await channel.get(`${queue}_system_modules`, { noAck: true });
        return message !== false && workloadOf(message.content).length > 0 === busy
          ? message.content
          : undefined;
      });
    const erlang = new ErlangPeer();
    t.teardown(async () => erlang.end());
    const isTerm = async (body: Buffer, workload: string) =>
      t.is(
        await erlang.compare(
          body,
          `#{event_type => status, status => active, hostname => <<"test-instance">>, type => fleet_manager, workload => ${workload}}`,
        ),
        'same',
      );
    const beat = await heartbeat(true);
    const cluster = new Cluster(sandbox.token).hash;
    const [id] = manager.records.keys();
    const [seconds] = /\d+(?= s$)/.exec(String(workloadOf(beat)[1]?.description)) ?? [];
    await isTerm(
      beat,
      `[#{description => <<"1 request runs">>},
        #{description => <<"request ${id}: list_machines on ${cluster} for ${seconds} s">>}]`,
    );
    await channel.purgeQueue(`${queue}_system_modules`);
    await service.stop();
    await isTerm(await heartbeat(false), '[]');
    await Promise.all([call, client.close()]);
  });

  test('the Manager learns of a handler that fails unexpectedly, and of one that takes too long', async (t) => {
    const { manager, env, client } = await openInstallation(t, [rabbitmqUrl]);
    const worker = await startWorker(t, { ...env, PLUGIN_PATHS: await faultyActions(t) });
    for (const [action, code] of [
      ['broken', 'internal'],
      ['endless', 'timeout'],
    ] as const) {
      const error = await t.throwsAsync(client.call(action), { instanceOf: FleetManagerError });
      t.is(error.code, code);
      const event = await eventually('an event', () =>
        manager.events.find(({ data }) => JSON.stringify(data).includes(`"${action}"`)),
      );
      t.like(event, { type: 'unhandled_exception', severity: 'error', message: error.message });
      t.deepEqual(event.data, {
        component: 'fleet_manager',
        exchange_id: EXCHANGE_ID,
        hostname: 'test-instance',
        fleet_request_action: action,
      });
    }
    t.is(worker.lines.filter(({ message }) => /system events/.test(String(message))).length, 0);
  });

  test('the command `call` goes through the Manager when one is configured', async (t) => {
    const { manager, sandbox, env } = await openInstallation(t, [rabbitmqUrl]);
    await startWorker(t, env);
    const { code, stdout, stderr } = await runCli(t, ['call', 'list_machines', '--cluster', sandbox.token], {
      env,
    });
    t.is(code, 0, stderr);
    t.deepEqual(JSON.parse(stdout), sandbox.cluster.machines);
    t.is(manager.callsTo(/^\/messaging\/rpc_requests$/, 'POST').length, 1);
    t.is(manager.records.size, 0, 'it ends when its record is deleted');
  });

  test('when the first broker stops under load, every caller gets its reply, and the service returns to that broker', async (t) => {
    const [first, second] = await Promise.all([ownBroker(t), ownBroker(t)] as [
      Promise<OwnBroker>,
      Promise<OwnBroker>,
    ]);
    const caller = logLines();
    const { sandbox, env, client } = await openInstallation(t, [first.url, second.url], {
      answerMs: 2_000,
      clock: new FastClock(),
      log: caller.log,
    });
    const { logs } = await startFast(t, { ...env, CONCURRENCY: '4', CLUSTER_CONCURRENCY: '4' });
    let answered = 0;
    const call = async () => {
      const machines = await client.call('list_machines', {
        cluster: sandbox.token,
        // Ten minutes with a clock that is ten times as fast.
        timeoutMs: 6_000_000,
        resend: true,
      });
      t.deepEqual(machines, sandbox.cluster.machines as never);
      answered++;
    };
    const calls = Array.from({ length: 12 }, call);
    await eventually(
      'requests run, or wait to share the next run',
      () => sandbox.cluster.requests.length > 0,
    );
    await first.stop();
    const unanswered = calls.length - answered;
    t.true(unanswered > 0, 'there are requests in flight when the broker stops');
    await call();
    t.true(calls.length + 1 - answered > 0, 'what waits on the first broker is answered after its return');
    await first.start();
    for (const { find } of [logs, caller]) {
      await eventually(
        'service and caller are back on the first broker',
        () => find(/^preferred broker restored$/).length === 1,
      );
    }
    await Promise.all(calls);
    await call();
  });
}

/** Writes an action that throws an unexpected error, and one that does not end. @returns their directory */
async function faultyActions(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'faulty-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const handlers = {
    broken: "throw new TypeError('a defect');",
    endless:
      "await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));",
  };
  for (const [name, handler] of Object.entries(handlers)) {
    const timeoutMs = name === 'endless' ? 100 : 60_000;
    await mkdir(join(directory, name));
    await writeFile(
      join(directory, name, 'index.js'),
      `import { object } from 'yup';
       import { defineAction, stringMap } from 'fleet-manager/plugin';
       export default defineAction({
         name: '${name}', summary: 'Fails.', target: 'none', effect: 'read', timeoutMs: ${timeoutMs},
         parameters: object({}), result: stringMap(), async handle({ signal }) { ${handler} },
       });`,
    );
  }
  return directory;
}
