import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { isIdempotencyKey, KEY_FORM } from '../core/idempotency-key.js';
import { packageVersion } from '../lib/package-version.js';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { addActions } from './author-command-line.js';
import { clusterOption, withCluster } from './cluster-option.js';
import { type Shell, SHELLS } from './completion/script.js';
import { addErrors } from './errors-command-line.js';
import type { NodeWarnings } from './node-warnings.js';
import { print } from './output.js';
import { columnsOption, headersOption, outputOption } from './output-options.js';
import { InvalidCommandLine } from './usage-error.js';

const EXIT_CODES =
  'Exit codes: 0: done; 1: the service, the cluster or a check failed; 2: the call or a setting is invalid; 130: interrupted.';

/**
 * Runs the command that the arguments of the process name.
 * @param warnings undefined: the command is not `serve`, and Node.js writes its warnings itself
 * @returns its exit code
 * @throws InvalidCommandLine
 */
export async function runCommandLine(
  source: ConfigurationSource,
  warnings: NodeWarnings | undefined,
): Promise<number> {
  let code = 0;
  let usageError = '';
  const command = program({
    done: (result) => (code = result),
    onUsageError: (text) => (usageError += text),
    source,
    warnings,
  });
  try {
    await command.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw new InvalidCommandLine(usageError);
  }
  return code;
}

export interface ProgramOptions {
  /** Gets the exit code of the command. */
  done: (code: number) => void;
  /** Gets the text about an invalid command line. */
  onUsageError: (text: string) => void;
  source: ConfigurationSource;
  warnings: NodeWarnings | undefined;
}

