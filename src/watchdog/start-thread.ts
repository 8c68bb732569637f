import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';

/** Starts a thread that needs nothing of the main thread, so that it runs while that is blocked. */
export function startThread(
  file: 'watchdog-thread' | 'last-resort-thread',
  data: Pick<WorkerOptions, 'workerData' | 'transferList'> = {},
): Worker {
  const extension = import.meta.url.slice(-2);
  const url = new URL(`./${file}.${extension}`, import.meta.url);
  const options: WorkerOptions = {
    ...data,
    name: file,
    // The loader of modules in development would need the main thread.
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
  };
  if (extension === 'js') return new Worker(url, options);
  const compiler = createRequire(import.meta.url).resolve('tsx/cjs');
  const source = [compiler, fileURLToPath(url)].map((path) => `require(${JSON.stringify(path)});`).join('');
  return new Worker(source, { ...options, eval: true });
}
