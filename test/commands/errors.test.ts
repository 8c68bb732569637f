import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Channel, GetMessage, Options } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { Cluster } from '../../src/api/cluster.js';
import { errorQueueOf, queuesOf } from '../../src/rpc/queues.js';
import { rabbitmq } from '../support/brokers.js';
import { openInstallation } from '../openaperture/open-installation.js';
import { doing } from '../support/actions.js';
import { eventually } from '../support/eventually.js';
import { ownBroker } from '../support/own-broker.js';
import { makeQueue, serveRequests } from '../support/requests.js';
import { UNSAFE } from '../support/unsafe-characters.js';
import { type Ended, runCli, startCli } from './cli-process.js';

const TOKEN = 'aToken0123456789aToken';
const ESCAPE = '\u001b[2J';

const rabbit = rabbitmq();
const MINUTE_MS = 60_000;

function request(action: unknown, more: object = {}): string {
  return JSON.stringify({ request_body: { action, etcd_token: TOKEN, ...more } });
}

/** The headers of a message that a worker has dead-lettered, whose caller waits this long still. */
function deadHeaders(leftMs: number, more: object = {}): Record<string, unknown> {
  const now = Date.now();
  return { 'x-reason': 'no reason', 'x-dead-lettered-at': now, 'x-ends-at': now + leftMs, ...more };
}

interface Listed {
  id: string;
  reason: string | null;
  action: string | null;
  caller: string | null;
  message_id: string | null;
}

/** A queue of requests without a worker, and its error queue. */
class Queues {
  readonly queue: string;
  readonly env: Record<string, string>;
  readonly #t: ExecutionContext;
  readonly channel: Channel;

  static async open(t: ExecutionContext, options: Options.AssertQueue = {}): Promise<Queues> {
    if (rabbit === undefined) throw new Error('there is no RabbitMQ');
    const connection = await rabbit.open();
    const channel = await connection.createConfirmChannel();
    const queue = `test_${randomUUID()}`;
    await channel.assertQueue(queue, { durable: true });
    await channel.assertQueue(errorQueueOf(queue), { durable: true, ...options });
    t.teardown(async () => {
      for (const name of queuesOf(queue)) await channel.deleteQueue(name);
      await connection.close();
    });
    return new Queues(t, channel, { queue, env: { AMQP_URL: rabbit.url, QUEUE_NAME: queue } });
  }

  constructor(
    t: ExecutionContext,
    channel: Channel,
    { queue, env }: { queue: string; env: Record<string, string> },
  ) {
    this.#t = t;
    this.channel = channel;
    this.queue = queue;
    this.env = env;
  }

  async add(body: string | Buffer, options: Options.Publish = {}): Promise<void> {
    const sent = { persistent: true, replyTo: 'replies', ...options };
    this.channel.sendToQueue(errorQueueOf(this.queue), Buffer.from(body), sent);
    // The broker handles what comes on a channel in order.
    await this.channel.checkQueue(errorQueueOf(this.queue));
  }

