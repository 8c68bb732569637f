import { ActionError } from '../../api/action-error.js';
import {
  conflictInRequirements,
  ignoredRequirements,
  unknownRequirements,
} from '../../api/fleet-unit-rules.js';
import { fleetUnitOptions } from '../../api/fleet-unit-text.js';
import type { Unit } from '../../api/fleet-transport.js';
import type { UnitPut, UnitText } from '../../api/unit-control.js';
import { unitFileText } from '../../api/unit-file.js';
import { unitDiff } from '../unit-diff.js';

/** A unit's file, as fleet keeps it. */
export interface FleetUnitFile {
  unit: string;
  options: Unit['options'];
  /** What fleet keeps otherwise than it is written. */
  warnings: string[];
}

/**
 * Reads a unit's file as fleet and fleetctl do.
 * @throws ActionError `unit_file_invalid`, with `details.problems`: fleet cannot keep it, or fleetctl would not send it
 */
export function readFleetUnitFile({ unit, text }: UnitText): FleetUnitFile {
  const { options, problems } = fleetUnitOptions(text);
  const refused = problems.filter(({ isRefused }) => isRefused).map(lineOf);
  if (refused.length === 0) refused.push(...problemsOf(options));
  if (refused.length > 0)
    throw new ActionError(
      'unit_file_invalid',
      `Nothing was changed: fleet does not accept the file of ${unit}: ${refused[0]}`,
      { details: { unit, problems: refused } },
    );
  const ignored = ignoredRequirements(options).map((each) => `[X-Fleet]: fleet ignores ${each}`);
  return { unit, options, warnings: [...problems.map(lineOf), ...ignored] };
}

const lineOf = ({ line, problem }: { line: number; problem: string }) => `line ${line}: ${problem}`;

function problemsOf(options: Unit['options']): string[] {
  // fleet takes a file without options as an order to change the state alone, and keeps the old file.
  if (options.length === 0) return ['it has no options, and fleet keeps no such file'];
  const unknown = unknownRequirements(options).map((name) => `[X-Fleet] has no option ${name}`);
  const conflict = conflictInRequirements(options);
  return conflict === undefined ? unknown : [...unknown, `[X-Fleet]: ${conflict}`];
}

/** What a new file replaces. fleet keeps no comments, so it is compared with what fleet makes of the new text. */
export function replacedBy(
  { unit, options }: FleetUnitFile,
  present: Unit | undefined,
): Pick<UnitPut, 'replaced' | 'diff'> {
  const replaced = present === undefined ? null : unitFileText(present.options);
  return { replaced, diff: unitDiff(unit, replaced, unitFileText(options)) };
}
