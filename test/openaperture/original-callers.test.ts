import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { ErlangPeer, hasErlang } from '../rpc/codec/erlang-peer.js';
import { endlessAction } from '../support/endless-action.js';
import { eventually } from '../support/eventually.js';
import { noteSkipped } from '../support/note-skipped.js';
import { startMachines } from '../support/machines.js';
import { startWorker } from '../support/worker.js';
import type { Oversize, StandInManager } from '../support/stand-in-manager.js';
import {
  EXCHANGE_ID,
  type OpenInstallation,
  openInstallation,
  ROUTING_KEY,
  startFast,
} from './open-installation.js';
import { messageOf, ORIGINAL_REQUESTS, ORIGINAL_STRUCTS } from './original-requests.js';
import { inRepository } from '../support/repository.js';

// The existing callers, end to end: a record, a request with the record's id as text, the reply polled and read.
const rabbitmqUrl = process.env.RABBITMQ_URL ?? noteSkipped('the original callers', 'RABBITMQ_URL');
const erlangLibraries = await librariesOfRabbitmq();
if (erlangLibraries === undefined) noteSkipped('the original callers', "RabbitMQ's Erlang client");
const SCRIPT = inRepository('test/openaperture/original-caller.escript');
const NOON = 1_714_564_800;
const WIDE = { MAX_RECORD_BYTES: '16000000' };

interface Called {
  /** The published message, in hexadecimal. */
  published: string;
  id: string;
  status: string;
  response_body: unknown;
}

/** Runs a command of the script. @returns what it printed */
async function original(...given: readonly string[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)('escript', [SCRIPT, ...given], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME ?? '/', ERL_LIBS: erlangLibraries },
  });
  return JSON.parse(stdout);
}

/** An installation whose next record is 13, with a machine for each unit, and a service. */
async function openOriginal(
  t: ExecutionContext,
  url: string,
  { env = {}, oversize }: { env?: Record<string, string>; oversize?: Oversize } = {},
) {
  const machines = await startMachines(
    t,
    ['127.0.0.1'],
    [{ unit: 'web@1.service', message: 'hello', at: NOON }],
  );
  const installation = await openInstallation(t, [url], { oversize });
  const { manager, sandbox, exchange, queue } = installation;
  const [first, second] = sandbox.cluster.machines;
  if (first === undefined || second === undefined) throw new Error('the sandbox has too few machines');
  sandbox.cluster.setMachines([
    { ...first, primaryIP: '127.0.0.1' },
    { ...second, primaryIP: null },
  ]);
  manager.nextRecordId = 13;
  const worker = await startWorker(t, { ...installation.env, ...machines.env, ...env });
  const { port } = new URL(url);
  const call = async (body: string) =>
    (await original('call', port, exchange, `${ROUTING_KEY}.${queue}`, ...apiOf(manager), body)) as Called;
  return { ...installation, worker, port, call };
}

/** Where the Manager is, and what opens it. */
function apiOf({ url, oauthUrl, clientId, clientSecret }: StandInManager): string[] {
  return [url, oauthUrl, clientId, clientSecret];
}

/** The result of each action for its original caller. */
const ANSWERS: Record<string, (t: ExecutionContext, body: unknown, on: OpenInstallation) => void> = {
  list_machines: (t, body, { sandbox }) => t.deepEqual(body, sandbox.cluster.machines),
  list_units: (t, body) => {
    const units = body as { name: string; currentState: string }[];
    t.is(units.find(({ name }) => name === 'web@1.service')?.currentState, 'launched');
  },
  list_unit_states: (t, body) => {
    const states = body as { name: string; systemdActiveState: string }[];
    t.is(states.find(({ name }) => name === 'web@1.service')?.systemdActiveState, 'active');
  },
  unit_logs: (t, body) => t.regex(String(body), /^[^\n]*web\[1\]: hello\n$/),
  node_info: (t, body) => {
    const nodes = body as Record<string, { docker_disk_space_percent: number | null }>;
    t.deepEqual(Object.keys(nodes).toSorted(), ['(null)', '127.0.0.1']);
    t.is(typeof nodes['127.0.0.1']?.docker_disk_space_percent, 'number');
    t.is(nodes['(null)']?.docker_disk_space_percent, null);
  },
  restart_unit: (t, body) => t.regex(String(body), /^web@1\.service was restarted\./),
};

