import { shownNumber, shownProperties } from '../../api/shown-properties.js';
import type { UnitCondition } from '../../api/unit-control.js';

/** What `systemctl show` prints of one unit: `Name=value` lines. */
export type UnitProperties = ReadonlyMap<string, string>;

/** @returns undefined when it is not what `systemctl show` prints of a unit */
export function propertiesIn(text: string): UnitProperties | undefined {
  const properties = shownProperties(text);
  return properties.has('LoadState') ? properties : undefined;
}

/** What `systemctl show` prints of several units: blocks in the order in which they were asked for. */
export function eachIn(text: string): (UnitProperties | undefined)[] {
  return text
    .trim()
    .split(/\n{2,}/)
    .map(propertiesIn);
}

export function conditionOf(properties: UnitProperties): UnitCondition {
  const text = (name: string) => properties.get(name) || null;
  const count = (name: string) => shownNumber(properties.get(name));
  return {
    load: text('LoadState'),
    active: text('ActiveState'),
    sub: text('SubState'),
    result: text('Result'),
    invocation_id: text('InvocationID'),
    main_pid: count('MainPID') || null,
    restarts: count('NRestarts'),
    enabled: text('UnitFileState'),
    desired: null,
  };
}
