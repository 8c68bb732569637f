/** Something that is wrong with a cluster. */
export interface Finding {
  severity: 'error' | 'warning';
  kind: string;
  subject: string;
  message: string;
  advice: string;
  /** The figures that it rests on. */
  evidence: Readonly<Record<string, unknown>>;
}

/** The most machines that a text names. */
const MOST_NAMED = 5;
/** The most machines in the evidence of a finding; those of the largest clusters would not fit into a reply. */
const MOST_IN_EVIDENCE = 50;

/** The first of some names, for a text. */
export function named(names: readonly string[]): string {
  const more = names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : '';
  return `${names.slice(0, MOST_NAMED).join(', ')}${more}`;
}

/** Machines as evidence: how many, and the first of them. */
export function machinesAsEvidence<Each>(machines: readonly Each[]): { count: number; machines: Each[] } {
  return { count: machines.length, machines: machines.slice(0, MOST_IN_EVIDENCE) };
}

/** Adds a value to those of a key. */
export function addTo<Key, Value>(map: Map<Key, Value[]>, key: Key, value: Value): void {
  const others = map.get(key);
  if (others === undefined) map.set(key, [value]);
  else others.push(value);
}
