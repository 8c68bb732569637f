import type { RowList } from '../../api/row-list.js';

/** A list whose rows are encoded. */
export class EncodedRows {
  readonly #list: RowList<unknown>;
  /** The rows in the encoding, one after the other with what separates them. */
  readonly pieces: readonly Buffer[];

  constructor(list: RowList<unknown>, pieces: readonly Buffer[]) {
    this.#list = list;
    this.pieces = pieces;
  }

  get length(): number {
    return this.#list.length;
  }

  /** The rows as plain values. */
  toJSON(): unknown[] {
    return this.#list.toJSON();
  }
}
