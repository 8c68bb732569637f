import { ActionError } from '../../api/action-error.js';
import type { Page } from './fleet-responses.js';
import { type KeyGap, KeyCoverage, type KeyRange } from './key-coverage.js';
import { limitOf, Windows } from './page-token.js';

/** Number of concurrent page requests. Kept low, because for each page the server reads the whole collection. */
const CONCURRENT_PAGES = 4;
/** The largest offset and the largest page number: both have 16 bits. */
const MAX_OFFSET = 65_535;

export interface WholeList<Row> {
  /** Each key once. */
  rows: Row[];
  /** Whether every row that existed during the whole time is in `rows`; false when the list changed too fast. */
  complete: boolean;
  /** What to expect of the list the next time, if its pages overlap. */
  extent?: ListExtent;
}

/** How long a list was. */
export interface ListExtent {
  /** The number of rows of a page. */
  limit: number;
  rows: number;
}

export interface ListReader<Row> {
  /** Reads the page with this token; undefined for the first page. */
  read: (token: string | undefined) => Promise<Page<Row>>;
  /** The text by which the server sorts the rows. */
  keyOf: (row: Row) => string;
  /**
   * How long the list was before: its pages are then read at once, and not one page after the end. Only how many pages are read depends on
   * it, not what is in the list.
   */
  expected?: ListExtent;
}

/**
 * Reads a list of fleet's API that may change meanwhile: every row that exists during the whole time is in the result.
 *
 * fleet's pages are no snapshot: a row that is removed shifts all later rows, and the first row of a later page moves to
 * a page that may have been read already. But fleet sorts its lists, and one page is a snapshot. So a page shows all rows
 * between its first and its last key, and a list is complete when these ranges leave no gap. For that the pages overlap;
 * where neighbours have no row in common, because rows between them were removed, the rows around the gap are read again.
 * That costs at most 16 further pages, and two for each page of the list.
 *
 * Requests for pages after the last one may still be pending at the end.
 * @throws ActionError `cluster_answer_invalid` when the pages do not end
 */
export async function readWholeList<Row>(reader: ListReader<Row>): Promise<WholeList<Row>> {
  const { read, keyOf, expected } = reader;
  const expectedPages = expected && pagesOf(expected.limit, read, expected.rows);
  const first = await (expectedPages?.page(0) ?? read(undefined));
  if (first.nextPageToken === undefined) return { rows: unique(first.rows, keyOf), complete: true };
  const limit = limitOf(first.nextPageToken);
  const pages = limit === expected?.limit ? expectedPages : pagesOf(limit, read);
  const list = pages && (await new OverlappingRead(pages, reader).rows(first));
  return list ?? readTwice({ first, second: first.nextPageToken, limit }, reader);
}

/** One window, as it was read. */
interface ReadWindow {
  offset: number;
  rows: number;
  /** The keys of which it shows all rows; undefined when it is after the end of the list. */
  range: KeyRange | undefined;
}

/** The server does not sort its rows, or does not calculate offsets as fleet does. */
class NotAsInFleet extends Error {
  override readonly name = 'NotAsInFleet';
}

class OverlappingRead<Row> {
  readonly #windows: Windows;
  readonly #pages: PagesAhead<Row>;
  readonly #reader: ListReader<Row>;
  readonly #coverage = new KeyCoverage();
  readonly #rows = new Map<string, Row>();
  /** The latest last. */
  readonly #read: ReadWindow[] = [];

  constructor(pages: PagesAhead<Row>, reader: ListReader<Row>) {
    this.#windows = pages.windows;
    this.#pages = pages;
    this.#reader = reader;
  }

  /** @returns undefined when the server does not behave as fleet does */
  async rows(first: Page<Row>): Promise<WholeList<Row> | undefined> {
    try {
      this.#add(0, first);
      let index = 0;
      for (let page = first; page.nextPageToken !== undefined; ) {
        page = await this.#pages.page(++index);
        if (index === 1 && page.rows.length === 0) await this.#checkShrunk();
        this.#add(this.#windows.offsetOf(index), page);
      }
      await this.#closeGaps(16 + 2 * index);
    } catch (error) {
      if (error instanceof NotAsInFleet) return undefined;
      throw error;
    }
    const { keyOf } = this.#reader;
    const rows = [...this.#rows.values()].toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
    const extent = { limit: this.#windows.limit, rows: rows.length };
    return { rows, complete: this.#coverage.gaps().length === 0, extent };
  }

  /** A window that overlaps a full first page is empty only when the list has become shorter than a page since. */
  async #checkShrunk(): Promise<void> {
    const first = await this.#reader.read(undefined);
    if (first.nextPageToken !== undefined) throw new NotAsInFleet();
    this.#add(0, first);
  }

  /** @param most how many windows may be read for that */
  async #closeGaps(most: number): Promise<void> {
    let left = most;
    const mayRead = () => left-- > 0;
    const gaps = this.#coverage.gaps().values();
    const closer = async () => {
      for (const gap of gaps) await this.#close(gap, mayRead);
    };
    await Promise.all(Array.from({ length: CONCURRENT_PAGES }, closer));
  }

  /** Reads windows around a gap until it is closed, or too many have been read. */
  async #close(gap: KeyGap, mayRead: () => boolean): Promise<void> {
    let nearest = this.#read.findLast(
      ({ range }) => range !== undefined && (range.to === gap.after || range.from === gap.before),
    );
    for (;;) {
      const open = this.#coverage.gaps().find((each) => isWithin(each, gap));
      if (open === undefined || nearest === undefined || !mayRead()) return;
      // With the estimated position of the gap in its middle, the window meets it also when rows have moved.
      const offset = this.#windows.align(positionOf(open, nearest) - this.#windows.limit / 2);
      nearest = this.#add(offset, await readWindow(this.#windows, offset, this.#reader.read));
    }
  }

  #add(offset: number, { rows, nextPageToken }: Page<Row>): ReadWindow {
    const keys = rows.map((row) => this.#reader.keyOf(row));
    if (keys.some((key, index) => key < (keys[index - 1] ?? ''))) throw new NotAsInFleet();
    for (const [index, row] of rows.entries()) this.#rows.set(keys[index] ?? '', row);
    const isLast = nextPageToken === undefined;
    const from = offset === 0 ? '' : keys[0];
    const range = from === undefined ? undefined : { from, to: isLast ? undefined : keys.at(-1) };
    if (range !== undefined) this.#coverage.add(range);
    const window = { offset, rows: rows.length, range };
    this.#read.push(window);
    return window;
  }
}

