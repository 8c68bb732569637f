import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import * as fc from 'fast-check';
import type { Page } from '../../../src/clusters/fleet/fleet-responses.js';
import { pageToken, Windows } from '../../../src/clusters/fleet/page-token.js';
import { readWholeList } from '../../../src/clusters/fleet/whole-list.js';
import { pageOf, readPageToken } from '../../../src/sandbox/paging.js';

interface Row {
  name: string;
}

/** Rows in the order of their numbers. */
const rowsOf = (numbers: readonly number[]): Row[] =>
  numbers.map((number) => ({ name: String(number).padStart(6, '0') }));
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);
const keyOf = ({ name }: Row) => name;
const numbersOf = (rows: readonly Row[]) => rows.map(({ name }) => Number(name));

/** A server that pages as fleet does, as the `read` of a test. */
function server(count: number, limit = 100) {
  const asked: (string | undefined)[] = [];
  let inFlight = 0;
  let most = 0;
  const read = async (token: string | undefined): Promise<Page<Row>> => {
    asked.push(token);
    most = Math.max(most, ++inFlight);
    await turn();
    inFlight--;
    return pageAt(rowsOf(upTo(count)), token, limit);
  };
  return { read, asked, most: () => most };
}

function pageAt(rows: readonly Row[], token: string | undefined, limit: number): Page<Row> {
  const page = readPageToken(token === undefined ? [] : [token], limit);
  if (typeof page === 'string') throw new Error(page);
  const result = pageOf(rows, page);
  if (result === 'panic') throw new Error('the page ends after the overflow of the offsets');
  const { items, nextPageToken } = result;
  return { rows: [...items], nextPageToken: nextPageToken === '' ? undefined : nextPageToken };
}

/** A server with unfamiliar tokens. */
function otherServer(count: number, tokenOf: (page: number) => string, limit = 100) {
  const asked: (string | undefined)[] = [];
  const pages = new Map<string | undefined, number>([[undefined, 0]]);
  for (let page = 1; page <= count / limit + 10; page++) pages.set(tokenOf(page + 1), page);
  const read = async (token: string | undefined): Promise<Page<Row>> => {
    asked.push(token);
    const page = pages.get(token);
    if (page === undefined) throw new Error(`there is no page ${token}`);
    const rows = rowsOf(upTo(count)).slice(page * limit, (page + 1) * limit);
    return { rows, nextPageToken: (page + 1) * limit <= count ? tokenOf(page + 2) : undefined };
  };
  return { read, asked };
}

/** Never settles. */
const never = () => new Promise<Page<Row>>(() => {});

test('every row is read once and in order, for any page size, with at most four pages at a time', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: 400 }), fc.integer({ min: 1, max: 120 }), async (count, limit) => {
      const { read, most } = server(count, limit);
      const { rows, complete } = await readWholeList({ read, keyOf });
      t.deepEqual(numbersOf(rows), upTo(count));
      t.true(complete);
      t.true(most() <= 4);
    }),
  );
});

for (const [count, requests] of [
  [0, 1],
  [99, 1],
  [100, 2],
  [1_000, 11],
  [5_000, 55],
] as const) {
  test(`${count} rows that do not change cost ${requests} page requests, and at most three past the last`, async (t) => {
    const { read, asked } = server(count);
    t.is((await readWholeList({ read, keyOf })).rows.length, count);
    t.true(asked.length >= requests && asked.length <= requests + 3, `${asked.length}`);
    t.is(new Set(asked).size, asked.length, 'no page is requested twice');
  });
}

test('pages can arrive in any order and are put into their own order', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.nat({ max: 60 }), async (scheduler, count) => {
      const { read } = server(count, 5);
      const all = readWholeList({ read: scheduler.scheduleFunction(read), keyOf });
      await scheduler.waitFor(all);
      t.deepEqual(numbersOf((await all).rows), upTo(count));
    }),
  );
});

test('four pages are requested concurrently', async (t) => {
  const { read, most } = server(2_000);
  await readWholeList({ read, keyOf });
  t.is(most(), 4);
});

