import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { doing, held } from '../support/actions.js';
import { brokers, rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { loseWorker, makeQueue, RawCaller, serveRequests } from '../support/requests.js';
import type { SendOutcome } from '../../src/rpc/reply-channel.js';
import { collectGarbage } from '../support/collect-garbage.js';

/** A request in an envelope; `text` reports apart those of one action. */
const request = (text: string, id?: unknown): string =>
  JSON.stringify({ id, request_body: { action: 'act', action_parameters: { text } } });

/** Counts its runs, and returns the number of each. */
function counting(definition: Parameters<typeof doing>[1] = {}) {
  let runs = 0;
  return doing(async () => ({ run: ++runs }), definition);
}

// How a message that is marked as redelivered is processed.
for (const broker of brokers()) {
  const over = (title: string) => `${broker.name}: ${title}`;

  /** A worker is lost with the messages that it took; then another one serves them, in the order they were sent. */
  const afterALostWorker = async (
    t: ExecutionContext,
    action: ReturnType<typeof doing>,
    send: (caller: RawCaller, other: RawCaller) => [caller: RawCaller, id: string][],
  ) => {
    const queue = `test_${randomUUID()}`;
    const [caller, other] = [
      await RawCaller.open(t, broker, queue),
      await RawCaller.open(t, broker, queue),
    ] as const;
    await makeQueue(broker, queue);
    const sent = send(caller, other);
    await loseWorker(broker, queue, sent.length);
    await serveRequests(t, broker, [action], { queue, prefetch: 1 });
    return Promise.all(sent.map(async ([each, id]) => (await each.replyFor(id)).answer.response_body));
  };

  test(over('the same message is run once, and gets a reply each time it is delivered'), async (t) => {
    const options = { messageId: 'm' };
    const answers = await afterALostWorker(t, counting(), (caller) => [
      [caller, caller.sendRaw(request('a'), options)],
      [caller, caller.sendRaw(request('a'), options)],
    ]);
    t.deepEqual(answers, [{ run: 1 }, { run: 1 }]);
  });

  test(over('another body under the same message id is another request'), async (t) => {
    const options = { messageId: 'm' };
    const answers = await afterALostWorker(t, counting(), (caller) => [
      [caller, caller.sendRaw(request('a'), options)],
      [caller, caller.sendRaw(request('b'), options)],
      [caller, caller.sendRaw(request('a'), options)],
    ]);
    t.deepEqual(answers, [{ run: 1 }, { run: 2 }, { run: 1 }]);
  });

  test(over('another reply_to under the same message id is another request'), async (t) => {
    const options = { messageId: 'm' };
    const answers = await afterALostWorker(t, counting(), (caller, other) => [
      [caller, caller.sendRaw(request('a'), options)],
      [other, other.sendRaw(request('a'), options)],
      [caller, caller.sendRaw(request('a'), options)],
    ]);
    // They arrive over two connections, so either may be the first.
    const [one, another, again] = answers;
    t.notDeepEqual(another, one);
    t.deepEqual(again, one);
  });

  test(over('another message id over the same body is another request'), async (t) => {
    const answers = await afterALostWorker(t, counting(), (caller) =>
      ['m', 'n', 'm'].map((messageId) => [caller, caller.sendRaw(request('a'), { messageId })]),
    );
    t.deepEqual(answers, [{ run: 1 }, { run: 2 }, { run: 1 }]);
  });

  test(over('the id of a record names a request before its message id does'), async (t) => {
    const answers = await afterALostWorker(t, counting(), (caller) =>
      ['m', 'n'].map((messageId) => [caller, caller.sendRaw(request('a', 13), { messageId })]),
    );
    t.deepEqual(answers, [{ run: 1 }, { run: 1 }]);
  });

  test(over('of a request that was answered only its reply is remembered'), async (t) => {
    let result: WeakRef<object> | undefined;
    const action = doing(async () => {
      const made = { made: true };
      result = new WeakRef(made);
      return made;
    });
    const { queue, service } = await serveRequests(t, broker, [action]);
    const caller = await RawCaller.open(t, broker, queue);
    await caller.replyFor(caller.sendRaw(request('a'), { messageId: 'm' }));
    await eventually('it is acknowledged', () => service.held === 0);
    await eventually('its result is freed', () => {
      collectGarbage();
      return result !== undefined && result.deref() === undefined;
    });
    t.pass();
  });

  test(over('messages without any id are separate requests'), async (t) => {
    for (const options of [{}, { messageId: '' }]) {
      const answers = await afterALostWorker(t, counting(), (caller) =>
        [1, 2].map(() => [caller, caller.sendRaw(request('a'), options)]),
      );
      t.deepEqual(answers, [{ run: 1 }, { run: 2 }]);
    }
  });

  test(over('a change without any id has an unknown outcome when it is delivered again'), async (t) => {
    const answers = await afterALostWorker(t, counting({ effect: 'change' }), (caller) => [
      [caller, caller.sendRaw(request('a'))],
    ]);
    t.deepEqual(
      answers.map(({ code }) => code),
      ['outcome_unknown'],
    );
  });

  test(over('a message that was not delivered before runs, whatever its id was used for'), async (t) => {
    const { queue } = await serveRequests(t, broker, [counting({ effect: 'change' })]);
    const caller = await RawCaller.open(t, broker, queue);
    for (const run of [1, 2]) {
      const { answer } = await caller.replyFor(caller.sendRaw(request('a'), { messageId: 'm' }));
      t.deepEqual(answer.response_body, { run });
    }
  });

  test(over('a change that had not begun when its connection was lost is run, once'), async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { queue, cut, service } = await serveRequests(t, broker, [action], { concurrency: 1 });
    const caller = await RawCaller.open(t, broker, queue);
    const first = caller.send({ action: 'act' }, { messageId: 'first', persistent: true });
    await eventually('it runs', () => begun() === 1);
    const second = caller.send({ action: 'act' }, { messageId: 'second', persistent: true });
    await eventually('both are held', () => service.held === 2);
    cut();
    await eventually('the loss is seen', () => service.notReady().length > 0);
    await eventually('both are delivered again', () => service.notReady().length === 0 && service.held === 3);
    finishRun();
    t.deepEqual((await caller.replyFor(first)).answer.response_body, { run: 1 });
    await eventually('the second one runs', () => begun() === 2);
    finishRun();
    t.deepEqual((await caller.replyFor(second)).answer.response_body, { run: 2 });
    await eventually('nothing is held', () => service.held === 0);
    t.is(begun(), 2);
  });

  test(over('a change that runs while its connection is lost several times is run once'), async (t) => {
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { queue, cut, service } = await serveRequests(t, broker, [action], { concurrency: 1 });
    const caller = await RawCaller.open(t, broker, queue);
    const id = caller.send({ action: 'act' }, { messageId: 'm', persistent: true });
    await eventually('it runs', () => begun() === 1);
    for (let losses = 1; losses <= 3; losses++) {
      cut();
      await eventually('the loss is seen', () => service.notReady().length > 0);
      await eventually(
        'it is delivered again',
        () => service.notReady().length === 0 && service.held === 1 + losses,
      );
    }
    finishRun();
    t.deepEqual((await caller.replyFor(id)).answer.response_body, { run: 1 });
    await eventually('nothing is held', () => service.held === 0);
    t.is(begun(), 1);
    t.is(await caller.waiting(), 0);
  });
}

