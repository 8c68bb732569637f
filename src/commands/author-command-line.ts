import { type Command, Option } from 'commander';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { columnsOption, headersOption, outputOption } from './output-options.js';

interface AuthorCommandOptions {
  /** Gets the exit code of the command. */
  done: (code: number) => void;
  source: ConfigurationSource;
}

/** Adds the commands about actions: to look at them, and to begin one. Each one is imported only when it runs. */
export function addActions(parent: Command, { done, source }: AuthorCommandOptions): void {
  parent
    .command('actions [name]')
    .description('list the actions that are installed here, or describe one with an example call')
    .addOption(
      new Option('--json', 'the same as --output json: with JSON Schemas').conflicts(['docs', 'types']),
    )
    .addOption(new Option('--docs', 'as Markdown, with tables of parameters and results').conflicts('types'))
    .option(
      '--types',
      'the types of the actions that do not come with the service, as a .d.ts for users of fleet-manager/client',
    )
    .addOption(outputOption(['table', 'json', 'ndjson', 'yaml']).conflicts(['docs', 'types']))
    .addOption(columnsOption().conflicts(['docs', 'types']))
    .addOption(headersOption())
    .addHelpText(
      'after',
      '\nNo service is called: the list comes from the plugins on this machine and PLUGIN_PATHS, PLUGINS, READ_ONLY and ACTIONS.\n' +
        'The gateway of a running service lists the actions of that service: GET /v1/actions.',
    )
    .action(async (name: string | undefined, options) =>
      done(await (await import('./actions.js')).actions(name, options, source)),
    );
  parent
    .command('new')
    .description('begin something of your own: `new action`')
    .command('action <name>')
    .description('make the folder of a new action, with a test that passes')
    .option('--ts', 'in TypeScript')
    .option('--package', 'an npm package of actions, for PLUGINS, instead of a folder for PLUGIN_PATHS')
    .option('--dir <folder>', 'where to make the folder', '.')
    .addHelpText(
      'after',
      '\nThe name is snake_case, such as count_units; the folder is then count-units. Nothing that exists is changed.\n' +
        'Prints the commands that start, call and test the action.' +
        '\n\nExample:\n  fleet-manager new action count_units --ts --dir my-actions',
    )
    .action(async (name: string, options) =>
      done(await (await import('./new-action.js')).newAction(name, options)),
    );
}
