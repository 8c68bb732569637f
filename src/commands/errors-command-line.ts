import { type Command, InvalidArgumentError } from 'commander';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { columnsOption, headersOption, outputOption } from './output-options.js';

interface ErrorsCommandOptions {
  /** Gets the exit code of the command. */
  done: (code: number) => void;
  source: ConfigurationSource;
}

/** Adds the commands about the error queue. Each one is imported only when it runs. */
export function addErrors(parent: Command, { done, source }: ErrorsCommandOptions): void {
  const errors = parent
    .command('errors')
    .description('look at the messages in the error queue, and replay or remove them')
    .addHelpText(
      'after',
      '\nOnly `drop` and `replay` change the queue, and an interrupted command loses no message.\n' +
        'The user of AMQP_URL needs the permissions to read the error queue, and to publish to amq.default.\n' +
        'Exit code 0: done; 1: the broker failed, or the command was interrupted; 2: the call is invalid, or a message was refused.',
    );
  const subcommand = (usage: string, description: string) =>
    errors
      .command(usage)
      .description(description)
      .option('--limit <number>', 'how many messages to look at, the oldest first', messages, 1_000)
      .option(
        '--broker <address>',
        'one of the brokers, without credentials; by default the first that can be reached',
      )
      .option(
        '--no-delivery-limit',
        'the error queue is a quorum queue without a delivery limit: look also at messages that came back to it often',
      );
  subcommand('list', 'list the messages, the oldest first')
    .option('--json', 'the same as --output json')
    .addOption(outputOption(['table', 'json', 'ndjson', 'yaml']))
    .addOption(columnsOption())
    .addOption(headersOption())
    .action(async (options) => done(await (await import('./errors-list.js')).listErrors(options, source)));
  subcommand('show <id>', 'show a message, with its secrets hidden')
    .option('--json', 'as JSON')
    .action(async (id: string, options) =>
      done(await (await import('./errors-show.js')).showError(id, options, source)),
    );
  subcommand('replay [ids...]', 'publish messages as requests again, and remove them from the error queue')
    .option('--all', 'all messages that are looked at')
    .option(
      '--force',
      'also changes whose caller waits no more, changes that may have begun, and messages that are no valid requests',
    )
    .option('--json', 'as JSON')
    .action(async (ids: string[], { all, ...options }) =>
      done(await (await import('./errors-replay.js')).replayErrors({ ids, all }, options, source)),
    );
  subcommand('drop [ids...]', 'remove messages from the error queue for good')
    .option('--all', 'all messages that are looked at')
    .option('--json', 'as JSON')
    .action(async (ids: string[], { all, ...options }) =>
      done(await (await import('./errors-drop.js')).dropErrors({ ids, all }, options, source)),
    );
  subcommand('export [ids...]', 'print messages as lines of JSON, by default all; they stay in the queue')
    .option('--output <file>', 'a new file, which only its owner may read; by default standard output')
    .option('--with-secrets', 'export the messages whole, with their cluster tokens')
    .action(async (ids: string[], options) =>
      done(await (await import('./errors-export.js')).exportErrors(ids, options, source)),
    );
}

function messages(text: string): number {
  const value = Number(text);
  if (!(Number.isInteger(value) && value >= 1 && value <= 100_000))
    throw new InvalidArgumentError('it must be a whole number from 1 to 100000.');
  return value;
}
