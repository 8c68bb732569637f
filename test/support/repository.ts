import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder of the repository, without a slash at the end. The tests run compiled, in a folder of their own in it. */
export const REPOSITORY = above(import.meta.dirname);

function above(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : above(dirname(folder));
}

/** @param path from the root of the repository */
export function inRepository(path: string): string {
  return join(REPOSITORY, path);
}
