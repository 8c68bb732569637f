import { printable } from '../lib/printable.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { type ErrorSummary, durationText, sizeText, summaryOf } from './error-summary.js';
import { type ErrorsOptions, tellOfOthers, withErrorQueue } from './errors.js';
import { print } from './output.js';
import { requestReader } from './queued-request.js';

const MAX_REASON = 100;
const MAX_CELL = 40;

/** Prints a line for each message in the error queue, the oldest first. */
export async function listErrors(options: ErrorsOptions, source: ConfigurationSource): Promise<number> {
  return withErrorQueue(options, source, async (queue, { rpc }) => {
    const read = requestReader(rpc);
    const found = await queue.look((message) => summaryOf(message, read(message)));
    const { name, broker } = queue;
    const { messages, left, gone } = found;
    if (options.json) print(`${JSON.stringify({ queue: name, broker, messages, left, gone }, null, 2)}\n`);
    else if (messages.length === 0) print(`no messages in ${name} on ${broker}\n`);
    else print(table(messages));
    tellOfOthers(found, queue);
    return 0;
  });
}

function table(messages: readonly ErrorSummary[]): string {
  const now = Date.now();
  const rows = [
    ['ID', 'AGE', 'SIZE', 'ACTION', 'CLUSTER', 'CALLER', 'REASON'],
    ...messages.map(({ id, dead_lettered_at: at, bytes, action, cluster, caller, reason }) => [
      id,
      at === null ? '-' : durationText(now - at),
      sizeText(bytes),
      cell(action, MAX_CELL),
      cell(cluster, MAX_CELL),
      cell(caller, MAX_CELL),
      cell(reason, MAX_REASON),
    ]),
  ];
  const [first = []] = rows;
  const widths = first.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((each, column) => each.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** One line, of limited length: a caller may have written anything there. */
function cell(text: string | null, length: number): string {
  if (text === null) return '-';
  const shown = printable(text);
  return shown.length > length ? `${shown.slice(0, length)}...` : shown;
}