  async errors(...args: string[]): Promise<Ended> {
    return runCli(this.#t, ['errors', ...args], { env: this.env });
  }

  async list(): Promise<Listed[]> {
    const { stdout, stderr, code } = await this.errors('list', '--json');
    this.#t.is(code, 0, stderr);
    return JSON.parse(stdout).messages;
  }

  /** The id of the only message. */
  async onlyId(): Promise<string> {
    const [only, ...others] = await this.list();
    this.#t.deepEqual(others, []);
    return only?.id ?? '';
  }

  /** Takes all messages out of the queue of requests, or the error queue. */
  async take(from: 'requests' | 'errors'): Promise<GetMessage[]> {
    const name = from === 'requests' ? this.queue : errorQueueOf(this.queue);
    const taken: GetMessage[] = [];
    for (;;) {
      const message = await this.channel.get(name, { noAck: true });
      if (message === false) return taken;
      taken.push(message);
    }
  }

  /** How many messages can be taken. */
  async waiting(from: 'requests' | 'errors'): Promise<number> {
    const name = from === 'requests' ? this.queue : errorQueueOf(this.queue);
    return (await this.channel.checkQueue(name)).messageCount;
  }
}

test('errors without a configured broker says what to set', async (t) => {
  const { code, stderr } = await runCli(t, ['errors', 'list']);
  t.is(code, 2);
  t.regex(stderr, /set AMQP_URL or MANAGER_URL/);
});

test('errors names a broker that cannot be reached, without its password', async (t) => {
  const env = { AMQP_URL: 'amqp://user:hidden@127.0.0.1:1' };
  const { code, stderr } = await runCli(t, ['errors', 'list'], { env });
  t.is(code, 1);
  t.regex(stderr, /^fleet-manager: no broker can be used: amqp:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/);
  t.false(stderr.includes('hidden'));
});

if (rabbit !== undefined) {
  test('list shows each message, the oldest first, with its cluster as a hash', async (t) => {
    const queues = await Queues.open(t);
    const headers = deadHeaders(MINUTE_MS, {
      'x-caller': 'alice',
      'x-dead-lettered-at': Date.now() - 5 * MINUTE_MS,
    });
    await queues.add(request('restart_unit'), { headers });
    await queues.add('not JSON');
    const { code, stdout, stderr } = await queues.errors('list');
    t.is(code, 0, stderr);
    const [heading = '', first = '', second = '', ...others] = stdout.trimEnd().split('\n');
    t.deepEqual(heading.split(/ +/), ['ID', 'AGE', 'SIZE', 'ACTION', 'CLUSTER', 'CALLER', 'REASON']);
    t.regex(first, /^[0-9a-f]{12}  5 min  \d+ B +restart_unit  [0-9a-f]{10}  alice   no reason$/);
    t.true(first.includes(new Cluster(TOKEN).hash));
    t.regex(second, /^[0-9a-f]{12}  -  +8 B +-  +-  +-  +-$/);
    t.deepEqual(others, []);
    t.false(stdout.includes(TOKEN));
  });

  test('list says that a queue is empty, and that one does not exist', async (t) => {
    const queues = await Queues.open(t);
    const empty = await queues.errors('list');
    t.is(empty.code, 0);
    t.regex(empty.stdout, /^no messages in test_\S+_error on amqp:\/\/127\.0\.0\.1:\d+\n$/);
    await queues.channel.deleteQueue(errorQueueOf(queues.queue));
    const missing = await queues.errors('list');
    t.is(missing.code, 1);
    t.regex(missing.stderr, /the queue test_\S+_error does not exist on amqp:.*check QUEUE_NAME/);
  });

  for (const type of ['classic', 'quorum'] as const) {
    test(`looking at a ${type} queue leaves its messages in their order, with the same IDs`, async (t) => {
      const queues = await Queues.open(t, { arguments: { 'x-queue-type': type } });
      const bodies = ['one', 'two', 'three', 'four'];
      for (const body of bodies) await queues.add(body);
      const first = await queues.list();
      const again = await queues.errors('list', '--json');
      t.deepEqual(JSON.parse(again.stdout).messages, first);
      t.is(/must have no delivery limit/.test(again.stderr), type === 'quorum');
      const left = await queues.take('errors');
      t.deepEqual(
        left.map(({ content }) => content.toString()),
        bodies,
      );
    });
  }

  test('only as many messages as the limit are looked at, and list tells how many there are besides', async (t) => {
    const queues = await Queues.open(t);
    for (const body of ['one', 'two', 'three']) await queues.add(body);
    const all = await queues.list();
    const { stdout, stderr } = await queues.errors('list', '--limit', '2', '--json');
    t.like(JSON.parse(stdout), { messages: all.slice(0, 2), left: 1, gone: 0 });
    t.regex(
      stderr,
      /^1 message more in test_\S+_error on amqp:.*only the oldest 2 were looked at; see --limit\n$/,
    );
    t.regex(
      (await queues.errors('show', all[2]?.id ?? '', '--limit', '2')).stderr,
      /no message .*see .*--limit/,
    );
    t.deepEqual(await queues.list(), all);
  });

  test('messages that came back to a quorum queue often are looked at only when it has no delivery limit', async (t) => {
    const queues = await Queues.open(t, { arguments: { 'x-queue-type': 'quorum' } });
    await queues.add('one');
    for (let times = 0; times < 16; times++) {
      const message = await queues.channel.get(errorQueueOf(queues.queue));
      if (message !== false) queues.channel.nack(message);
    }
    const { code, stderr } = await queues.errors('list');
    t.is(code, 2);
    t.regex(stderr, /came back \d+ times, and a delivery limit .* say so with --no-delivery-limit/);
    const { stdout } = await queues.errors('list', '--no-delivery-limit');
    t.regex(stdout, /3 B/);
  });

  test('equal messages are told apart by a number', async (t) => {
    const queues = await Queues.open(t);
    for (let copy = 0; copy < 3; copy++) await queues.add('the same', { messageId: 'm' });
    const [first, second, third] = await queues.list();
    t.deepEqual([second?.id, third?.id], [`${first?.id}-2`, `${first?.id}-3`]);
    t.is((await queues.errors('drop', `${first?.id}-2`)).code, 0);
    t.is(await queues.waiting('errors'), 2);
  });

  test('nothing that a message contains controls the terminal', async (t) => {
    const queues = await Queues.open(t);
    const hostile = `${ESCAPE}${UNSAFE.join('')}\r\n`;
    const headers = { 'x-reason': hostile, 'x-caller': hostile, [`x-${ESCAPE}`]: hostile };
    await queues.add(request(hostile, { [hostile]: hostile }), { headers, messageId: hostile.slice(0, 60) });
    const id = await queues.onlyId();
    for (const args of [
      ['list'],
      ['list', '--json'],
      ['show', id],
      ['show', id, '--json'],
      ['export'],
      ['drop', id],
    ]) {
      const { stdout, stderr, code } = await queues.errors(...args);
      t.is(code, 0, stderr);
      t.notRegex(`${stdout}${stderr}`, /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}]/u, args.join(' '));
    }
  });

  test('show and export tell everything of a message but its secrets', async (t) => {
    const queues = await Queues.open(t);
    const body = request('list_units', { action_parameters: { password: 'hunter22', note: `for ${TOKEN}` } });
    const headers = deadHeaders(MINUTE_MS, {
      'x-reason': `about ${TOKEN}`,
      authorization: 'Bearer abcdefgh',
    });
    await queues.add(body, { headers, messageId: 'm-1', replyTo: 'replies' });
    const id = await queues.onlyId();
    const shown = await queues.errors('show', id.slice(0, 6));
    t.regex(shown.stdout, /^caller waits {4}until \S+, for \d+ s$/m);
    for (const { stdout } of [
      shown,
      await queues.errors('show', id, '--json'),
      await queues.errors('export'),
    ]) {
      for (const secret of [TOKEN, 'hunter22', 'abcdefgh']) t.false(stdout.includes(secret), stdout);
      for (const told of ['m-1', 'replies', 'list_units', 'about ***', new Cluster(TOKEN).hash])
        t.true(stdout.includes(told), `${told} in ${stdout}`);
    }
  });

  test('a body that cannot be decoded is not shown, but why', async (t) => {
    const queues = await Queues.open(t);
    await queues.add(`{"etcd_token": "${TOKEN}"`);
    const { stdout } = await queues.errors('show', await queues.onlyId());
    t.regex(stdout, /^problem +not valid JSON$/m);
    t.false(stdout.includes(TOKEN));
  });

  test('export --with-secrets writes whole messages to a new file that only its owner may read', async (t) => {
    const queues = await Queues.open(t);
    await queues.add(request('list_units'), { headers: { 'x-reason': 'r' }, messageId: 'm-1' });
    await queues.add(Buffer.from([0xff, 0x00]));
    const folder = await mkdtemp(join(tmpdir(), 'export-'));
    t.teardown(() => rm(folder, { recursive: true }));
    const file = join(folder, 'errors.jsonl');
    const { code, stderr } = await queues.errors('export', '--with-secrets', '--output', file);
    t.is(code, 0, stderr);
    t.regex(stderr, /with their cluster tokens/);
    t.is((await stat(file)).mode & 0o777, 0o600);
    const lines = (await readFile(file, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    t.is(Buffer.from(lines[0].content_base64, 'base64').toString(), request('list_units'));
    t.like(lines[0], { properties: { messageId: 'm-1' }, headers: { 'x-reason': 'r' } });
    t.is(lines[1].content_base64, '/wA=');
    t.is(await queues.waiting('errors'), 2);
    await writeFile(file, 'kept');
    const again = await queues.errors('export', '--output', file);
    t.is(again.code, 2);
    t.regex(again.stderr, /this file exists, and no file is overwritten/);
    t.is(await readFile(file, 'utf8'), 'kept');
  });

  test('drop removes what is named, and nothing when a name is wrong', async (t) => {
    const queues = await Queues.open(t);
    for (const body of ['one', 'two', 'three'])
      await queues.add(body, { headers: { 'x-reason': `is ${body}` } });
    const [first, second, third] = (await queues.list()).map(({ id }) => id);
    for (const [args, problem] of [
      [[], /give the IDs of messages/],
      [['--all', first], /give the IDs of messages/],
      [[first, 'ffffffffffff'], /no message ffffffffffff/],
      [[first, 'a'], /too short/],
    ] as [string[], RegExp][]) {
      const refused = await queues.errors('drop', ...args);
      t.is(refused.code, 2, args.join(' '));
      t.regex(refused.stderr, problem);
    }
    t.is(await queues.waiting('errors'), 3);
    const { stdout } = await queues.errors('drop', third ?? '', first?.slice(0, 8) ?? '');
    t.is(stdout, `${first}  dropped: no action; is one\n${third}  dropped: no action; is three\n`);
    t.deepEqual(
      (await queues.list()).map(({ id }) => id),
      [second],
    );
    t.is((await queues.errors('drop', '--all')).code, 0);
    t.deepEqual(await queues.list(), []);
  });

  test('a replayed request keeps its id, its reply address and its caller, and has the rest of its time', async (t) => {
    const queues = await Queues.open(t);
    const headers = deadHeaders(2 * MINUTE_MS, {
      'timeout-ms': 240_000,
      'x-caller': 'alice',
      'x-caller-verified-by': 'token',
      'x-door': 'http',
      'x-requeued': true,
      traceparent: '00-1',
    });
    const properties = { messageId: 'm-1', replyTo: 'replies', correlationId: 'c-1', userId: 'guest' };
    await queues.add(request('restart_unit'), { headers, ...properties });
    const id = await queues.onlyId();
    const { code, stdout, stderr } = await queues.errors('replay', id);
    t.is(code, 0, stderr);
    t.regex(
      stdout,
      new RegExp(`^${id}  replayed: restart_unit \\(a change\\); caller alice, as before; it expires in`),
    );
    t.is(await queues.waiting('errors'), 0);
    const [message, ...others] = await queues.take('requests');
    t.deepEqual(others, []);
    t.is(message?.content.toString(), request('restart_unit'));
    t.like(message?.properties, { ...properties, deliveryMode: 2 });
    const { 'timeout-ms': limit, 'x-replayed-at': at, ...kept } = message?.properties.headers ?? {};
    t.deepEqual(kept, {
      'x-caller': 'alice',
      'x-caller-verified-by': 'token',
      'x-door': 'http',
      traceparent: '00-1',
      'x-replayed': 1,
    });
    t.true(limit > 1_000 && limit <= 2 * MINUTE_MS, `${limit}`);
    t.is(message?.properties.expiration, String(limit));
    t.true(Number.isSafeInteger(at));
  });

  test('what must not run any more is replayed only by force, a read always, with its time limit anew', async (t) => {
    const queues = await Queues.open(t);
    const late = deadHeaders(-MINUTE_MS, { 'timeout-ms': 5_000 });
    const seconds = Math.floor(Date.now() / 1_000);
    const refused: [body: string, options: Options.Publish, reason: RegExp][] = [
      [request('restart_unit'), { headers: late }, /its caller does not wait for it any more since \d+ s/],
      [request('restart_unit'), {}, /does not wait for it any more; --force/],
      [
        request('other'),
        { headers: late },
        /other is not installed here and may be a change, and its caller/,
      ],
      [
        request('restart_unit'),
        { timestamp: seconds - 60, headers: { 'timeout-ms': 30_000 } },
        /does not wait for it any more since/,
      ],
      [
        request('restart_unit'),
        { headers: deadHeaders(MINUTE_MS, { 'x-may-have-begun': true }) },
        /a worker may have begun it/,
      ],
      [
        request('list_units'),
        { headers: deadHeaders(MINUTE_MS), replyTo: undefined },
        /nobody gets a reply to it, so the service would not run list_units/,
      ],
      ['{}', { headers: deadHeaders(MINUTE_MS) }, /error queue again: the message has no request_body/],
    ];
    for (const [body, options] of refused) await queues.add(body, options);
    await queues.add(request('list_units'), { headers: late, messageId: 'read' });
    await queues.add(request('restart_unit'), {
      timestamp: seconds,
      headers: { 'timeout-ms': 300_000 },
      messageId: 'in time',
    });
    const { code, stdout } = await queues.errors('replay', '--all');
    t.is(code, 2);
    const lines = stdout.trimEnd().split('\n');
    for (const [index, [, , reason]] of refused.entries()) t.regex(lines[index] ?? '', reason);
    const ran = await queues.take('requests');
    t.deepEqual(
      ran.map(({ properties }) => properties.messageId),
      ['read', 'in time'],
    );
    t.is(ran[0]?.properties.headers?.['timeout-ms'], 5_000);
    t.is(ran[0]?.properties.expiration, '5000');
    t.is(await queues.waiting('errors'), refused.length);
    const forced = await queues.errors('replay', '--all', '--force', '--json');
    t.is(forced.code, 0, forced.stderr);
    t.is(JSON.parse(forced.stdout).results.length, refused.length);
    const [first] = await queues.take('requests');
    t.is(first?.properties.headers?.['timeout-ms'], 5_000);
    t.is(await queues.waiting('errors'), 0);
  });

  test('in an OpenAperture installation the broker is found through the Manager, and what it dead-lettered is told', async (t) => {
    const { env, queue } = await openInstallation(t, [rabbit.url]);
    const connection = await rabbit.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createConfirmChannel();
    channel.sendToQueue(queue, Buffer.from(request('restart_unit')), { expiration: '1', userId: 'guest' });
    await eventually(
      'it has expired',
      async () => (await channel.checkQueue(errorQueueOf(queue))).messageCount,
    );
    const { stdout, code, stderr } = await runCli(t, ['errors', 'list'], { env });
    t.is(code, 0, stderr);
    t.regex(
      stdout,
      new RegExp(`\\d+ s +\\d+ B +restart_unit +\\w+ +guest +the broker took it out of ${queue}: expired`),
    );
    const refused = await runCli(t, ['errors', 'replay', '--all'], { env });
    t.is(refused.code, 2);
    t.regex(
      refused.stdout,
      /restart_unit is a change, and its caller does not wait for it any more since \d+ s/,
    );
  });

  test('a message stays in the error queue when the queue of the service does not exist, or is full', async (t) => {
    const queues = await Queues.open(t);
    await queues.add(request('list_units'));
    await queues.channel.deleteQueue(queues.queue);
    const missing = await queues.errors('replay', '--all');
    t.is(missing.code, 1);
    t.regex(missing.stdout, /not replayed: the queue of the service does not exist/);
    await queues.channel.assertQueue(queues.queue, {
      durable: true,
      arguments: { 'x-max-length': 0, 'x-overflow': 'reject-publish' },
    });
    const full = await queues.errors('replay', '--all');
    t.is(full.code, 1);
    t.regex(full.stdout, /not replayed: the queue of the service is full/);
    t.is(await queues.waiting('errors'), 1);
  });

  test('a replayed request runs as usual, and its caller gets the reply', async (t) => {
    const queues = await Queues.open(t);
    const { queue: replyQueue } = await queues.channel.assertQueue('', { exclusive: true });
    const properties = { messageId: 'm-1', replyTo: replyQueue, correlationId: 'c-1' };
    await queues.add(request('list_units', { action_parameters: { limit: 'no' } }), properties);
    const replay = async () => {
      const { code, stderr } = await queues.errors('replay', '--all');
      t.is(code, 0, stderr);
    };
    await replay();
    const service = await startCli(t, ['serve'], {
      env: { ...queues.env, HTTP_PORT: 'off', FLEET_API_PORT: '4001', LOG_FORMAT: 'json' },
    });
    await service.printed(/"request":"m-1"/);
    const reply = await eventually('its reply', async () => {
      const message = await queues.channel.get(replyQueue, { noAck: true });
      return message === false ? undefined : message;
    });
    t.is(reply.properties.correlationId, 'c-1');
    t.is(JSON.parse(reply.content.toString()).response_body.code, 'invalid_parameters');
  });

  test('a copy of a replayed change, left by an interrupted replay, does not run again', async (t) => {
    const queues = await Queues.open(t);
    let runs = 0;
    const { queue, logs } = await serveRequests(t, rabbit, [
      doing(async () => ({ runs: ++runs }), { name: 'restart', effect: 'change' }),
    ]);
    const sent = { messageId: 'm-1', headers: { 'x-replayed': 1, 'timeout-ms': 60_000 } };
    for (let copy = 0; copy < 2; copy++)
      queues.channel.sendToQueue(queue, Buffer.from(request('restart')), sent);
    await eventually('both are handled', () => logs.find(/^remembered reply reused$/).length === 1);
    t.is(runs, 1);
  });

  test('a user who is not that of the service becomes the caller, and one who lacks a permission is told', async (t) => {
    const broker = await ownBroker(t);
    const name = `test_${randomUUID()}`;
    for (const each of queuesOf(name)) await makeQueue(broker, each);
    const connection = await broker.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createConfirmChannel();
    const headers = deadHeaders(MINUTE_MS, { 'x-caller': 'alice', 'x-caller-verified-by': 'broker' });
    channel.sendToQueue(errorQueueOf(name), Buffer.from(request('list_units')), {
      userId: 'guest',
      replyTo: 'replies',
      headers,
    });
    await channel.waitForConfirms();
    const runAs = async (user: string, permissions: Parameters<typeof broker.user>[1], ...args: string[]) => {
      const { url } = await broker.user(user, permissions);
      return runCli(t, ['errors', ...args], { env: { AMQP_URL: url, QUEUE_NAME: name } });
    };
    const noRead = await runAs('no_read', { read: '^$' }, 'list');
    t.is(noRead.code, 1);
    t.regex(noRead.stderr, /ACCESS_REFUSED .*_error' .*\(it lacks the read permission\)/);
    const noWrite = await runAs('no_write', { write: '^$' }, 'replay', '--all');
    t.is(noWrite.code, 1);
    t.regex(
      noWrite.stderr,
      /accepts no message from this user: ACCESS_REFUSED .*\(it lacks the write permission\)/,
    );
    const ops = { configure: '^$', write: '^amq\\.default$', read: `^${name}_error$` };
    const refused = await runAs('ops', ops, 'replay', '--all');
    t.is(refused.code, 2, refused.stderr);
    t.regex(refused.stdout, /refused: guest has published it, and it would run with the rights of ops if/);
    const asOps = await runAs('ops_2', ops, 'replay', '--all', '--force');
    t.is(asOps.code, 0, asOps.stderr);
    t.regex(asOps.stdout, /caller ops_2, as the user of the service is another one \(guest\)/);
    const message = await channel.get(name, { noAck: true });
    t.is(message !== false && message.properties.userId, 'ops_2');
    // Whoever may publish can put such a message there.
    channel.sendToQueue(errorQueueOf(name), Buffer.from(request('list_units')), {
      replyTo: 'replies',
      headers,
    });
    await channel.waitForConfirms();
    const ofNobody = await runAs('ops_3', ops, 'replay', '--all');
    t.regex(ofNobody.stdout, /its caller is not known, as before/);
    const again = await channel.get(name, { noAck: true });
    t.is(again !== false && again.properties.userId, undefined);
  });

  for (const signal of ['SIGKILL', 'SIGINT'] as const) {
    test(`no message is lost when a replay of many ends by ${signal}`, async (t) => {
      const queues = await Queues.open(t);
      const ids = Array.from({ length: 400 }, (_, index) => `m-${index}`);
      for (const messageId of ids) await queues.add(request('list_units'), { messageId });
      const replay = await startCli(t, ['errors', 'replay', '--all'], { env: queues.env });
      await replay.printed(/replayed/);
      replay.kill(signal);
      const { code, stdout } = await replay.ended;
      if (signal === 'SIGINT') t.is(code, 1, stdout);
      const replayed = (await queues.take('requests')).map(({ properties }) => properties.messageId);
      const left = (await queues.list()).map(({ message_id: id }) => id);
      t.true(replayed.length > 0);
      t.true(left.length > 0, 'it was ended before it had replayed all');
      t.deepEqual(new Set([...replayed, ...left]), new Set(ids));
      const copies = replayed.length + left.length - ids.length;
      t.true(copies <= (signal === 'SIGINT' ? 0 : 1), `${copies} of them in both queues`);
      t.deepEqual(left, ids.slice(-left.length));
      t.is((await queues.errors('replay', '--all')).code, 0);
      t.deepEqual(
        (await queues.take('requests')).map(({ properties }) => properties.messageId),
        left,
      );
      t.is(await queues.waiting('errors'), 0);
    });
  }
}
