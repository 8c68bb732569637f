import test from 'ava';
import { systemClock } from '../../src/lib/clock.js';
import { openConnection } from '../../src/rpc/open-connection.js';
import { EmbeddedBroker } from '../../src/sandbox/embedded-broker.js';

const URL = 'amqp://embedded.invalid';

test('a connection that comes when nobody waits for it any more is closed, and an error of it ends nothing', async (t) => {
  const model = await new EmbeddedBroker().connect(URL, {});
  const closed = new Promise<void>((resolve) => {
    const close = model.close.bind(model);
    model.close = async () => {
      model.emit('error', new Error('the broker shuts down'));
      resolve();
      return close();
    };
  });
  let arrive = () => {};
  const arrival = new Promise<void>((resolve) => (arrive = resolve));
  const stop = new AbortController();
  const connect = async () => {
    await arrival;
    return model;
  };
  const opened = openConnection({ url: URL }, { connect, name: 'test', clock: systemClock }, stop.signal);
  stop.abort(new Error('stopped'));
  await t.throwsAsync(opened, { message: 'stopped' });
  arrive();
  await t.notThrowsAsync(closed);
});
