import { printable } from '../../lib/printable.js';
import type { Terminal } from './terminal.js';
import { cutTo, widthOf } from './text-width.js';
import { painted, type Tone, toneOf } from './tone.js';

export interface Column {
  title: string;
  /** Its cells are states, which have a colour. */
  isState?: boolean;
  /** Its cells end at the same place. */
  isNumber?: boolean;
}

/** How a table is printed. */
export interface TableStyle extends Pick<Terminal, 'width' | 'colours'> {
  headers: boolean;
}

const GAP = '  ';
/** A column that is cut keeps at least so much. */
const MIN_WIDTH = 6;

/** A text as one line that cannot control a terminal. */
export function cellText(text: string): string {
  return printable(text.replace(/[\n\r\t]+/g, ' ').trimEnd());
}

/** Whether the terminal has room for something of each column. */
export function hasRoom(columns: number, { width }: Pick<TableStyle, 'width'>): boolean {
  return width === undefined || columns * (MIN_WIDTH + GAP.length) <= width + GAP.length;
}

/** The table printer of all commands: as wide as its cells, and never wider than the terminal. @param rows one text for each column */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  style: TableStyle,
): string {
  const cells = rows.map((row) => columns.map((_, index) => shown(row[index])));
  const widths = fitted(columns, naturalWidths(columns, cells, style), style);
  return linesOf(columns, cells, { ...style, widths, header: style.headers });
}

/** A table whose rows come one by one: its columns get wider when a row needs it. */
export class GrowingTable {
  readonly #columns: readonly Column[];
  readonly #style: TableStyle;
  readonly #held: string[][] = [];
  readonly #mostHeld: number;
  #widths: number[] | undefined;

  /** @param mostHeld how many rows are awaited before the first widths are chosen */
  constructor(columns: readonly Column[], style: TableStyle, mostHeld: number) {
    this.#columns = columns;
    this.#style = style;
    this.#mostHeld = mostHeld;
  }

  /** @returns the text to print; empty while rows are held */
  add(row: readonly string[]): string {
    this.#held.push(this.#columns.map((_, index) => shown(row[index])));
    return this.#held.length >= this.#mostHeld || this.#widths !== undefined ? this.rest() : '';
  }

  /** @returns the text of the rows that are held */
  rest(): string {
    const cells = this.#held.splice(0);
    if (cells.length === 0) return '';
    const header = this.#widths === undefined && this.#style.headers;
    const natural = naturalWidths(this.#columns, cells, this.#style);
    this.#widths = natural.map((width, index) => Math.max(width, this.#widths?.[index] ?? 0));
    const widths = fitted(this.#columns, this.#widths, this.#style);
    return linesOf(this.#columns, cells, { ...this.#style, widths, header });
  }
}

function shown(text: string | undefined): string {
  const cell = cellText(text ?? '');
  return cell === '' ? '-' : cell;
}

function naturalWidths(
  columns: readonly Column[],
  cells: readonly (readonly string[])[],
  { headers }: TableStyle,
): number[] {
  return columns.map(({ title }, index) =>
    cells.reduce(
      (most, row) => Math.max(most, widthOf(row[index] ?? '')),
      headers ? widthOf(cellText(title)) : 0,
    ),
  );
}

/** Takes from the widest columns what the terminal has not: last from the first column, which names the row, and before from states. */
function fitted(
  columns: readonly Column[],
  natural: readonly number[],
  { width }: Pick<TableStyle, 'width'>,
): number[] {
  if (width === undefined) return [...natural];
  const space = Math.max(natural.length, width - GAP.length * (natural.length - 1));
  const isState = (index: number) => columns[index]?.isState === true;
  return (
    fittedAround((index) => index === 0 || isState(index), natural, space) ??
    fittedAround((index) => index === 0, natural, space) ??
    capped(natural, space)
  );
}

/** Cuts all columns but these. @returns undefined: too little would be left of the others */
function fittedAround(
  isKept: (index: number) => boolean,
  natural: readonly number[],
  space: number,
): number[] | undefined {
  const others = natural.filter((_, index) => !isKept(index));
  const kept = natural.reduce((sum, each, index) => sum + (isKept(index) ? each : 0), 0);
  const least = others.reduce((sum, each) => sum + Math.min(each, MIN_WIDTH), 0);
  if (space - kept < least) return undefined;
  const cut = capped(others, space - kept);
  return natural.map((each, index) => (isKept(index) ? each : (cut.shift() ?? each)));
}

/** The widths, of which the widest are cut so that all together have this space. */
function capped(natural: readonly number[], space: number): number[] {
  const sumAt = (cap: number) => natural.reduce((sum, each) => sum + Math.min(each, cap), 0);
  let cap = Math.min(space, Math.max(0, ...natural));
  while (cap > 1 && sumAt(cap) > space) cap--;
  let rest = space - sumAt(cap);
  return natural.map((each) => {
    if (each <= cap || rest < 1) return Math.min(each, cap);
    rest--;
    return cap + 1;
  });
}

function linesOf(
  columns: readonly Column[],
  cells: readonly (readonly string[])[],
  { widths, header, colours }: Pick<TableStyle, 'colours'> & { widths: readonly number[]; header: boolean },
): string {
  const lines = cells.map((row) =>
    lineOf(columns, row, widths, (text, tone) => (colours && tone ? painted(text, tone) : text)),
  );
  const titles = columns.map(({ title }) => cellText(title));
  const first = header ? [lineOf(columns, titles, widths, (text) => text)] : [];
  return [...first, ...lines].map((line) => `${line}\n`).join('');
}

function lineOf(
  columns: readonly Column[],
  row: readonly string[],
  widths: readonly number[],
  paint: (text: string, tone: Tone | undefined) => string,
): string {
  return columns
    .map(({ isNumber, isState }, index) => {
      const text = row[index] ?? '';
      const width = widths[index] ?? 0;
      const cut = cutTo(text, width);
      const space = ' '.repeat(Math.max(0, width - widthOf(cut)));
      const shownText = isState === true ? paint(cut, toneOf(text)) : cut;
      if (isNumber === true) return `${space}${shownText}`;
      return index === columns.length - 1 ? shownText : `${shownText}${space}`;
    })
    .join(GAP)
    .trimEnd();
}
