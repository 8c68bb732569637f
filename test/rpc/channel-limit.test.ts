import test from 'ava';
import { ConnectionLost } from '../../src/core/call.js';
import { ChannelLimit } from '../../src/rpc/channel-limit.js';

const TOO_MANY = Object.assign(
  new Error(
    "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed limit of (9)",
  ),
  { code: 530 },
);

test('a connection leaves three channels for other uses, and opens 64 at most', (t) => {
  const limit = new ChannelLimit();
  t.is(limit.within(Infinity), 64);
  t.is(limit.within(2047), 64);
  t.is(limit.within(67), 64);
  t.is(limit.within(66), 63);
  t.is(limit.within(5), 2);
});

test('there is always one channel', (t) => {
  const limit = new ChannelLimit();
  for (const channelMax of [4, 3, 1, 0]) t.is(limit.within(channelMax), 1);
  limit.learn(TOO_MANY, 1);
  limit.learn(TOO_MANY, 0);
  t.is(limit.within(Infinity), 1);
});

test('a connection that is lost because its user has too many channels halves the limit of the next one', (t) => {
  const limit = new ChannelLimit();
  limit.learn(new ConnectionLost('lost', { cause: TOO_MANY }), 21);
  t.is(limit.within(Infinity), 10);
  limit.learn(TOO_MANY, 64);
  t.is(limit.within(Infinity), 5, 'it had no more than the limit');
});

test('a connection that is lost for another reason changes nothing', (t) => {
  const limit = new ChannelLimit();
  for (const cause of [
    new Error('cut'),
    new Error(TOO_MANY.message),
    Object.assign(new Error('NOT_ALLOWED - vhost x not found'), { code: 530 }),
    Object.assign(new Error(TOO_MANY.message), { code: 320 }),
  ])
    limit.learn(cause, 10);
  t.is(limit.within(Infinity), 64);
});