/** Changes of the list between two page reads: which rows are removed, by their position, and which are inserted. */
const churn = (most: number) =>
  fc.array(
    fc.record({ remove: fc.boolean(), at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }) }),
    { maxLength: most },
  );

/** A list that changes before each page is read. Its first rows have even numbers; inserted rows have odd ones. */
function changingList(count: number, changes: readonly { remove: boolean; at: number }[][]) {
  let present = upTo(count).map((number) => number * 2);
  const always = new Set(present);
  const ever = new Set(present);
  let reads = 0;
  const page = (token: string | undefined, limit: number): Page<Row> => {
    for (const { remove, at } of changes[reads++ % Math.max(1, changes.length)] ?? []) {
      if (remove) {
        const [removed] = present.splice(Math.floor(at * present.length), 1);
        if (removed !== undefined) always.delete(removed);
      } else {
        const inserted = Math.floor(at * count) * 2 + 1;
        ever.add(inserted);
        present = [...new Set([...present, inserted])].toSorted((a, b) => a - b);
      }
    }
    return pageAt(rowsOf(present), token, limit);
  };
  return { page, always, ever, reads: () => reads };
}

for (const [what, limit, mostChanges] of [
  ['few', 40, 2],
  ['many', 20, 6],
  ['far too many', 7, 40],
] as const) {
  test(`with ${what} changes between page reads, in any order, no row that stays is lost, invented or doubled`, async (t) => {
    let incomplete = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.integer({ min: 0, max: 300 }),
        fc.array(churn(mostChanges), { minLength: 1, maxLength: 40 }),
        async (scheduler, count, changes) => {
          const list = changingList(count, changes);
          const read = scheduler.scheduleFunction(async (token: string | undefined) =>
            list.page(token, limit),
          );
          const pending = readWholeList({ read, keyOf });
          await scheduler.waitFor(pending);
          const { rows, complete } = await pending;
          const numbers = numbersOf(rows);
          t.is(new Set(numbers).size, numbers.length, 'no row twice');
          t.true(
            numbers.every((number) => list.ever.has(number)),
            'no row that never was',
          );
          if (complete)
            t.deepEqual(
              [...list.always].filter((number) => !numbers.includes(number)),
              [],
            );
          else incomplete++;
          t.true(list.reads() <= 80 + 4 * ((count + 40 * mostChanges) / limit), `${list.reads()} reads`);
        },
      ),
      { numRuns: 300 },
    );
    if (what === 'few') t.is(incomplete, 0, 'and the list is complete');
  });
}

test('at a page size that is a power of two, a row that stays is lost only when the list is told to be incomplete', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 200 }),
      // Only removals, or only insertions: what the two passes can tell apart.
      fc.boolean(),
      fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { maxLength: 30 }),
      async (count, remove, changes) => {
        const list = changingList(
          count,
          changes.map((at) => [{ remove, at }]),
        );
        const { rows, complete } = await readWholeList({
          read: async (token) => list.page(token, 16),
          keyOf,
        });
        const numbers = new Set(numbersOf(rows));
        if (complete) t.true([...list.always].every((number) => numbers.has(number)));
      },
    ),
  );
});

for (const [times, count] of [
  [1, 30],
  [1, 50],
  [2, 25],
] as const)
  test(`rows that are removed ${times === 1 ? 'once' : 'twice'}, ${count} of 5,000 at once, lose no other row, and each time costs one more page`, async (t) => {
    // Before the thirtieth page is read, or the fortieth too; what is removed was on pages that were read before.
    const removal = upTo(count).map(() => ({ remove: true, at: 0.01 }));
    const changes = upTo(1_000).map((read) => (read === 29 || (times === 2 && read === 39) ? removal : []));
    const list = changingList(5_000, changes);
    const { rows, complete } = await readWholeList({
      read: async (token) => list.page(token, 100),
      keyOf,
    });
    t.true(complete);
    const numbers = numbersOf(rows);
    t.deepEqual(
      numbers,
      numbers.toSorted((a, b) => a - b),
    );
    t.is(list.always.size, 5_000 - times * count);
    const read = new Set(numbers);
    t.deepEqual(
      [...list.always].filter((number) => !read.has(number)),
      [],
    );
    // Without gaps: 54 pages, and three after the last one.
    t.is(list.reads(), 54 + 3 + times);
  });

