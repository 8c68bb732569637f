import { setImmediate as nextTurn } from 'node:timers/promises';

/** Some rows of a list. */
export interface RowPart {
  /** The JSON of the rows, in UTF-8, separated by commas. */
  readonly json: Buffer;
  /** At least 1. */
  readonly rows: number;
}

/**
 * A long list for a result. Its rows stay the JSON that is sent, in several parts: they take much less memory than objects, and are neither
 * checked nor encoded again when the action ends, which would block the event loop.
 */
export class RowList<Row> {
  /** In the order of the list. */
  readonly parts: readonly RowPart[];
  readonly length: number;

  constructor(parts: readonly RowPart[]) {
    this.parts = parts;
    this.length = parts.reduce((sum, { rows }) => sum + rows, 0);
  }

  /** The rows as objects, new ones each time, part by part, each in its own turn of the event loop. */
  async *partsOfRows(): AsyncGenerator<Row[]> {
    for await (const { json } of this.#partsInTurns()) yield rowsIn(json);
  }

  /** The rows as objects, new ones each time. */
  async toArray(): Promise<Row[]> {
    const parts: Row[][] = [];
    for await (const rows of this.partsOfRows()) parts.push(rows);
    return parts.flat();
  }

  /** The list of the rows that `keeps` accepts. */
  async filter(keeps: (row: Row) => boolean): Promise<RowList<Row>> {
    const parts: RowPart[] = [];
    for await (const part of this.#partsInTurns()) {
      const kept = rowsIn<Row>(part.json).filter(keeps);
      if (kept.length === part.rows) parts.push(part);
      else if (kept.length > 0) parts.push(partOf(kept.map((row) => JSON.stringify(row))));
    }
    return new RowList(parts);
  }

  async *#partsInTurns(): AsyncGenerator<RowPart> {
    for (const [index, part] of this.parts.entries()) {
      if (index > 0) await nextTurn();
      yield part;
    }
  }

  toJSON(): Row[] {
    return this.parts.flatMap(({ json }) => rowsIn<Row>(json));
  }
}

/** @param texts the JSON of each row */
export function partOf(texts: readonly string[]): RowPart {
  return { json: Buffer.from(texts.join(',')), rows: texts.length };
}

/** The value itself, or the rows of a list as objects. */
export function withoutRowList(value: unknown): unknown {
  return value instanceof RowList ? value.toJSON() : value;
}

function rowsIn<Row>(json: Buffer): Row[] {
  return JSON.parse(`[${json.toString()}]`);
}