if (rabbitmqUrl !== undefined && erlangLibraries !== undefined) {
  for (const { action, body, bytes } of ORIGINAL_REQUESTS) {
    test(`the original caller of ${action} makes a record, publishes its id as text, polls, reads and deletes`, async (t) => {
      const on = await openOriginal(t, rabbitmqUrl);
      const { published, id, status, response_body: response } = await on.call(body);
      t.is(published.toLowerCase(), bytes.toString('hex'), 'the message is the one that is kept');
      t.deepEqual([id, status], ['13', 'completed']);
      ANSWERS[action]?.(t, response, on);
      const calls = on.manager.callsTo(/^\/messaging\/rpc_requests/).map(({ method }) => method);
      t.is(calls[0], 'POST');
      t.is(calls.filter((method) => method === 'PUT').length, 1);
      t.is(calls.at(-1), 'DELETE');
      const [saved] = on.manager.callsTo(/^\/messaging\/rpc_requests\/13$/, 'PUT');
      t.like(saved?.body, { queue_name: '', id: '13', status: 'completed' });
      t.is(on.manager.records.size, 0);
      const ended = await eventually('the worker logs it', () =>
        on.worker.lines.find(({ message }) => message === 'request completed'),
      );
      t.like(ended, { request: '13', action });
    });
  }

  test('an original caller whose request fails reads the error, and the service handles the next request', async (t) => {
    const { call, manager } = await openOriginal(t, rabbitmqUrl);
    const unknown = await call('#{etcd_token => <<"nobody">>, action => list_machines}');
    t.like(unknown, { id: '13', status: 'error', response_body: { code: 'cluster_not_found' } });
    const exploding = await call('#{etcd_token => <<"sandbox">>, action => explode}');
    t.like(exploding, { id: '14', status: 'error', response_body: { code: 'unknown_action' } });
    t.is((await call('#{etcd_token => <<"sandbox">>, action => list_machines}')).status, 'completed');
    t.is(manager.records.size, 0);
  });

  // The service's own limit, and that of a Manager with a lower limit than configured.
  for (const [whose, env, oversize, reason] of [
    ['the service saves', {}, 'answered', /^it has \d+ bytes, and MAX_RECORD_BYTES is 7500000$/],
    // The answer may be lost with the connection.
    ['the Manager reads, which says so', WIDE, 'answered', /status 413|the Manager failed on it twice/],
    ['the Manager reads, which cuts the connection', WIDE, 'cut', /the Manager failed on it twice/],
  ] as const) {
    test(`an original caller whose reply is larger than ${whose} gets the error immediately, and others get their replies`, async (t) => {
      const { call, sandbox, worker } = await openOriginal(t, rabbitmqUrl, { env, oversize });
      const options = [{ section: 'Service', name: 'ExecStart', value: `/bin/x ${'x'.repeat(30_000)}` }];
      const units = Array.from({ length: 280 }, (_, n) => ({ name: `wide@${n}.service`, options }));
      sandbox.cluster.addUnits(units);
      const [wide, ...others] = await Promise.all([
        call('#{etcd_token => <<"sandbox">>, action => list_units}'),
        call('#{etcd_token => <<"sandbox">>, action => list_machines}'),
        call('#{etcd_token => <<"nobody">>, action => list_machines}'),
      ]);
      t.like(wide, { status: 'error', response_body: { code: 'answer_too_large' } });
      t.deepEqual(
        others.map(({ status }) => status),
        ['completed', 'error'],
      );
      const replaced = await eventually('the worker logs it', () => {
        const lines = worker.lines.filter(({ message }) => String(message).startsWith('reply replaced'));
        return lines.length > 0 ? lines : undefined;
      });
      t.deepEqual(
        replaced.map(({ request }) => request),
        [wide.id],
      );
      t.regex(String(replaced[0]?.reason), reason);
      t.is(
        worker.lines.filter(({ message }) => String(message).startsWith('record replies waiting')).length,
        0,
      );
    });
  }

  test('the recorded messages get their replies in their records, with nil keys or without', async (t) => {
    const { manager, exchange, queue } = await openOriginal(t, rabbitmqUrl);
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    for (const { action, bytes } of [...ORIGINAL_REQUESTS, ...ORIGINAL_STRUCTS]) {
      const record = manager.addRecord(13);
      channel.publish(exchange, `${ROUTING_KEY}.${queue}`, bytes, { persistent: true });
      await eventually(`${action} has its reply`, () => record.saved);
      t.like(JSON.parse(record.saved ?? ''), { id: '13', status: 'completed', request_body: { action } });
    }
  });

  test('the Overseer passes on the heartbeat of a module with 20 requests in progress, and it stays in the list', async (t) => {
    const { manager, env, client, queue } = await openInstallation(t, [rabbitmqUrl]);
    await startFast(t, { ...env, ...(await endlessAction(t)), SHUTDOWN_GRACE_SECONDS: '0' });
    const calls = Array.from({ length: 20 }, async () =>
      client.call('endless', { timeoutMs: 300_000 }).catch(() => {}),
    );
    await eventually('it has registered', () => manager.modules.length === 1);
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const heartbeat = async () => {
      const message = await channel.get(`${queue}_system_modules`, { noAck: true });
      return message !== false && message.content.includes('20 requests run') ? message.content : undefined;
    };
    const beat = await eventually('a heartbeat with all of them', heartbeat);
    const { queue: passedOn } = await channel.assertQueue('', { autoDelete: true });
    t.teardown(async () => channel.deleteQueue(passedOn));
    channel.sendToQueue(passedOn, beat);
    const { port } = new URL(rabbitmqUrl);
    const answer = await original('overseer', port, passedOn, ...apiOf(manager), String(EXCHANGE_ID));
    t.deepEqual(answer, { status: 201 });
    const [module] = manager.modules;
    t.like(module, { hostname: 'test-instance', type: 'fleet_manager', status: 'active' });
    const workload = module?.workload as { description: string }[];
    t.is(workload[0]?.description, '20 requests run');
    t.true(workload.length >= 4, JSON.stringify(workload));
    await client.close();
    await Promise.all(calls);
  });

  test('a request in Erlang whose id names no record gets a reply in Erlang, with the id as it came', async (t) => {
    const { queue } = await openOriginal(t, rabbitmqUrl);
    const erlang = new ErlangPeer();
    t.teardown(async () => erlang.end());
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
    const take = async (from: string) =>
      eventually(`a message in ${from}`, async () => (await channel.get(from, { noAck: true })) || undefined);
    const ids = ['<<"013">>', '<<" 13">>', '<<"+13">>', '<<"13\\n">>', '-1', '13.5', '[49, 51]', 'undefined'];
    for (const id of ids) {
      const request = `#{id => ${id}, status => not_started, request_body => #{action => list_machines}}`;
      channel.sendToQueue(queue, await erlang.evaluate(`term_to_binary(${request})`), { replyTo });
      const verdict = await erlang.evaluate(
        `#{id := Id, status := error, request_body := #{<<"action">> := <<"list_machines">>},
           response_body := #{<<"code">> := <<"invalid_request">>}} = binary_to_term(Data),
         Expected = ${id === 'undefined' ? '<<"undefined">>' : id},
         case Id =:= Expected of true -> <<"same">>; false -> term_to_binary(Id) end`,
        (await take(replyTo)).content,
      );
      t.is(verdict.toString(), 'same', id);
      t.regex(String((await take(`${queue}_error`)).properties.headers?.['x-reason']), /id of a record/, id);
    }
    channel.sendToQueue(queue, Buffer.from([131, 104]), { replyTo });
    const damaged = await erlang.evaluate(
      `#{id := nil, status := error} = binary_to_term(Data), <<"read">>`,
      (await take(replyTo)).content,
    );
    t.is(damaged.toString(), 'read');
  });

  test('an invalid message that names a record gets its reply there', async (t) => {
    const { manager, queue } = await openOriginal(t, rabbitmqUrl);
    const erlang = new ErlangPeer();
    t.teardown(async () => erlang.end());
    const connection = await connect(rabbitmqUrl);
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const send = async (id: string, rest: string) => {
      const record = manager.addRecord(Number(id));
      channel.sendToQueue(queue, await erlang.evaluate(`term_to_binary(#{id => <<"${id}">>, ${rest}})`));
      return record;
    };
    const waiting = await send('13', 'status => not_started, request_body => nil');
    await eventually('it is answered', () => waiting.saved);
    t.like(JSON.parse(waiting.saved ?? ''), { id: '13', response_body: { code: 'invalid_request' } });
    // A misrouted reply must not change the record that it names.
    const other = await send('14', 'status => completed, request_body => #{action => list_machines}');
    const errors = `${queue}_error`;
    await eventually(
      'both are dead-lettered',
      async () => (await channel.checkQueue(errors)).messageCount === 2,
    );
    t.is(other.status, 'not_started');
  });

  test('an Erlang caller with a reply_to reads the envelope in atoms, and everything in it with binary keys', async (t) => {
    const on = await openOriginal(t, rabbitmqUrl);
    for (const { action, body } of ORIGINAL_REQUESTS) {
      const answer = (await original('reply', on.port, on.queue, body)) as Called;
      t.is(answer.status, 'completed');
      ANSWERS[action]?.(t, answer.response_body, on);
    }
  });
}

