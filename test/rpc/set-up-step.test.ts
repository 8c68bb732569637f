import test from 'ava';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';
import { setUpSteps } from '../../src/rpc/set-up-step.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle } from '../support/open-runner.js';

const ADDRESS = { url: 'amqp://embedded.invalid' };
const LIMIT_MS = 10_000;

/** The outcome of a step so far, on a broker that answers it when the test says so. */
async function open() {
  const clock = new ManualClock();
  const model = await new EmbeddedBroker().connect(ADDRESS.url, {});
  const connection = new BrokerConnection(model, ADDRESS);
  connection.onBlockedChange(() => {});
  const step = setUpSteps(connection, clock);
  let answer: (text: string) => void = () => {};
  let refuse: (error: Error) => void = () => {};
  const work = new Promise<string>((resolve, reject) => {
    answer = resolve;
    refuse = reject;
  });
  let outcome: string | undefined;
  void step('open a channel', async () => work).then(
    (text) => (outcome = text),
    (error: Error) => (outcome = error.message),
  );
  const outcomeAfter = async (ms: number) => {
    clock.advance(ms);
    await settle();
    return outcome;
  };
  return { clock, model, connection, answer, refuse, outcomeAfter };
}

test('a step gives what the broker answers, also a refusal', async (t) => {
  const { answer, outcomeAfter, clock } = await open();
  t.is(await outcomeAfter(LIMIT_MS - 1), undefined);
  answer('opened');
  t.is(await outcomeAfter(0), 'opened');
  t.is(clock.pending, 0);
  const refused = await open();
  refused.refuse(new Error('refused'));
  t.is(await refused.outcomeAfter(0), 'refused');
});

test('a step that the broker does not answer in time fails, and says which one it is', async (t) => {
  const { outcomeAfter } = await open();
  t.is(await outcomeAfter(LIMIT_MS), 'the broker has not answered within 10000 ms: open a channel');
});

test('while the broker blocks the connection, the time for a step does not run', async (t) => {
  const { model, answer, outcomeAfter } = await open();
  model.emit('blocked', 'low on memory');
  for (let times = 0; times < 5; times++) t.is(await outcomeAfter(LIMIT_MS), undefined);
  t.is(await outcomeAfter(LIMIT_MS / 2), undefined);
  model.emit('unblocked');
  t.is(await outcomeAfter(0), undefined);
  t.is(await outcomeAfter(LIMIT_MS - 1), undefined, 'it has its whole time again');
  answer('opened');
  t.is(await outcomeAfter(0), 'opened');
});

test('a step ends with the loss of a connection that is blocked', async (t) => {
  const { model, connection, outcomeAfter } = await open();
  model.emit('blocked', 'low on memory');
  await outcomeAfter(LIMIT_MS);
  connection.lose(new Error('cut'));
  t.is(await outcomeAfter(0), 'cut');
});
