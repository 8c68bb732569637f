import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import type { Connect } from '../../src/rpc/open-connection.js';
import type { Action } from '../../src/plugin.js';
import { echo, held } from '../support/actions.js';
import { type TestBroker, withChannels } from '../support/brokers.js';
import { eventually } from '../support/eventually.js';
import { FastClock } from '../support/fast-clock.js';
import { RawCaller, serveRequests } from '../support/requests.js';

/** A service on a failover broker, until the preferred one may come back. */
async function world(
  t: ExecutionContext,
  actions: readonly Action[],
  { cancels = async () => {}, ...settings }: { concurrency?: number; cancels?: () => Promise<void> } = {},
) {
  const [wanted, other] = [new EmbeddedBroker(), new EmbeddedBroker()];
  const [WANTED, OTHER] = ['amqp://wanted.invalid', 'amqp://other.invalid'];
  let down = true;
  let open = 0;
  const toOther = withChannels(other.connect, (channel) => {
    const cancel = channel.cancel.bind(channel);
    channel.cancel = async (tag) => cancels().then(async () => cancel(tag));
  });
  const connect: Connect = async (url, options) => {
    const { host } = new URL(url);
    if (host === 'other.invalid') {
      const connection = await toOther(url, options);
      open++;
      connection.once('close', () => open--);
      return connection;
    }
    if (down) throw new Error('it is down');
    return wanted.connect(url, options);
  };
  const brokerOf = (url: string, { connect: make }: EmbeddedBroker): TestBroker => ({
    name: url,
    url,
    connect,
    open: async () => make(url, {}),
  });
  const queue = `test_${randomUUID()}`;
  const served = await serveRequests(t, brokerOf(OTHER, other), actions, {
    queue,
    addresses: [{ url: WANTED }, { url: OTHER, preferred: false }],
    clock: new FastClock(),
    ...settings,
  });
  const back = async () => {
    down = false;
    await eventually('the service is on the preferred broker', () => served.service.onPreferred);
  };
  return {
    ...served,
    back,
    /** Whether the service is still connected to the substitute broker. */
    isOnOther: () => open > 0,
    callers: {
      wanted: await RawCaller.open(t, brokerOf(WANTED, wanted), queue),
      other: await RawCaller.open(t, brokerOf(OTHER, other), queue),
    },
  };
}

test('a request gets its reply and acknowledgement on its own broker, also after the service has left it', async (t) => {
  const { action, begun, finishRun } = held({ effect: 'change' });
  const { service, back, callers } = await world(t, [action]);
  t.false(service.onPreferred);
  const id = callers.other.send({ action: 'act' });
  await eventually('it runs', () => begun() === 1);
  await back();
  finishRun();
  t.is((await callers.other.replyFor(id)).answer.status, 'completed');
  await eventually('nothing is held', () => service.held === 0);
  t.is(await callers.other.waiting(), 0);
  t.is(begun(), 1);
});

test('messages from a broker that is left are still processed, and no more are taken from it', async (t) => {
  const { action, begun, finishRun } = held({ effect: 'change' });
  const { service, back, callers } = await world(t, [action], { concurrency: 1 });
  const taken = [1, 2].map(() => callers.other.send({ action: 'act' }));
  await eventually('both are held', () => service.held === 2 && begun() === 1);
  await back();
  const there = callers.wanted.send({ action: 'act' });
  await eventually('it is taken from the other broker', () => service.held === 3);
  const late = callers.other.send({ action: 'act' });
  for (let run = 1; run <= 3; run++) {
    await eventually(`run ${run}`, () => begun() === run);
    finishRun();
  }
  for (const id of taken) t.is((await callers.other.replyFor(id)).answer.status, 'completed');
  t.is((await callers.wanted.replyFor(there)).answer.status, 'completed');
  await eventually('nothing is held', () => service.held === 0);
  t.is(await callers.other.waiting(), 1);
  t.is(callers.other.repliesFor(late).length, 0);
});

test('a broker is disconnected when its messages are settled, even if those of the other one still run', async (t) => {
  const [early, late] = [held({ name: 'early' }), held({ name: 'late' })];
  const { back, callers, isOnOther } = await world(t, [early.action, late.action]);
  const first = callers.other.send({ action: 'early' });
  await eventually('it runs', () => early.begun() === 1);
  await back();
  const second = callers.wanted.send({ action: 'late' });
  await eventually('it runs', () => late.begun() === 1);
  t.true(isOnOther());
  early.finishRun();
  await callers.other.replyFor(first);
  await eventually('the broker is left', () => !isOnOther());
  t.is(callers.wanted.repliesFor(second).length, 0);
  late.finishRun();
  await callers.wanted.replyFor(second);
});

test('a broker is left only when it has confirmed that it delivers no more', async (t) => {
  let confirm = () => {};
  const confirmed = new Promise<void>((resolve) => (confirm = resolve));
  const { back, isOnOther, callers } = await world(t, [echo], { cancels: async () => confirmed });
  await back();
  await callers.wanted.ask({ action: 'echo' });
  t.true(isOnOther());
  confirm();
  await eventually('the broker is left', () => !isOnOther());
});
