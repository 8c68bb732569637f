import type { ReadLine } from '../access/audit/audit-line.js';

const COLUMNS = ['TIME', 'OUTCOME', 'ACTION', 'CLUSTER', 'CALLER', 'TOOK', 'UNITS'] as const;
/** In characters; the last column has no end. */
const WIDTHS = [20, 20, 18, 14, 18, 9];

/** Rows for people: one for each run, with its begin and its end. */
export class HistoryRows {
  readonly #follow: boolean;
  /** The first lines of runs whose end has not come. */
  readonly #begun = new Map<string, ReadLine>();
  #hasHeader = false;

  /** @param follow whether a begin is shown before its end has come */
  constructor(follow = false) {
    this.#follow = follow;
  }

  /** @returns the text for a line; empty when it waits for the end of its run */
  of(line: ReadLine): string {
    if (line.event === 'gap')
      return `${this.#header()}-- ${textOf(line.lines)} lines of the worker ${textOf(line.worker)} are lost here\n`;
    if (line.event !== 'begun') {
      const begun = this.#begun.get(line.id);
      this.#begun.delete(line.id);
      return this.#row(begun?.time ?? line.time, outcomeOf(line), line);
    }
    if (this.#follow) return this.#row(line.time, 'begun', line);
    this.#begun.set(line.id, line);
    return '';
  }

  /** @returns the text for the runs whose end has not come: they run, or their worker was lost */
  rest(): string {
    const rows = [...this.#begun.values()].map((line) => this.#row(line.time, 'no end so far', line));
    this.#begun.clear();
    return rows.join('');
  }

  #row(time: string, outcome: string, line: ReadLine): string {
    const { action, work, cluster, cluster_name: name, caller, took_ms: took, units } = line;
    return `${this.#header()}${columns([
      time.replace(/\.\d+Z$/, 'Z'),
      outcome,
      work === 'probe' ? `${textOf(action)} (probe)` : textOf(action),
      textOf(name ?? cluster ?? '-'),
      line.verified_by === undefined ? `(${textOf(caller)})` : textOf(caller),
      typeof took === 'number' ? `${(took / 1_000).toFixed(1)} s` : '',
      Array.isArray(units) ? units.map(textOf).join(' ') : '',
    ])}`;
  }

  #header(): string {
    if (this.#hasHeader) return '';
    this.#hasHeader = true;
    return columns(COLUMNS);
  }
}

function outcomeOf({ event, outcome, reply }: ReadLine): string {
  if (event === 'denied') return 'denied';
  if (event === 'reused') return `reused, ${textOf(outcome)}`;
  return reply === undefined || reply === 'sent' ? textOf(outcome) : `${textOf(outcome)}, ${textOf(reply)}`;
}

function columns(texts: readonly string[]): string {
  return `${texts
    .map((text, index) => text.padEnd(WIDTHS[index] ?? 0))
    .join('  ')
    .trimEnd()}\n`;
}

/** Without line breaks, which would begin a row. */
function textOf(value: unknown): string {
  return String(value).replace(/\s+/g, ' ');
}
