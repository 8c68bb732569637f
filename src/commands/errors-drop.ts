import { printable } from '../lib/printable.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { summaryOf } from './error-summary.js';
import {
  type ErrorsOptions,
  requireSelection,
  selected,
  type Selection,
  tellOfOthers,
  withErrorQueue,
} from './errors.js';
import { print } from './output.js';
import { requestReader } from './queued-request.js';

/** Removes messages from the error queue, and prints what they were. */
export async function dropErrors(
  selection: Selection,
  options: ErrorsOptions,
  source: ConfigurationSource,
): Promise<number> {
  requireSelection(selection);
  return withErrorQueue(options, source, async (queue, { rpc }) => {
    const read = requestReader(rpc);
    const found = await queue.look((message) => ({
      id: message.id,
      acknowledge: message.acknowledge,
      summary: summaryOf(message, read(message)),
    }));
    const dropped = selected(found.messages, selection);
    for (const { acknowledge } of dropped) acknowledge();
    await queue.flush();
    if (options.json)
      print(`${JSON.stringify({ dropped: dropped.map(({ summary }) => summary) }, null, 2)}\n`);
    else
      for (const { id, summary } of dropped)
        print(
          `${id}  dropped: ${printable(`${summary.action ?? 'no action'}; ${summary.reason ?? 'no reason'}`)}\n`,
        );
    tellOfOthers(found, queue);
    return 0;
  });
}
