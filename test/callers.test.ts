import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import type { ConfirmChannel, Options } from 'amqplib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { HttpTokens } from '../src/access/http-tokens.js';
import { FleetManagerClient } from '../src/client/client.js';
import type { Call } from '../src/core/call.js';
import { Gateway } from '../src/gateway/gateway.js';
import { systemClock } from '../src/lib/clock.js';
import { rabbitmq, type TestBroker } from './support/brokers.js';
import { doing, held } from './support/actions.js';
import { eventually, HUNG_MS } from './support/eventually.js';
import { logLines } from './support/log-lines.js';
import { type OwnBroker, startOwnBroker } from './support/own-broker.js';
import { loseWorker, makeQueue, RawCaller, type RunningRequests, serveRequests } from './support/requests.js';
import { folder } from './support/settings.js';

interface Context {
  broker: OwnBroker;
  /** The broker with the login of the service, and with those of two callers. */
  service: TestBroker;
  ops: TestBroker;
  /** It has the tag `impersonator`. */
  trusted: TestBroker;
}

const test = anyTest as TestFn<Context>;
const FORGED = { 'x-caller': 'root', 'x-caller-verified-by': 'token', 'x-door': 'http' };
const TOKEN = 'the token of continuous integration';
const ANONYMOUS = { name: 'anonymous', verifiedBy: undefined };
const CI = { name: 'ci', verifiedBy: 'token' };

/** Returns its caller. */
const who = doing(async ({ caller, repeated }) => ({ caller, repeated }), { name: 'who' });

/** A gateway apart from the worker, which knows `ci` by its token; without tokens it knows nobody. */
async function openGateway(
  t: ExecutionContext<Context>,
  queue: string,
  { as = t.context.service, hasTokens = true }: { as?: TestBroker; hasTokens?: boolean } = {},
) {
  const tokens = [{ name: 'ci', sha256: createHash('sha256').update(TOKEN).digest('hex') }];
  const files = await folder(t, { 'tokens.json': JSON.stringify(tokens) });
  const logs = logLines();
  const { log } = logs;
  const file = join(files, 'tokens.json');
  const known = hasTokens ? new HttpTokens({ token: undefined, file, clock: systemClock, log }) : undefined;
  const gateway = await Gateway.start({
    host: '127.0.0.1',
    port: 0,
    authenticate: known?.authenticate,
    hostname: 'worker',
    maxBodyBytes: 64 * 1024,
    memoryBytes: 2 ** 26,
    describe: () => [],
    notReady: () => [],
    brokers: async () => [{ url: as.url }],
    queue,
    clock: systemClock,
    log,
    clientLog: log,
  });
  t.teardown(async () => gateway.stop());
  const call = async (action: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${gateway.url}/v1/actions/${action}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'timeout-ms': String(Math.min(HUNG_MS, 300_000)),
        ...(hasTokens && { authorization: `Bearer ${TOKEN}` }),
        ...headers,
      },
      body: '{}',
    });
    const { response_body: body } = (await response.json()) as { response_body: Record<string, unknown> };
    return { id: response.headers.get('x-request-id'), body };
  };
  return { call, logs };
}

/** The calls that a worker got, oldest first. */
function callsOf({ events }: RunningRequests): Call[] {
  const calls: Call[] = [];
  events.on('received', ({ call }) => calls.push(call));
  return calls;
}

/** Who asks and how, as the worker sees the only call that `send` makes. */
async function seen(
  t: ExecutionContext<Context>,
  send: (queue: string) => Promise<unknown>,
): Promise<Pick<Call, 'caller' | 'door'>> {
  const running = await serveRequests(t, t.context.service, [who]);
  const calls = callsOf(running);
  await send(running.queue);
  const [call, ...more] = await eventually('it has come', () => (calls.length > 0 ? calls : undefined));
  t.is(more.length, 0);
  return { caller: call?.caller ?? ANONYMOUS, door: call?.door ?? 'manager' };
}

