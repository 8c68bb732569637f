import test from 'ava';
import { Notifier } from '../../src/systemd/notifier.js';
import { Supervision, watchdogMsOf } from '../../src/systemd/supervision.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

/** The supervision of a service, and what systemd gets at each time. */
function open(watchdogMs?: number) {
  const clock = new ManualClock();
  const begun = clock.now();
  const sent: [ms: number, message: string][] = [];
  const send = async (assignments: readonly string[]) =>
    void sent.push([clock.now() - begun, assignments.join()]);
  const notifier = new Notifier({ send, clock, log: logLines().log });
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 500) {
      clock.advance(500);
      // The message before has been sent.
      for (let turn = 0; turn < 5; turn++) await Promise.resolve();
    }
  };
  return { supervision: new Supervision({ notifier, watchdogMs, clock }), sent, pass, clock };
}

test('systemd is told that the service is up also when it is not ready, and each change of that once', async (t) => {
  const { supervision, sent, pass } = open();
  let reasons = ['no connection to a broker: refused', 'the HTTP gateway: refused'];
  supervision.started(() => reasons);
  await pass(30_000);
  reasons = [];
  await pass(30_000);
  t.deepEqual(
    sent.map(([, message]) => message),
    [
      'READY=1,STATUS=not ready: no connection to a broker: refused; the HTTP gateway: refused',
      'STATUS=ready',
    ],
  );
});

test('the watchdog of systemd gets four messages in its time, until the service stops', async (t) => {
  const { supervision, sent, pass, clock } = open(20_000);
  supervision.started(() => []);
  await pass(20_000);
  supervision.stopping();
  await pass(20_000);
  t.deepEqual(sent, [
    [0, 'READY=1,STATUS=ready'],
    ...[5, 10, 15, 20].map((second): [number, string] => [second * 1_000, 'WATCHDOG=1']),
    [20_000, 'STOPPING=1,STATUS=shutting down'],
  ]);
  t.is(clock.pending, 0);
});

test('a reload ends for systemd also when it fails', async (t) => {
  const { supervision, sent, pass } = open();
  supervision.started(() => []);
  await t.throwsAsync(
    supervision.reloading(async () => {
      throw new Error('no such file');
    }),
    { message: 'no such file' },
  );
  t.is(await supervision.reloading(async () => 'reloaded'), 'reloaded');
  await pass(500);
  t.deepEqual(
    sent.map(([, message]) => message.replace(/\d{2,}/, 'TIME')),
    [
      'READY=1,STATUS=ready',
      ...Array.from({ length: 2 }, () => ['RELOADING=1,MONOTONIC_USEC=TIME', 'READY=1,STATUS=ready']).flat(),
    ],
  );
});

test('only the process that systemd watches sends to the watchdog', (t) => {
  t.is(watchdogMsOf({ WATCHDOG_USEC: '90000000', WATCHDOG_PID: '7' }, 7), 90_000);
  t.is(watchdogMsOf({ WATCHDOG_USEC: '90000000' }, 7), 90_000);
  t.is(watchdogMsOf({ WATCHDOG_USEC: '90000000', WATCHDOG_PID: '8' }, 7), undefined);
  for (const WATCHDOG_USEC of [undefined, '', '0', 'never', '-1'])
    t.is(watchdogMsOf({ WATCHDOG_USEC }, 7), undefined, WATCHDOG_USEC);
});
