import { connect, type ConsumeMessage } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { BROKER_ID, type OpenInstallation, openInstallation } from '../openaperture/open-installation.js';
import { eventually } from '../support/eventually.js';
import { noteSkipped } from '../support/note-skipped.js';
import { startProxy } from '../support/proxy.js';
import { startWorker } from '../support/worker.js';
import { runCli } from './cli-process.js';
import { examine, examined, isFailure } from './examine.js';

const rabbitmqUrl =
  process.env.RABBITMQ_URL ?? noteSkipped('the round trip through an installation', 'RABBITMQ_URL');
const SHORT_WAIT = { roundTrip: true, replyMs: 1_500 };
const LONG_WAIT = { roundTrip: true, replyMs: 60_000 };

/** Asserts that the round trip has created this many records in the Manager and deleted them all. */
function hasCleanedUp(t: ExecutionContext, { manager }: OpenInstallation, created = 1): void {
  t.is(manager.records.size, 0);
  t.is(manager.callsTo(/^\/messaging\/rpc_requests$/, 'POST').length, created);
}

async function openChannel(t: ExecutionContext, url: string) {
  const connection = await connect(url);
  t.teardown(async () => connection.close());
  return connection.createChannel();
}

test('without an installation the round trip is skipped, which is not a failure', async (t) => {
  const sandbox = await examine({}, SHORT_WAIT);
  t.is(sandbox.code, 0);
  t.is(sandbox.of('round trip').result, 'skipped');
  const alone = await examine({ AMQP_URL: 'amqp://127.0.0.1:1' }, SHORT_WAIT);
  t.like(alone.of('round trip'), { result: 'skipped' });
  t.regex(alone.of('round trip').said, /Manager of an OpenAperture installation.*fleet-manager call/);
});

