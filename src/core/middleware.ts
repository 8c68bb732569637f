import type { Call, Settled } from './call.js';
import { settledWith } from './errors.js';

/**
 * Wraps the whole run of a call, with refusals and timeouts: returns what `next` returns, or something else instead.
 * `next` never rejects. What a middleware throws becomes the call's error, as what an action throws.
 */
export type Middleware = (call: Call, next: (call: Call) => Promise<Settled>) => Promise<Settled>;

/** Wraps `run` in several middlewares; the first is the outermost. */
export function compose(
  middlewares: readonly Middleware[],
  run: (call: Call) => Promise<Settled>,
): (call: Call) => Promise<Settled> {
  return middlewares.reduceRight<(call: Call) => Promise<Settled>>(
    (next, middleware) => async (call) => {
      try {
        return await middleware(call, next);
      } catch (error) {
        return settledWith(error, call.id);
      }
    },
    run,
  );
}