/** All commands with their options. Nothing runs before it parses arguments. */
export function program({ done, onUsageError, source, warnings }: ProgramOptions): Command {
  const command = new Command('fleet-manager')
    .description('Runs actions against CoreOS fleet clusters for callers on a RabbitMQ queue.')
    .version(packageVersion())
    // `main` has read it: what starts a service does not wait for the parser of command lines.
    .option('--config <file>', 'a JSON file of settings, in place of config/$NODE_ENV.json')
    .showHelpAfterError('(see --help)')
    .addHelpText(
      'after',
      `\n${EXIT_CODES}\nSettings are environment variables, or keys of a file; \`fleet-manager config\` shows them.`,
    )
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({ writeOut: print, writeErr: onUsageError });
  // Each command is imported only when it runs.
  command
    .command('serve')
    .description('serve requests until SIGTERM; without a configured broker, run a sandbox')
    .action(async () => done(await (await import('./serve.js')).serve(source, warnings)));
  command
    .command('call <action>')
    .description(
      'call an action, over RabbitMQ when AMQP_URL or MANAGER_URL is set, else over the HTTP gateway',
    )
    .addOption(clusterOption('the etcd token of the cluster, or its name in CLUSTERS_FILE'))
    .option('--param <name=value>', 'a parameter; may be repeated', oneMore)
    .option('--params <json>', 'all parameters as a JSON object')
    .option('--raw', 'print a reply that is a string unchanged, as on a terminal, not as JSON')
    .option('--timeout <seconds>', 'how long to wait for the reply', seconds, 30)
    .option(
      '--idempotency-key <key>',
      'names a change: sent again with its key, it is not made again, and its reply is printed',
      idempotencyKey,
    )
    .addOption(outputOption(['table', 'json', 'ndjson', 'yaml']))
    .addOption(columnsOption())
    .addOption(headersOption())
    .addHelpText(
      'after',
      '\nOn a terminal a list is a table, with what has failed first, an object has a line for each field, and a string is text.\n' +
        'Into a pipe or a file the reply is JSON, as with --output json. Over the gateway of a sandbox its cluster is the default.\n' +
        'Each value of --param is parsed by the type of its field. Over RabbitMQ an action may be unknown here:\n' +
        'valid JSON is then parsed, and other values are strings.\n' +
        'An error is a sentence on standard error. In a format for programs its body is on standard output, too.\n' +
        'Exit code 0: done; 1: the service or the cluster failed; 2: the call is invalid; 130: interrupted, and a change that was sent goes on.\n' +
        "\nExamples:\n  fleet-manager call ACTION --cluster TOKEN --param 'name=web@*.service'" +
        '\n  fleet-manager call ACTION --cluster TOKEN --param unit_name=web@1.service --raw | less' +
        '\n`fleet-manager actions` lists the actions, `fleet-manager actions ACTION` shows an example.',
    )
    .action(async (action: string, options, own: Command) =>
      done(await (await import('./call.js')).call(action, withCluster(options, own), source)),
    );
  addActions(command, { done, source });
  command
    .command('health')
    .description('ask the service on this machine whether it responds, for the health check of a container')
    .option('--ready', 'whether it takes requests')
    .addHelpText(
      'after',
      '\nExit code 0: it does; 1: it does not. It asks the HTTP gateway: GET /livez, or GET /readyz.',
    )
    .action(async (options) => done(await (await import('./health.js')).health(options, source)));
  command
    .command('openapi')
    .description(
      'print the OpenAPI document of the HTTP gateway, for the actions and settings on this machine',
    )
    .addHelpText('after', '\nThe gateway of a running service serves its own: GET /openapi.json.')
    .action(async () => done(await (await import('./openapi.js')).openApi(source)));
  command
    .command('asyncapi')
    .description('print the AsyncAPI document of the queue, for the actions and settings on this machine')
    .action(async () => done(await (await import('./asyncapi.js')).asyncApi(source)));
  command
    .command('config')
    .description('show the effective settings, with secrets masked, and their problems')
    .option('--json', 'as JSON')
    .action(async (options) => done(await (await import('./config.js')).config(options, source)));
  command
    .command('history')
    .description(
      'show who has changed what: reads the audit of all workers, from the stream on the broker or from the file',
    )
    .addOption(clusterOption('only this cluster: its etcd token, its hash, or its name'))
    .option('--caller <name>', 'only this caller')
    .option('--action <name>', 'only this action')
    .option('--since <time>', 'only from this time on: 30m, 12h, 7d, or 2026-01-31T12:00:00Z', timeSince)
    .option('--follow', 'go on and show what comes')
    .option('--user <name>', 'the user of the service on the broker; by default the one who reads')
    .option('--json', 'the same as --output ndjson: the lines of the audit, as without a terminal')
    .addOption(outputOption(['table', 'ndjson']))
    .addOption(columnsOption())
    .addOption(headersOption())
    .addHelpText(
      'after',
      '\nOnly what the service has written is shown: the broker verifies the user of each message in the stream.\n' +
        'Without a terminal it prints the lines of the audit, each a JSON object.',
    )
    .action(async (options, own: Command) =>
      done(await (await import('./history.js')).history(withCluster(options, own), source)),
    );
  command
    .command('doctor')
    .description(
      'check configuration, plugins, policy, Manager, broker, discovery and SSH, and show how to fix each failure',
    )
    .addOption(
      clusterOption(
        'also check this cluster, by its etcd token or its name in CLUSTERS_FILE: its fleet API, and by a login to each of its machines what the actions need there',
      ),
    )
    .option(
      '--round-trip',
      'also make one request through the Manager of an OpenAperture installation: create a record, send a request that only reads, wait for the reply, delete the record',
    )
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      '\nNothing is changed, and no request is sent without --round-trip. The request of --round-trip changes nothing.\n' +
        'Without --cluster it names a cluster that does not exist. When no service consumes it within 30 s, it expires, and RabbitMQ moves it\n' +
        'to the error queue.\n' +
        'The time limit is 10 s for each check and for each machine, and 30 s for the reply. Exit code 0: no check has failed; 1: a check has failed.',
    )
    .action(async (options, own: Command) =>
      done(await (await import('./doctor.js')).doctor(withCluster(options, own), source)),
    );
  command
    .command('policy')
    .description('look into the policy of POLICY_FILE')
    .command('check')
    .description('explain what the policy decides about a request; nothing is sent')
    .requiredOption('--caller <name>', 'who sends it; `anonymous` when nobody has verified a name')
    .requiredOption('--action <name>', 'the action')
    .addOption(clusterOption('the name of the cluster in CLUSTERS_FILE, or its etcd token', 'name'))
    .option('--unit <name>', 'a unit that the request names; may be repeated', oneMore)
    .addOption(
      new Option(
        '--verified-by <voucher>',
        'who has verified the name of the caller (default: broker)',
      ).choices(['broker', 'token', 'manager', 'service']),
    )
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      '\nExit code 0: it is allowed; 1: it is denied; 2: the command or the policy is invalid.' +
        '\n\nExample:\n  fleet-manager policy check --caller ci --action ACTION --cluster prod --unit web@1.service',
    )
    .action(async (options, own: Command) =>
      done(await (await import('./policy-check.js')).policyCheck(withCluster(options, own), source)),
    );
  addErrors(command, { done, source });
  command
    .command('completion')
    .description('print a script that makes a shell complete commands, options, actions and their parameters')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .addHelpText(
      'after',
      '\nbash: source <(fleet-manager completion bash)      in ~/.bashrc' +
        '\nzsh:  source <(fleet-manager completion zsh)       in ~/.zshrc, after compinit' +
        '\nfish: fleet-manager completion fish > ~/.config/fish/completions/fleet-manager.fish',
    )
    .action(async (shell: Shell) => done((await import('./completion/script.js')).completion(shell)));
  command
    .command('complete [words...]', { hidden: true })
    .action(async (words: string[]) =>
      done(await (await import('./completion/complete.js')).complete(command, words, source)),
    );
  return command;
}

/** Collects an option that may be repeated. No default value there: the help would show it as []. */
function oneMore(value: string, earlier: string[] | undefined): string[] {
  return [...(earlier ?? []), value];
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0.001 && value <= 300))
    throw new InvalidArgumentError('it must be a number of seconds, from 0.001 to 300.');
  return value;
}

function idempotencyKey(text: string): string {
  if (!isIdempotencyKey(text)) throw new InvalidArgumentError(`it must be ${KEY_FORM}.`);
  return text;
}

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @returns milliseconds since the epoch */
function timeSince(text: string): number {
  const [, amount, unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const time =
    amount === undefined
      ? /^\d{4}-\d\d-\d\d/.test(text)
        ? Date.parse(text)
        : Number.NaN
      : Date.now() - Number(amount) * (UNITS[unit] ?? Number.NaN);
  if (Number.isNaN(time))
    throw new InvalidArgumentError(
      'it must be a time ago, such as 30m, 12h or 7d, or a time such as 2026-01-31T12:00:00Z.',
    );
  return time;
}
