import { type RowPart, RowList } from '../../api/row-list.js';

/** A row of a page, as JSON, so that a long list takes little memory while it is read. */
export interface StoredRow {
  /** The text by which the server sorts the rows. */
  readonly key: string;
  /** The JSON of all rows of the page, separated by commas. */
  readonly page: Buffer;
  /** Where the row is in it. */
  readonly from: number;
  readonly to: number;
}

/** Stores the rows of a page. */
export function storedRows<Row>(rows: readonly Row[], keyOf: (row: Row) => string): StoredRow[] {
  const texts = rows.map((row) => JSON.stringify(row));
  const page = Buffer.from(texts.join(','));
  let from = 0;
  return rows.map((row, index) => {
    const to = from + Buffer.byteLength(texts[index] ?? '');
    const stored = { key: keyOf(row), page, from, to };
    from = to + 1;
    return stored;
  });
}

/** The list of these rows. Rows that are neighbours in their page too are one part of it. */
export function rowListOf<Row>(rows: readonly StoredRow[]): RowList<Row> {
  const parts: RowPart[] = [];
  for (let first = 0, next = 0; first < rows.length; first = next) {
    while (next < rows.length && (next === first || follows(rows[next], rows[next - 1]))) next++;
    const [begin, end] = [rows[first], rows[next - 1]];
    if (begin !== undefined && end !== undefined)
      parts.push({ json: begin.page.subarray(begin.from, end.to), rows: next - first });
  }
  return new RowList(parts);
}

function follows(row: StoredRow | undefined, before: StoredRow | undefined): boolean {
  return row !== undefined && before !== undefined && row.page === before.page && row.from === before.to + 1;
}