const rabbit = rabbitmq();
if (rabbit !== undefined) {
  test('a message that waits for the same change in another message runs it if that one never began', async (t) => {
    let makeRoom = () => {};
    /** Holds an invalid message, so that the next message is not taken before that is wanted. */
    const slow = {
      needsPlainReply: false,
      reaches: (_envelope: unknown, delivery: { content: Buffer }) =>
        delivery.content.toString() === 'garbage',
      send: async () => new Promise<SendOutcome>((resolve) => (makeRoom = () => resolve('sent'))),
    };
    const { action, begun, finishRun } = held({ effect: 'change' });
    const { queue, cut, service } = await serveRequests(t, rabbit, [action], {
      concurrency: 1,
      prefetch: 3,
      channels: [slow],
    });
    const caller = await RawCaller.open(t, rabbit, queue);
    const running = caller.send({ action: 'act' }, { messageId: 'running' });
    await eventually('it runs', () => begun() === 1);
    caller.publish('garbage');
    const twice = { messageId: 'm', persistent: true };
    const first = caller.send({ action: 'act' }, twice);
    await eventually('all are held', () => service.held === 3);
    const second = caller.send({ action: 'act' }, twice);
    await markAsDelivered(rabbit, queue);
    makeRoom();
    await eventually('it is delivered', async () => service.held === 3 && (await caller.waiting()) === 0);
    cut();
    await eventually('the loss is seen', () => service.notReady().length > 0);
    const answered = async (id: string) =>
      eventually('an answer', () => {
        finishRun();
        return caller.repliesFor(id)[0];
      });
    for (const id of [running, first, second]) {
      const { status } = JSON.parse((await answered(id)).content.toString());
      t.is(status, 'completed');
    }
    await eventually('nothing is held', () => service.held === 0);
    t.is(begun(), 2);
  });
}

/** Marks the one ready message in a queue as redelivered. */
async function markAsDelivered(broker: TestBroker, queue: string): Promise<void> {
  const connection = await broker.open();
  const channel = await connection.createChannel();
  await eventually('it is there', async () => channel.get(queue));
  await connection.close();
}
