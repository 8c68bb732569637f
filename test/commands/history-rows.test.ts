import test from 'ava';
import { HistoryRows } from '../../src/commands/history-rows.js';

const COMMON = {
  request: 'r1',
  caller: 'ci',
  verified_by: 'broker',
  action: 'restart_unit',
  cluster: '0123456789',
  cluster_name: 'prod',
  units: ['web.service'],
  worker: 'w',
};
const begun = { ...COMMON, event: 'begun', id: '1', time: '2026-01-01T00:00:00.000Z' } as const;
const settled = {
  ...COMMON,
  event: 'settled',
  id: '1',
  time: '2026-01-01T00:00:02.000Z',
  outcome: 'completed',
  reply: 'sent',
  took_ms: 1_850,
} as const;

/** The texts of all columns, without the header. */
const cells = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .filter((row) => !row.startsWith('TIME'))
    .map((row) => row.split(/ {2,}/));

test('a run is one row: when it began, how it ended, and what it was', (t) => {
  const rows = new HistoryRows();
  t.is(rows.of(begun), '');
  t.deepEqual(cells(rows.of(settled)), [
    ['2026-01-01T00:00:00Z', 'completed', 'restart_unit', 'prod', 'ci', '1.9 s', 'web.service'],
  ]);
  t.is(rows.rest(), '');
});

test('a run whose end has not come is shown at the end, or at once when the history is followed', (t) => {
  const rows = new HistoryRows();
  rows.of(begun);
  t.deepEqual(cells(rows.rest())[0]?.slice(0, 2), ['2026-01-01T00:00:00Z', 'no end so far']);
  t.deepEqual(cells(new HistoryRows(true).of(begun))[0]?.slice(0, 2), ['2026-01-01T00:00:00Z', 'begun']);
});

test('a row says what is unusual: a probe, a caller whom nobody vouches for, a reply that was not sent, a denial, a gap', (t) => {
  const rows = new HistoryRows();
  const row = (line: object) => cells(rows.of({ ...settled, ...line }))[0];
  t.is(row({ work: 'probe' })?.[2], 'restart_unit (probe)');
  t.is(row({ verified_by: undefined, caller: 'anonymous' })?.[4], '(anonymous)');
  t.is(row({ reply: 'dropped' })?.[1], 'completed, dropped');
  t.is(row({ event: 'denied', outcome: 'forbidden' })?.[1], 'denied');
  t.is(row({ event: 'reused', outcome: 'unit_failed' })?.[1], 'reused, unit_failed');
  t.is(rows.of({ ...settled, event: 'gap', lines: 12 }), '-- 12 lines of the worker w are lost here\n');
});

test('no field can begin a row', (t) => {
  const text = new HistoryRows().of({ ...settled, action: 'a\nb', units: ['c\r\nd'], caller: 'e\u2028f' });
  t.is(text.split('\n').length, 3);
});
