import { mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The folders to remove when the process ends; one list, because Node.js warns of more than ten listeners. */
const folders = new Set<string>();

export interface TemporaryFolder {
  path: string;
  remove(): Promise<void>;
}

/** Makes a folder for files that must not outlive this process, except after SIGKILL. */
export function makeTemporaryFolder(prefix: string): TemporaryFolder {
  // Synchronous, so that the process cannot end between making and recording it.
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

/** At the end of the process only synchronous work is done. */
function removeAll(): void {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
}
