import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import type * as commands from './commands/main.js';

/** All that runs in the process of a command, in one file that scripts/bundle.js adds to the build: it starts in half the time. */
type Bundle = typeof commands;

/** The value of the bundle's script. */
type Load = (
  require: NodeJS.Require,
  /** The `import.meta` that a file of the build has, by its path relative to this file. */
  metaOf: (path: string) => ImportMeta,
  /** A script that V8 has in its cache cannot import anything itself. */
  importUrl: (url: string) => Promise<unknown>,
) => Bundle;

interface CompiledBundle {
  script: Script;
  /** Where the code that V8 makes of this bundle is kept, for this version of Node.js. */
  cacheFile: string;
  load: () => Bundle;
}

const FILE = fileURLToPath(new URL('fleet-manager.cjs', import.meta.url));

/** @returns undefined: there is no bundle, as in the sources and where the tests run them */
export function loadBundle(): Bundle | undefined {
  return compileBundle()?.load();
}

/** @returns undefined: there is no bundle */
export function compileBundle(): CompiledBundle | undefined {
  const source = contentOf(FILE);
  if (source === undefined) return undefined;
  // The hash also ties the cache to the text of the bundle, of which V8 compares only the length.
  const made = createHash('sha256').update([process.version, process.platform, process.arch].join());
  const cacheFile = `${FILE}.${made.update(source).digest('hex').slice(0, 16)}.cache`;
  const script = new Script(source.toString('latin1'), {
    filename: FILE,
    // V8 refuses what other flags or another version have made, and compiles as without it.
    cachedData: contentOf(cacheFile),
  });
  const load = (): Bundle => {
    const run: Load = script.runInThisContext();
    const metaOf = (path: string) => ({ ...import.meta, url: new URL(path, import.meta.url).href });
    return run(createRequire(FILE), metaOf, async (url) => import(url));
  };
  return { script, cacheFile, load };
}

/** @returns undefined: there is no such file */
function contentOf(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
