import test from 'ava';
import { OutageLog } from '../../src/lib/outage-log.js';
import { PublishRefused } from '../../src/rpc/publish-errors.js';
import { ConfirmChannel } from '../../src/rpc/confirm-channel.js';
import { isAccessRefused, WritePermission } from '../../src/rpc/write-permission.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';
import { settle, watched } from '../support/open-runner.js';
import { scriptedConnection } from '../support/scripted-connection.js';

const REFUSAL = new PublishRefused({ code: 403, text: 'ACCESS_REFUSED - no' });
const TEXT = 'ACCESS_REFUSED - no (it lacks the write permission)';

/** The permission on a broker that refuses each message, until `grant`. */
function open() {
  const clock = new ManualClock();
  const logs = logLines();
  const lost = new AbortController();
  const changes: (string | undefined)[] = [];
  let answer = async () => Promise.reject<void>(REFUSAL);
  let published = 0;
  const channel = {
    publish: async () => {
      published++;
      await answer();
      return 'unroutable' as const;
    },
  };
  const outage = new OutageLog(logs.log, clock, { began: 'refused', ended: 'accepted' });
  const permission: WritePermission = new WritePermission({ lost: lost.signal }, channel, {
    clock,
    outage,
    changed: () => changes.push(permission.refusal),
  });
  /** Lets this much time pass, and all happen that then does. */
  const pass = async (ms: number) => {
    clock.advance(ms);
    await settle();
  };
  const grant = () => (answer = async () => {});
  const fail = (cause: Error) => {
    answer = async () => {
      throw cause;
    };
  };
  return { permission, clock, logs, lost, changes, pass, grant, fail, published: () => published };
}

test('a permission that is there is nothing to tell', async (t) => {
  const { permission, grant, changes, logs, clock } = open();
  grant();
  await permission.check();
  t.is(permission.refusal, undefined);
  await t.notThrowsAsync(permission.granted);
  t.deepEqual(changes, []);
  t.deepEqual(logs.lines, []);
  t.is(clock.pending, 0);
});

test("while the permission is missing, it is tried again, at least every 5 s, and told with the broker's text", async (t) => {
  const { permission, grant, changes, logs, clock, pass, published } = open();
  await permission.check();
  t.is(permission.refusal, TEXT);
  t.deepEqual(changes, [TEXT]);
  const granted = watched(permission.granted.then(() => true));
  await settle();
  t.is(published(), 1, 'not again at once');
  for (let times = 2; times < 12; times++) {
    await pass(5_000);
    t.is(published(), times);
  }
  t.is(granted(), undefined);
  grant();
  await pass(5_000);
  t.true(granted());
  t.is(permission.refusal, undefined);
  t.deepEqual(changes, [TEXT, undefined]);
  t.is(clock.pending, 0);
  t.deepEqual(
    logs.lines.map(({ message, reason }) => [message, reason]),
    [
      ['refused', TEXT],
      ['accepted', undefined],
    ],
  );
});

test('the waits between two attempts grow', async (t) => {
  const { permission, clock, pass } = open();
  await permission.check();
  t.true(clock.slept >= 500 && clock.slept <= 1_000);
  for (let times = 0; times < 5; times++) await pass(5_000);
  const before = clock.slept;
  await pass(5_000);
  t.true(clock.slept - before >= 2_500);
});

test('further refusals meanwhile change nothing, and one after the permission was there begins anew', async (t) => {
  const { permission, grant, changes, clock, pass, published } = open();
  permission.missing(REFUSAL);
  permission.missing(new PublishRefused({ code: 403, text: 'another' }));
  t.is(permission.refusal, TEXT);
  t.deepEqual(changes, [TEXT]);
  t.is(clock.pending, 1);
  grant();
  await pass(5_000);
  permission.missing(REFUSAL);
  t.deepEqual(changes, [TEXT, undefined, TEXT]);
  await pass(5_000);
  t.is(permission.refusal, undefined);
  t.is(published(), 2);
});

test('with the loss of the connection nothing is missing any more, and nothing is tried', async (t) => {
  const { permission, lost, changes, logs, clock, pass, published } = open();
  await permission.check();
  lost.abort(new Error('cut'));
  t.is(permission.refusal, undefined);
  await t.notThrowsAsync(permission.granted);
  t.is(clock.pending, 0);
  await pass(10_000);
  t.deepEqual(changes, [TEXT]);
  t.is(logs.find(/^accepted$/).length, 0);
  t.true(published() <= 2);
});

test('an attempt that fails with the connection ends the wait, and tells nothing', async (t) => {
  const { permission, lost, fail, changes, logs, pass } = open();
  await permission.check();
  const cut = new Error('cut');
  fail(cut);
  t.true(
    await permission.check().then(
      () => false,
      (error: unknown) => error === cut,
    ),
  );
  const waited = permission.granted;
  lost.abort(cut);
  await pass(5_000);
  await t.notThrowsAsync(waited);
  t.deepEqual(changes, [TEXT]);
  t.is(logs.find(/^accepted$/).length, 0);
});

test('an attempt is a message without a body that shares no channel, so its refusal costs no other message', async (t) => {
  const { connection, written, channels } = scriptedConnection();
  const clock = new ManualClock();
  const channel = await ConfirmChannel.open(connection);
  const outage = new OutageLog(logLines().log, clock, { began: 'refused', ended: 'accepted' });
  const permission = new WritePermission(connection, channel, { clock, outage });
  const first = channel.publish({ exchange: '', routingKey: 'q' }, Buffer.alloc(10), {});
  await settle();
  written[0]?.confirm();
  await first;
  const checked = permission.check();
  await settle();
  const probe = written[1];
  t.is(probe?.bytes, 0);
  t.not(probe?.channel, channels[0], 'not the shared one');
  probe?.channel.refuse(403, 'ACCESS_REFUSED - no');
  await checked;
  t.is(permission.refusal, TEXT);
  connection.lose(new Error('cut'));
});

test('only a refusal for lack of permission is one', async (t) => {
  t.true(isAccessRefused(REFUSAL));
  t.false(isAccessRefused(new PublishRefused({ code: 404, text: 'NOT_FOUND' })));
  t.false(isAccessRefused(new Error('ACCESS_REFUSED')));
});
