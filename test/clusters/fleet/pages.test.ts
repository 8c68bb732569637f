import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import * as fc from 'fast-check';
import type { Page } from '../../../src/clusters/fleet/fleet-responses.js';
import { pageToken, readAllPages } from '../../../src/clusters/fleet/pages.js';

/** A server's collection as the `read` of a test, which records every requested page. */
function collection(
  rows: readonly unknown[],
  { limit = 100, tokenOf = (page: number) => pageToken(limit, page) } = {},
) {
  const asked: (string | undefined)[] = [];
  let inFlight = 0;
  let most = 0;
  const pages = new Map<string | undefined, number>([[undefined, 1]]);
  for (let page = 2; page <= rows.length / limit + 10; page++) pages.set(tokenOf(page), page);
  const read = async (token: string | undefined): Promise<Page> => {
    asked.push(token);
    most = Math.max(most, ++inFlight);
    await turn();
    inFlight--;
    const page = pages.get(token);
    if (page === undefined) throw new Error(`there is no page ${token}`);
    // As in fleet: a full page has a next one, even if that one is empty.
    const full = page * limit <= rows.length;
    return {
      rows: rows.slice((page - 1) * limit, page * limit),
      nextPageToken: full ? tokenOf(page + 1) : undefined,
    };
  };
  return { read, asked, most: () => most };
}

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);

/** Never settles. */
const never = () => new Promise<Page>(() => {});

test('the token of page 2 at a limit of 100 equals the one that fleet gives', (t) => {
  t.is(pageToken(100, 2), 'ZAACAA==');
  t.is(pageToken(100, 3), 'ZAADAA==');
  t.is(pageToken(0xfbff, 0xfffe), '__v-_w==', 'URL-safe and padded');
});

test('every row of every page is read once and in order, for any page size, with at most four pages at a time', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: 400 }), fc.integer({ min: 1, max: 120 }), async (count, limit) => {
      const { read, asked, most } = collection(numbers(count), { limit });
      t.deepEqual(await readAllPages(read), numbers(count));
      t.true(most() <= 4);
      t.is(new Set(asked).size, asked.length, 'no page is asked for twice');
      t.true(asked.length <= Math.floor(count / limit) + 1 + 3, 'three pages past the last at most');
    }),
  );
});

test('pages can arrive in any order and are put into their own order', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.nat({ max: 60 }), async (scheduler, count) => {
      const { read } = collection(numbers(count), { limit: 5 });
      const all = readAllPages(scheduler.scheduleFunction(read));
      await scheduler.waitFor(all);
      t.deepEqual(await all, numbers(count));
    }),
  );
});

test('a single page is requested once', async (t) => {
  const { read, asked } = collection(numbers(99));
  t.is((await readAllPages(read)).length, 99);
  t.deepEqual(asked, [undefined]);
});

test('four pages are requested concurrently', async (t) => {
  const { read, most } = collection(numbers(2_000));
  await readAllPages(read);
  t.is(most(), 4);
});

for (const [what, tokenOf] of [
  ['other text', (page: number) => `page-${page}`],
  ['numbers', (page: number) => String(page)],
  ['base64 of more bytes', (page: number) => Buffer.from(`p${page}....`).toString('base64url')],
  ['a limit of none', (page: number) => pageToken(0, page)],
  ['pages counted from elsewhere', (page: number) => pageToken(100, page + 7)],
  ['base64 without padding', (page: number) => pageToken(100, page).replace('==', '')],
  ['base64 that is not URL-safe', (page: number) => Buffer.from([251, 255, page, 0]).toString('base64')],
] as const) {
  test(`when tokens are ${what}, one page is read after the other`, async (t) => {
    const { read, asked, most } = collection(numbers(500), { tokenOf });
    t.deepEqual(await readAllPages(read), numbers(500));
    t.is(most(), 1);
    t.deepEqual(asked, [undefined, ...[2, 3, 4, 5, 6].map(tokenOf)]);
  });
}

test('when tokens differ from the expected ones, the received tokens are followed', async (t) => {
  const { read } = collection(numbers(750), {
    tokenOf: (page) => (page < 4 ? pageToken(100, page) : `page-${page}`),
  });
  t.deepEqual(await readAllPages(read), numbers(750));
});

