import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfigurationSource } from '../settings/given-settings.js';
import { workingDirectory } from '../lib/working-directory.js';
import { configOption } from './config-option.js';
import { NodeWarnings } from './node-warnings.js';
import { printError } from './output.js';

/** How long the end of the service waits for the reader of its log, in milliseconds. */
const FLUSH_MS = 500;

/** Runs the command that the arguments of the process name, and ends the process with its exit code. */
export async function main(): Promise<never> {
  const { file, others } = configOption(process.argv.slice(2));
  const source = { env: process.env, directory: workingDirectory(), file };
  const isServing = others[0] === 'serve';
  let outputError: Error | undefined;
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // Its reader may have closed the pipe (`| head`). The rest of the output is then dropped.
      if (error.code !== 'EPIPE') outputError = error;
    });
  }
  // Before anything else is imported.
  const warnings = isServing ? new NodeWarnings() : undefined;
  let code: number;
  try {
    // The plain command of a service does not load what reads a command line.
    code =
      isServing && others.length === 1
        ? await (await import('./serve.js')).serve(source, warnings)
        : await (await import('./command-line.js')).runCommandLine(source, warnings);
  } catch (error) {
    code = await report(error, source, isServing);
  }
  // The output is flushed first, because process.exit() would cut it.
  const flushed = Promise.all(
    [process.stdout, process.stderr].map((stream) => new Promise((done) => stream.write('', done))),
  );
  // A service must end also when nothing reads its log. A command waits for a reader such as `less`.
  await (isServing ? Promise.race([flushed, sleep(FLUSH_MS)]) : flushed);
  if (outputError !== undefined && !isServing && code === 0) {
    printError(`fleet-manager: the output cannot be written: ${outputError.message}\n`);
    code = 1;
  }
  // The explicit exit is needed: resources that a plugin leaves open would keep the process alive.
  process.exit(code);
}

/** @returns the exit code */
async function report(error: unknown, source: ConfigurationSource, isServing: boolean): Promise<number> {
  const { failureOf } = await import('./failure.js');
  const { code, text } = failureOf(error);
  if (text === '') return code;
  const logged = isServing && (await import('./start-failure.js')).logStartFailure(text, source);
  if (!logged) printError(text);
  return code;
}
