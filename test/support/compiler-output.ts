import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inRepository } from './repository.js';

/** Whether two types are the same, `readonly` and `?` included: `Same<A, B>` is true or false. */
const SAME =
  'type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;';

/** What the compiler says of these lines, with the settings of this repository; they can use `Same`. Empty when they are valid. */
export async function compilerOutput(lines: readonly string[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'compiled-'));
  await writeFile(join(directory, 'check.mts'), [SAME, ...lines].join('\n'));
  const options = { extends: inRepository('tsconfig.json'), files: ['check.mts'], include: [] };
  const compilerOptions = { typeRoots: [inRepository('node_modules/@types')] };
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ ...options, compilerOptions }));
  const said = await new Promise<string>((resolve) =>
    execFile(inRepository('node_modules/.bin/tsc'), ['-p', directory, '--pretty', 'false'], (error, stdout) =>
      resolve(`${stdout}${error !== null && stdout === '' ? error.message : ''}`),
    ),
  );
  await rm(directory, { recursive: true });
  return said;
}