for (const [what, tokenOf] of [
  ['tokens of fleet', (page: number) => pageToken(100, page)],
  ['tokens of fleet with one row a page', (page: number) => pageToken(1, page)],
  ['the same unfamiliar token', () => 'again'],
  ['ever new unfamiliar tokens', (page: number) => `page-${page}`],
  ['unfamiliar tokens in a circle', (page: number) => `page-${page % 7}`],
] as const) {
  test(`pages that do not end are refused: ${what}`, async (t) => {
    let page = 1;
    const read = async (): Promise<Page> => ({ rows: [], nextPageToken: tokenOf(++page) });
    await t.throwsAsync(readAllPages(read), { code: 'cluster_answer_invalid' });
    t.true(page < 70_000);
  });
}

test('a collection whose tokens start again at the first page is refused, not repeated', async (t) => {
  // At a limit of 100 fleet's offset overflows with page 657, which is the first page again.
  let reads = 0;
  const read = async (token: string | undefined): Promise<Page> => {
    reads++;
    const page = token === undefined ? 1 : Buffer.from(token, 'base64url').readUInt16LE(2);
    return { rows: numbers(100), nextPageToken: pageToken(100, page + 1) };
  };
  await t.throwsAsync(readAllPages(read), { code: 'cluster_answer_invalid' });
  t.is(reads, 656);
});

for (const [limit, lastPage] of [
  [100, 656],
  [255, 258],
  [257, 256],
  [21_845, 4],
  [65_535, 2],
  [1, 65_535],
] as const) {
  test(`at a limit of ${limit}, page ${lastPage} is the last that fleet can report apart`, async (t) => {
    const pagesOf = (count: number) => {
      const asked: number[] = [];
      const read = async (token: string | undefined): Promise<Page> => {
        const page = token === undefined ? 1 : Buffer.from(token, 'base64url').readUInt16LE(2);
        asked.push(page);
        return { rows: [page], nextPageToken: page === count ? undefined : pageToken(limit, page + 1) };
      };
      return { read, asked };
    };
    const whole = pagesOf(lastPage);
    t.deepEqual(
      await readAllPages(whole.read),
      Array.from({ length: lastPage }, (_, index) => index + 1),
    );
    t.is(whole.asked.length, lastPage, 'no page after the last is asked for');
    const more = pagesOf(lastPage + 1);
    await t.throwsAsync(readAllPages(more.read), { code: 'cluster_answer_invalid' });
    t.is(more.asked.length, lastPage, 'no page is requested twice');
  });
}

test('a page past the last loses no rows when it fails, and is not waited for when it hangs', async (t) => {
  const { read } = collection(numbers(250));
  const failing = async (token: string | undefined) => {
    if (token === pageToken(100, 4)) throw new Error('page 4 failed');
    if (token === pageToken(100, 5)) return never();
    return read(token);
  };
  t.deepEqual(await readAllPages(failing), numbers(250));
});

test('a page past the last that fails before the last is known loses no rows', async (t) => {
  const { read } = collection(numbers(250));
  const failed = new AbortController();
  const failing = async (token: string | undefined) => {
    if (token === pageToken(100, 4)) {
      failed.abort();
      throw new Error('page 4 failed');
    }
    if (token !== undefined && !failed.signal.aborted) await once(failed.signal, 'abort');
    return read(token);
  };
  t.deepEqual(await readAllPages(failing), numbers(250));
});

test('a page that fails fails the whole list, without waiting for later pages', async (t) => {
  const { read } = collection(numbers(1_000));
  const failing = async (token: string | undefined) => {
    if (token === pageToken(100, 3)) throw new Error('page 3 failed');
    if (token === pageToken(100, 5)) return never();
    return read(token);
  };
  await t.throwsAsync(readAllPages(failing), { message: 'page 3 failed' });
});

test('the first page that fails fails the whole list, and no other page is requested', async (t) => {
  let reads = 0;
  const failing = async () => {
    reads++;
    throw new Error('page 1 failed');
  };
  await t.throwsAsync(readAllPages(failing), { message: 'page 1 failed' });
  t.is(reads, 1);
});
