import type { Column } from './table/table.js';
import { UsageError } from './usage-error.js';

/**
 * The columns that `--columns` names, in its order; all when it names none.
 * @throws UsageError for a name that no column has
 */
export function namedColumns<Each extends Column>(
  columns: readonly Each[],
  names: readonly string[] | undefined,
): readonly Each[] {
  return (
    names?.map((name) => {
      const found = columns.find(({ title }) => title.toLowerCase() === name.toLowerCase());
      if (found !== undefined) return found;
      const known = columns.map(({ title }) => title).join(', ');
      throw new UsageError(`--columns: there is no column '${name}'; there are ${known}`);
    }) ?? columns
  );
}
