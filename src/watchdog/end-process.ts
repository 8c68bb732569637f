import { setFlagsFromString } from 'node:v8';
import { runInThisContext } from 'node:vm';

/** Ends the process from any thread, also while the main thread is blocked. No `exit` handler runs. */
export function endProcess(): void {
  process.kill(process.pid, 'SIGKILL');
  // Only as PID 1, as in a container without an init process, is it still alive: no signal that it sends itself ends it.
  // A breakpoint instruction without a debugger does (`process.abort` does not exist in worker threads).
  setFlagsFromString('--allow-natives-syntax');
  runInThisContext('%SystemBreak()');
}
