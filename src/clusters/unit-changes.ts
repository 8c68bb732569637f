import { ActionError } from '../api/action-error.js';
import { errorCodeInfo } from '../api/error-codes.js';
import { isTemplateName } from '../api/grammar.js';
import type { PutOrder, UnitChange } from '../api/unit-control.js';

/**
 * The changes of a unit, when each is as asked.
 * @throws ActionError when one is not: `details.changes` are all of them
 */
export function allMade<Change extends UnitChange>(
  { unit, verb }: { unit: string; verb: string },
  changes: Change[],
): Change[] {
  const failures = changes.flatMap(({ error, host }) => (error === null ? [] : [{ ...error, host }]));
  const [first] = failures;
  if (first === undefined) return changes;
  const isSame = failures.every(({ code }) => code === first.code);
  const isAll = failures.length === changes.length && changes.every(({ did }) => did === 'nothing');
  const code = failures.some(({ code: each }) => each === 'outcome_unknown')
    ? 'outcome_unknown'
    : isSame && (isAll || !errorCodeInfo(first.code).retryable)
      ? first.code
      : 'partly_changed';
  const text =
    changes.length === 1
      ? first.message
      : `${verb} of ${unit} did not succeed on ${failures.length} of ${changes.length} machines: ${failures
          .slice(0, 3)
          .map(({ host, message }) => `${host ?? 'no machine'}: ${message}`)
          .join('; ')}`;
  throw new ActionError(code, text, { details: { changes } });
}

/** @throws ActionError when units shall be started, and all of them are templates */
export function requireStartable({ files, activate }: Pick<PutOrder, 'files' | 'activate'>): void {
  if (activate !== 'start' || !files.every(({ unit }) => isTemplateName(unit))) return;
  throw new ActionError(
    'invalid_parameters',
    `Nothing was changed: ${files.map(({ unit }) => unit).join(', ')} cannot be started: only instances of a template can`,
  );
}
