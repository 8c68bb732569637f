import { setTimeout as sleep } from 'node:timers/promises';
import { placesOf } from './call-sites.js';

/**
 * Pauses the main thread for good, from another thread.
 * @returns where it was, as `function (file:line)`, the innermost first; empty when it did not pause in time, such as in a
 * system call
 */
export async function pausedAt(withinMs: number): Promise<string[]> {
  // Imported only now: Node.js may be built without it.
  const { Session } = await import('node:inspector');
  const session = new Session();
  session.connectToMainThread();
  const urls = new Map<string, string>();
  session.on('Debugger.scriptParsed', ({ params: { scriptId, url } }) => urls.set(scriptId, url));
  const paused = new Promise<string[]>((resolve) => {
    session.once('Debugger.paused', ({ params: { callFrames } }) => {
      const sites = callFrames.map(({ functionName, location: { scriptId, lineNumber } }) => ({
        function: functionName,
        url: urls.get(scriptId) ?? '',
        line: lineNumber + 1,
      }));
      resolve(placesOf(sites));
    });
  });
  session.post('Debugger.enable');
  session.post('Debugger.pause');
  return Promise.race([paused, sleep(withinMs, [])]);
}
