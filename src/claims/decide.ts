import type { Reply } from '../core/call.js';
import { type ClaimRecord, replyOf } from './claim-record.js';

/**
 * What a worker does with a change that is in the store already. `take`: it takes the place of the earlier run, and `wasBegun`
 * says whether that one may have had an effect. `wait`: the earlier run goes on.
 */
export type Decision = { do: 'answer'; reply: Reply } | { do: 'take'; wasBegun: boolean } | { do: 'wait' };

/**
 * @param found the claim in the store
 * @param isAlive whether its worker is alive
 * @param isRepeated whether this is the same message, and not a new request that looks the same
 */
export function decide(found: ClaimRecord, isAlive: boolean, isRepeated: boolean): Decision {
  if (found.settled !== undefined)
    return isRepeated ? { do: 'answer', reply: replyOf(found.settled) } : { do: 'take', wasBegun: false };
  if (isAlive) return { do: 'wait' };
  return { do: 'take', wasBegun: isRepeated && found.state === 'begun' };
}
