import test from 'ava';
import { OutageLog } from '../../src/lib/outage-log.js';
import { logLines } from '../support/log-lines.js';
import { ManualClock } from '../support/manual-clock.js';

test('an outage is logged once when it begins and once when it ends', (t) => {
  const { log, lines } = logLines();
  const clock = new ManualClock();
  const outage = new OutageLog(log, clock, { began: 'discovery lost', ended: 'discovery restored' });
  outage.succeeded();
  for (let i = 0; i < 5; i++) outage.failed({ reason: `try ${i}` });
  clock.advance(1_500);
  outage.succeeded();
  outage.succeeded();
  t.is(lines.length, 2);
  t.like(lines[0], { level: 'warn', message: 'discovery lost', reason: 'try 0' });
  t.like(lines[1], { level: 'info', message: 'discovery restored', lasted_ms: 1_500, failures: 5 });
});

test('a second outage is logged like the first', (t) => {
  const { log, lines } = logLines();
  const outage = new OutageLog(log, new ManualClock(), {
    began: 'discovery lost',
    ended: 'discovery restored',
  });
  outage.failed({});
  outage.succeeded();
  outage.failed({ reason: 'again' });
  outage.succeeded();
  t.deepEqual(
    lines.map(({ level }) => level),
    ['warn', 'info', 'warn', 'info'],
  );
  t.is(lines[3]?.failures, 1);
});
