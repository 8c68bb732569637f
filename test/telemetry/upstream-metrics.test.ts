import test from 'ava';
import { UpstreamMetrics } from '../../src/telemetry/metrics/upstream-metrics.js';
import { ManualClock } from '../support/manual-clock.js';

test('calls are counted by how they end, with the time that they took', (t) => {
  const clock = new ManualClock();
  const { watch, kinds } = new UpstreamMetrics(clock);
  const calls = [1, 2, 3, 4].map(() => watch('fleet', 'GET units', 'host'));
  const counted = kinds.get('fleet')?.get('GET units');
  t.like(counted, { inProgress: 4, ok: 0 });
  clock.advance(500);
  calls[0]?.end();
  calls[1]?.end(new Error('no response'));
  calls[2]?.end(new Error('the caller is gone'), true);
  t.like(counted, { inProgress: 1, ok: 1, failed: 1, stopped: 1 });
  t.is(counted?.seconds.sum, 1.5);
});

test('programs that a plugin makes up do not become ever more labels', (t) => {
  const { watch, kinds } = new UpstreamMetrics(new ManualClock());
  for (let n = 0; n < 1_000; n++) watch('ssh', `run program${n}`, 'host').end();
  watch('ssh', `run ${'x'.repeat(1_000)}`, 'host').end();
  watch('claims', 'POST kv/txn', 'host').end();
  const ssh = kinds.get('ssh');
  t.is(ssh?.size, 31);
  t.is(ssh?.get('other')?.ok, 971);
  t.is(kinds.get('claims')?.size, 1);
});
