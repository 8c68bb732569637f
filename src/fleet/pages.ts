import { ActionError } from '../action-error.js';
import type { Page } from './fleet-answers.js';

/** Pages asked for at once: each makes the server read its whole collection, so more would slow it for everyone. */
const AT_ONCE = 4;

/** fleet counts the offset of a page in 16 bits: beyond it the pages begin again with the first. */
const MAX_OFFSET = 65_535;

/**
 * Reads all pages of a collection. fleet's page token is URL-safe base64 of two little-endian 16-bit numbers, limit
 * and page, so the tokens of later pages are known once the first is; where a token does not look so, one page is
 * read after the other. Ends at the first page that names no next one.
 * @param read reads the page of a token; undefined: the first page
 * @throws ActionError `cluster_answer_invalid` when the pages do not end
 */
export async function readAllPages(read: (token: string | undefined) => Promise<Page>): Promise<unknown[]> {
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

/** The token of a page, counted from 1. */
export function pageToken(limit: number, page: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(limit, 0);
  bytes.writeUInt16LE(page, 2);
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

async function severalAtOnce(limit: number, read: (token: string) => Promise<Page>): Promise<unknown[][]> {
  const pages: unknown[][] = [];
  let next = 2;
  let last = Number.POSITIVE_INFINITY;
  const failures: { page: number; error: unknown }[] = [];
  const reader = async () => {
    while (next <= last && failures.length === 0) {
      const page = next++;
      try {
        if (limit * (page - 1) > MAX_OFFSET) throw endless();
        const { rows, nextPageToken } = await read(pageToken(limit, page));
        pages[page - 2] = rows;
        if (nextPageToken === undefined) last = Math.min(last, page);
      } catch (error) {
        failures.push({ page, error });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, reader));
  // A page past the last was asked for in vain: that it failed takes nothing away.
  const missed = failures.find(({ page }) => page <= last);
  if (missed !== undefined) throw missed.error;
  return pages.slice(0, last - 1);
}

async function oneAfterAnother(token: string, read: (token: string) => Promise<Page>): Promise<unknown[][]> {
  const pages: unknown[][] = [];
  const seen = new Set<string>();
  for (let next: string | undefined = token; next !== undefined; ) {
    if (seen.has(next) || seen.size > MAX_OFFSET) throw endless();
    seen.add(next);
    const page: Page = await read(next);
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
