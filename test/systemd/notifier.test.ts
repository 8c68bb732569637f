import test from 'ava';
import { Notifier } from '../../src/systemd/notifier.js';
import { eventually } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

/** A notifier, the messages that it has begun to send, and what ends the sending of the latest. */
function open() {
  const clock = new ManualClock();
  const logs = logLines();
  const sent: string[][] = [];
  const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const send = async (assignments: readonly string[]) => {
    sent.push([...assignments]);
    return new Promise<void>((resolve, reject) => ends.push({ resolve, reject }));
  };
  const begun = async (count: number) => eventually(`${count} messages`, () => sent.length === count);
  return { notifier: new Notifier({ send, clock, log: logs.log }), sent, begun, ends, clock, logs };
}

test('messages are sent one after the other, in the order of the states', async (t) => {
  const { notifier, sent, begun, ends } = open();
  notifier.ready('ready');
  notifier.reloading();
  notifier.ready('ready again');
  notifier.stopping();
  for (const count of [1, 2, 3, 4]) {
    await begun(count);
    ends[count - 1]?.resolve();
  }
  const [first, second, ...rest] = sent;
  t.deepEqual(first, ['READY=1', 'STATUS=ready']);
  t.regex(String(second), /^RELOADING=1,MONOTONIC_USEC=\d+$/);
  t.deepEqual(rest, [
    ['READY=1', 'STATUS=ready again'],
    ['STOPPING=1', 'STATUS=shutting down'],
  ]);
});

test('what waits is one message, with the latest status', async (t) => {
  const { notifier, sent, begun, ends } = open();
  notifier.ready('one');
  await begun(1);
  for (const status of ['two', 'three']) {
    notifier.status(status);
    notifier.watchdog();
  }
  ends[0]?.resolve();
  await begun(2);
  t.deepEqual(sent[1], ['STATUS=three', 'WATCHDOG=1']);
});

test('a message that cannot be sent is sent again, and the log has the begin and the end of that', async (t) => {
  const { notifier, sent, begun, ends, clock, logs } = open();
  notifier.ready('ready');
  for (const count of [1, 2]) {
    await begun(count);
    ends[count - 1]?.reject(new Error('no such program'));
    await eventually('it waits', () => clock.pending === 1);
    notifier.watchdog();
    clock.leap();
  }
  await begun(3);
  ends[2]?.resolve();
  await eventually('it is logged', () => logs.lines.length === 2);
  t.deepEqual(sent[0], ['READY=1', 'STATUS=ready']);
  t.deepEqual(sent[2], ['READY=1', 'STATUS=ready', 'WATCHDOG=1']);
  t.like(logs.lines[0], { message: 'systemd notification failed', reason: 'no such program', level: 'warn' });
  t.like(logs.lines[1], { message: 'systemd notification restored', failures: 2 });
});

test('a message after one that was sent is sent too', async (t) => {
  const { notifier, sent, begun, ends } = open();
  notifier.watchdog();
  await begun(1);
  ends[0]?.resolve();
  await Promise.resolve();
  notifier.watchdog();
  await begun(2);
  t.deepEqual(sent, [['WATCHDOG=1'], ['WATCHDOG=1']]);
});

test('the status is one line of limited length, whatever the text of a broker is', (t) => {
  const { notifier, sent } = open();
  notifier.ready(`refused\nMAINPID=1\n${'x'.repeat(5_000)}`);
  const [[, status = ''] = []] = sent;
  t.true(status.startsWith('STATUS=refused\\u000aMAINPID=1\\u000axxx'));
  t.is(status.length, 'STATUS='.length + 500);
});