test('a list whose last page is empty when it is read, as rows were removed before, is read to its end', async (t) => {
  const removal = upTo(8).map(() => ({ remove: true, at: 0 }));
  const list = changingList(40, [[], [], [], [], removal, ...upTo(20).map(() => [])]);
  const { rows, complete } = await readWholeList({ read: async (token) => list.page(token, 10), keyOf });
  t.true(complete);
  t.deepEqual(numbersOf(rows).slice(-32), [...list.always]);
  t.is(list.reads(), 5 + 3 + 2);
});

test('where pages cannot overlap, a row that a removal and an insertion hide from both passes is told', async (t) => {
  const first = { at: 0 };
  // Reads of page 1, page 2, page 2 again and page 1 again: the fifth row moves to page 1 and back.
  const list = changingList(7, [[], [{ ...first, remove: true }], [], [{ ...first, remove: false }]]);
  const { rows, complete } = await readWholeList({ read: async (token) => list.page(token, 4), keyOf });
  t.is(list.reads(), 4);
  t.false(numbersOf(rows).includes(8));
  t.false(complete);
});

test('a list that changes faster than it can be read is told to be incomplete, after a bounded number of requests', async (t) => {
  const shorter = upTo(15).map(() => ({ remove: true, at: 0 }));
  const list = changingList(4_000, [shorter]);
  const { complete } = await readWholeList({ read: async (token) => list.page(token, 10), keyOf });
  t.false(complete);
  t.true(list.reads() <= 3 * 400 + 20, `${list.reads()} page requests`);
});

for (const [rowsAtFirst, pages] of [
  [10, 1],
  [34, 4],
] as const) {
  test(`a gap that does not close, in a list of ${pages} pages, costs 16 requests and two for each page`, async (t) => {
    const windows = new Windows(10);
    const first = rowsOf(upTo(rowsAtFirst));
    const others = rowsOf(upTo(30).map((number) => number + 1_000));
    let reads = 0;
    const read = async (token: string | undefined): Promise<Page<Row>> => {
      reads++;
      // The last page shows later rows, and so does every page that is read again but the first.
      const isAgain = reads > 1 + pages + 3 && token !== windows.tokenAt(0);
      if (isAgain || token === windows.tokenAt(pages * windows.stride))
        return { rows: others.slice(0, 10), nextPageToken: undefined };
      return pageAt([...first, ...others], token, 10);
    };
    const { rows, complete } = await readWholeList({ read, keyOf });
    t.false(complete);
    t.true(rows.length > rowsAtFirst);
    t.is(reads, 1 + pages + 3 + 16 + 2 * pages);
  });
}

for (const left of [40, 0])
  test(`a list of which only ${left} rows are left when its second page is read costs one more request`, async (t) => {
    const shorter = upTo(100 - left).map(() => ({ remove: true, at: 0.99 }));
    const list = changingList(100, [[], shorter, ...upTo(20).map(() => [])]);
    const { rows, complete } = await readWholeList({ read: async (token) => list.page(token, 100), keyOf });
    t.true(complete);
    t.true(rows.length >= left);
    t.is(list.reads(), 1 + 4 + 1);
  });

test('a row that is on a page twice does not change how the pages are read', async (t) => {
  const rows = rowsOf(upTo(150).flatMap((number) => (number === 5 ? [5, 5] : [number])));
  const asked: (string | undefined)[] = [];
  const read = async (token: string | undefined) => {
    asked.push(token);
    return pageAt(rows, token, 100);
  };
  const { rows: listed, complete } = await readWholeList({ read, keyOf });
  t.deepEqual(numbersOf(listed), upTo(150));
  t.true(complete);
  t.is(new Set(asked).size, asked.length, 'no page is requested twice');
});

