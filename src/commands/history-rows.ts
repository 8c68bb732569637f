import type { ReadLine } from '../access/audit/audit-line.js';
import { namedColumns } from './named-columns.js';
import { cellText, type Column, GrowingTable, type TableStyle } from './table/table.js';

interface HistoryColumn extends Column {
  text: (row: Row) => string;
}

interface Row {
  time: string;
  outcome: string;
  line: ReadLine;
}

const COLUMNS: readonly HistoryColumn[] = [
  { title: 'TIME', text: ({ time }) => time.replace(/\.\d+Z$/, 'Z') },
  { title: 'OUTCOME', isState: true, text: ({ outcome }) => outcome },
  {
    title: 'ACTION',
    text: ({ line: { action, work } }) => textOf(action) + (work === 'probe' ? ' (probe)' : ''),
  },
  { title: 'CLUSTER', text: ({ line: { cluster, cluster_name: name } }) => textOf(name ?? cluster ?? '') },
  {
    title: 'CALLER',
    text: ({ line: { caller, verified_by: voucher } }) =>
      voucher === undefined ? `(${textOf(caller)})` : textOf(caller),
  },
  { title: 'TOOK', isNumber: true, text: ({ line }) => tookText(line.took_ms) },
  {
    title: 'UNITS',
    text: ({ line: { units } }) => (Array.isArray(units) ? units.map(textOf).join(' ') : ''),
  },
];
/** The widths are those of so many rows; later ones may change them. */
const MOST_HELD = 500;

export interface HistoryRowsOptions {
  /** Whether a begin is shown before its end has come, and each row at once. */
  follow?: boolean;
  style: TableStyle & {
    /** The titles of the columns to show; undefined: all. */
    columns?: readonly string[] | undefined;
  };
}

/** Rows for people: one for each run, with its begin and its end. */
export class HistoryRows {
  readonly #follow: boolean;
  /** The first lines of runs whose end has not come. */
  readonly #begun = new Map<string, ReadLine>();
  readonly #columns: readonly HistoryColumn[];
  readonly #table: GrowingTable;

  /** @throws UsageError for a column that there is not */
  constructor({ follow = false, style }: HistoryRowsOptions) {
    this.#follow = follow;
    this.#columns = namedColumns(COLUMNS, style.columns);
    this.#table = new GrowingTable(this.#columns, style, follow ? 1 : MOST_HELD);
  }

  /** @returns the text for a line; empty when it waits for the end of its run, or for other rows */
  of(line: ReadLine): string {
    if (line.event === 'gap')
      return `${this.#table.rest()}-- ${textOf(line.lines)} lines of the worker ${textOf(line.worker)} are lost here\n`;
    if (line.event !== 'begun') {
      const begun = this.#begun.get(line.id);
      this.#begun.delete(line.id);
      return this.#row({ time: begun?.time ?? line.time, outcome: outcomeOf(line), line });
    }
    if (this.#follow) return this.#row({ time: line.time, outcome: 'begun', line });
    this.#begun.set(line.id, line);
    return '';
  }

  /** @returns the text for the rows that wait, and for the runs whose end has not come: they run, or their worker was lost */
  rest(): string {
    const rows = [...this.#begun.values()].map((line) =>
      this.#row({ time: line.time, outcome: 'no end so far', line }),
    );
    this.#begun.clear();
    return rows.join('') + this.#table.rest();
  }

  #row(row: Row): string {
    return this.#table.add(this.#columns.map(({ text }) => text(row)));
  }
}

function outcomeOf({ event, outcome, reply }: ReadLine): string {
  if (event === 'denied') return 'denied';
  if (event === 'reused') return `reused, ${textOf(outcome)}`;
  return reply === undefined || reply === 'sent' ? textOf(outcome) : `${textOf(outcome)}, ${textOf(reply)}`;
}

function tookText(ms: unknown): string {
  if (typeof ms !== 'number') return '';
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

function textOf(value: unknown): string {
  return cellText(String(value));
}
