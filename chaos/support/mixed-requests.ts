import type { Sending } from './caller.js';
import { CHANGE } from './ledger.js';
import type { Random } from './random.js';

/** Requests for reads and changes in equal parts, each of a few milliseconds. */
export function mixedRequests(random: Random): () => Sending {
  return () => ({
    action: random.pick([CHANGE, 'chaos_read']),
    parameters: { hold_ms: random.between(0, 30) },
    cluster: `cluster${random.between(1, 3)}`,
  });
}
