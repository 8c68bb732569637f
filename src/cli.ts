#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { ConfigurationError } from './settings/configuration-error.js';
import { UsageError } from './commands/usage-error.js';
import { PluginError, UnknownActionError } from './core/plugin-loader.js';

const source = { env: process.env, directory: process.cwd() };

function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 300))
    throw new InvalidArgumentError('it must be a number of seconds, at most 300.');
  return value;
}

const EXIT_CODES =
  'Exit codes: 0: done; 1: the service, the cluster or a check failed; 2: the call or a setting is wrong.';

function program(done: (code: number) => void): Command {
  const command = new Command('fleet-manager')
    .description('Runs actions against CoreOS fleet clusters for callers on a RabbitMQ queue.')
    .version(version())
    .showHelpAfterError('(see --help)')
    .addHelpText(
      'after',
      `\n${EXIT_CODES}\nSettings are environment variables; \`fleet-manager config\` shows them.`,
    )
    .exitOverride();
  // Each command is loaded only when it is called.
  command
    .command('serve')
    .description('take requests until SIGTERM; with nothing configured, in a sandbox')
    .action(async () => done(await (await import('./commands/serve.js')).serve(source)));
  command
    .command('call <action>')
    .description(
      'call an action: over RabbitMQ when AMQP_URL or MANAGER_URL is set, else over the HTTP gateway',
    )
    .option('--cluster <token>', 'the etcd token of the cluster, or its name in CLUSTERS_FILE')
    // A default would show in the help, as [].
    .option(
      '--param <name=value>',
      'a parameter; may be repeated',
      (value, before: string[] | undefined): string[] => [...(before ?? []), value],
    )
    .option('--params <json>', 'all parameters as a JSON object')
    .option('--raw', 'print an answer that is a text as it is, as on a terminal, not as JSON')
    .option('--timeout <seconds>', 'how long to wait for the answer', seconds, 30)
    .addHelpText(
      'after',
      '\nPrints the answer as JSON; a text as it is when stdout is a terminal. Values are read by the type of their field;\n' +
        'over RabbitMQ the fields of an action that is not installed here are not known: then as JSON, or else as text.\n' +
        'Exit code 0: done; 1: the service or the cluster failed; 2: the call is wrong.\n' +
        "\nExamples:\n  fleet-manager call ACTION --cluster TOKEN --param 'name=web@*.service'" +
        '\n  fleet-manager call ACTION --cluster TOKEN --param unit_name=web@1.service --raw | less' +
        '\n`fleet-manager actions` lists the actions, `fleet-manager actions ACTION` shows an example of one.',
    )
    .action(async (action: string, options) =>
      done(await (await import('./commands/call.js')).call(action, options, source)),
    );
  command
    .command('actions [name]')
    .description('list the actions that are installed here, or describe one with an example call')
    .option('--json', 'as JSON, with JSON Schemas')
    .addHelpText(
      'after',
      '\nNo service is asked: these are the actions of the plugins here, as PLUGIN_PATHS, READ_ONLY and ACTIONS have them.\n' +
        'The gateway of a running service lists what it serves: GET /v1/actions.',
    )
    .action(async (name: string | undefined, options) =>
      done(await (await import('./commands/actions.js')).actions(name, options, source)),
    );
  command
    .command('config')
    .description('show the effective settings, secrets masked, and what is wrong with them')
    .option('--json', 'as JSON')
    .action(async (options) => done((await import('./commands/config.js')).config(options, source)));
  command
    .command('doctor')
    .description(
      'check configuration, plugins, Manager, broker, discovery and SSH, and say what to do about what fails',
    )
    .option('--cluster <token>', 'look for this cluster, its fleet API and the host keys of its machines too')
    .option(
      '--round-trip',
      'also make one request through the Manager of an OpenAperture installation: create a record, send a request that only reads, wait for the answer, delete the record',
    )
    .addHelpText(
      'after',
      '\nNothing is changed or sent without --round-trip. Its request changes nothing; it asks for a cluster that does not exist,\n' +
        'unless --cluster names one. When no service takes it within 30 s, it expires, and RabbitMQ moves it to the error queue.\n' +
        'Each check takes 10 s at most, that answer 30 s. Exit code 0: nothing has failed; 1: something has.',
    )
    .action(async (options) => done(await (await import('./commands/doctor.js')).doctor(options, source)));
  return command;
}

function version(): string {
  // Two folders up when built, one when run from source.
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return String(JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).version);
    } catch {}
  }
  return 'unknown';
}

/** Errors with advice are shown as their message; any other error is a defect and is shown with its stack. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (!(error instanceof Error)) {
    process.stderr.write(`fleet-manager: ${String(error)}\n`);
    return 1;
  }
  const ofCaller = [ConfigurationError, UsageError, UnknownActionError].some((kind) => error instanceof kind);
  const foreseen = ofCaller || error instanceof PluginError || error.cause !== undefined;
  process.stderr.write(`fleet-manager: ${foreseen ? error.message : error.stack}\n`);
  return ofCaller ? 2 : 1;
}

// The reader of the output may close it early (`| head`); the rest is then not needed.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}
let code = 0;
try {
  await program((result) => (code = result)).parseAsync();
} catch (error) {
  code = exitCodeOf(error);
}
// Not left to Node: what a plugin has opened and not closed would keep the process alive. Output that is still on its way
// into a pipe would be cut by process.exit().
await Promise.all(
  [process.stdout, process.stderr].map((stream) => new Promise((done) => stream.write('', done))),
);
process.exit(code);
