/** How the benchmark shows what it has measured, on the terminal and in the name of the file of results. */
import type { Goal, Measurement } from './row.js';

const TWO_DECIMALS_BELOW = 20;
const ONE_DECIMAL_BELOW = 200;
const GAP = '   ';

/** One line for each subject, one aligned column for each figure. */
export function table({ lines }: Pick<Measurement, 'lines'>): string {
  const columns = [...new Set(lines.flatMap(({ figures }) => Object.keys(figures)))];
  const cells = lines.map(({ subject, figures }) => [
    subject,
    ...columns.map((column) => shown(figures[column])),
  ]);
  return aligned([['', ...columns], ...cells]);
}

/** One line for each goal: the verdict, what was measured, the limit, and what it is. */
export function goalLines(goals: readonly Goal[]): string {
  return goals
    .map((goal) => {
      const unit = goal.unit === undefined ? '' : ` ${goal.unit}`;
      const verdict = isMet(goal) ? 'met' : 'NOT MET';
      return `${verdict.padEnd(7)}  ${goal.what}: ${shown(goal.measured)}${unit} (${goal.bound ?? 'at most'} ${goal.limit}${unit})`;
    })
    .join('\n');
}

/** A goal whose figure could not be measured (`NaN`) is not met. */
export function isMet({ measured, limit, bound = 'at most' }: Goal): boolean {
  return bound === 'at most' ? measured <= limit : measured >= limit;
}

/** @param only the rows that ran, when not all did */
export function resultsFile(date: Date, only: readonly string[]): string {
  const time = date.toISOString().slice(0, 19).replaceAll(':', '-');
  return `${[time, ...only].join('-')}.json`;
}

function shown(figure: number | undefined): string {
  if (figure === undefined) return '';
  const decimals = decimalsOf(figure);
  return figure.toLocaleString('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function decimalsOf(figure: number): number {
  if (Number.isInteger(figure) || Math.abs(figure) >= ONE_DECIMAL_BELOW) return 0;
  return Math.abs(figure) < TWO_DECIMALS_BELOW ? 2 : 1;
}

/** The first column to the left, the others to the right. */
function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
        .join(GAP)
        .trimEnd(),
    )
    .join('\n');
}