const peer = hasErlang()
  ? new ErlangPeer()
  : noteSkipped('requests as Erlang writes them', 'escript on the PATH');
test.after.always(() => peer?.end());

for (const [form, requests] of [
  ['as they are published', ORIGINAL_REQUESTS],
  ['with every key', ORIGINAL_STRUCTS],
] as const) {
  test(`original requests, ${form}, equal what Erlang makes of them, and are read as they are`, async (t) => {
    for (const { action, body, bytes } of requests) {
      const options = '[deterministic, {minor_version, 1}]';
      if (peer !== undefined) {
        const made = await peer.evaluate(`term_to_binary(${messageOf(body)}, ${options})`);
        t.deepEqual(made, bytes, action);
      }
      const read = new ErlangCodec().decode(bytes);
      t.like(read, { queue_name: '', id: '13', status: 'not_started', request_body: { action } });
    }
  });
}

/** Where Debian installs RabbitMQ's Erlang client and its dependencies. */
async function librariesOfRabbitmq(): Promise<string | undefined> {
  const lib = '/usr/lib/rabbitmq/lib';
  if (!existsSync(lib)) return undefined;
  const server = (await readdir(lib)).find((name) => name.startsWith('rabbitmq_server-'));
  return server === undefined ? undefined : `${lib}/${server}/plugins`;
}
