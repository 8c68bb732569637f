import type { ConfigurationSource } from '../settings/given-settings.js';
import { durationText, type ErrorSummary, sizeText, summaryOf } from './error-summary.js';
import { type ErrorsOptions, tellOfOthers, withErrorQueue } from './errors.js';
import { namedColumns } from './named-columns.js';
import { print, printUnchanged } from './output.js';
import { formatOf, type OutputOptions, tableStyle } from './output-options.js';
import { formatted } from './print-result.js';
import { requestReader } from './queued-request.js';
import { type Column, formatTable } from './table/table.js';

interface ErrorColumn extends Column {
  text: (message: ErrorSummary, now: number) => string;
}

const COLUMNS: readonly ErrorColumn[] = [
  { title: 'ID', text: ({ id }) => id },
  { title: 'AGE', text: ({ dead_lettered_at: at }, now) => (at === null ? '' : durationText(now - at)) },
  { title: 'SIZE', isNumber: true, text: ({ bytes }) => sizeText(bytes) },
  { title: 'ACTION', text: ({ action }) => short(action, MAX_CELL) },
  { title: 'CLUSTER', text: ({ cluster }) => short(cluster, MAX_CELL) },
  { title: 'CALLER', text: ({ caller }) => short(caller, MAX_CELL) },
  { title: 'REASON', text: ({ reason }) => short(reason, MAX_REASON) },
];
const MAX_REASON = 100;
const MAX_CELL = 40;

/** Prints a line for each message in the error queue, the oldest first. */
export async function listErrors(
  options: ErrorsOptions & OutputOptions,
  source: ConfigurationSource,
): Promise<number> {
  const format = formatOf(options, 'table');
  const columns = namedColumns(COLUMNS, options.columns);
  return withErrorQueue(options, source, async (queue, { rpc }) => {
    const read = requestReader(rpc);
    const found = await queue.look((message) => summaryOf(message, read(message)));
    const { name, broker } = queue;
    const { messages, left, gone } = found;
    if (format === 'ndjson') printUnchanged(await formatted(messages, format));
    else if (format !== 'table')
      printUnchanged(await formatted({ queue: name, broker, messages, left, gone }, format));
    else if (messages.length === 0) print(`no messages in ${name} on ${broker}\n`);
    else {
      const now = Date.now();
      const rows = messages.map((message) => columns.map(({ text }) => text(message, now)));
      printUnchanged(formatTable(columns, rows, tableStyle(options, source.env)));
    }
    tellOfOthers(found, queue);
    return 0;
  });
}

/** Of limited length, also where a pipe takes every length: a caller may have written anything there. */
function short(text: string | null, length: number): string {
  return text !== null && text.length > length ? `${text.slice(0, length)}...` : (text ?? '');
}
