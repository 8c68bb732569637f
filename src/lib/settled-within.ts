import type { Clock } from './clock.js';

/** Waits until the work has been fulfilled or rejected, at most `ms` milliseconds. @returns whether it has settled */
export async function settledWithin(ms: number, clock: Clock, work: Promise<unknown>): Promise<boolean> {
  const settled = work.then(
    () => true,
    () => true,
  );
  let cancel = () => {};
  const late = new Promise<boolean>((resolve) => {
    cancel = clock.after(ms, () => resolve(false));
  });
  return Promise.race([settled, late]).finally(cancel);
}
