import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect: unknown = runInNewContext('gc');

/** Frees all memory that nothing refers to any more. */
export function collectGarbage(): void {
  if (typeof collect !== 'function') throw new Error('V8 gives no gc()');
  collect();
}
