import { errorCodeInfo } from '../api/error-codes.js';
import type { Reply } from '../core/call.js';
import { type ClaimRecord, codeOf, type RecordedName, replyOf, type StoredReply } from './claim-record.js';

/**
 * What a worker does with a change that is in the store already. `take`: it takes the place of the earlier run, and `wasBegun`
 * says whether that one may have had an effect. `wait`: the earlier run goes on; `isOther`: for another message, with the same
 * idempotency key. `refuse`: that one asks for something else.
 */
export type Decision =
  | { do: 'answer'; reply: Reply; replyOf?: string }
  | { do: 'take'; wasBegun: boolean }
  | { do: 'wait'; isOther: boolean }
  | { do: 'refuse' };

/** The request for which a change is looked up. */
export interface Asking {
  /** Whether it may be the same message, and is not a new request that looks the same. */
  isRepeated: boolean;
  /** Of one with an idempotency key. */
  named: RecordedName | undefined;
}

/**
 * @param found the claim in the store
 * @param isAlive whether its worker is alive
 */
export function decide(found: ClaimRecord, isAlive: boolean, { isRepeated, named }: Asking): Decision {
  if (named !== undefined) return decideNamed(found, isAlive, { isRepeated, named });
  if (found.settled !== undefined)
    return isRepeated ? { do: 'answer', reply: replyOf(found.settled) } : { do: 'take', wasBegun: false };
  if (isAlive) return { do: 'wait', isOther: false };
  return { do: 'take', wasBegun: isRepeated && found.state === 'begun' };
}

/** The same for one with an idempotency key, which may have come with another message. */
function decideNamed(
  found: ClaimRecord,
  isAlive: boolean,
  { isRepeated, named }: Asking & { named: RecordedName },
): Decision {
  const { settled, named: earlier } = found;
  const isOther = named.message === undefined || named.message !== earlier?.message;
  const isFree = settled === undefined ? !isAlive && found.state === 'claimed' : leavesFree(found, settled);
  // Another worker may have told its caller that it was refused.
  if (settled !== undefined && isFree && isRepeated && !isOther)
    return { do: 'answer', reply: replyOf(settled) };
  if (isFree) return { do: 'take', wasBegun: false };
  if (named.askedFor !== earlier?.askedFor) return { do: 'refuse' };
  if (settled !== undefined)
    return { do: 'answer', reply: replyOf(settled), ...(isOther && { replyOf: earlier.id }) };
  return isAlive ? { do: 'wait', isOther } : { do: 'take', wasBegun: true };
}

/** Whether a change has ended so that its key may be used again: it never began, or its error says that nothing was changed. */
function leavesFree({ begunAt }: ClaimRecord, settled: StoredReply): boolean {
  const code = codeOf(settled);
  return code !== undefined && (begunAt === undefined || errorCodeInfo(code).retryable);
}
