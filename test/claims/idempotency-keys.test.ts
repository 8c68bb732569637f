import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { ConsumeMessage } from 'amqplib';
import test, { type ExecutionContext } from 'ava';
import { FleetManagerClient } from '../../src/client/client.js';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { hasEtcd } from '../support/own-etcd.js';
import { planted } from '../support/planted-secrets.js';
import { RawCaller } from '../support/requests.js';
import { folder } from '../support/settings.js';
import { startWorker, type Worker } from '../support/worker.js';
import { keysIn } from './open-store.js';
import { marking, twoWorkers } from './open-workers.js';

// The service as it is run: two processes on a real RabbitMQ and a real etcd.
const rabbit = hasEtcd ? rabbitmq() : undefined;

const erlang = new ErlangCodec();
const TOKEN = planted('http-token');

/** What a caller got. */
interface Told {
  body: unknown;
  code: unknown;
  isReplayed: boolean;
  status?: number;
}

function told(reply: unknown, isReplayed: boolean): Told {
  const { response_body: body } = fieldsOf(reply);
  return { body, code: fieldsOf(body).code, isReplayed };
}

const userOf = ({ url }: TestBroker) => new URL(url).username || 'guest';

/** A file with a token of the gateway, whose name is that of the user of the broker. */
async function tokensFile(t: ExecutionContext, name: string): Promise<string> {
  const sha256 = createHash('sha256').update(TOKEN).digest('hex');
  const directory = await folder(t, { 'tokens.json': JSON.stringify([{ name, sha256 }]) });
  return join(directory, 'tokens.json');
}

