import { ActionError } from '../../api/action-error.js';
import type { Page } from './fleet-answers.js';

/** Pages requested at the same time: for each one the server reads its whole collection, so more would slow it down. */
const AT_ONCE = 4;

/** fleet counts the offset of a page in 16 bits: beyond it, the pages start again with the first. */
const MAX_OFFSET = 65_535;

/**
 * Reads all pages of a collection. fleet's page token is URL-safe base64 of two little-endian 16-bit numbers, limit
 * and page, so the tokens of later pages are known after the first; where a token has another form, the pages are read
 * one after the other. Ends at the first page without a next token; pages that were requested beyond it may still be
 * in progress.
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

/** The page size in the token of the second page; undefined when the token has another form. */
function limitOf(token: string): number | undefined {
  const bytes = Buffer.from(token, 'base64url');
  if (bytes.length !== 4 || pageToken(bytes.readUInt16LE(0), 2) !== token) return undefined;
  return bytes.readUInt16LE(0) || undefined;
}

/** The token of a page, counted from 1; like fleet's, it starts again after page 65535. */
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
    // A page beyond the last was not needed, so its failure does not matter.
    for (let ahead = page; ahead < page + AT_ONCE; ahead++) ask(ahead).catch(() => {});
    // In order, so that pages after the last one, or after a failed one, are not waited for.
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
    `The cluster lists more than fleet's pages can address (an offset of at most ${MAX_OFFSET})`,
  );
}