if (rabbitmq() !== undefined) {
  let remove = async () => {};

  test.before(async (t) => {
    const { broker, remove: end } = await startOwnBroker();
    remove = end;
    const tag = `rabbit_auth_backend_internal:set_tags(<<"trusted">>, [impersonator], <<"test">>)`;
    const [service, ops, trusted] = [
      await broker.user('service', {}),
      await broker.user('ops', {}),
      await broker.user('trusted', {}),
    ];
    await broker.eval(tag);
    Object.assign(t.context, { broker, service, ops, trusted });
  });
  test.after.always(async () => remove());

  /** Publishes a request as a program without our client does. */
  const raw =
    (as: (context: Context) => TestBroker, options: Options.Publish = {}) =>
    async (t: ExecutionContext<Context>, queue: string) => {
      const caller = await RawCaller.open(t, as(t.context), queue);
      await caller.ask({ action: 'who' }, options);
    };
  const client =
    (as: (context: Context) => TestBroker) => async (t: ExecutionContext<Context>, queue: string) => {
      const made = new FleetManagerClient({ urls: [as(t.context).url], queue });
      t.teardown(async () => made.close());
      await made.call('who', { timeoutMs: HUNG_MS });
    };
  const http =
    (
      options: { as?: (context: Context) => TestBroker; hasTokens?: boolean } = {},
      headers: Record<string, string> = {},
    ) =>
    async (t: ExecutionContext<Context>, queue: string) => {
      const { as, hasTokens } = options;
      const { call } = await openGateway(t, queue, { ...(as && { as: as(t.context) }), hasTokens });
      await call('who', headers);
    };
  const ops = ({ ops: each }: Context) => each;
  const service = ({ service: each }: Context) => each;
  const trusted = ({ trusted: each }: Context) => each;

  const DOORS: [
    what: string,
    send: (t: ExecutionContext<Context>, queue: string) => Promise<void>,
    caller: { name: string; verifiedBy: string | undefined },
    door: Call['door'],
  ][] = [
    ['the client is its broker user', client(ops), { name: 'ops', verifiedBy: 'broker' }, 'amqp'],
    [
      "the client with the service's user is that user",
      client(service),
      { name: 'service', verifiedBy: 'broker' },
      'amqp',
    ],
    ['a message without user_id is from nobody', raw(ops), ANONYMOUS, 'amqp'],
    [
      'a message with its user_id is from that user',
      raw(ops, { userId: 'ops' }),
      { name: 'ops', verifiedBy: 'broker' },
      'amqp',
    ],
    [
      'headers that name another caller prove nothing without a user_id',
      raw(ops, { headers: FORGED }),
      ANONYMOUS,
      'amqp',
    ],
    [
      "headers that name another caller prove nothing without a user_id, also on a connection of the service's user",
      raw(service, { headers: FORGED }),
      ANONYMOUS,
      'amqp',
    ],
    [
      'headers that name another caller prove nothing with the user_id of another user than the service',
      raw(ops, { userId: 'ops', headers: FORGED }),
      { name: 'ops', verifiedBy: 'broker' },
      'amqp',
    ],
    [
      "whoever has the service's user can name any caller",
      raw(service, { userId: 'service', headers: FORGED }),
      { name: 'root', verifiedBy: 'token' },
      'http',
    ],
    [
      'a user with the tag impersonator can be any user',
      raw(trusted, { userId: 'ops' }),
      { name: 'ops', verifiedBy: 'broker' },
      'amqp',
    ],
    ['a call with a token over HTTP is from the caller of that token', http(), CI, 'http'],
    ['a call over HTTP without tokens is from nobody', http({ hasTokens: false }), ANONYMOUS, 'http'],
    [
      'a call over HTTP is from nobody else, whatever its headers say',
      http({ hasTokens: false }, { 'x-caller': 'root', user_id: 'ops', authorization: `Bearer ${TOKEN}` }),
      ANONYMOUS,
      'http',
    ],
    [
      "a gateway with another user than the service's is not believed",
      http({ as: ops }),
      { name: 'ops', verifiedBy: 'broker' },
      'amqp',
    ],
  ];
  for (const [what, send, caller, door] of DOORS)
    test(`RabbitMQ: ${what}`, async (t) => {
      t.deepEqual(await seen(t, async (queue) => send(t, queue)), { caller, door });
    });

  test('RabbitMQ: a false user_id is refused by the broker, and costs its sender only the channel', async (t) => {
    const { queue, logs } = await serveRequests(t, t.context.service, [who]);
    const connection = await t.context.ops.open();
    t.teardown(async () => connection.close());
    const refused = async (userId: string): Promise<unknown> => {
      const channel: ConfirmChannel = await connection.createConfirmChannel();
      const failed = once(channel, 'error');
      channel.publish('', queue, Buffer.from('{}'), { userId, headers: FORGED }, () => {});
      const [error] = await failed;
      return error;
    };
    for (const userId of ['service', 'guest', 'root']) {
      const error = await refused(userId);
      t.like(error, { code: 406 });
      t.regex(String(error), /user_id property set to '\w+' but authenticated user was 'ops'/);
    }
    const caller = await RawCaller.open(t, t.context.ops, queue);
    t.like((await caller.ask({ action: 'who' }, { userId: 'ops' })).answer.response_body, {
      caller: { name: 'ops', verifiedBy: 'broker' },
    });
    const channel = await connection.createChannel();
    t.is((await channel.checkQueue(queue)).consumerCount, 1, 'its connection is still there');
    t.deepEqual(logs.find(/lost|dead-lettered/), []);
  });

  test('RabbitMQ: the caller of a token is known to the worker that gets the request from one that shuts down', async (t) => {
    const { action, begun, finishRun } = held();
    const first = await serveRequests(t, t.context.service, [action, who], { concurrency: 1 });
    const { call } = await openGateway(t, first.queue);
    const running = call(action.name);
    await eventually('one runs', () => begun() === 1);
    const waiting = call('who');
    await eventually('the other one waits', () => first.service.held === 2);
    const drained = first.service.drain(HUNG_MS);
    const second = await serveRequests(t, t.context.service, [action, who], {
      queue: first.queue,
      waits: false,
    });
    const calls = callsOf(second);
    t.deepEqual((await waiting).body, { caller: CI, repeated: false });
    t.deepEqual(
      calls.map(({ door }) => door),
      ['http'],
    );
    finishRun();
    await Promise.all([drained, running]);
  });

  test('RabbitMQ: the caller of a token is known to the worker that gets the request after another one is lost', async (t) => {
    const queue = `test_${randomUUID()}`;
    await makeQueue(t.context.service, queue);
    const { call } = await openGateway(t, queue);
    const answer = call('who');
    await loseWorker(t.context.service, queue, 1);
    await serveRequests(t, t.context.service, [who], { queue });
    t.deepEqual((await answer).body, { caller: CI, repeated: true });
  });

  test('RabbitMQ: a call over HTTP has the same id in its response and in the log of the worker', async (t) => {
    const { queue, logs } = await serveRequests(t, t.context.service, [who]);
    const { call } = await openGateway(t, queue);
    const ids = [
      (await call('who')).id,
      (await call('who', { 'x-request-id': 'mine' })).id,
      (await call('who', { 'x-request-id': 'mine' })).id,
    ];
    t.is(ids[1], 'mine');
    const lines = await eventually('they are logged', () => {
      const found = logs.find(/^request completed$/);
      return found.length === 3 ? found : undefined;
    });
    t.deepEqual(
      lines.map(({ request }) => request),
      ids,
    );
  });

  test('RabbitMQ: requests that share an id of their caller are each run', async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { queue } = await serveRequests(t, t.context.service, [action]);
    const { call } = await openGateway(t, queue);
    const both = [1, 2].map(async () => call(action.name, { 'x-request-id': 'mine' }));
    await eventually('both run', () => begun() === 2);
    finishRun();
    finishRun();
    t.deepEqual((await Promise.all(both)).map(({ body }) => body).toSorted(byRun), [{ run: 1 }, { run: 2 }]);
  });

  test('RabbitMQ: when the user of a gateway may publish only later, its callers are known from then on', async (t) => {
    const { broker } = t.context;
    const may = { configure: '.*', read: '.*' };
    const late = await broker.user('late', { ...may, write: '^$' });
    const queue = `test_${randomUUID()}`;
    await makeQueue(t.context.service, queue);
    const { call, logs } = await openGateway(t, queue, { as: late });
    await eventually('it is told', () => logs.find(/^broker user unknown$/)[0]);
    await eventually('it is refused', async () => (await call('who')).body.code === 'service_unavailable');
    await broker.user('late', { ...may, write: '.*' });
    await eventually('it is told', () => logs.find(/^broker user known$/)[0]);
    const running = await serveRequests(t, late, [who], { queue });
    const calls = callsOf(running);
    t.like((await call('who')).body, { caller: CI });
    t.is(calls[0]?.door, 'http');
  });
}

function byRun({ run: one }: Record<string, unknown>, { run: other }: Record<string, unknown>): number {
  return Number(one) - Number(other);
}
