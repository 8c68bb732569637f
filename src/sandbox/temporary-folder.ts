import { mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The folders to remove when the process ends. One list, since Node.js warns about more than ten listeners. */
const folders = new Set<string>();

export interface TemporaryFolder {
  path: string;
  remove(): Promise<void>;
}

/** Creates a folder that is removed when this process ends, except by SIGKILL. */
export function makeTemporaryFolder(prefix: string): TemporaryFolder {
  // Synchronous: the process must not end between creating the folder and adding it to the list.
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

/** Synchronous: Node.js runs nothing asynchronous after `exit`. */
function removeAll(): void {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
}