/** Requests for a change of a unit with an idempotency key, by the ways in which they can come. */
async function asking(t: ExecutionContext, broker: TestBroker, queue: string) {
  const caller = await RawCaller.open(t, broker, queue);
  const parametersOf = (unit: string) => ({ unit });
  const send = (
    key: string,
    { encoding = 'json', userId, action = 'mark', unit = 'a.service', timeoutMs = HUNG_MS }: Ask = {},
  ) => {
    const isErlang = encoding === 'erlang';
    const envelope = {
      status: 'not_started',
      request_body: { action, action_parameters: parametersOf(unit) },
    };
    const id = caller.sendRaw(isErlang ? erlang.encode(envelope) : JSON.stringify(envelope), {
      messageId: randomUUID(),
      contentType: isErlang ? erlang.contentType : 'application/json',
      headers: { 'timeout-ms': timeoutMs, 'idempotency-key': key },
      ...(userId !== undefined && { userId }),
    });
    const reply = async () => {
      const { content, properties } = await eventually('a reply', () => caller.repliesFor(id)[0]);
      return told(decoded(content, isErlang), properties.headers?.['idempotency-replayed'] === true);
    };
    return { reply: reply(), times: () => caller.repliesFor(id).length };
  };
  const post = async (worker: Worker, key: string, { action = 'mark', unit = 'a.service' }: Ask = {}) => {
    const started = worker.lines.find(({ message }) => message === 'service started');
    const response = await fetch(`${String(started?.http)}/v1/actions/${action}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: `Bearer ${TOKEN}`,
        'timeout-ms': '300000',
        'idempotency-key': key,
      },
      body: JSON.stringify({ action_parameters: parametersOf(unit) }),
    });
    const isReplayed = response.headers.get('idempotency-replayed') === 'true';
    return { ...told(await response.json(), isReplayed), status: response.status };
  };
  return { caller, send, post };
}

interface Ask {
  encoding?: 'json' | 'erlang';
  userId?: string;
  action?: string;
  unit?: string;
  timeoutMs?: number;
}

function decoded(content: ConsumeMessage['content'], isErlang: boolean): unknown {
  return isErlang ? erlang.decode(content) : JSON.parse(content.toString());
}

if (rabbit !== undefined) {
  test('of requests with one key a single one runs, on two workers, over both doors and in both encodings, and all get its reply', async (t) => {
    const { queue, etcd, a, b } = await twoWorkers(t, rabbit);
    const { plugins, effects, go } = await marking(t);
    const userId = userOf(rabbit);
    const http = { HTTP_PORT: '0', HTTP_TOKENS_FILE: await tokensFile(t, userId) };
    const worker = await startWorker(t, { ...a, ...http, PLUGIN_PATHS: plugins });
    const other = await startWorker(t, { ...b, PLUGIN_PATHS: plugins });
    const { caller, send, post } = await asking(t, rabbit, queue);
    const key = planted('idempotency-key');
    const quoted = `"${key}"`;
    const requests = [
      send(key, { userId }).reply,
      send(quoted, { userId, encoding: 'erlang' }).reply,
      post(worker, quoted),
      send(key, { userId }).reply,
      post(worker, key),
      send(key, { userId, encoding: 'erlang' }).reply,
    ];
    await eventually('one runs', async () => (await effects()).length === 1);
    await eventually('all are taken', async () => (await caller.waiting()) === 0);
    // One whose time ends before; on a busy machine maybe before it has found the first one.
    await eventually('it is told that the first one runs', async () => {
      const { code } = await send(key, { userId, timeoutMs: 500 }).reply;
      return code === 'idempotency_key_in_use';
    });
    await go();
    const replies = await Promise.all(requests);
    t.deepEqual(await effects(), [(await effects())[0]]);
    const [made] = replies.filter(({ isReplayed }) => !isReplayed);
    t.regex(String(made?.body), /^made by \d+$/);
    t.is(replies.filter(({ isReplayed }) => isReplayed).length, requests.length - 1);
    t.true(replies.every(({ body }) => body === made?.body));
    // Later, by another way.
    t.like(await post(worker, key), { body: made?.body, isReplayed: true, status: 200 });
    const client = new FleetManagerClient({ urls: [rabbit.url], queue });
    t.teardown(async () => client.close());
    const options = { parameters: { unit: 'a.service' }, idempotencyKey: key };
    t.like(await client.request('mark', options), { response_body: made?.body, replayed: true });
    // Another request with this key is refused.
    for (const ask of [{ unit: 'b.service' }, { action: 'mark_and_probe' }])
      t.like(await post(worker, key, ask), { status: 422, code: 'idempotency_key_reused' });
    t.is((await effects()).length, 1);
    // The key of another caller, and another key, are other changes.
    t.like(await send(key).reply, { isReplayed: false });
    t.like(await send(randomUUID(), { userId }).reply, { isReplayed: false });
    t.is((await effects()).length, 3);
    t.false(JSON.stringify(await keysIn(etcd, '/fleet-manager/')).includes(key));
    const replays = [...worker.lines, ...other.lines].filter((line) => line.reply_of !== undefined);
    t.is(replays.length, 7);
    const [first] = await effects();
    t.true(replays.every((line) => line.reply_of === first && line.message === 'request completed'));
  });

  test('when its worker is killed in the middle, a change is not made again for its key: what came of it is found out, or unknown', async (t) => {
    const { queue, etcd, a, b } = await twoWorkers(t, rabbit);
    const { plugins, effects, go } = await marking(t);
    const first = await startWorker(t, { ...a, PLUGIN_PATHS: plugins });
    const { send } = await asking(t, rabbit, queue);
    const [plain, probed] = [randomUUID(), randomUUID()];
    const asks = [
      [plain, {}],
      [probed, { action: 'mark_and_probe', unit: 'b.service' }],
    ] as const;
    const before = asks.map(([key, ask]) => send(key, ask));
    await eventually('both run', async () => (await effects()).length === 2);
    const [lost] = await keysIn(etcd, '/fleet-manager/workers/');
    first.process.kill('SIGKILL');
    await first.ended;
    await startWorker(t, { ...b, PLUGIN_PATHS: plugins });
    const after = asks.map(([key, ask]) => send(key, ask));
    // As etcd does when it has not heard of the worker for 45 s.
    await etcd.post('lease/revoke', { ID: lost?.lease });
    await go();
    for (const requests of [before, after]) {
      const [unknown, found] = await Promise.all(requests.map(async ({ reply }) => reply));
      t.is(unknown?.code, 'outcome_unknown');
      t.is(found?.body, 'found out: true');
    }
    t.like(await send(plain).reply, { code: 'outcome_unknown', isReplayed: true });
    t.is((await effects()).length, 2);
  });

  test('while the store is away, a change with a key is refused before anything is done, and its key can be used afterwards', async (t) => {
    const { queue, etcd, b } = await twoWorkers(t, rabbit);
    const { plugins, effects, go } = await marking(t);
    await go();
    await startWorker(t, { ...b, PLUGIN_PATHS: plugins });
    const { send } = await asking(t, rabbit, queue);
    const [made, key] = [randomUUID(), randomUUID()];
    const { body } = await send(made).reply;
    await etcd.stop();
    for (const each of [made, key]) {
      const refused = await send(each).reply;
      t.is(refused.code, 'service_unavailable');
      t.regex(
        JSON.stringify(refused.body),
        /the claim store, without which no change is made, cannot be used/,
      );
    }
    await etcd.start();
    t.deepEqual(await send(made).reply, { body, code: undefined, isReplayed: true });
    t.like(await send(key).reply, { code: undefined, isReplayed: false });
    t.like(await send(key).reply, { code: undefined, isReplayed: true });
    t.is((await effects()).length, 2);
  });

  test('without a claim store a change with a key is refused before anything is done, and the error says what to do', async (t) => {
    const { queue, a } = await twoWorkers(t, rabbit, { claims: false });
    const { plugins, effects } = await marking(t);
    const http = { HTTP_PORT: '0', HTTP_TOKENS_FILE: await tokensFile(t, userOf(rabbit)) };
    const worker = await startWorker(t, { ...a, ...http, PLUGIN_PATHS: plugins });
    const { post } = await asking(t, rabbit, queue);
    const refused = await post(worker, randomUUID());
    t.like(refused, { status: 501, code: 'idempotency_unavailable' });
    t.regex(JSON.stringify(refused.body), /without the key, or have CLAIMS_ETCD_URL set for all workers/);
    t.deepEqual(await effects(), []);
  });
}
