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

const style = { width: undefined, colours: false, headers: true };

/** The texts of all columns, without the header. */
const cells = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .filter((row) => !row.startsWith('TIME'))
    .map((row) => row.split(/ {2,}/));

test('a run is one row: when it began, how it ended, and what it was', (t) => {
  const rows = new HistoryRows({ style });
  t.is(rows.of(begun) + rows.of(settled), '');
  t.deepEqual(cells(rows.rest()), [
    ['2026-01-01T00:00:00Z', 'completed', 'restart_unit', 'prod', 'ci', '1.9 s', 'web.service'],
  ]);
  t.is(rows.rest(), '');
});

test('a run whose end has not come is shown at the end, or at once when the history is followed', (t) => {
  const rows = new HistoryRows({ style });
  rows.of(begun);
  t.deepEqual(cells(rows.rest())[0]?.slice(0, 2), ['2026-01-01T00:00:00Z', 'no end so far']);
  t.deepEqual(cells(new HistoryRows({ follow: true, style }).of(begun))[0]?.slice(0, 2), [
    '2026-01-01T00:00:00Z',
    'begun',
  ]);
});

test('a row says what is unusual: a probe, a caller whom nobody vouches for, a reply that was not sent, a denial, a gap', (t) => {
  const rows = new HistoryRows({ follow: true, style });
  const row = (line: object) => cells(rows.of({ ...settled, ...line }))[0];
  t.is(row({ work: 'probe' })?.[2], 'restart_unit (probe)');
  t.is(row({ verified_by: undefined, caller: 'anonymous' })?.[4], '(anonymous)');
  t.is(row({ reply: 'dropped' })?.[1], 'completed, dropped');
  t.is(row({ event: 'denied', outcome: 'forbidden' })?.[1], 'denied');
  t.is(row({ event: 'reused', outcome: 'unit_failed' })?.[1], 'reused, unit_failed');
  t.is(rows.of({ ...settled, event: 'gap', lines: 12 }), '-- 12 lines of the worker w are lost here\n');
});

test('no field can begin a row', (t) => {
  const text = new HistoryRows({ follow: true, style }).of({
    ...settled,
    action: 'a\nb',
    units: ['c\r\nd'],
    caller: 'e\u2028f',
  });
  t.is(text.split('\n').length, 3);
});
test('each column is as wide as its rows, and a row fits into the terminal', (t) => {
  const rows = new HistoryRows({ style: { ...style, width: 80 } });
  rows.of({ ...settled, outcome: 'discovery_unreachable', took_ms: 42 });
  rows.of({ ...settled, units: ['a-unit-with-a-long-name@1.service', 'another-one.service'] });
  t.is(
    rows.rest(),
    `TIME                  OUTCOME     ACTION      CLUSTER  CALLER   TOOK  UNITS
2026-01-01T00:00:02Z  discovery…  restart_u…  prod     ci      42 ms  web.servi…
2026-01-01T00:00:02Z  completed   restart_u…  prod     ci      1.9 s  a-unit-wi…
`,
  );
});

test('a history that is followed shows each row at once, and a column gets wider when a row needs it', (t) => {
  const rows = new HistoryRows({ follow: true, style: { ...style, columns: ['outcome', 'took'] } });
  t.is(rows.of({ ...settled, took_ms: 999.6 }), 'OUTCOME       TOOK\ncompleted  1000 ms\n');
  t.is(rows.of({ ...settled, outcome: 'unit_not_found', took_ms: 0 }), 'unit_not_found     0 ms\n');
  t.is(rows.of(settled), 'completed         1.9 s\n');
  t.throws(() => new HistoryRows({ style: { ...style, columns: ['age'] } }), {
    message:
      "--columns: there is no column 'age'; there are TIME, OUTCOME, ACTION, CLUSTER, CALLER, TOOK, UNITS",
  });
});
