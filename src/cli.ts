#!/usr/bin/env node
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import type * as serveCommand from './commands/serve.js';
import { NodeWarnings } from './commands/node-warnings.js';
import { printError } from './commands/output.js';

const source = { env: process.env, directory: workingDirectory() };

/** How long the end of the service waits for the reader of its log, in milliseconds. */
const FLUSH_MS = 500;

function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    // It has been deleted. Without it there is no configuration file.
    return '/';
  }
}

/** @returns the exit code */
async function report(error: unknown): Promise<number> {
  const { failureOf } = await import('./commands/failure.js');
  const { code, text } = failureOf(error);
  if (text === '') return code;
  const logged = isServing && (await import('./commands/start-failure.js')).logStartFailure(text, source);
  if (!logged) printError(text);
  return code;
}

/** The build requires it: Node then reads all its modules at once, which makes the start a tenth shorter. */
async function serveModule(): Promise<typeof serveCommand> {
  const isBuild = import.meta.url.endsWith('.js');
  return isBuild ? createRequire(import.meta.url)('./commands/serve.js') : import('./commands/serve.js');
}

const isServing = process.argv[2] === 'serve';
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
    isServing && process.argv.length === 3
      ? await (await serveModule()).serve(source, warnings)
      : await (await import('./commands/command-line.js')).runCommandLine(source, warnings);
} catch (error) {
  code = await report(error);
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
