import { createRequire } from 'node:module';
import type * as ssh2 from 'ssh2';

const require = createRequire(import.meta.url);

/** ssh2, loaded at its first use: many services never log in to a machine, and the start of all of them would be longer. */
export function loadSsh2(): typeof ssh2 {
  return require('ssh2');
}
