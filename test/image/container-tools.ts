import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { noteImpossible } from '../support/note-skipped.js';
import { inRepository } from '../support/repository.js';

const run = promisify(execFile);

/**
 * The folder of `docker-compose` and `quadlet`; undefined, and reported, where they are not installed, which is an error with
 * REQUIRE_SERVICES=1.
 * @param tests what cannot be tested without them
 */
export async function containerTools(tests: string): Promise<string | undefined> {
  try {
    return (await run(inRepository('scripts/container-tools'), ['folder'])).stdout.trim();
  } catch (error) {
    if (process.env.REQUIRE_SERVICES === '1') throw error;
    noteImpossible(tests, 'scripts/container-tools install brings what they need');
    return undefined;
  }
}

/** The secrets of compose.yaml, in a folder that goes with the test. @returns the folder */
export async function composeSecrets(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'secrets-'));
  t.teardown(() => rm(folder, { recursive: true }));
  await run(inRepository('scripts/compose-secrets'), [join(folder, 'secrets')]);
  return join(folder, 'secrets');
}

/**
 * compose.yaml as Docker Compose understands it.
 * @param tools the folder of `docker-compose`
 * @throws Error with what Docker Compose says
 */
export async function composeModel(tools: string): Promise<unknown> {
  const options = ['--file', inRepository('compose.yaml'), 'config', '--format', 'json'];
  const { stdout } = await run(join(tools, 'docker-compose'), options);
  return JSON.parse(stdout);
}
