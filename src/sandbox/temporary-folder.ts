import { mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What is to go when the process ends; one list, as Node.js warns of more than ten listeners. */
const folders = new Set<string>();

export interface TemporaryFolder {
  path: string;
  remove(): Promise<void>;
}

/** Makes a folder for files that must not outlive this process, however it ends, SIGKILL aside. */
export function makeTemporaryFolder(prefix: string): TemporaryFolder {
  // Not to be ended between its making and its being put down.
  const path = mkdtempSync(join(tmpdir(), prefix));
  if (folders.size === 0) process.once('exit', removeAll);
  folders.add(path);
  return {
    path,
    remove: async () => {
      await rm(path, { recursive: true, force: true });
      folders.delete(path);
      if (folders.size === 0) process.off('exit', removeAll);
    },
  };
}

/** At the end of the process only what is done at once is done at all. */
function removeAll(): void {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
}
