/** fleet calculates the token's numbers and offsets with 16 bits. */
const UINT16_VALUES = 0x10000;

/**
 * A page token of fleet: URL-safe base64 of two little-endian 16-bit numbers, limit and page (fleet, api/pagination.go).
 * fleet refuses a limit other than its own, so a client cannot ask for larger pages.
 * @param page counted from 1
 */
export function pageToken(limit: number, page: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(limit, 0);
  bytes.writeUInt16LE(page, 2);
  return bytes.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
}

/** The number of rows on a page, by the token of the second page; undefined when the token has another form. */
export function limitOf(token: string): number | undefined {
  const bytes = Buffer.from(token, 'base64url');
  if (bytes.length !== 4 || pageToken(bytes.readUInt16LE(0), 2) !== token) return undefined;
  return bytes.readUInt16LE(0) || undefined;
}

/**
 * Windows of a list: pages that need not begin at a multiple of the page size, so that they can overlap.
 *
 * fleet's offset of a page is (page - 1) * limit with 16 bits (fleet, api/units.go). Because it overflows, there is a
 * page for every offset that is a multiple of the largest power of two that divides the limit: at 100 rows a page, of
 * four.
 */
export class Windows {
  readonly limit: number;
  /** Every offset is a multiple of this. */
  readonly #unit: number;
  /** The inverse of the limit's odd factor, modulo 2^16. */
  readonly #inverse: number;
  /** The number of rows from the beginning of one window to that of the next; 0: windows cannot overlap. */
  readonly stride: number;

  /** @param expected about how many rows the list has, if that is known */
  constructor(limit: number, expected?: number) {
    this.limit = limit;
    this.#unit = limit & -limit;
    this.#inverse = inverseOf(limit / this.#unit);
    // About a sixteenth of a page: each row of it absorbs one removal between the reading of two neighbours.
    const usual = limit - this.#unit * Math.ceil(limit / 16 / this.#unit);
    const least = limit - this.#unit;
    const saves = expected !== undefined && countOf(expected, limit, least) < countOf(expected, limit, usual);
    this.stride = saves ? least : usual;
  }

  /** How many windows show a list of this many rows. */
  countOf(rows: number): number {
    return countOf(rows, this.limit, this.stride);
  }

  /** Where the window with this index begins, when they are read one after the other. */
  offsetOf(index: number): number {
    return index * this.stride;
  }

  /** The largest allowed offset at or before this one. */
  align(offset: number): number {
    const aligned = Math.floor(offset / this.#unit) * this.#unit;
    return Math.max(0, aligned);
  }

  /** Whether a window at this offset ends before fleet's offsets overflow. */
  reaches(offset: number): boolean {
    return offset + this.limit < UINT16_VALUES;
  }

  /** @param offset aligned */
  tokenAt(offset: number): string {
    return pageToken(this.limit, this.#pageAt(offset));
  }

  /** The token that fleet gives for the page after the window at this offset. */
  tokenAfter(offset: number): string {
    return pageToken(this.limit, (this.#pageAt(offset) + 1) % UINT16_VALUES);
  }

  #pageAt(offset: number): number {
    return 1 + (((offset / this.#unit) * this.#inverse) % (UINT16_VALUES / this.#unit));
  }
}

/** The last window has room for a further row: nothing else shows that the list ends there. */
function countOf(rows: number, limit: number, stride: number): number {
  return rows < limit ? 1 : 2 + Math.floor((rows - limit) / stride);
}

/** The inverse of an odd number modulo 2^16, by Newton's iteration, which doubles the number of right bits. */
function inverseOf(odd: number): number {
  let inverse = odd;
  while ((odd * inverse) % UINT16_VALUES !== 1) {
    inverse = (((inverse * (2 - odd * inverse)) % UINT16_VALUES) + UINT16_VALUES) % UINT16_VALUES;
  }
  return inverse;
}
