import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inRepository } from '../../test/support/repository.js';

/** The service, built in a folder of its own: the working tree is only read. */
export interface BuiltService {
  /** The file to run with Node. */
  cli: string;
  remove(): Promise<void>;
}

/** A change of the sources before they are built. */
export interface Replacement {
  /** Relative to the working tree. */
  file: string;
  /** Stands in the file once. */
  from: string;
  to: string;
}

const SOURCES = ['src', 'plugins', 'scripts', 'package.json', 'tsconfig.json', 'tsconfig.build.json'];

export async function buildService(replacements: readonly Replacement[] = []): Promise<BuiltService> {
  const folder = await mkdtemp(join(tmpdir(), 'chaos-service-'));
  const remove = async () => rm(folder, { recursive: true, force: true });
  try {
    for (const source of SOURCES) await cp(inRepository(source), join(folder, source), { recursive: true });
    await symlink(inRepository('node_modules'), join(folder, 'node_modules'));
    for (const { file, ...change } of replacements)
      await writeFile(join(folder, file), replaced(await readFile(inRepository(file), 'utf8'), file, change));
    // Without the type check: `npm run typecheck` has done it, and what is broken on purpose may leave variables unused.
    const tsc = inRepository('node_modules/.bin/tsc');
    await promisify(execFile)(tsc, ['-p', 'tsconfig.build.json', '--noCheck'], { cwd: folder });
    await promisify(execFile)(process.execPath, ['scripts/bundle.js'], { cwd: folder });
  } catch (error) {
    await remove();
    throw error;
  }
  return { cli: join(folder, 'dist/src/cli.js'), remove };
}

/** @throws when the text to replace does not stand in the file exactly once */
export function replaced(text: string, file: string, { from, to }: { from: string; to: string }): string {
  const [before, after, ...more] = text.split(from);
  if (before === undefined || after === undefined || more.length > 0)
    throw new Error(`${file} does not have this text once: ${from}`);
  return before + to + after;
}
