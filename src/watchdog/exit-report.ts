import type { SyncLog } from './sync-log.js';
import { type CallSite, placesOf } from './call-sites.js';

/** A place in a stack. Those after an `await` do not call this. */
const FRAME = /^ +at (?!async )(?:(.*) \()?((?:file:\/\/)?\/[^)]*?):(\d+):\d+\)?$/;

/**
 * Logs when the process exits although the service does not end it, such as by `process.exit` in a plugin; its exit code
 * is then not 0, so that it counts as a failure.
 * @param running the fields that say what runs
 * @returns a function to call before the service exits
 */
export function reportExit(log: SyncLog, running: () => Record<string, unknown>): () => void {
  const report = (code: number) => {
    const where = placesOf(sitesOf(new Error().stack ?? '').slice(1));
    log.error('process ended unexpectedly', { code, ...running(), ...(where.length > 0 && { where }) });
    if (code === 0) process.exitCode = 1;
  };
  process.on('exit', report);
  return () => void process.off('exit', report);
}

function sitesOf(stack: string): CallSite[] {
  return stack.split('\n').flatMap((frame) => {
    const [, name = '', url, line] = FRAME.exec(frame) ?? [];
    return url === undefined ? [] : [{ function: name, url, line: Number(line) }];
  });
}
