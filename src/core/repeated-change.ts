import { errorCodeInfo } from '../api/error-codes.js';
import { fieldsOf } from '../lib/fields-of.js';
import type { Settled } from './call.js';

const BEFORE = {
  delivered: 'This request was delivered before',
  sent: 'This request was sent before, with the same idempotency key',
};

/**
 * What a change that was delivered again settles with. An error that says that nothing was changed would be false,
 * because another worker may have begun it.
 * @param how it came before
 */
export function ofRepeatedChange<S extends Settled>(settled: S, how: keyof typeof BEFORE = 'delivered'): S {
  if (settled.status !== 'error') return settled;
  const { code, errors, details } = settled.body;
  // The policy may have allowed it when it was delivered before.
  if (!errorCodeInfo(code).retryable && code !== 'forbidden') return settled;
  const text = `${BEFORE[how]}, and a worker may have begun it: the change may or may not have been made. This time: ${errors.join(' ')}`;
  return {
    ...settled,
    body: { errors: [text], code: 'outcome_unknown', details: { ...fieldsOf(details), stopped_by: code } },
  };
}
