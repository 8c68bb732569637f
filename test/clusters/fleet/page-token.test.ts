import test from 'ava';
import { limitOf, pageToken, Windows } from '../../../src/clusters/fleet/page-token.js';
import { pageOf, readPageToken } from '../../../src/sandbox/paging.js';

test('the token of page 2 at a limit of 100 equals the one that fleet gives', (t) => {
  t.is(pageToken(100, 2), 'ZAACAA==');
  t.is(pageToken(100, 3), 'ZAADAA==');
  t.is(pageToken(0xfbff, 0xfffe), '__v-_w==', 'URL-safe and padded');
});

test('the limit is read from the token of the second page', (t) => {
  t.is(limitOf('ZAACAA=='), 100);
  t.is(limitOf(pageToken(65_535, 2)), 65_535);
});

for (const [what, token] of [
  ['other text', 'page-2'],
  ['a number', '2'],
  ['base64 of more bytes', Buffer.from('p2....').toString('base64url')],
  ['a limit of none', pageToken(0, 2)],
  ['another page', pageToken(100, 3)],
  ['base64 without padding', 'ZAACAA'],
  ['base64 that is not URL-safe', Buffer.from([251, 255, 2, 0]).toString('base64')],
] as const) {
  test(`no limit is read from ${what}`, (t) => {
    t.is(limitOf(token), undefined);
  });
}

/** The page that fleet gives for a token. */
function pageBy(token: string, limit: number): { items: readonly number[]; nextPageToken: string } {
  const read = readPageToken([token], limit);
  const page = typeof read === 'string' ? read : pageOf(rows, read);
  if (typeof page === 'string') throw new Error(`fleet refuses ${token}: ${page}`);
  return page;
}

const rows = Array.from({ length: 65_535 }, (_, index) => index);

for (const limit of [1, 2, 3, 7, 24, 50, 96, 99, 100, 1_000, 1_024, 4_095, 20_000]) {
  test(`a window of ${limit} rows begins at any aligned offset, for a server that calculates as fleet does`, (t) => {
    const windows = new Windows(limit);
    for (let asked = 0; windows.reaches(asked); asked += 1 + Math.floor(limit / 3) * 7) {
      const offset = windows.align(asked);
      t.true(offset <= asked);
      const { items, nextPageToken } = pageBy(windows.tokenAt(offset), limit);
      t.deepEqual([items.length, items[0], items.at(-1)], [limit, offset, offset + limit - 1]);
      t.is(nextPageToken, windows.tokenAfter(offset));
    }
  });
}

test('a window ends before the offsets overflow, and begins at the first row at the earliest', (t) => {
  const windows = new Windows(100);
  t.true(windows.reaches(65_432));
  t.false(windows.reaches(65_436));
  t.is(windows.align(-50), 0);
});

for (const [limit, stride] of [
  [100, 92],
  [50, 46],
  [99, 92],
  [96, 64],
  [1_000, 936],
  [7, 6],
  [2, 0],
  [64, 0],
  [128, 0],
  [1, 0],
] as const) {
  test(`windows of ${limit} rows ${stride === 0 ? 'cannot overlap' : `follow each other after ${stride}`}`, (t) => {
    t.is(new Windows(limit).stride, stride);
  });
}

for (const [length, stride, count] of [
  [99, 92, 1],
  [100, 92, 2],
  [1_000, 92, 11],
  [1_050, 96, 11],
  [5_000, 96, 53],
] as const) {
  test(`a list of about ${length} rows is read in ${count} windows of 100, which overlap by ${100 - stride}`, (t) => {
    const windows = new Windows(100, length);
    t.deepEqual([windows.stride, windows.countOf(length)], [stride, count]);
    const last = windows.offsetOf(count - 1);
    t.true(last + windows.limit > length, 'the last one has room for a further row');
    t.true(count === 1 || last - windows.stride + windows.limit <= length, 'the one before has none');
  });
}
