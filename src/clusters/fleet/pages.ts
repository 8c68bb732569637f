import { ActionError } from '../../api/action-error.js';
import type { Page } from './fleet-responses.js';

/** Number of concurrent page requests. Kept low, because for each page the server reads the whole collection. */
const CONCURRENT_PAGES = 4;

/** fleet stores the offset of a page in 16 bits: after an overflow the pages start again with the first. */
const MAX_OFFSET = 65_535;

/**
 * Reads all pages of a collection. fleet's page token is URL-safe base64 of two little-endian 16-bit numbers, limit
 * and page, so the tokens of later pages can be computed, and several pages are read at the same time. If a token has
 * another form, pages are read one after the other. Ends at the first page without a token for the next; requests for
 * pages after it may still be pending then.
 * @param read reads the page with this token; undefined for the first page
 * @throws ActionError `cluster_answer_invalid` when the pages do not end
 */
export async function readAllPages<Row>(
  read: (token: string | undefined) => Promise<Page<Row>>,
): Promise<Row[]> {
  const first = await read(undefined);
  if (first.nextPageToken === undefined) return first.rows;
  const limit = limitOf(first.nextPageToken);
  const later =
    limit === undefined ? await readInSequence(first.nextPageToken, read) : await readAhead(limit, read);
  return [first.rows, ...later].flat();
}

/** The page size in the token of the second page; undefined when the token has another form. */
function limitOf(token: string): number | undefined {
  const bytes = Buffer.from(token, 'base64url');
  if (bytes.length !== 4 || pageToken(bytes.readUInt16LE(0), 2) !== token) return undefined;
  return bytes.readUInt16LE(0) || undefined;
}

/** The token of a page, counted from 1; as in fleet, the page number overflows after 65535. */
export function pageToken(limit: number, page: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(limit, 0);
  bytes.writeUInt16LE(page & 0xffff, 2);
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

async function readAhead<Row>(limit: number, read: (token: string) => Promise<Page<Row>>): Promise<Row[][]> {
  const pages: Row[][] = [];
  const requested: Promise<Page<Row>>[] = [];
  const start = async (page: number): Promise<Page<Row>> => {
    if (limit * (page - 1) > MAX_OFFSET || page > MAX_OFFSET) throw tooManyPages();
    return read(pageToken(limit, page));
  };
  const request = (page: number): Promise<Page<Row>> => (requested[page - 2] ??= start(page));
  for (let page = 2; ; page++) {
    // Errors are handled when the page is awaited; those of pages after the last one are ignored.
    for (let ahead = page; ahead < page + CONCURRENT_PAGES; ahead++) request(ahead).catch(() => {});
    // In order, so that pages after the last one, or after a failed one, are not awaited.
    const { rows, nextPageToken } = await request(page);
    pages.push(rows);
    if (nextPageToken === undefined) return pages;
    if (nextPageToken !== pageToken(limit, page + 1)) {
      return [...pages, ...(await readInSequence(nextPageToken, read))];
    }
  }
}

async function readInSequence<Row>(
  token: string,
  read: (token: string) => Promise<Page<Row>>,
): Promise<Row[][]> {
  const pages: Row[][] = [];
  const seen = new Set<string>();
  for (let next: string | undefined = token; next !== undefined; ) {
    if (seen.has(next) || seen.size > MAX_OFFSET) throw tooManyPages();
    seen.add(next);
    const page: Page<Row> = await read(next);
    pages.push(page.rows);
    next = page.nextPageToken;
  }
  return pages;
}

function tooManyPages(): ActionError {
  return new ActionError(
    'cluster_answer_invalid',
    `The cluster's list is too long for fleet's pages (the maximum offset is ${MAX_OFFSET})`,
  );
}