for (const [what, tokenOf] of [
  ['other text', (page: number) => `page-${page}`],
  ['numbers', (page: number) => String(page)],
  ['pages counted from elsewhere', (page: number) => pageToken(100, page + 7)],
] as const) {
  test(`when tokens are ${what}, pages are read one after the other, and once more backwards`, async (t) => {
    const { read, asked } = otherServer(500, tokenOf);
    const { rows, complete } = await readWholeList({ read, keyOf });
    t.deepEqual(numbersOf(rows), upTo(500));
    t.true(complete);
    const tokens = [undefined, ...[2, 3, 4, 5, 6].map(tokenOf)];
    t.deepEqual(asked, [...tokens, ...tokens.toReversed()]);
  });
}

test('a list with unfamiliar tokens may have as many pages as fleet has offsets', async (t) => {
  const read = async (token = 'page-1'): Promise<Page<Row>> => {
    const page = Number(token.slice('page-'.length));
    return { rows: rowsOf([page]), nextPageToken: page < 65_535 ? `page-${page + 1}` : undefined };
  };
  t.is((await readWholeList({ read, keyOf })).rows.length, 65_535);
});

test('when tokens differ from the expected ones, the received tokens are followed', async (t) => {
  const familiar = server(750);
  const tokenOf = (page: number) => (page < 4 ? pageToken(100, page) : `page-${page}`);
  const other = otherServer(750, tokenOf);
  const read = async (token: string | undefined) =>
    token === undefined || token.startsWith('page-') || token === tokenOf(2) || token === tokenOf(3)
      ? other.read(token)
      : { ...(await familiar.read(token)), nextPageToken: 'page-5' };
  t.deepEqual(numbersOf((await readWholeList({ read, keyOf })).rows), upTo(750));
});

test('a server that does not calculate offsets with 16 bits is read one page after the other', async (t) => {
  const read = async (token: string | undefined): Promise<Page<Row>> => {
    const page = token === undefined ? 1 : Buffer.from(token, 'base64url').readUInt16LE(2);
    const rows = rowsOf(upTo(350)).slice((page - 1) * 100, page * 100);
    return { rows, nextPageToken: rows.length === 100 ? pageToken(100, page + 1) : undefined };
  };
  const { rows, complete } = await readWholeList({ read, keyOf });
  t.deepEqual(numbersOf(rows), upTo(350));
  t.true(complete);
});

for (const [what, numbers] of [
  ['its rows', upTo(350).toSorted((a, b) => ((a * 7) % 350) - ((b * 7) % 350))],
  ['two of its rows', upTo(350).map((number) => (number === 120 ? 121 : number === 121 ? 120 : number))],
] as const)
  test(`a server that does not sort ${what} is read one page after the other, and once more backwards`, async (t) => {
    const asked: (string | undefined)[] = [];
    const read = async (token: string | undefined) => {
      asked.push(token);
      return pageAt(rowsOf(numbers), token, 100);
    };
    const { rows, complete } = await readWholeList({ read, keyOf });
    t.deepEqual(
      numbersOf(rows).toSorted((a, b) => a - b),
      upTo(350),
    );
    t.true(complete);
    const tokens = [undefined, ...[2, 3, 4].map((page) => pageToken(100, page))];
    t.deepEqual(asked.slice(-7), [...tokens.slice(1), ...tokens.toReversed()]);
  });

for (const [what, tokenOf] of [
  ['tokens of fleet', (page: number) => pageToken(100, page)],
  ['tokens of fleet with a power of two rows a page', (page: number) => pageToken(64, page)],
  ['tokens of fleet with one row a page', (page: number) => pageToken(1, page & 0xffff)],
  ['the same unfamiliar token', () => 'again'],
  ['ever new unfamiliar tokens', (page: number) => `page-${page}`],
  ['unfamiliar tokens in a circle', (page: number) => `page-${page % 7}`],
] as const) {
  test(`pages that do not end are refused: ${what}`, async (t) => {
    let page = 1;
    const read = async (): Promise<Page<Row>> => ({ rows: [], nextPageToken: tokenOf(++page) });
    await t.throwsAsync(readWholeList({ read, keyOf }), { code: 'cluster_answer_invalid' });
    t.true(page <= 65_536, `${page}`);
  });
}

