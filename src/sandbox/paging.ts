/** fleetd's default for `token_limit`. */
export const PAGE_SIZE = 100;

const UINT16_VALUES = 0x10000;

interface PageToken {
  limit: number;
  page: number;
}

/**
 * The page token of a request, or fleet's error message (fleet, api/pagination.go).
 * @param values the values of `nextPageToken` in the query; without a value, the first page is requested
 */
export function readPageToken(values: readonly string[], pageSize: number): PageToken | string {
  const [value] = values;
  if (value === undefined) return { limit: pageSize, page: 1 };
  if (values.length > 1) return 'too many values for page token';
  if (!/^([\w-]{4})*([\w-]{2}==|[\w-]{3}=)?$/.test(value)) return 'illegal base64 data';
  const bytes = Buffer.from(value, 'base64url');
  if (bytes.length < 4) return bytes.length === 0 ? 'EOF' : 'unexpected EOF';
  const token = { limit: bytes.readUInt16LE(0), page: bytes.readUInt16LE(2) };
  if (token.limit !== pageSize) return `token limit must be ${pageSize}`;
  if (token.page === 0) return 'token page must be greater than zero';
  return token;
}

/**
 * One page, and the token of the next. As in fleet, a full last page still has a next token, and offsets are uint16, so
 * that they overflow and start again at a low offset. `panic`: the page's end overflows but not its beginning, and fleet's
 * handler panics.
 */
export function pageOf<T>(
  all: readonly T[],
  { limit, page }: PageToken,
): { items: readonly T[]; nextPageToken: string } | 'panic' {
  const start = ((page - 1) * limit) % UINT16_VALUES;
  const stop = (page * limit) % UINT16_VALUES;
  if (start >= all.length) return { items: [], nextPageToken: '' };
  if (stop > all.length) return { items: all.slice(start), nextPageToken: '' };
  if (stop < start) return 'panic';
  return {
    items: all.slice(start, stop),
    nextPageToken: encode({ limit, page: (page + 1) % UINT16_VALUES }),
  };
}

function encode({ limit, page }: PageToken): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(limit, 0);
  bytes.writeUInt16LE(page, 2);
  // Not 'base64url', which leaves out the padding that fleet writes.
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}
