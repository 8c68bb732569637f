import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/**
 * Where in a plugin's folder its import failed, as FILE:LINE; undefined when the place is unknown or outside the
 * folder.
 * @param folder a real path, without symbolic links, because Node identifies modules by their real paths
 */
export async function errorLocation(folder: string, error: unknown): Promise<string | undefined> {
  if (!(error instanceof Error)) return undefined;
  return (
    placeInStack(folder, error.stack ?? '') ?? (error instanceof SyntaxError ? unparsed(folder) : undefined)
  );
}

/**
 * The innermost stack frame in the folder. For an import of a missing export, Node writes the place in the stack too.
 */
function placeInStack(folder: string, stack: string): string | undefined {
  const places = [...stack.matchAll(/(?:^|[ (])((?:file:\/\/)?\/.*?:\d+)(?::\d+)?\)?$/gm)].map(
    ([, place = '']) => (place.startsWith('file:') ? fileURLToPath(place) : place),
  );
  return places.find((place) => place.startsWith(`${folder}/`));
}

/**
 * The place of a syntax error. The error of `import()` lacks the place, so each file is checked with `node --check`.
 */
async function unparsed(folder: string): Promise<string | undefined> {
  const names = await readdir(folder, { recursive: true });
  for (const name of names.filter((each) => each.endsWith('.js') && !each.includes('node_modules/'))) {
    const file = join(folder, name);
    const check = spawn(process.execPath, ['--input-type=module', '--check'], { env: {} });
    check.stdin.end(await readFile(file));
    const [, line] = /\[stdin\]:(\d+)/.exec(await text(check.stderr)) ?? [];
    if (line !== undefined) return `${file}:${line}`;
  }
  return undefined;
}
