import test from 'ava';
import { parseJournalTime } from '../../src/sandbox/journal-time.js';

const NOW = Date.UTC(2024, 4, 1, 12, 30, 15);

function read(text: string): string | undefined {
  const at = parseJournalTime(text, NOW);
  return at === undefined ? undefined : new Date(at).toISOString();
}

test('points in time are read as systemd-analyze timestamp does, in UTC', (t) => {
  const expected: Record<string, string> = {
    now: '2024-05-01T12:30:15.000Z',
    today: '2024-05-01T00:00:00.000Z',
    yesterday: '2024-04-30T00:00:00.000Z',
    tomorrow: '2024-05-02T00:00:00.000Z',
    '@1714500000': '2024-04-30T18:00:00.000Z',
    '2024-02-29': '2024-02-29T00:00:00.000Z',
    '2024-02-29 UTC': '2024-02-29T00:00:00.000Z',
    '2024-04-30 06:07': '2024-04-30T06:07:00.000Z',
    '2024-04-30 06:07:08 UTC': '2024-04-30T06:07:08.000Z',
    '2024-04-31': '2024-05-01T00:00:00.000Z',
    '23:59 UTC': '2024-05-01T23:59:00.000Z',
    '10:11': '2024-05-01T10:11:00.000Z',
    '10:11:12': '2024-05-01T10:11:12.000Z',
    '-2h': '2024-05-01T10:30:15.000Z',
    '+90s': '2024-05-01T12:31:45.000Z',
    '-1 day 2 hours 3min': '2024-04-30T10:27:15.000Z',
    '30 min ago': '2024-05-01T12:00:15.000Z',
    '2d 3h ago': '2024-04-29T09:30:15.000Z',
    '-1week': '2024-04-24T12:30:15.000Z',
    '-1500ms': '2024-05-01T12:30:13.500Z',
    '1 month ago': '2024-04-01T01:56:39.000Z',
    '1 year ago': '2023-05-02T06:30:15.000Z',
  };
  for (const [text, instant] of Object.entries(expected)) t.is(read(text), instant, text);
});

test('text that is not a point in time is refused', (t) => {
  const others = [
    '',
    ' ',
    '2h',
    'ago',
    ' ago',
    '- ago',
    '-',
    '+',
    '@',
    '@x',
    'soon',
    'UTC',
    '-2parsecs',
    '-h',
  ];
  const dates = [
    '2024-13-01',
    '2024-05-32',
    '2024-05-0110:00',
    ' 10:00',
    '24:00',
    '12:60',
    '2024-05-01T10:00',
    '2024-05-01 1',
  ];
  for (const text of [...others, ...dates]) t.is(read(text), undefined, text);
});
