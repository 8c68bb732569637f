import { closeSync, openSync } from 'node:fs';
import { reasonOf } from '../lib/errors.js';
import { stringifyExactly } from '../lib/exact-json.js';
import { fieldsOf } from '../lib/fields-of.js';
import { printable } from '../lib/printable.js';
import { writeWhole } from '../lib/write-whole.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import type { ErrorMessage } from './error-queue.js';
import {
  mayBeSelected,
  selected,
  type Selection,
  tellOfOthers,
  type ErrorsOptions,
  withErrorQueue,
} from './errors.js';
import { detailsOf } from './errors-show.js';
import { printError, printUnchanged } from './output.js';
import { type QueuedRequest, requestReader } from './queued-request.js';
import { type MarksOf, secretMarks } from './secret-marks.js';
import { UsageError } from './usage-error.js';

export interface ExportOptions extends ErrorsOptions {
  /** Write to this new file instead of standard output. */
  output?: string;
  /** Whether to export bodies and headers unchanged. */
  withSecrets?: boolean;
}

/** The body is exported whole. */
const NO_MARKS: MarksOf = () => undefined;
/** Only its owner may read it. */
const MODE = 0o600;

/** Writes messages of the error queue as lines of JSON; without IDs all of them. They stay in the queue. */
export async function exportErrors(
  ids: readonly string[],
  options: ExportOptions,
  source: ConfigurationSource,
): Promise<number> {
  const { output, withSecrets = false } = options;
  const selection: Selection = { ids, all: ids.length === 0 };
  // Before anything is read: an existing file is not overwritten.
  const file = output === undefined ? undefined : newFile(output);
  try {
    return await withErrorQueue(options, source, async (queue, configuration) => {
      const read = requestReader(configuration.rpc);
      const lineOf = withSecrets ? wholeLine : lineWithoutSecrets(await secretMarks(configuration));
      const found = await queue.look((message) => ({
        id: message.id,
        line: mayBeSelected(message.id, selection) ? lineOf(message, read(message)) : '',
      }));
      const chosen = selected(found.messages, selection);
      for (const { line } of chosen) {
        if (file === undefined) printUnchanged(`${line}\n`);
        else writeWhole(file, Buffer.from(`${line}\n`));
      }
      if (withSecrets && chosen.length > 0)
        printError(
          'warning: these lines contain the messages as they were sent, with their cluster tokens\n',
        );
      tellOfOthers(found, queue);
      return 0;
    });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** @throws UsageError when it cannot be made */
function newFile(path: string): number {
  try {
    return openSync(path, 'wx', MODE);
  } catch (error) {
    const { code } = fieldsOf(error);
    const why =
      (typeof code === 'string' ? REFUSED.get(code) : undefined) ?? `it cannot be made: ${reasonOf(error)}`;
    throw new UsageError(`--output ${path}: ${why}`);
  }
}

const REFUSED: ReadonlyMap<string, string> = new Map([
  ['EEXIST', 'this file exists, and no file is overwritten: name another one'],
  ['ENOENT', 'its folder does not exist: make it first'],
  ['EACCES', 'you may not write there'],
]);

function lineWithoutSecrets(marksOf: MarksOf): (message: ErrorMessage, request: QueuedRequest) => string {
  return (message, request) => printable(stringifyExactly(detailsOf(message, request, marksOf)));
}

/** With all that is needed to publish the message again. */
function wholeLine(message: ErrorMessage, request: QueuedRequest): string {
  const { headers, ...properties } = message.properties;
  const whole = { ...detailsOf(message, request, NO_MARKS), properties, headers: headers ?? {} };
  const body = request.encoding === undefined ? null : request.decoded;
  return printable(stringifyExactly({ ...whole, body, content_base64: message.content.toString('base64') }));
}