function isWithin(inner: KeyGap, outer: KeyGap): boolean {
  const endsWithin =
    outer.before === undefined || (inner.before !== undefined && inner.before <= outer.before);
  return inner.after >= outer.after && endsWithin;
}

/** The offset at which the side of the gap that is next to this window was: the window's beginning, or its end. */
function positionOf(gap: KeyGap, { offset, rows, range }: ReadWindow): number {
  const isAfterGap = range === undefined || (gap.before !== undefined && range.from >= gap.before);
  return isAfterGap ? offset : offset + rows;
}

async function readWindow<Row>(
  windows: Windows,
  offset: number,
  read: ListReader<Row>['read'],
): Promise<Page<Row>> {
  if (!windows.reaches(offset)) throw tooManyPages();
  const page = await read(windows.tokenAt(offset));
  const { nextPageToken } = page;
  if (nextPageToken !== undefined && nextPageToken !== windows.tokenAfter(offset)) throw new NotAsInFleet();
  return page;
}

/**
 * The pages of a list whose pages can overlap; undefined for another one.
 * @param rows how long the list is expected to be, if that is known
 */
function pagesOf<Row>(
  limit: number | undefined,
  read: ListReader<Row>['read'],
  rows?: number,
): PagesAhead<Row> | undefined {
  const windows = limit === undefined ? undefined : new Windows(limit, rows);
  return windows === undefined || windows.stride === 0 ? undefined : new PagesAhead(windows, read, rows);
}

/** The windows of a list, of which several are read at a time. */
class PagesAhead<Row> {
  readonly windows: Windows;
  readonly #read: ListReader<Row>['read'];
  /** How many windows are read before it is known whether there are more. */
  readonly #expected: number;
  readonly #requested: Promise<Page<Row>>[] = [];

  /** @param rows how long the list is expected to be; undefined: windows after its end may be read too */
  constructor(windows: Windows, read: ListReader<Row>['read'], rows?: number) {
    this.windows = windows;
    this.#read = read;
    this.#expected = rows === undefined ? Infinity : windows.countOf(rows);
  }

  /**
   * The window with this index. Ask for them in order, so that those after the last one, or after a failed one, are not awaited.
   */
  page(index: number): Promise<Page<Row>> {
    const page = this.#request(index);
    // Errors are handled when the page is awaited; those of pages after the last one are ignored.
    for (let next = index + 1; next < Math.min(index + CONCURRENT_PAGES, this.#expected); next++)
      this.#request(next).catch(() => {});
    return page;
  }

  #request(index: number): Promise<Page<Row>> {
    // fleet's first page tells the limit, which is not known before.
    return (this.#requested[index] ??=
      index === 0
        ? this.#read(undefined)
        : readWindow(this.windows, this.windows.offsetOf(index), this.#read));
  }
}

/**
 * Reads a list whose pages cannot overlap, because their size is a power of two or the server is not fleet: the pages in
 * order, and once more from the last to the first. A row that a removal shifted to an earlier page is on a page that is
 * read later, and an insertion shifts rows to pages that the first pass reads later. Only where both happened can a row
 * be lost; then the passes differ.
 */
async function readTwice<Row>(
  { first, second, limit = 1 }: { first: Page<Row>; second: string; limit: number | undefined },
  { read, keyOf }: ListReader<Row>,
): Promise<WholeList<Row>> {
  const tokens = new Set<string>();
  // Not by `push(...rows)`: a page of a server that is not fleet may have more rows than a call has arguments.
  const forward = [first.rows];
  for (let token: string | undefined = second; token !== undefined; ) {
    tokens.add(token);
    const page: Page<Row> = await read(token);
    forward.push(page.rows);
    token = page.nextPageToken;
    // fleet cannot answer a page whose end overflows, and the pages after it would start again with the first.
    if (token !== undefined && (tokens.has(token) || limit * (tokens.size + 2) > MAX_OFFSET))
      throw tooManyPages();
  }
  const backward: Row[][] = [];
  for (const token of [undefined, ...tokens].toReversed()) backward.push((await read(token)).rows);
  const [before, after] = [new Set(forward.flat().map(keyOf)), new Set(backward.flat().map(keyOf))];
  return { rows: unique([...forward, ...backward].flat(), keyOf), complete: isSame(before, after) };
}

function unique<Row>(rows: readonly Row[], keyOf: (row: Row) => string): Row[] {
  return [...new Map(rows.map((row) => [keyOf(row), row])).values()];
}

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((key) => b.has(key));
}

function tooManyPages(): ActionError {
  return new ActionError(
    'cluster_answer_invalid',
    "The cluster's list is too long for fleet's pages, whose offsets have 16 bits",
  );
}
