import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/**
 * The place in a plugin's folder where its import failed, as FILE:LINE; undefined when it is unknown or outside the folder.
 * @param folder without symbolic links, as Node names modules by their real paths
 */
export async function failurePlace(folder: string, error: unknown): Promise<string | undefined> {
  if (!(error instanceof Error)) return undefined;
  return (
    placeInStack(folder, error.stack ?? '') ?? (error instanceof SyntaxError ? unparsed(folder) : undefined)
  );
}

/** The innermost call. Node also writes there where a name is imported that is not exported. */
function placeInStack(folder: string, stack: string): string | undefined {
  const places = [...stack.matchAll(/(?:^|[ (])((?:file:\/\/)?\/.*?:\d+)(?::\d+)?\)?$/gm)].map(
    ([, place = '']) => (place.startsWith('file:') ? fileURLToPath(place) : place),
  );
  return places.find((place) => place.startsWith(`${folder}/`));
}

/** import() reports that a file does not parse, but not where; `node --check` reports the line. */
async function unparsed(folder: string): Promise<string | undefined> {
  const names = await readdir(folder, { recursive: true });
  for (const name of names.filter((each) => each.endsWith('.js') && !each.includes('node_modules/'))) {
    const file = join(folder, name);
    const check = spawn(process.execPath, ['--input-type=module', '--check', '-'], {
      env: {},
      stdio: 'pipe',
    });
    check.stdin.end(await readFile(file));
    const [, line] = /^\[stdin\]:(\d+)$/m.exec(await text(check.stderr)) ?? [];
    if (line !== undefined) return `${file}:${line}`;
  }
  return undefined;
}
