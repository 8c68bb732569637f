import type { Call, Settled } from './call.js';
import { settledWith } from './call-errors.js';

/**
 * Wraps the whole run of a call, including refusals and timeouts. Returns the result of `next`, or another result
 * instead. `next` runs the rest and never rejects. An error that a middleware throws becomes the call's error, like an
 * error of an action.
 */
export type Middleware = (call: Call, next: () => Promise<Settled>) => Promise<Settled>;

/** Wraps `run` in all the middlewares; the first is the outermost. */
export function compose(
  middlewares: readonly Middleware[],
  run: (call: Call) => Promise<Settled>,
): (call: Call) => Promise<Settled> {
  return middlewares.reduceRight<(call: Call) => Promise<Settled>>(
    (next, middleware) => async (call) => {
      try {
        return await middleware(call, async () => next(call));
      } catch (error) {
        return settledWith(error, call.id);
      }
    },
    run,
  );
}
