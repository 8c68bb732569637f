import test from 'ava';
import { ReplyRoom } from '../../src/rpc/reply-room.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

/** A room of 100 bytes, and what it tells the runner. */
function open() {
  const told: string[] = [];
  const { log, find } = logLines();
  const runner = { pause: () => void told.push('pause'), resume: () => void told.push('resume') };
  const room = new ReplyRoom({ limit: 100, runner, clock: new ManualClock(), log });
  /** A reply that is being sent until it is finished. */
  const reply = (bytes: number) => {
    let finish = () => {};
    const sent = room.during(bytes, async () => new Promise<void>((resolve) => (finish = resolve)));
    return async () => {
      finish();
      await sent;
    };
  };
  return { room, reply, told, find };
}

test('while replies take more than the limit no further call begins', async (t) => {
  const { reply, told, find } = open();
  const first = reply(60);
  const second = reply(40);
  t.deepEqual(told, [], 'the limit is not exceeded');
  const third = reply(1);
  t.deepEqual(told, ['pause']);
  const fourth = reply(1_000);
  await first();
  t.deepEqual(told, ['pause'], 'they still take more');
  t.is(find(/^reply memory used up$/).length, 1);
  await fourth();
  t.deepEqual(told, ['pause', 'resume']);
  t.is(find(/^reply memory free again$/).length, 1);
  await second();
  await third();
  await reply(100)();
  t.deepEqual(told, ['pause', 'resume']);
});

test('a reply that cannot be sent takes no memory any more', async (t) => {
  const { room, told } = open();
  const failed = room.during(101, async () => {
    throw new Error('the connection is lost');
  });
  t.deepEqual(told, ['pause']);
  await t.throwsAsync(failed, { message: 'the connection is lost' });
  t.deepEqual(told, ['pause', 'resume']);
  t.is(await room.during(1, async () => 'sent'), 'sent');
});
