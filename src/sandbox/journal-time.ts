const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const UNITS: readonly (readonly [pattern: RegExp, ms: number])[] = [
  [/^us(ec)?$/, 0.001],
  [/^ms(ec)?$/, 1],
  [/^s(ec|econds?)?$/, SECOND],
  [/^m(in|inutes?)?$/, MINUTE],
  [/^(h|hr|hours?)$/, HOUR],
  [/^d(ays?)?$/, DAY],
  [/^w(eeks?)?$/, 7 * DAY],
  [/^(M|months?)$/, 30.44 * DAY],
  [/^y(ears?)?$/, 365.25 * DAY],
];

const TIME = '(?:[01]\\d|2[0-3]):[0-5]\\d(?::[0-5]\\d)?';
const DATE = new RegExp(
  `^(?:(?<date>\\d{4}-\\d{2}-\\d{2})(?: (?<time>${TIME}))?|(?<timeOfDay>${TIME}))(?: UTC)?$`,
);

/**
 * Reads a point in time as journalctl does on a machine whose time zone is UTC (systemd.time(7)): a date, a time of
 * today, a word, seconds since the epoch, or a span before or after now. Other forms that journalctl accepts are not
 * supported.
 * @returns milliseconds since the epoch; undefined when it cannot be read, such as a span without a sign
 */
export function parseJournalTime(text: string, now: number): number | undefined {
  const today = Math.floor(now / DAY) * DAY;
  if (text === 'now') return now;
  if (text === 'today') return today;
  if (text === 'yesterday') return today - DAY;
  if (text === 'tomorrow') return today + DAY;
  if (/^@\d+$/.test(text)) return Number(text.slice(1)) * SECOND;
  if (/^[-+]/.test(text)) return shifted(now, text.slice(1), text.startsWith('-') ? -1 : 1);
  if (text.endsWith(' ago')) return shifted(now, text.slice(0, -' ago'.length), -1);
  return parseDate(text, today);
}

function shifted(now: number, span: string, direction: 1 | -1): number | undefined {
  const ms = parseSpan(span);
  return ms === undefined ? undefined : now + direction * ms;
}

function parseSpan(text: string): number | undefined {
  const parts = [...text.matchAll(/(\d+) ?([A-Za-z]+) ?/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) return undefined;
  let total = 0;
  for (const [, count, name = ''] of parts) {
    const unit = UNITS.find(([pattern]) => pattern.test(name));
    if (unit === undefined) return undefined;
    total += Number(count) * unit[1];
  }
  return total;
}

function parseDate(text: string, today: number): number | undefined {
  const found = DATE.exec(text)?.groups;
  if (found === undefined) return undefined;
  const { date = new Date(today).toISOString().slice(0, 10), time = found.timeOfDay ?? '00:00' } = found;
  // Date.parse reads the 31st of April as the 1st of May, as systemd does.
  const at = Date.parse(`${date}T${time}Z`);
  return Number.isNaN(at) ? undefined : at;
}
