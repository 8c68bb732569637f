import { ActionError } from '../../api/action-error.js';
import type { Page } from './fleet-answers.js';

/** Pages asked for at once: each makes the server read its whole collection, so more would slow it for everyone. */
const AT_ONCE = 4;

/** fleet counts the offset of a page in 16 bits: beyond it the pages begin again with the first. */
const MAX_OFFSET = 65_535;

/**
 * Reads all pages of a collection. fleet's page token is URL-safe base64 of two little-endian 16-bit numbers, limit
 * and page, so the tokens of later pages are known once the first is; where a token does not look so, one page is
 * read after the other. Ends at the first page that names no next one; pages that were asked for past it may then still
 * be under way.
 * @param read reads the page of a token; undefined: the first page
 * @throws ActionError `cluster_answer_invalid` when the pages do not end
 */
export async function readAllPages<Row>(
  read: (token: string | undefined) => Promise<Page<Row>>,
): Promise<Row[]> {
  const first = await read(undefined);
  if (first.nextPageToken === undefined) return first.rows;
  const limit = limitOf(first.nextPageToken);
  const later =
    limit === undefined ? await oneAfterAnother(first.nextPageToken, read) : await severalAtOnce(limit, read);
  return [first.rows, ...later].flat();
}

/** The page size that the token of the second page bears; undefined when it does not look like such a token. */
function limitOf(token: string): number | undefined {
  const bytes = Buffer.from(token, 'base64url');
  if (bytes.length !== 4 || pageToken(bytes.readUInt16LE(0), 2) !== token) return undefined;
  return bytes.readUInt16LE(0) || undefined;
}

/** The token of a page, counted from 1; like fleet's, it begins again after page 65535. */
export function pageToken(limit: number, page: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(limit, 0);
  bytes.writeUInt16LE(page & 0xffff, 2);
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

async function severalAtOnce<Row>(
  limit: number,
  read: (token: string) => Promise<Page<Row>>,
): Promise<Row[][]> {
  const pages: Row[][] = [];
  const asked: Promise<Page<Row>>[] = [];
  const start = async (page: number): Promise<Page<Row>> => {
    if (limit * (page - 1) > MAX_OFFSET || page > MAX_OFFSET) throw endless();
    return read(pageToken(limit, page));
  };
  const ask = (page: number): Promise<Page<Row>> => (asked[page - 2] ??= start(page));
  for (let page = 2; ; page++) {
    // A page past the last was asked for in vain: that it failed takes nothing away.
    for (let ahead = page; ahead < page + AT_ONCE; ahead++) ask(ahead).catch(() => {});
    // Taken in order, so that what comes after the last page, or after one that failed, is not waited for.
    const { rows, nextPageToken } = await ask(page);
    pages.push(rows);
    if (nextPageToken === undefined) return pages;
    if (nextPageToken !== pageToken(limit, page + 1)) {
      return [...pages, ...(await oneAfterAnother(nextPageToken, read))];
    }
  }
}

async function oneAfterAnother<Row>(
  token: string,
  read: (token: string) => Promise<Page<Row>>,
): Promise<Row[][]> {
  const pages: Row[][] = [];
  const seen = new Set<string>();
  for (let next: string | undefined = token; next !== undefined; ) {
    if (seen.has(next) || seen.size > MAX_OFFSET) throw endless();
    seen.add(next);
    const page: Page<Row> = await read(next);
    pages.push(page.rows);
    next = page.nextPageToken;
  }
  return pages;
}

function endless(): ActionError {
  return new ActionError(
    'cluster_answer_invalid',
    `The cluster lists more than fleet's pages can tell apart (an offset of at most ${MAX_OFFSET})`,
  );
}
