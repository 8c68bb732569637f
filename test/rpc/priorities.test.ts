import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { doing } from '../support/actions.js';
import { brokers, rabbitmq } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { RawCaller, serveRequests } from '../support/requests.js';

/** Requests of this text, with a priority. */
type Sent = readonly [text: string, priority: number | undefined];
const MIXED: readonly Sent[] = [
  ['low', 1],
  ['none', undefined],
  ['high', 9],
  ['low too', 1],
  ['middle', 5],
];
const IN_ORDER = ['high', 'middle', 'low', 'low too', 'none'];

/** Runs one at a time: the first one until `finishFirst`. `begun` lists the texts of the others. */
function oneByOne() {
  const begun: string[] = [];
  let finishFirst: (() => void) | undefined;
  const action = doing(async ({ parameters }) => {
    const { text } = fieldsOf(parameters);
    if (text !== 'first') return void begun.push(String(text));
    await new Promise<void>((resolve) => (finishFirst = resolve));
    return undefined;
  });
  return { action, begun, hasBegun: () => finishFirst !== undefined, finishFirst: () => finishFirst?.() };
}

const send = (caller: RawCaller, sent: readonly Sent[], persistent = false) =>
  sent.map(([text, priority]) =>
    caller.send(
      { action: 'act', action_parameters: { text } },
      { ...(priority !== undefined && { priority }), persistent },
    ),
  );

for (const broker of brokers())
  test(`${broker.name}: of requests that wait for the same cluster, those with a higher priority begin first`, async (t) => {
    const { action, begun, hasBegun, finishFirst } = oneByOne();
    const { queue, service } = await serveRequests(t, broker, [action], { concurrency: 1 });
    const caller = await RawCaller.open(t, broker, queue);
    send(caller, [['first', undefined]]);
    await eventually('it runs', hasBegun);
    const ids = send(caller, MIXED);
    await eventually('all are held', () => service.held === 1 + MIXED.length);
    finishFirst();
    await Promise.all(ids.map(async (id) => caller.replyFor(id)));
    t.deepEqual(begun, IN_ORDER);
  });

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  /** A queue that a service has made, which has ended. */
  const madeQueue = async (t: ExecutionContext) => {
    const { queue, service } = await serveRequests(t, rabbit, [doing(async () => ({}))], {
      makes: { type: 'classic', maxPriority: 9 },
    });
    await service.drain(0);
    await service.close();
    return RawCaller.open(t, rabbit, queue);
  };

  test('RabbitMQ: a queue that the service makes with priorities gives the highest first', async (t) => {
    const caller = await madeQueue(t);
    send(caller, MIXED);
    await eventually('all wait', async () => (await caller.waiting()) === MIXED.length);
    const texts: unknown[] = [];
    for (const _ of MIXED) {
      const { content } = await caller.take('queue');
      texts.push(JSON.parse(content.toString()).request_body.action_parameters.text);
    }
    t.deepEqual(texts, IN_ORDER);
  });

  test('RabbitMQ: the queue of suspects has priorities too', async (t) => {
    const queue = `test_${randomUUID()}`;
    const { service } = await serveRequests(t, rabbit, [doing(async () => ({}))], {
      queue,
      makes: { type: 'classic', maxPriority: 9 },
    });
    await service.drain(0);
    await service.close();
    const connection = await rabbit.open();
    t.teardown(async () => connection.close());
    const channel = await connection.createChannel();
    const options = { durable: true, deadLetterExchange: '', deadLetterRoutingKey: `${queue}_error` };
    await t.notThrowsAsync(async () =>
      channel.assertQueue(`${queue}_suspects`, { ...options, maxPriority: 9 }),
    );
  });

  test('RabbitMQ: a request that is requeued keeps its priority', async (t) => {
    const { action, hasBegun } = oneByOne();
    const { queue, service } = await serveRequests(t, rabbit, [action], { concurrency: 1 });
    const caller = await RawCaller.open(t, rabbit, queue);
    send(caller, [['first', undefined]]);
    await eventually('it runs', hasBegun);
    send(caller, [['waits', 7]]);
    await eventually('both are held', () => service.held === 2);
    await service.drain(0);
    t.is((await caller.take('queue')).properties.priority, 7);
  });
}