if (rabbitmqUrl !== undefined) {
  test('the round trip creates a record, sends a read, polls for the reply, and deletes the record', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    on.manager.nextRecordId = 13;
    const worker = await startWorker(t, on.env);
    const env = { ...on.env, SSH_KNOWN_HOSTS: '/nowhere/known_hosts' };
    const run = examined(await runCli(t, ['doctor', '--round-trip'], { env }));
    t.is(run.of('round trip').result, 'ok', run.text);
    const [created, sent, replied, deleted, ...more] = run.of('round trip').said.split('\n');
    t.is(created, 'the Manager created the record 13');
    t.regex(String(sent), /^amqp:\/\/127\.0\.0\.1:\d+\/%2F accepted the request list_machines$/);
    t.regex(String(replied), /^reply received: error, cluster_not_found: .*, after \d+\.\d s$/);
    t.deepEqual([deleted, ...more], ['the record is deleted']);
    const ended = await eventually('the worker logs it', () =>
      worker.lines.find(({ message }) => message === 'request failed'),
    );
    t.is(ended.request, '13');
    hasCleanedUp(t, on);
  });

  test('doctor without --round-trip creates no record and sends nothing', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    const run = await examine(on.env);
    t.false(run.names.includes('round trip'));
    t.deepEqual(
      on.manager.callsTo(/^\/messaging/).filter(({ method }) => method !== 'GET'),
      [],
    );
    const channel = await openChannel(t, rabbitmqUrl);
    t.is((await channel.checkQueue(on.queue)).messageCount, 0);
  });

  test('with a cluster the round trip lists its machines, and an error is a failure', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    await startWorker(t, on.env);
    const found = await examine(on.env, { ...LONG_WAIT, cluster: on.sandbox.token });
    t.is(found.of('round trip').result, 'ok', found.text);
    t.regex(found.of('round trip').said, /^reply received: completed, after/m);
    const unknown = await examine(on.env, { ...LONG_WAIT, cluster: 'nobody' });
    isFailure(t, unknown, 'round trip', /^reply received: error, cluster_not_found: .*\n-> .*errors\.md/m);
    hasCleanedUp(t, on, 2);
  });

  test('it reports that no service consumes the request, which then expires', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    const run = await examine(on.env, SHORT_WAIT);
    isFailure(
      t,
      run,
      'round trip',
      /^no response within 1\.5 s: no service consumes the queue queue_\S+\n-> start the service; the expired request is in queue_\S+_error now/m,
      /^the record is deleted$/m,
    );
    hasCleanedUp(t, on);
    const channel = await openChannel(t, rabbitmqUrl);
    await eventually('it has expired', async () => (await channel.checkQueue(on.queue)).messageCount === 0);
    t.is((await channel.checkQueue(`${on.queue}_error`)).messageCount, 1);
  });

  test('it reports a service that consumes the request and does not reply', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    const channel = await openChannel(t, rabbitmqUrl);
    const consumed: ConsumeMessage[] = [];
    await channel.consume(on.queue, (message) => message !== null && consumed.push(message), { noAck: true });
    const run = await examine(on.env, SHORT_WAIT);
    t.is(consumed.length, 1);
    const { properties, content } = consumed[0] as ConsumeMessage;
    t.like(properties, { deliveryMode: 2, expiration: '1500', headers: { 'timeout-ms': 1_500 } });
    t.like(new ErlangCodec().decode(content), {
      id: '1',
      status: 'not_started',
      request_body: { action: 'list_machines', etcd_token: 'fleet-manager-doctor' },
    });
    isFailure(
      t,
      run,
      'round trip',
      /^no response within 1\.5 s, though the queue queue_\S+ has 1 consumer\n-> look for request 1 in the log/m,
    );
    hasCleanedUp(t, on);
  });

  test('without a cluster only the error of an unknown cluster is expected', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    const channel = await openChannel(t, rabbitmqUrl);
    const bodies: unknown[] = [];
    await channel.consume(
      on.queue,
      () => {
        for (const record of on.manager.records.values())
          Object.assign(record, { status: 'error', responseBody: bodies.shift() });
      },
      { noAck: true },
    );
    for (const [code, result] of [
      ['cluster_not_found', 'ok'],
      ['unknown_action', 'ok'],
      // The original FleetManager has no codes.
      [undefined, 'ok'],
      ['internal', 'FAILED'],
      ['discovery_unreachable', 'FAILED'],
    ] as const) {
      bodies.push({ errors: ['some reason', { toString: 1 }], ...(code !== undefined && { code }) });
      const run = await examine(on.env, LONG_WAIT);
      t.is(run.of('round trip').result, result, run.text);
      t.regex(run.of('round trip').said, /^reply received: error, .*some reason/m);
    }
    hasCleanedUp(t, on, 5);
  });

  test('it reports a queue that is not bound, and a missing exchange', async (t) => {
    const unbound = await openInstallation(t, [rabbitmqUrl], { without: 'queue' });
    isFailure(
      t,
      await examine(unbound.env, SHORT_WAIT),
      'round trip',
      new RegExp(
        `no queue is bound to the exchange ${unbound.exchange} by root\\.fragment7\\.${unbound.queue}, .*\n-> bind`,
      ),
      /^the record is deleted$/m,
    );
    hasCleanedUp(t, unbound);
    const missing = await openInstallation(t, [rabbitmqUrl], { without: 'exchange' });
    isFailure(
      t,
      await examine(missing.env, SHORT_WAIT),
      'round trip',
      new RegExp(`: the broker has no exchange ${missing.exchange}\n->`, 'm'),
    );
    hasCleanedUp(t, missing);
  });

  test('it reports requests that go to another queue, and a broker that stops responding', async (t) => {
    const misrouted = await openInstallation(t, [rabbitmqUrl]);
    const channel = await openChannel(t, rabbitmqUrl);
    await channel.bindQueue(misrouted.queue, misrouted.exchange, 'root.fragment7.no_such_queue');
    isFailure(
      t,
      await examine({ ...misrouted.env, QUEUE_NAME: 'no_such_queue' }, SHORT_WAIT),
      'round trip',
      /^no response within 1\.5 s: the queue no_such_queue does not exist; .*\n-> check QUEUE_NAME$/m,
    );
    hasCleanedUp(t, misrouted);
    const proxy = await startProxy(t, { port: Number(new URL(rabbitmqUrl).port) });
    const silent = await openInstallation(t, [rabbitmqUrl]);
    silent.manager.addBroker(BROKER_ID, { connections: [{ host: '127.0.0.1', port: proxy.port }] });
    const examining = examine(silent.env, { ...SHORT_WAIT, limitMs: 10_000 });
    await eventually('it polls', () => silent.manager.callsTo(/rpc_requests\/1$/, 'GET').length > 0);
    proxy.swallow();
    isFailure(
      t,
      await examining,
      'round trip',
      /^no response within 1\.5 s, and the queue cannot be checked: no response within 10 s\n-> look for request 1/m,
    );
    hasCleanedUp(t, silent);
  });

  test('it reports which step fails in the Manager', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    const { manager } = on;
    const ended = manager.fail({ status: 400, method: 'POST', path: /rpc_requests$/ });
    const create = await examine(on.env, SHORT_WAIT);
    isFailure(
      t,
      create,
      'round trip',
      /^The Manager at .* responded to POST messaging\/rpc_requests with .*400/,
    );
    t.notRegex(create.of('round trip').said, /accepted the request/);
    ended();
    const restore = manager.fail({ status: 400, method: 'GET', path: /rpc_requests\/\d+$/ });
    isFailure(
      t,
      await examine(on.env, SHORT_WAIT),
      'round trip',
      /accepted the request/,
      /^The Manager at .* responded to GET messaging\/rpc_requests\/1 with .*400.*\n->/m,
      /^the record is deleted$/m,
    );
    restore();
    manager.fail({ status: 400, method: 'DELETE' });
    const channel = await openChannel(t, rabbitmqUrl);
    await channel.consume(
      on.queue,
      (message) => {
        if (message !== null) Object.assign(manager.records.get('2') ?? {}, { status: 'completed' });
      },
      { noAck: true },
    );
    const run = await examine(on.env, LONG_WAIT);
    isFailure(
      t,
      run,
      'round trip',
      /^reply received: completed/m,
      /^The Manager at .* responded to DELETE messaging\/rpc_requests\/2 with .*400.*\n->/m,
    );
  });

  test('when the first broker cannot be reached, the next is tried', async (t) => {
    const on = await openInstallation(t, [rabbitmqUrl]);
    const port = Number(new URL(rabbitmqUrl).port);
    await startWorker(t, on.env);
    on.manager.addBroker(BROKER_ID, {
      connections: [{ host: '127.0.0.1', port: 1 }],
      failoverBrokerId: 9,
    });
    on.manager.addBroker(9, { connections: [{ host: '127.0.0.1', port }] });
    const next = await examine(on.env, LONG_WAIT);
    t.is(next.of('round trip').result, 'ok', next.text);
    on.manager.addBroker(9, { connections: [{ host: '127.0.0.1', port: 1 }] });
    const none = await examine(on.env, SHORT_WAIT);
    isFailure(t, none, 'round trip', /ECONNREFUSED.*\n-> .*the connections of broker 3 in the Manager/);
    hasCleanedUp(t, on, 2);
  });
}