for (const limit of [100, 255, 1_000, 1_024]) {
  test(`a list that is longer than the offsets of fleet is refused, not read in part: ${limit} rows a page`, async (t) => {
    const rows = rowsOf(upTo(70_000));
    let reads = 0;
    const read = async (token: string | undefined) => {
      reads++;
      return pageAt(rows, token, limit);
    };
    await t.throwsAsync(readWholeList({ read, keyOf }), { code: 'cluster_answer_invalid' });
    t.true(reads < 800);
  });
}

test('a page past the last loses no rows when it fails, and is not waited for when it hangs', async (t) => {
  const { read } = server(250);
  const windows = new Windows(100);
  const failing = async (token: string | undefined) => {
    if (token === windows.tokenAt(276)) throw new Error('this page failed');
    if (token === windows.tokenAt(368)) return never();
    return read(token);
  };
  t.is((await readWholeList({ read: failing, keyOf })).rows.length, 250);
});

test('a page past the last that fails before the last is known loses no rows', async (t) => {
  const { read } = server(250);
  const windows = new Windows(100);
  const failed = new AbortController();
  const failing = async (token: string | undefined) => {
    if (token === windows.tokenAt(276)) {
      failed.abort();
      throw new Error('this page failed');
    }
    if (token !== undefined && !failed.signal.aborted) await once(failed.signal, 'abort');
    return read(token);
  };
  t.is((await readWholeList({ read: failing, keyOf })).rows.length, 250);
});

test('a page that fails fails the whole list, without waiting for later pages', async (t) => {
  const { read } = server(1_000);
  const windows = new Windows(100);
  const failing = async (token: string | undefined) => {
    if (token === windows.tokenAt(184)) throw new Error('this page failed');
    if (token === windows.tokenAt(368)) return never();
    return read(token);
  };
  await t.throwsAsync(readWholeList({ read: failing, keyOf }), { message: 'this page failed' });
});

test('the first page that fails fails the whole list, and no other page is requested', async (t) => {
  let reads = 0;
  const failing = async () => {
    reads++;
    throw new Error('page 1 failed');
  };
  await t.throwsAsync(readWholeList({ read: failing, keyOf }), { message: 'page 1 failed' });
  t.is(reads, 1);
});

for (const [count, requests] of [
  [100, 2],
  [1_000, 11],
  [5_000, 53],
] as const) {
  test(`${count} rows, as expected, cost ${requests} page requests and none past the last, four at a time from the beginning`, async (t) => {
    const { read, asked, most } = server(count);
    const expected = { limit: 100, rows: count };
    const list = await readWholeList({ read, keyOf, expected });
    t.deepEqual(numbersOf(list.rows), upTo(count));
    t.deepEqual(list.extent, expected);
    t.is(asked.length, requests);
    t.is(most(), Math.min(4, requests));
  });
}

test('a list is whole whatever was expected of it', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.nat({ max: 300 }),
      fc.record({ limit: fc.integer({ min: 1, max: 60 }), rows: fc.nat({ max: 600 }) }),
      fc.array(churn(2), { minLength: 1, maxLength: 20 }),
      async (scheduler, count, expected, changes) => {
        const list = changingList(count, changes);
        const scheduled = scheduler.scheduleFunction(async (token: string | undefined) => {
          const isRefused = typeof readPageToken(token === undefined ? [] : [token], 40) === 'string';
          return isRefused ? undefined : list.page(token, 40);
        });
        const read = async (token: string | undefined) => {
          const page = await scheduled(token);
          if (page === undefined) throw new Error('the server has another limit');
          return page;
        };
        const pending = readWholeList({ read, keyOf, expected });
        await scheduler.waitFor(pending);
        const { rows, complete } = await pending;
        const numbers = new Set(numbersOf(rows));
        t.true(complete);
        t.deepEqual(
          [...list.always].filter((number) => !numbers.has(number)),
          [],
        );
      },
    ),
    { numRuns: 300 },
  );
});

test('of a list that no longer has several pages the expected pages are not awaited', async (t) => {
  const { read: pageOfServer } = server(7);
  const read = async (token: string | undefined) => (token === undefined ? pageOfServer(token) : never());
  const { rows, extent } = await readWholeList({ read, keyOf, expected: { limit: 100, rows: 500 } });
  t.deepEqual(numbersOf(rows), upTo(7));
  t.is(extent, undefined);
});
