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
  made: readonly Change[],
): Change[] {
  const changes = made.map((each) =>
    each.error?.code === 'outcome_unknown' && each.did === 'nothing' ? { ...each, did: 'unknown' } : each,
  );
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
  const machines = new Set(changes.map(({ host, machine_id: id }) => host ?? id));
  const failed = new Set(failures.map(({ host }) => host));
  const messages = new Set(
    failures.map(({ host, message }) =>
      machines.size === 1 ? message : `${host ?? 'no machine'}: ${message}`,
    ),
  );
  const said = [...messages].slice(0, 3).join('; ');
  const text =
    machines.size === 1
      ? said
      : `${verb} of ${unit} did not succeed on ${failed.size} of ${machines.size} machines: ${said}`;
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
